"""The two embedding methods, with vectors of a scripted provider over real HTTP.
Load-bearing: similarity is computed in code and truth is measured."""

from __future__ import annotations

import pytest

from saexplain.common.v1.score_pb2 import SCORE_STATUS_UNDEFINED
from saexplain.common.v1.usage_pb2 import JournalScope, LlmUsage
from saexplain.scorer.v1.scorer_pb2 import (
    JUDGE_TASK_CLASSIFY,
    PREDICTION_STATUS_FAILED,
    PREDICTION_STATUS_OK,
    JudgeItem,
    JudgeRequest,
    Prediction,
)
from services.common.errors import InvalidArgument
from services.common.llm.embeddings import open_embedding_model
from services.common.llm.settings import LlmSettings
from services.scorer.judges.embedding import EmbeddingJudge
from services.scorer.judges.pattern_writer import PatternWriter
from services.scorer.methods.embedding import Embedding
from services.scorer.methods.example_embedding import ExampleEmbedding
from services.scorer.methods.ranking import text_of
from tests.fakes.openai_server import FakeOpenAi
from tests.scorer import world

TEXT = "fires on alpha, beta, gamma and faint"


def meaning(text: str) -> list[float]:
    """How often the words that matter stand in a text, and a constant."""
    words = [w.decode().strip() for w in (*world.TRUE_SHARES, world.UNRELATED)]
    return [*(float(text.count(word)) for word in words), 0.3]


class Vectors:
    """Vectors by a function of the text; None fails the item."""

    def __init__(self, vector):
        self._vector = vector
        self.items = []

    async def judge(self, request):
        self.items += request.items
        said = []
        for item in request.items:
            vector = self._vector(item.text)
            status = PREDICTION_STATUS_FAILED if vector is None else PREDICTION_STATUS_OK
            said.append(
                Prediction(item_id=item.id, status=status, embedding=vector or [], model="e-1")
            )
        return said, LlmUsage()


async def score(method, judge):
    chosen = world.options(method.declaration.name, judge="llm")
    chosen.llm.model = "chat-1"
    result = await world.run(
        method,
        judge,
        PatternWriter(),
        world.explanation(text=TEXT),
        method.declaration.name,
        options=chosen,
        other=world.pattern([world.UNRELATED]),
    )
    return result, world.by_metric(result)["auroc"]


@pytest.mark.parametrize("method", [Embedding, ExampleEmbedding])
async def test_windows_are_ranked_by_similarity(method):
    """Guards against a folded area, and windows that are compared with another text."""
    result, auroc = await score(method(), Vectors(meaning))
    assert auroc.value > 0.9 and auroc.positive_count == auroc.negative_count == 50
    assert auroc.interval.low < auroc.value <= auroc.interval.high
    assert auroc.judge == "e-1" and auroc.insensitive
    assert len(result.rows) == 100

    def away(text: str) -> list[float]:
        vector = meaning(text)
        fires = any(w.decode() in f" {text}" for w in world.TRUE_SHARES)
        return vector if text == TEXT or not fires else [-v for v in vector]

    if method is Embedding:
        _, turned = await score(method(), Vectors(away))
        assert turned.value < 0.1


async def test_baselines_are_what_their_patterns_read_as():
    """Guards against a baseline without a text that gets a number."""
    judge = Vectors(meaning)
    _, auroc = await score(Embedding(), judge)
    texts = {i.id: i.text for i in judge.items}
    assert "alpha" in texts["baseline/top_token"] and texts["explanation"] == TEXT
    assert "extra" in texts["baseline/other_feature"]
    values = {b.name: b.value for b in auroc.baselines if b.HasField("value")}
    assert set(values) == {"other_feature", "top_token", "token_table"}
    assert values["top_token"] < 0.5 < auroc.value
    _, examples = await score(ExampleEmbedding(), judge)
    assert all("depend" in b.undefined_reason for b in examples.baselines)


async def test_windows_without_a_vector_are_failed_and_a_lost_explanation_undefined():
    """Guards against a vector of zeros for what did not come."""
    lost = 0

    def some(text: str):
        nonlocal lost
        drop = len(text) % 4 == 0 and text != TEXT and not text.startswith("Fires")
        lost += drop
        return None if drop else meaning(text)

    _, auroc = await score(Embedding(), Vectors(some))
    assert auroc.failed_count > 0 and auroc.value > 0.9
    assert auroc.positive_count + auroc.negative_count + auroc.failed_count == 100
    without = Vectors(lambda text: None if text == TEXT else meaning(text))
    _, nothing = await score(Embedding(), without)
    assert nothing.status == SCORE_STATUS_UNDEFINED and "embedding" in nothing.status_reason


async def test_vectors_of_several_lengths_are_refused():
    """Guards against two models' vectors compared with each other."""
    with pytest.raises(InvalidArgument, match="numbers"):
        await score(Embedding(), Vectors(lambda t: [1.0] if t == TEXT else meaning(t)))


async def test_the_embedding_judge_asks_once_a_call_and_takes_nothing_else(database_url):
    """Guards against one request per window, and a chat model's task sent to it."""
    request = JudgeRequest(
        scope=JournalScope(owner="projects/default/explanations/e1", step="judge"),
        items=[JudgeItem(id=w.name, task=10, text=text_of(w)) for w in world.population(3)[:20]],
    )
    async with FakeOpenAi({}) as fake:
        settings = LlmSettings(base_url=fake.base_url, api_key="k", database_url=database_url)
        model = open_embedding_model(settings, "e-1")
        try:
            predictions, usage = await EmbeddingJudge(model).judge(request)
            request.items.add(id="x", task=JUDGE_TASK_CLASSIFY)
            with pytest.raises(InvalidArgument, match="calls of their own"):
                await EmbeddingJudge(model).judge(request)
        finally:
            await model.aclose()
        assert len(fake.embedded) == 1
    assert [p.item_id for p in predictions] == [w.name for w in world.population(3)[:20]]
    assert usage.request_count == 1 and {p.model for p in predictions} == {"e-1"}

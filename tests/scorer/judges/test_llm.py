"""The language model as judge and writer, over real HTTP and through the real journal.
Load-bearing: no fault of a reply ever becomes a prediction."""

from __future__ import annotations

import re

import pytest

from saexplain.common.v1.usage_pb2 import JournalScope, LlmOptions
from saexplain.common.v1.window_pb2 import SPLIT_HELDOUT
from saexplain.scorer.v1.scorer_pb2 import (
    JUDGE_TASK_VERIFY,
    PREDICTION_STATUS_FAILED,
    PREDICTION_STATUS_OK,
    JudgeItem,
    JudgeRequest,
    PlanScoreRequest,
    ScoreRequest,
)
from services.common.errors import Aborted, ResourceExhausted
from services.common.llm.session import open_language_model
from services.common.llm.settings import LlmSettings
from services.scorer.judges.llm import LlmJudge
from services.scorer.judges.llm_writer import LlmWriter
from services.scorer.methods.corpus import Corpus
from services.scorer.methods.generative import Generative
from services.scorer.methods.input import Input
from services.scorer.methods.items import predict_item
from tests.fakes.faults import Fault
from tests.fakes.openai_server import FakeOpenAi
from tests.scorer import world

PASSAGE = re.compile(r"Passage (\d+)\n(?:context: .*\n)?tokens: (.*)")
TEXT = re.compile(r"Text (\d+)\n(.*)")


@pytest.fixture
async def connect(database_url):
    opened = []

    def open_model(fake: FakeOpenAi):
        model = open_language_model(
            LlmSettings(base_url=fake.base_url, api_key="k", database_url=database_url)
        )
        opened.append(model)
        return model

    yield open_model
    for model in opened:
        await model.aclose()


def scope(step: str = "score.judge") -> JournalScope:
    return JournalScope(owner="projects/default/explanations/e1", step=step)


def options(method: str = "corpus"):
    chosen = world.options(method, judge="llm")
    chosen.llm.CopyFrom(LlmOptions(model="fake-1"))
    return chosen


def judge_request(items) -> JudgeRequest:
    return JudgeRequest(
        options=options(), scope=scope(), explanation=world.explanation(), items=items
    )


def windows(count: int):
    return [predict_item(w) for w in world.population(SPLIT_HELDOUT)[:count]]


def knows_the_words(request) -> dict:
    """Answers every passage by the words of the world, as a perfect judge would."""
    items = []
    for number, tokens in PASSAGE.findall(request.last_text):
        hits = []
        for index, token in enumerate(tokens.split(" ")):
            word = token.split(":", 1)[1].replace("␣", " ").encode()
            if share := world.TRUE_SHARES.get(word):
                hits.append({"index": index, "strength": round(10 * share)})
        items.append({"item": int(number), "tokens": hits})
    return {"items": items}


def knows_the_texts(request) -> dict:
    texts = TEXT.findall(request.last_text)
    return {
        "items": [
            {"item": int(n), "covered": any(w.decode() in t for w in world.STRENGTHS)}
            for n, t in texts
        ]
    }


def writes(positives: int, boundaries: int) -> dict:
    words = [w.decode() for w in world.STRENGTHS]
    return {
        "positives": [f"text {i} with{words[i % 3]} in it" for i in range(positives)],
        "boundaries": [f"text {i} with alphas in it" for i in range(boundaries)],
    }


async def test_predictions_line_up_with_items_and_tokens(connect):
    """Guards against answers that land on the wrong passage or token."""
    async with FakeOpenAi({"predict_activations": knows_the_words}) as fake:
        items = windows(40)
        predictions, usage = await LlmJudge(connect(fake)).judge(judge_request(items))
    assert [p.item_id for p in predictions] == [i.id for i in items]
    for item, prediction in zip(items, predictions, strict=True):
        expected = [world.TRUE_SHARES.get(t, 0.0) for t in item.tokens.token_bytes]
        assert list(prediction.shares) == pytest.approx(expected, abs=0.051)
    assert usage.request_count == 3, "40 items in batches of 16"
    assert all(c.prompt_fingerprint for c in usage.calls)


async def test_a_judge_is_never_shown_an_activation(connect):
    """Guards against prompts that hold the answer."""
    async with FakeOpenAi({"predict_activations": knows_the_words}) as fake:
        await LlmJudge(connect(fake)).judge(judge_request(windows(16)))
        prompt = fake.requests[0].text
    assert world.explanation().description in prompt
    values = {f"{v:.2f}" for w in world.population(SPLIT_HELDOUT)[:16] for v in w.activations if v}
    assert values and not any(v in prompt for v in values)


def without_some(request) -> dict:
    """Leaves passage 2 out, answers 3 twice and differently, 4 with a token that does not
    exist, 5 with a strength that does not, and a passage 99 that was never asked."""
    reply = knows_the_words(request)
    items = [i for i in reply["items"] if i["item"] != 2]
    items.append({"item": 3, "tokens": [{"index": 0, "strength": 9}]})
    for number, wrong in ((4, {"index": 500, "strength": 5}), (5, {"index": 0, "strength": 11})):
        next(i for i in items if i["item"] == number)["tokens"].append(wrong)
    return {"items": [*items, {"item": 99, "tokens": []}]}


async def test_an_item_without_a_usable_answer_is_failed_and_not_zero(connect):
    """Guards against invented zeros for what a reply leaves out or garbles."""
    async with FakeOpenAi({"predict_activations": without_some}) as fake:
        predictions, _ = await LlmJudge(connect(fake)).judge(judge_request(windows(8)))
    failed = [i + 1 for i, p in enumerate(predictions) if p.status == PREDICTION_STATUS_FAILED]
    assert failed == [2, 3, 4, 5]
    assert not any(predictions[i - 1].shares for i in failed)


@pytest.mark.parametrize(
    "kind", ["broken_json", "wrong_schema", "refusal", "truncated", "content_filter", "empty"]
)
async def test_a_batch_with_an_unusable_reply_is_failed_item_by_item(connect, kind):
    """Guards against a whole call lost for one batch, and against values for its items."""
    # A reply that breaks its schema is shown to the model once and asked for again.
    faults = 2 if kind in ("broken_json", "wrong_schema") else 1
    replies = [*[Fault(kind)] * faults, knows_the_words]
    async with FakeOpenAi({"predict_activations": replies}) as fake:
        judge = LlmJudge(connect(fake))
        first, usage = await judge.judge(judge_request(windows(16)))
        second, _ = await judge.judge(judge_request(windows(32)[16:]))
    assert {p.status for p in first} == {PREDICTION_STATUS_FAILED}
    assert not any(p.shares for p in first)
    assert usage.failed_request_count >= 1
    assert {p.status for p in second} == {PREDICTION_STATUS_OK}


async def test_a_rate_limit_is_an_error_with_its_delay(connect):
    """Guards against a provider's refusal that ends as failed predictions."""
    fault = Fault("status", 429, retry_after="7")
    async with FakeOpenAi({"predict_activations": fault}) as fake:
        with pytest.raises(ResourceExhausted) as raised:
            await LlmJudge(connect(fake)).judge(judge_request(windows(20)))
    assert raised.value.reason == "RATE_LIMITED"
    assert raised.value.retry_after_seconds == 7


async def test_a_repeat_with_the_same_scope_buys_nothing_twice(connect):
    """Guards against a retried step that pays again."""
    async with FakeOpenAi({"predict_activations": knows_the_words}) as fake:
        first, _ = await LlmJudge(connect(fake)).judge(judge_request(windows(20)))
        again, usage = await LlmJudge(connect(fake)).judge(judge_request(windows(20)))
        assert fake.count() == 2
    assert [p.SerializeToString() for p in first] == [p.SerializeToString() for p in again]
    assert usage.reused_reply_count == 2


async def test_the_verifier_sees_text_and_explanation_only(connect):
    """Guards against a verifier that knows what a text was written for."""
    items = [
        JudgeItem(id="positive.0", task=JUDGE_TASK_VERIFY, text="an alpha here"),
        JudgeItem(id="boundary.0", task=JUDGE_TASK_VERIFY, text="nothing here"),
    ]
    async with FakeOpenAi({"verify_texts": knows_the_texts}) as fake:
        predictions, _ = await LlmJudge(connect(fake)).judge(judge_request(items))
        prompt = fake.requests[0].text
    assert [p.covered for p in predictions] == [True, False]
    assert "positive" not in prompt and "boundary" not in prompt


def write_request(method: str) -> PlanScoreRequest:
    return PlanScoreRequest(
        options=options(method),
        scope=scope("score.write"),
        explanation=world.explanation(),
        windows=world.lists(),
        facts=world.facts(),
    )


async def test_the_writer_takes_what_is_usable_and_asks_no_second_time(connect):
    """Guards against retries on what was written, and texts beyond the number asked for."""
    reply = writes(14, 3)
    reply["positives"][1:4] = ["", "  ", reply["positives"][0]]
    async with FakeOpenAi({"write_texts": reply}) as fake:
        texts, usage = await LlmWriter(connect(fake)).write(write_request("generative"), 10, 5)
    assert [t.id for t in texts if t.intended_active] == [f"positive.{i}" for i in range(10)]
    assert [t.id for t in texts if not t.intended_active] == [f"boundary.{i}" for i in range(3)]
    assert usage.request_count == 1


@pytest.mark.parametrize("writer", ["fake-1", "fake-2", ""])
async def test_a_writer_of_another_family_is_asked_and_named(connect, writer):
    """Guards against texts of the explainer's own model that pass for another's."""
    request = write_request("generative")
    request.options.explainer_model = "fake-1"
    if writer:
        request.options.writer.model = writer
    async with FakeOpenAi({"write_texts": writes(10, 0)}) as fake:
        texts, usage = await LlmWriter(connect(fake)).write(request, 10, 0)
    assert [call.model for call in usage.calls] == [writer or "fake-1"]
    sent = ScoreRequest(
        options=request.options,
        explanation=request.explanation,
        windows=request.windows,
        facts=request.facts,
        texts=texts,
    )
    for score in Generative().score(sent).scores:
        assert score.writer == (writer or "fake-1")
        assert score.writer_is_explainer == (writer != "fake-2")
    sent.options.explainer_model = ""
    assert not Generative().score(sent).scores[0].HasField("writer_is_explainer")
    assert not Corpus().score(sent).scores[0].writer


@pytest.mark.parametrize("reply", [Fault("refusal"), {"positives": [], "boundaries": ["x"]}])
async def test_a_writer_without_texts_is_aborted(connect, reply):
    """Guards against a score over no texts that looks like a measured zero."""
    async with FakeOpenAi({"write_texts": reply}) as fake:
        with pytest.raises(Aborted) as raised:
            await LlmWriter(connect(fake)).write(write_request("generative"), 10, 0)
    assert raised.value.reason == "LLM_REPLY_UNUSABLE"


class Scoped(LlmJudge):
    """Adds the scope that an orchestrator would give, and asks chunk by chunk."""

    async def judge(self, request):
        predictions = []
        for ordinal in range(0, len(request.items), 64):
            chunk = JudgeRequest(
                options=request.options,
                explanation=request.explanation,
                scope=scope(),
                items=request.items[ordinal : ordinal + 64],
            )
            chunk.scope.ordinal = ordinal // 64
            predictions += (await super().judge(chunk))[0]
        return predictions, None


async def test_a_right_explanation_scores_high_with_a_language_model(connect):
    """Guards against a judge path whose numbers do not reach the scores: the same methods,
    judged and written by a model that reads only the prompt."""
    replies = {
        "predict_activations": knows_the_words,
        "verify_texts": knows_the_texts,
        "write_texts": [writes(10, 0), writes(20, 20)],
    }
    explained = world.explanation()
    explained.ClearField("pattern")
    async with FakeOpenAi(replies) as fake:
        model = connect(fake)
        scores = {}
        for method in (Corpus(), Generative(), Input()):
            name = method.declaration.name
            result = await world.run(
                method,
                Scoped(model),
                LlmWriter(model),
                explained,
                name,
                options=options(name),
                scope=scope(f"{name}.write"),
            )
            scores[name] = world.by_metric(result)
    assert scores["corpus"]["f1"].value == 1.0
    assert scores["corpus"]["pearson"].value > 0.9
    assert scores["corpus"]["f1"].judge == "fake-1"
    assert scores["generative"]["accuracy_max"].value == 1.0
    # The near misses hold " alphas", which the lenient verifier takes for " alpha".
    assert scores["input"]["coverage"].value == 1.0
    assert scores["input"]["boundary"].invalid_count == 20
    assert not scores["input"]["boundary"].HasField("value")

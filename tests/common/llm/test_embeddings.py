"""Embeddings over real HTTP and through the real journal. Load-bearing: no fault of a reply
becomes a vector."""

from __future__ import annotations

import json

import numpy as np
import pytest

from saexplain.common.v1.usage_pb2 import JournalScope
from services.common.errors import Aborted, FailedPrecondition, ResourceExhausted, Unavailable
from services.common.llm.embeddings import open_embedding_model
from services.common.llm.settings import LlmSettings
from tests.fakes.faults import Fault
from tests.fakes.openai_server import FakeOpenAi, bag_of_words

SCOPE = JournalScope(owner="projects/default/explanations/e1", step="score.embedding.judge")


@pytest.fixture
async def connect(database_url):
    opened = []

    def open_model(fake: FakeOpenAi, model: str = "embed-1"):
        settings = LlmSettings(base_url=fake.base_url, api_key="k", database_url=database_url)
        opened.append(open_embedding_model(settings, model))
        return opened[-1]

    yield open_model
    for model in opened:
        await model.aclose()


async def test_vectors_come_in_the_order_of_the_texts_and_are_bought_once(connect):
    """Guards against vectors of another text, and a repeat that pays again."""
    texts = ["the cat", "a dog \u2028 barks", "the cat"]
    async with FakeOpenAi({}) as fake:
        model = connect(fake)
        bought, usage = await model.embed(SCOPE, texts)
        again, reused = await model.embed(SCOPE, texts)
        assert len(fake.embedded) == 1 and fake.embedded[0]["input"] == texts
    assert bought.tolist() == again.tolist()
    assert bought == pytest.approx(np.array([bag_of_words(t) for t in texts]), abs=1e-6)
    assert usage.request_count == 1 and usage.prompt_token_count > 0
    assert reused.reused_reply_count == 1
    assert usage.calls[0].model == "embed-1"


def _body(*vectors: list) -> Fault:
    data = [{"index": i, "embedding": v} for i, v in enumerate(vectors)]
    return Fault("content", content=json.dumps({"data": data, "usage": {"prompt_tokens": 3}}))


FAULTS = (
    (Fault("status", 429, retry_after="7"), ResourceExhausted, "RATE_LIMITED"),
    (Fault("status", 500), Unavailable, "LLM_UNAVAILABLE"),
    (Fault("status", 404), FailedPrecondition, "LLM_REQUEST_REJECTED"),
    (Fault("status", 429, code="insufficient_quota"), FailedPrecondition, "LLM_REQUEST_REJECTED"),
    (Fault("content", content="<html>"), Unavailable, "LLM_UNAVAILABLE"),
    (Fault("content", content='{"data": [{"index": 0}]}'), Unavailable, "LLM_UNAVAILABLE"),
    (_body([1.0, 2.0]), Aborted, "LLM_REPLY_UNUSABLE"),
    (_body([1.0, 2.0], [1.0]), Aborted, "LLM_REPLY_UNUSABLE"),
    (_body([1.0, 2.0], [0.0, 0.0]), Aborted, "LLM_REPLY_UNUSABLE"),
    (_body([], []), Aborted, "LLM_REPLY_UNUSABLE"),
    (_body([1.0, 1e300], [1.0, 2.0]), Aborted, "LLM_REPLY_UNUSABLE"),
)


async def test_what_is_no_vector_is_a_typed_error(connect):
    """Guards against zeros, or another text's vector, for what did not come."""
    for ordinal, (fault, error, reason) in enumerate(FAULTS):
        scope = JournalScope(owner=SCOPE.owner, step=SCOPE.step, ordinal=ordinal)
        async with FakeOpenAi({}, embeddings=fault) as fake:
            with pytest.raises(error) as raised:
                await connect(fake).embed(scope, ["one", "two"])
        assert raised.value.reason == reason, fault


def test_without_a_name_or_a_provider_there_is_no_model():
    """Guards against a guess at which model was meant."""
    url = "postgresql://localhost/none"
    assert open_embedding_model(LlmSettings(api_key="k", database_url=url), "") is None
    assert open_embedding_model(LlmSettings(api_key="k"), "embed-1") is None

"""What a caller can get wrong, sent to the real services: every answer is a typed refusal
with a reason and a field, none is INTERNAL or UNKNOWN."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from saexplain.activation.v1 import activation_pb2 as activation
from saexplain.activation.v1.activation_pb2_grpc import ActivationServiceStub
from saexplain.agent.v1.agent_pb2 import ExplainerOptions
from saexplain.common.v1.window_pb2 import SPLIT_EXPLAIN, WINDOW_STRATEGY_TOP, WindowSelection
from saexplain.explanation.v1 import explanation_pb2 as pb
from saexplain.explanation.v1.dossier_pb2 import Budget
from saexplain.explanation.v1.explanation_pb2_grpc import ExplanationServiceStub
from saexplain.scorer.v1.scorer_pb2 import MethodOptions
from services.common.errors import SaexplainError
from services.common.grpc_client import open_channel, rpc_errors
from tests.e2e.features import SAE
from tests.e2e.running import RunningStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

FEATURE = f"{SAE}/features/40"


def _create(**changes: Any) -> pb.CreateExplanationRequest:
    fields: dict[str, Any] = {
        "parent": "projects/default",
        "request_id": "bad-input",
        "feature": FEATURE,
        "explainer": ExplainerOptions(explainer="lexical"),
    }
    return pb.CreateExplanationRequest(**{**fields, **changes})


def _encode(
    *texts: str, features: tuple[int, ...] = (1,), sae: str = SAE
) -> activation.EncodeRequest:
    return activation.EncodeRequest(
        sae=sae, texts=[activation.TextInput(text=t) for t in texts], feature_indices=features
    )


CREATES = {
    "unknown SAE": (_create(feature="saes/nobody/features/1"), "SAE_NOT_FOUND", ""),
    "feature out of range": (
        _create(feature=f"{SAE}/features/999999"), "FEATURE_OUT_OF_RANGE", "feature",
    ),
    "malformed feature": (_create(feature="feature 5"), "FIELD_INVALID", "feature"),
    "no parent": (_create(parent=""), "FIELD_INVALID", "parent"),
    "no request id": (_create(request_id=""), "FIELD_INVALID", "request_id"),
    "no explainer": (_create(explainer=ExplainerOptions()), "EXPLAINER_UNKNOWN", "explainer"),
    "unknown explainer": (
        _create(explainer=ExplainerOptions(explainer="oracle")), "EXPLAINER_UNKNOWN", "explainer",
    ),
    "unknown method": (
        _create(methods=[MethodOptions(method="vibes", judge="pattern")]),
        "METHOD_UNKNOWN", "methods[0]",
    ),
    "negative rounds": (_create(budget=Budget(max_round_count=-1)), "FIELD_INVALID", "budget"),
    "negative tokens": (_create(budget=Budget(max_llm_token_count=-5)), "FIELD_INVALID", "budget"),
    "negative money": (_create(budget=Budget(max_cost=-0.5)), "FIELD_INVALID", "budget"),
    "NaN money": (_create(budget=Budget(max_cost=float("nan"))), "FIELD_INVALID", "budget"),
    "missing index": (
        _create(index="projects/default/indexes/0123456789abcdef"), "INDEX_NOT_BUILT", "",
    ),
}  # fmt: skip

ENCODES = {
    "empty text": (_encode("fine", ""), "TEXT_EMPTY", "texts[1]"),
    "oversized text": (_encode("word " * 200_000), "TEXT_TOO_LONG", "texts[0]"),
    "no texts": (_encode(), "FIELD_INVALID", "texts"),
    "no features": (_encode("x", features=()), "FIELD_INVALID", "feature_indices"),
    "feature out of range": (_encode("x", features=(999_999,)), "FEATURE_OUT_OF_RANGE", "feature"),
    "negative feature": (_encode("x", features=(-1,)), "FEATURE_OUT_OF_RANGE", "feature"),
    "unknown SAE": (_encode("x", sae="saes/nobody"), "SAE_NOT_FOUND", ""),
    "too many texts": (_encode(*["x"] * 20_000), "TOO_MANY_ITEMS", "texts"),
}  # fmt: skip


async def _refusal(call: Callable[[], Awaitable[Any]]) -> SaexplainError:
    with pytest.raises(SaexplainError) as caught:
        async with rpc_errors():
            await call()
    return caught.value


def _check(error: SaexplainError, reason: str, field: str) -> None:
    assert error.reason == reason, error
    if field:
        assert any(v.field.startswith(field) for v in error.violations), error


@pytest.mark.parametrize("case", CREATES)
async def test_a_wrong_create_is_refused_with_reason_and_field(
    stack: RunningStack, case: str
) -> None:
    request, reason, field = CREATES[case]
    async with open_channel(stack.address("orchestrator")) as channel:
        stub: Any = ExplanationServiceStub(channel)
        _check(await _refusal(lambda: stub.CreateExplanation(request)), reason, field)


@pytest.mark.parametrize("case", ENCODES)
async def test_a_wrong_encode_is_refused_with_reason_and_field(
    stack: RunningStack, case: str
) -> None:
    request, reason, field = ENCODES[case]
    async with open_channel(stack.address("activation")) as channel:
        stub: Any = ActivationServiceStub(channel)

        async def read() -> None:
            async for _ in stub.Encode(request):
                pass

        _check(await _refusal(read), reason, field)


@pytest.mark.parametrize("service", ["activation", "agent", "scorer", "orchestrator"])
@pytest.mark.parametrize("data", [b"\x0a\x03\xed\xa0\x80", b"\x0a\xff"], ids=["surrogate", "cut"])
async def test_broken_bytes_are_refused_by_every_service(
    stack: RunningStack, service: str, data: bytes
) -> None:
    method = {
        "activation": "/saexplain.activation.v1.ActivationService/GetSae",
        "agent": "/saexplain.agent.v1.AgentService/ProposeHypotheses",
        "scorer": "/saexplain.scorer.v1.ScorerService/PlanScore",
        "orchestrator": "/saexplain.explanation.v1.ExplanationService/GetExplanation",
    }[service]
    async with open_channel(stack.address(service)) as channel:
        error = await _refusal(lambda: channel.unary_unary(method)(data))
    assert (error.status, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_exemplars_of_an_index_that_is_not_there_are_refused(stack: RunningStack) -> None:
    request = activation.ListExemplarsRequest(
        feature=FEATURE,
        index="projects/default/indexes/0123456789abcdef",
        selections=[WindowSelection(strategy=WINDOW_STRATEGY_TOP, split=SPLIT_EXPLAIN, count=1)],
    )
    async with open_channel(stack.address("activation")) as channel:
        stub: Any = ActivationServiceStub(channel)
        error = await _refusal(lambda: stub.ListExemplars(request))
    assert (error.status, error.reason) == ("FAILED_PRECONDITION", "INDEX_NOT_BUILT")


async def test_the_same_request_id_with_another_request_is_refused(stack: RunningStack) -> None:
    async with open_channel(stack.address("orchestrator")) as channel:
        stub: Any = ExplanationServiceStub(channel)
        await stub.CreateExplanation(_create(request_id="taken", seed=1))
        error = await _refusal(lambda: stub.CreateExplanation(_create(request_id="taken", seed=2)))
    assert (error.status, error.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


async def test_a_request_past_its_deadline_says_so(stack: RunningStack) -> None:
    async with open_channel(stack.address("activation")) as channel:
        stub: Any = ActivationServiceStub(channel)
        request = _encode(*["a long text " * 50] * 200)

        async def read() -> None:
            async for _ in stub.Encode(request, timeout=0.05):
                pass

        error = await _refusal(read)
    assert error.status == "DEADLINE_EXCEEDED"

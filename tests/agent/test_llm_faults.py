"""What a provider can do wrong, met by every step over gRPC and HTTP: each fault ends in the
outcome stated here, and none becomes a hypothesis, a probe, a verdict or an explanation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from saexplain.agent.v1 import agent_pb2 as pb
from saexplain.agent.v1 import agent_pb2_grpc as rpc
from saexplain.common.v1 import experiment_pb2 as experiment
from services.agent.server import SERVICE, explainers, registering
from services.common.errors import SaexplainError
from services.common.grpc_client import open_channel, rpc_errors
from services.common.testing import serving
from tests.agent.builders import evidence, hypothesis, options, result, scope, state
from tests.fakes import language_model
from tests.fakes.faults import Fault
from tests.fakes.openai_server import FakeOpenAi, Reply

SILENT = experiment.PROBE_OUTCOME_SILENT
_IN_AN_HOUR = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
FAULTS = {
    "429 with seconds": (Fault("status", 429, "7"), "RESOURCE_EXHAUSTED", "RATE_LIMITED"),
    "429 with a date": (Fault("status", 429, _IN_AN_HOUR), "RESOURCE_EXHAUSTED", "RATE_LIMITED"),
    "500": (Fault("status", 500), "UNAVAILABLE", "LLM_UNAVAILABLE"),
    "timeout": (Fault("hang"), "UNAVAILABLE", "LLM_UNAVAILABLE"),
    "truncated": (Fault("truncated"), "ABORTED", "LLM_REPLY_UNUSABLE"),
    "broken JSON": (Fault("broken_json"), "ABORTED", "LLM_REPLY_UNUSABLE"),
    "wrong schema": (Fault("wrong_schema"), "ABORTED", "LLM_REPLY_UNUSABLE"),
    "refusal": (Fault("refusal"), "ABORTED", "LLM_REPLY_UNUSABLE"),
    "content filter": (Fault("content_filter"), "ABORTED", "LLM_REPLY_UNUSABLE"),
    "empty": (Fault("empty"), "ABORTED", "LLM_REPLY_UNUSABLE"),
    "cut connection": (Fault("close_midway"), "UNAVAILABLE", "LLM_UNAVAILABLE"),
}
_OPEN = state([hypothesis("h1")], [result("p1.1", "h1", "It failed.", outcome=SILENT)])


def _common(explainer: str, round_: int) -> dict[str, Any]:
    return {
        "options": options(explainer),
        "scope": scope("step", round_),
        "evidence": evidence(),
    }


STEPS: dict[str, Callable[[rpc.AgentServiceStub], Awaitable[Any]]] = {
    "propose": lambda stub: stub.ProposeHypotheses(
        pb.ProposeHypothesesRequest(**_common("sage", 0))
    ),
    "design": lambda stub: stub.DesignProbes(
        pb.DesignProbesRequest(**_common("sage", 1), state=_OPEN)
    ),
    "revise": lambda stub: stub.ReviseHypotheses(
        pb.ReviseHypothesesRequest(**_common("sage", 1), state=_OPEN)
    ),
    "synthesize": lambda stub: stub.Synthesize(
        pb.SynthesizeRequest(**_common("sage", 1), state=_OPEN)
    ),
    "paper design": lambda stub: stub.DesignProbes(
        pb.DesignProbesRequest(**_common("paper", 1), state=_OPEN)
    ),
    "paper verdict": lambda stub: stub.ReviseHypotheses(
        pb.ReviseHypothesesRequest(**_common("paper", 1), state=_OPEN)
    ),
    "one_shot": lambda stub: stub.Synthesize(pb.SynthesizeRequest(**_common("one_shot", 0))),
}


@asynccontextmanager
async def _agent(engine: AsyncEngine, reply: Reply) -> AsyncIterator[rpc.AgentServiceStub]:
    async with FakeOpenAi({"*": reply}) as fake:
        model = language_model.connect(engine, fake.base_url, timeout_seconds=0.3)
        register = registering(explainers(model))
        async with serving(register, [SERVICE]) as address, open_channel(address) as channel:
            yield rpc.AgentServiceStub(channel)
        await model.aclose()


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_of_the_provider_ends_every_step_as_stated(
    engine: AsyncEngine, name: str
) -> None:
    fault, status, reason = FAULTS[name]
    async with _agent(engine, fault) as stub:
        for step, ask in STEPS.items():
            with pytest.raises(SaexplainError) as caught:
                async with rpc_errors():
                    await ask(stub)
            assert (caught.value.status, caught.value.reason) == (status, reason), step
            if name == "429 with seconds":
                assert caught.value.retry_after_seconds == 7
            if name == "429 with a date":
                assert 3_000 < (caught.value.retry_after_seconds or 0) <= 3_600


async def test_an_invented_citation_is_removed_and_named(engine: AsyncEngine) -> None:
    part = {
        "statement": "almost",
        "hypotheses": ["h1", "h77"],
        "windows": ["w1", "w400", "/etc/passwd"],
        "probes": ["p1.1", "p9.9"],
    }
    reply = {
        "outcome": "explained", "label": "almost", "description": "Fires at almost.",
        "parts": [part], "why": "",
    }  # fmt: skip
    async with _agent(engine, reply) as stub:
        written = await STEPS["synthesize"](stub)
    (kept,) = written.explanation.parts
    assert list(kept.window_citations) == ["indexes/i1/windows/10"]
    assert list(kept.probe_citations) == ["p1.1"]
    assert list(written.removed_citations) == ["w400", "/etc/passwd", "p9.9"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("It was almost dark inside the old stone chapel", "repeats_exemplar"),
        ("it  WAS almost dark inside the old stone chapel", "repeats_exemplar"),
        ("It failed.", "repeats_probe"),
        (" \n", "empty"),
        ("word " * 400, "too_long"),
    ],
)
async def test_a_probe_that_repeats_or_says_nothing_is_refused_and_named(
    engine: AsyncEngine, text: str, reason: str
) -> None:
    test = {"hypothesis": "h1", "positives": [text], "boundaries": [], "twins": []}
    async with _agent(engine, {"tests": [test]}) as stub:
        designed = await STEPS["design"](stub)
    assert not designed.probes
    assert [probe.reason for probe in designed.refused_probes] == [reason]

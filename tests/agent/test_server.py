"""Guards the agent service as a caller meets it: over gRPC, with a scripted provider over
HTTP and the journal in PostgreSQL; errors arrive typed, never INTERNAL."""

from __future__ import annotations

import pytest

from saexplain.agent.v1 import agent_pb2 as pb
from saexplain.agent.v1 import agent_pb2_grpc as rpc
from saexplain.common.v1 import experiment_pb2 as experiment
from saexplain.common.v1.explanation_pb2 import EXPLANATION_STATUS_EXPLAINED
from saexplain.common.v1.window_pb2 import SPLIT_HELDOUT
from services.agent.server import SERVICE, explainers, registering
from services.common import errors
from services.common.grpc_client import open_channel, rpc_errors
from services.common.testing import serving
from tests.agent.builders import evidence, options, result, scope, state
from tests.fakes import language_model
from tests.fakes.faults import Fault
from tests.fakes.openai_server import FakeOpenAi
from tests.fakes.scientist import REPLIES


def _propose() -> pb.ProposeHypothesesRequest:
    return pb.ProposeHypothesesRequest(
        options=options(), scope=scope("propose_hypotheses"), evidence=evidence()
    )


async def _refusal(stub: rpc.AgentServiceStub, request) -> errors.SaexplainError:
    with pytest.raises(errors.SaexplainError) as caught:
        async with rpc_errors():
            await stub.ProposeHypotheses(request)
    return caught.value


async def test_an_explanation_is_made_step_by_step(engine) -> None:
    """The whole loop of one round, as the orchestrator drives it."""
    async with FakeOpenAi(REPLIES) as fake:
        model = language_model.connect(engine, fake.base_url)
        register = registering(explainers(model))
        async with serving(register, [SERVICE]) as address, open_channel(address) as channel:
            stub = rpc.AgentServiceStub(channel)
            proposed = await stub.ProposeHypotheses(_propose())
            run = state(proposed.hypotheses)
            designed = await stub.DesignProbes(
                pb.DesignProbesRequest(
                    options=options(), scope=scope("design", 1), evidence=evidence(), state=run
                )
            )
            assert len(designed.probes) == 48
            for probe in designed.probes:
                # The word alone makes the feature fire: semantic claims will fail.
                fired = "almost" in probe.text
                run.results.append(
                    result(
                        probe.id,
                        probe.hypothesis_id,
                        probe.text,
                        predicted_active=probe.predicted_active,
                        outcome=(
                            experiment.PROBE_OUTCOME_ACTIVE
                            if fired
                            else experiment.PROBE_OUTCOME_SILENT
                        ),
                        activations={"almost": 8.0},
                    )
                )
            run.uncovered_windows.append("indexes/i1/windows/20")
            revised = await stub.ReviseHypotheses(
                pb.ReviseHypothesesRequest(
                    options=options(), scope=scope("revise", 1), evidence=evidence(), state=run
                )
            )
            assert len(revised.hypotheses) >= 4
            written = await stub.Synthesize(
                pb.SynthesizeRequest(
                    options=options(), scope=scope("synthesize", 1), evidence=evidence(), state=run
                )
            )
        await model.aclose()
        assert fake.count() == 4
    assert written.explanation.status == EXPLANATION_STATUS_EXPLAINED
    assert "almost" in written.explanation.label
    assert written.explanation.parts[0].probe_citations
    assert not written.removed_citations


async def test_without_a_language_model_the_lexical_explainer_still_serves() -> None:
    register = registering(explainers(None))
    async with serving(register, [SERVICE]) as address, open_channel(address) as channel:
        stub = rpc.AgentServiceStub(channel)
        listed = await stub.ListExplainers(pb.ListExplainersRequest())
        available = {e.name: e.available for e in listed.explainers}
        ask = ("best_of_n", "one_shot", "paper", "random_probe", "sage")
        assert available == {
            **dict.fromkeys(("import", "lexical"), True),
            **dict.fromkeys(ask, False),
        }
        error = await _refusal(stub, _propose())
    assert isinstance(error, errors.FailedPrecondition)
    assert error.reason == "LLM_NOT_CONFIGURED"


async def test_bad_requests_are_refused_with_reason_and_field() -> None:
    register = registering(explainers(None))
    async with serving(register, [SERVICE]) as address, open_channel(address) as channel:
        stub = rpc.AgentServiceStub(channel)
        unknown = _propose()
        unknown.options.explainer = "nobody"
        error = await _refusal(stub, unknown)
        assert (error.status, error.reason) == ("INVALID_ARGUMENT", "EXPLAINER_UNKNOWN")
        assert error.violations[0].field == "options.explainer"

        frozen = _propose()
        frozen.options.version = "0"
        assert (await _refusal(stub, frozen)).reason == "PLAN_VERSION_UNSUPPORTED"

        leaking = _propose()
        leaking.options.explainer = "lexical"
        leaking.evidence.windows[0].windows[0].split = SPLIT_HELDOUT
        error = await _refusal(stub, leaking)
        assert error.violations[0].field == "evidence.windows[0].windows[0].split"

        error = await _refusal(stub, pb.ProposeHypothesesRequest())
        assert error.reason == "EXPLAINER_UNKNOWN"
        empty = pb.ProposeHypothesesRequest(options=options("lexical"))
        error = await _refusal(stub, empty)
        assert error.violations[0].field == "evidence.facts.feature"


async def test_a_providers_delay_reaches_the_caller(engine) -> None:
    async with FakeOpenAi({"*": Fault("status", 429, "11")}) as fake:
        model = language_model.connect(engine, fake.base_url)
        register = registering(explainers(model))
        async with serving(register, [SERVICE]) as address, open_channel(address) as channel:
            error = await _refusal(rpc.AgentServiceStub(channel), _propose())
        await model.aclose()
    assert (error.status, error.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
    assert error.retry_after_seconds == 11


async def test_an_rpc_that_is_cancelled_leaves_its_reply_in_the_journal(engine) -> None:
    """The caller's disconnect must not waste a call that was sent."""
    async with FakeOpenAi(REPLIES, delay_seconds=0.5) as fake:
        model = language_model.connect(engine, fake.base_url)
        register = registering(explainers(model))
        async with serving(register, [SERVICE]) as address, open_channel(address) as channel:
            stub = rpc.AgentServiceStub(channel)
            call = stub.ProposeHypotheses(_propose())
            await fake.wait_for_count(1)
            call.cancel()
            again = await stub.ProposeHypotheses(_propose())
            assert fake.count() == 1
        await model.aclose()
    assert again.hypotheses

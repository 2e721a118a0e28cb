"""Step 4, measure: one batched encode of all probes of a round."""

from __future__ import annotations

from temporalio import activity

from saexplain.activation.v1 import activation_pb2
from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import experiment_pb2
from saexplain.explanation.v1 import dossier_pb2
from services.orchestrator import measuring
from services.orchestrator.activities.calls import encode
from services.orchestrator.activities.workspace import Workspace, attempt
from services.orchestrator.records import StepCall, StepResult


class MeasuringActivities:
    """Encodes probes."""

    def __init__(self, work: Workspace) -> None:
        self._work = work

    @activity.defn(name="encode_probes")
    async def encode_probes(self, call: StepCall) -> StepResult:
        """Encode: stores a fragment of the dossier with the round's results."""
        plan = await self._work.plan(call)
        design = await self._work.load(call.inputs["design"], agent_pb2.DesignProbesResponse)
        backends: list[str] = []

        async def compute() -> dossier_pb2.Dossier:
            gathered = await self._work.load(call.inputs["evidence"], agent_pb2.Evidence)
            fragment, backend = await self._measure(call.round, plan, design, gathered)
            backends.append(backend)
            return fragment

        fragment, ref = await self._work.keep(call, "encode_probes", dossier_pb2.Dossier, compute)
        results = fragment.rounds[0].results
        active = sum(r.outcome == experiment_pb2.PROBE_OUTCOME_ACTIVE for r in results)
        await self._work.note(
            call,
            "encode_probes",
            f"{len(results)} probes measured, {active} active.",
            probe_count=len(results),
        )
        return StepResult(
            artifact=ref,
            count=len(results),
            attempt=attempt(),
            backend=backends[0] if backends else "",
        )

    async def _measure(
        self,
        number: int,
        plan: dossier_pb2.Plan,
        design: agent_pb2.DesignProbesResponse,
        gathered: agent_pb2.Evidence,
    ) -> tuple[dossier_pb2.Dossier, str]:
        thresholds = measuring.outcome_thresholds(plan.thresholds)
        features = measuring.measured_features(gathered.facts)
        texts = [activation_pb2.TextInput(text=probe.text) for probe in design.probes]
        encoded, backend = await encode(
            self._work.services, plan.sae.name, texts, [feature.index for feature in features]
        )
        fragment = dossier_pb2.Dossier()
        measured = fragment.rounds.add(round=number, refused_probes=design.refused_probes)
        for index, probe in enumerate(design.probes):
            measured.results.append(
                measuring.probe_result(
                    probe, encoded.get(index), gathered.facts, thresholds, features
                )
            )
        return fragment, backend

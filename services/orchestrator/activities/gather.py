"""Step 1, gather: what is known of the feature, from the EXPLAIN split; and what the
baseline of another feature is made of."""

from __future__ import annotations

from temporalio import activity

from saexplain.activation.v1 import activation_pb2
from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import feature_pb2, window_pb2
from saexplain.explanation.v1 import dossier_pb2
from services.common.errors import FailedPrecondition, Unimplemented
from services.common.grpc_client import rpc_errors
from services.common.names import parse_feature
from services.orchestrator import evidence, measuring, vocabulary
from services.orchestrator.activities.calls import encode, unary
from services.orchestrator.activities.workspace import Workspace, attempt, scope
from services.orchestrator.activity_shell import remaining_seconds
from services.orchestrator.records import StepCall, StepResult


class GatherActivities:
    """Reads of the activation service, and the proposal for the other feature."""

    def __init__(self, work: Workspace) -> None:
        self._work = work

    @activity.defn(name="get_feature")
    async def get_feature(self, call: StepCall) -> StepResult:
        """GetFeature: stores the facts."""
        plan = await self._work.plan(call)

        async def compute() -> feature_pb2.FeatureFacts:
            request = activation_pb2.GetFeatureRequest(name=plan.feature, index=plan.index)
            response = await unary(self._work.services.activation.GetFeature, request)
            found: feature_pb2.FeatureFacts = response.facts
            return found

        facts, ref = await self._work.keep(call, "get_feature", feature_pb2.FeatureFacts, compute)
        await self._work.note(
            call,
            "get_feature",
            f"Density {facts.density:.2e}, reference maximum {facts.reference_max:.3g}.",
        )
        return StepResult(
            artifact=ref,
            count=int(facts.reference_max > 0),
            other_feature=facts.density_matched_feature,
            attempt=attempt(),
        )

    @activity.defn(name="list_exemplars")
    async def list_exemplars(self, call: StepCall) -> StepResult:
        """ListExemplars: stores windows of EXPLAIN for the explainer and of SELECT for
        the choice between candidates, in one answer that later steps split."""
        plan = await self._work.plan(call)

        async def compute() -> activation_pb2.ListExemplarsResponse:
            selections = [*evidence.explain_selections(), *evidence.select_selections()]
            return await self._list(plan.feature, plan.index, selections, plan.seed)

        response, ref = await self._work.keep(
            call, "list_exemplars", activation_pb2.ListExemplarsResponse, compute
        )
        evidence.check_split(
            response.lists, frozenset({window_pb2.SPLIT_EXPLAIN, window_pb2.SPLIT_SELECT})
        )
        count = len(evidence.top_windows(response.lists))
        await self._work.note(call, "list_exemplars", f"{count} exemplars.")
        return StepResult(artifact=ref, count=count, attempt=attempt())

    @activity.defn(name="list_token_neighbors")
    async def list_token_neighbors(self, call: StepCall) -> StepResult:
        """The last step of gathering: neighbours of the strongest peak tokens, vocabulary
        probe and ceiling. Stores the whole evidence."""
        plan = await self._work.plan(call)
        facts = await self._work.load(call.inputs["facts"], feature_pb2.FeatureFacts)
        windows = await self._work.load(
            call.inputs["windows"], activation_pb2.ListExemplarsResponse
        )
        explain = evidence.of_split(windows.lists, window_pb2.SPLIT_EXPLAIN)

        async def compute() -> agent_pb2.Evidence:
            tokens = evidence.strongest_peak_tokens(explain, evidence.NEIGHBOR_TOKENS)
            neighbors = activation_pb2.ListTokenNeighborsResponse()
            if tokens:
                request = activation_pb2.ListTokenNeighborsRequest(
                    sae=plan.sae.name, token_ids=tokens, count=evidence.NEIGHBORS_PER_TOKEN
                )
                neighbors = await unary(self._work.services.activation.ListTokenNeighbors, request)
            gathered = evidence.evidence(facts, explain, neighbors.neighbors)
            await self._add_vocabulary(plan, gathered)
            await self._add_ceiling(plan, gathered)
            return gathered

        gathered, ref = await self._work.keep(
            call, "list_token_neighbors", agent_pb2.Evidence, compute
        )
        count = len(gathered.token_neighbors)
        await self._work.note(
            call, "list_token_neighbors", evidence.summary(gathered), label="gather"
        )
        return StepResult(artifact=ref, count=count, attempt=attempt())

    @activity.defn(name="list_other_exemplars")
    async def list_other_exemplars(self, call: StepCall) -> StepResult:
        """ListExemplars of the density-matched other feature: stores its evidence."""
        plan = await self._work.plan(call)
        facts = await self._work.load(call.inputs["facts"], feature_pb2.FeatureFacts)
        other = parse_feature(facts.density_matched_feature, "density_matched_feature")

        async def compute() -> agent_pb2.Evidence:
            response = await self._list(
                other.name, plan.index, evidence.explain_selections(), plan.seed
            )
            known = feature_pb2.FeatureFacts(
                feature=other.name,
                density=facts.density,
                reference_max=evidence.reference_max(response.lists),
            )
            return evidence.evidence(known, response.lists, ())

        other_evidence, ref = await self._work.keep(
            call, "list_other_exemplars", agent_pb2.Evidence, compute
        )
        return StepResult(
            artifact=ref,
            count=len(evidence.top_windows(other_evidence.windows)),
            attempt=attempt(),
        )

    @activity.defn(name="propose_other")
    async def propose_other(self, call: StepCall) -> StepResult:
        """ProposeHypotheses by the lexical explainer for the other feature: its first
        hypothesis with a pattern is the baseline."""
        plan = await self._work.plan(call)
        other = await self._work.load(call.inputs["evidence"], agent_pb2.Evidence)

        async def compute() -> agent_pb2.ProposeHypothesesResponse:
            request = agent_pb2.ProposeHypothesesRequest(
                options=agent_pb2.ExplainerOptions(
                    explainer="lexical",
                    version=call.note,
                    hypothesis_count=1,
                    positive_probe_count=plan.explainer.positive_probe_count,
                    negative_probe_count=plan.explainer.negative_probe_count,
                    seed=plan.seed,
                ),
                scope=scope(call, "propose_other"),
                evidence=other,
            )
            return await unary(self._work.services.agent.ProposeHypotheses, request)

        proposed, ref = await self._work.keep(
            call, "propose_other", agent_pb2.ProposeHypothesesResponse, compute
        )
        return StepResult(
            artifact=ref,
            has_pattern=any(h.HasField("pattern") for h in proposed.hypotheses),
            attempt=attempt(),
        )

    async def _add_vocabulary(self, plan: dossier_pb2.Plan, gathered: agent_pb2.Evidence) -> None:
        """The probe that is kept with the index, and the one behind the best exemplar."""
        request = activation_pb2.GetVocabularyProbeRequest(name=plan.feature, index=plan.index)
        try:
            kept = await unary(self._work.services.activation.GetVocabularyProbe, request)
        except (FailedPrecondition, Unimplemented) as error:
            gathered.vocabulary_absent_reason = vocabulary.absence(error)
            return
        gathered.vocabulary_probes.extend(kept.probes)
        prefix = vocabulary.exemplar_prefix(gathered.windows)
        if prefix is None:
            return
        pieces = vocabulary.candidates(kept.probes, gathered.windows, gathered.token_neighbors)
        if not pieces:
            return
        feature = parse_feature(plan.feature, "feature")
        try:
            pages = await self._values(
                vocabulary.exemplar_request(feature.sae_name, feature.index, prefix, pieces)
            )
        except Unimplemented as error:
            gathered.vocabulary_absent_reason = vocabulary.absence(error)
            return
        gathered.vocabulary_probes.append(
            vocabulary.exemplar_probe(
                prefix,
                pieces,
                pages,
                gathered.facts.reference_max,
                plan.thresholds.active_share,
            )
        )

    async def _values(
        self, request: activation_pb2.ProbeVocabularyRequest
    ) -> list[activation_pb2.TokenValuesPage]:
        probe = self._work.services.activation.ProbeVocabulary
        async with rpc_errors():
            return [
                response.values
                async for response in probe(request, timeout=remaining_seconds())
                if response.HasField("values")
            ]

    async def _add_ceiling(self, plan: dossier_pb2.Plan, gathered: agent_pb2.Evidence) -> None:
        """Encodes the exemplars again, cut to the length of a probe."""
        feature = parse_feature(plan.feature, "feature")
        texts = measuring.ceiling_inputs(evidence.top_windows(gathered.windows))
        encoded, _ = await encode(self._work.services, feature.sae_name, texts, [feature.index])
        thresholds = measuring.outcome_thresholds(plan.thresholds)
        ceiling = measuring.ceiling(encoded, gathered.facts.reference_max, thresholds)
        if ceiling is not None:
            gathered.ceiling.CopyFrom(ceiling)

    async def _list(
        self,
        feature: str,
        index: str,
        selections: list[window_pb2.WindowSelection],
        seed: int,
    ) -> activation_pb2.ListExemplarsResponse:
        request = activation_pb2.ListExemplarsRequest(
            feature=feature,
            index=index,
            selections=selections,
            left_context_token_count=evidence.LEFT_CONTEXT_TOKENS,
            seed=seed,
        )
        return await unary(self._work.services.activation.ListExemplars, request)

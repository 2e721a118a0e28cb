"""One feature through every explainer, all rounds forced: no verdict ever falls, a third of
the predictions fail, and every call that a run can make is made."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.llm_cost.meter import Meter
from saexplain.activation.v1 import activation_pb2
from saexplain.agent.v1 import agent_pb2 as pb
from saexplain.common.v1 import experiment_pb2 as experiment
from saexplain.common.v1 import explanation_pb2, text_pb2
from saexplain.common.v1.usage_pb2 import LlmOptions
from saexplain.scorer.v1 import scorer_pb2
from services.agent.explainers.base import Explainer
from services.orchestrator import evidence as gathering
from services.orchestrator import selecting
from services.orchestrator.plan import default_thresholds
from services.orchestrator.verdicts import decide
from services.orchestrator.workflows.candidates import JUDGED_SHARE
from services.scorer.judges.llm import LlmJudge

FAILING = 3
"""Every third prediction fails."""


class Run:
    """A run of one explainer on one feature."""

    def __init__(
        self,
        explainer: Explainer,
        meter: Meter,
        evidence: pb.Evidence,
        select: Sequence[activation_pb2.WindowList],
        cut: Callable[[str], list[bytes]],
    ) -> None:
        loop = explainer.loop
        self._explainer, self._meter = explainer, meter
        self._evidence, self._select, self._cut = evidence, select, cut
        self._options = pb.ExplainerOptions(
            explainer=explainer.name,
            hypothesis_count=loop.hypothesis_count,
            positive_probe_count=loop.positive_probe_count,
            negative_probe_count=loop.negative_probe_count,
            llm=LlmOptions(model="m"),
        )
        self._rng = random.Random(0)

    async def whole(self) -> None:
        """All steps, choosing included."""
        loop = self._explainer.loop
        if not loop.hypothesis_count:
            await self._independent(loop)
            return
        state = await self._rounds(loop)
        rivals = min(loop.candidate_count or loop.round_count, loop.round_count)
        for _ in range(rivals):
            explanation = await self._synthesis(state)
            if rivals > 1:
                await self._judge(explanation)

    async def _rounds(self, loop: pb.LoopPolicy) -> pb.RunState:
        common = {"options": self._options, "evidence": self._evidence}
        proposed = await self._explainer.propose(pb.ProposeHypothesesRequest(**common))
        state = pb.RunState(hypotheses=proposed.hypotheses)
        exemplars = [w.name for w in gathering.top_windows(self._evidence.windows)]
        for number in range(1, loop.round_count + 1):
            state.round = number
            designed = await self._explainer.design(pb.DesignProbesRequest(**common, state=state))
            results = [self._measured(n, probe) for n, probe in enumerate(designed.probes)]
            state = _decided(state, results, exemplars, number)
            if number < loop.round_count or loop.revises_last_round:
                request = pb.ReviseHypothesesRequest(**common, state=state)
                revised = await self._explainer.revise(request)
                del state.hypotheses[:]
                state.hypotheses.extend(revised.hypotheses)
        return state

    def _measured(self, number: int, probe: experiment.Probe) -> experiment.ProbeResult:
        """Fires at one token, or nowhere, against the prediction every third time."""
        passed = number % FAILING != 0
        fires = probe.predicted_active == passed
        tokens = self._cut(probe.text)
        values = [0.0] * len(tokens)
        if fires and values:
            values[self._rng.randrange(len(values))] = self._evidence.facts.reference_max
        outcome = experiment.PROBE_OUTCOME_ACTIVE if fires else experiment.PROBE_OUTCOME_SILENT
        return experiment.ProbeResult(
            probe=probe,
            outcome=outcome,
            tokens=text_pb2.TokenSpan(token_bytes=tokens),
            activations=values,
            max_activation=max(values, default=0.0),
            passed=passed,
        )

    async def _synthesis(self, state: pb.RunState | None = None) -> explanation_pb2.Explanation:
        request = pb.SynthesizeRequest(options=self._options, evidence=self._evidence, state=state)
        return (await self._explainer.synthesize(request)).explanation

    async def _independent(self, loop: pb.LoopPolicy) -> None:
        """As many as the tokens set aside buy, counted as the workflow counts them."""
        before = self._meter.tokens.total()
        explanations = [await self._synthesis()]
        price = JUDGED_SHARE * (self._meter.tokens.total() - before)
        count = loop.candidate_count
        if loop.candidate_token_count:
            count = min(count, int(loop.candidate_token_count // price))
        explanations += [await self._synthesis() for _ in range(1, count)]
        for explanation in explanations if len(explanations) > 1 else ():
            await self._judge(explanation)

    async def _judge(self, explanation: explanation_pb2.Explanation) -> None:
        windows = selecting.judged_windows(self._select, 0)
        model: Any = self._meter
        await LlmJudge(model).judge(
            scorer_pb2.JudgeRequest(
                options=scorer_pb2.MethodOptions(
                    method="corpus", judge="llm", llm=LlmOptions(model="m")
                ),
                explanation=explanation,
                items=selecting.judge_items(windows),
            )
        )


def _decided(
    state: pb.RunState,
    results: Sequence[experiment.ProbeResult],
    exemplars: Sequence[str],
    number: int,
) -> pb.RunState:
    """Counts as they are, without verdicts; exemplars that nothing covers."""
    return decide(state, results, default_thresholds(), exemplars, number, decides=False)

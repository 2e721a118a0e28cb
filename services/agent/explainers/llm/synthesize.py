"""Final step: the explanation from what stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from saexplain.agent.v1.agent_pb2 import RunState, SynthesizeRequest, SynthesizeResponse
from saexplain.common.v1.experiment_pb2 import (
    HYPOTHESIS_KIND_POSITIONAL,
    HYPOTHESIS_STATUS_OPEN,
    HYPOTHESIS_STATUS_REFUTED,
    HYPOTHESIS_STATUS_SUPPORTED,
    PROBE_OUTCOME_AMBIGUOUS,
    PROBE_OUTCOME_INVALID,
    Hypothesis,
)
from saexplain.common.v1.explanation_pb2 import (
    EXPLANATION_STATUS_EXPLAINED,
    EXPLANATION_STATUS_NO_EVIDENCE,
    EXPLANATION_STATUS_NO_EXPLANATION,
    EXPLANATION_STATUS_POSITIONAL,
    Explanation,
    ExplanationPart,
    ExplanationStatus,
)
from saexplain.common.v1.usage_pb2 import LlmUsage
from services.agent.explainers.citations import remove_unknown_citations
from services.agent.explainers.llm.asking import Asker, one_line, shown_hypothesis
from services.agent.explainers.llm.propose import evidence_values, fires
from services.agent.explainers.llm.render import ShownResult, show_result
from services.agent.explainers.llm.replies import Part, SynthesizeReply
from services.agent.explainers.llm.views import EvidenceView
from services.common.errors import Aborted
from services.common.given_explanation import (
    MAX_DESCRIPTION_LENGTH,
    MAX_LABEL_LENGTH,
    MAX_PARTS,
    shortened,
)

_EXEMPLARS = 10
_NEAR_MISSES = 4
_PASSED_PER_SIDE, _FAILED_PER_SIDE = 1, 2
_STANDING = (HYPOTHESIS_STATUS_SUPPORTED, HYPOTHESIS_STATUS_OPEN)


async def synthesize(
    request: SynthesizeRequest, asker: Asker, *, from_evidence: bool = False
) -> SynthesizeResponse:
    """Asks once. Where the feature does not fire, or the verdicts have left no hypothesis
    standing, that is the answer and nobody is asked.

    Args:
        from_evidence: for explainers without hypotheses: the whole evidence is shown.
    """
    state, evidence = request.state, request.evidence
    if not fires(evidence):
        detail = "the feature fires in none of the windows"
        return _unexplained(EXPLANATION_STATUS_NO_EVIDENCE, detail, asker.usage())
    standing = _in_order(state)
    if not standing and not from_evidence:
        detail = "no hypothesis stands up to the experiments"
        return _unexplained(EXPLANATION_STATUS_NO_EXPLANATION, detail, asker.usage())
    view = EvidenceView.of(evidence)
    shown = (
        {"hypotheses": [], **evidence_values(evidence, view)}
        if from_evidence
        else _run_values(request, view, standing)
    )
    reply = await asker.ask("synthesize", SynthesizeReply, **shown)
    return _answer(request, reply, view, standing, asker.usage())


def _run_values(
    request: SynthesizeRequest, view: EvidenceView, standing: Sequence[Hypothesis]
) -> dict[str, Any]:
    state = request.state
    return {
        "hypotheses": [shown_hypothesis(h) for h in standing],
        "refuted": [
            one_line(h.statement) for h in state.hypotheses if h.status == HYPOTHESIS_STATUS_REFUTED
        ],
        "windows": [*view.strongest(_EXEMPLARS), *view.near_misses(_NEAR_MISSES)],
        "results": _telling(state, standing, request.evidence.facts.reference_max),
    }


def _in_order(state: RunState) -> list[Hypothesis]:
    standing = (h for h in state.hypotheses if h.status in _STANDING)
    return sorted(standing, key=lambda h: _STANDING.index(h.status))


def _telling(
    state: RunState, standing: Sequence[Hypothesis], reference_max: float
) -> list[ShownResult]:
    """For each standing hypothesis the last few probes that bore each prediction out,
    and that failed it, oldest first."""
    present = {h.id: h.revision for h in standing}
    counts: Counter[tuple[str, bool, bool]] = Counter()
    kept = []
    for result in reversed(state.results):
        probe = result.probe
        if present.get(probe.hypothesis_id) != probe.hypothesis_revision:
            continue
        if result.outcome in (PROBE_OUTCOME_AMBIGUOUS, PROBE_OUTCOME_INVALID):
            continue
        side = (probe.hypothesis_id, probe.predicted_active, result.passed)
        counts[side] += 1
        if counts[side] <= (_PASSED_PER_SIDE if result.passed else _FAILED_PER_SIDE):
            kept.append(show_result(result, reference_max))
    return kept[::-1]


def _answer(
    request: SynthesizeRequest,
    reply: SynthesizeReply,
    view: EvidenceView,
    standing: Sequence[Hypothesis],
    usage: LlmUsage,
) -> SynthesizeResponse:
    if reply.outcome == "no_explanation":
        detail = reply.why.strip() or "the model found that nothing stands up to the evidence"
        return _unexplained(EXPLANATION_STATUS_NO_EXPLANATION, detail, usage)
    parts = _standing_parts(reply.parts, standing, request.state)
    if reply.parts and not parts:
        detail = "all that the model would explain with was refuted by experiment"
        return _unexplained(EXPLANATION_STATUS_NO_EXPLANATION, detail, usage)
    explanation = _explained(reply, parts, view, standing)
    removed = remove_unknown_citations(explanation, request.evidence, request.state)
    return SynthesizeResponse(explanation=explanation, removed_citations=removed, usage=usage)


def _standing_parts(
    parts: Sequence[Part], standing: Sequence[Hypothesis], state: RunState
) -> list[Part]:
    """The parts that do not rest on dropped or refuted hypotheses alone."""
    good, known = {h.id for h in standing}, {h.id for h in state.hypotheses}
    kept = []
    for part in parts:
        named = {name.strip() for name in part.hypotheses} & known
        if not named or named & good:
            kept.append(part)
    return kept[:MAX_PARTS]


def _unexplained(
    status: ExplanationStatus.ValueType, detail: str, usage: LlmUsage
) -> SynthesizeResponse:
    explanation = Explanation(status=status, status_detail=detail)
    return SynthesizeResponse(explanation=explanation, usage=usage)


def _explained(
    reply: SynthesizeReply,
    parts: Sequence[Part],
    view: EvidenceView,
    standing: Sequence[Hypothesis],
) -> Explanation:
    label, description = " ".join(reply.label.split()), reply.description.strip()
    if not label or not description:
        raise Aborted(
            "the language model says that it explains, without a label or description",
            "LLM_REPLY_UNUSABLE",
            metadata={"outcome": "UNPARSED"},
        )
    return Explanation(
        status=_status(reply, standing),
        label=shortened(label, MAX_LABEL_LENGTH),
        description=shortened(description, MAX_DESCRIPTION_LENGTH),
        parts=[
            ExplanationPart(
                statement=part.statement,
                # A short name that is none of ours stays, to be removed and counted.
                window_citations=[view.name(alias) or alias for alias in part.windows],
                probe_citations=[citation.strip() for citation in part.probes],
            )
            for part in parts
        ],
    )


def _status(reply: SynthesizeReply, standing: Sequence[Hypothesis]) -> ExplanationStatus.ValueType:
    """POSITIONAL where the model says so and, if there were experiments, a hypothesis
    about place stands."""
    placed = not standing or any(h.kind == HYPOTHESIS_KIND_POSITIONAL for h in standing)
    if reply.outcome == "positional" and placed:
        return EXPLANATION_STATUS_POSITIONAL
    return EXPLANATION_STATUS_EXPLAINED

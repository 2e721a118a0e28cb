"""Final step: the explanation from what stands."""

from __future__ import annotations

from collections import Counter

from saexplain.agent.v1.agent_pb2 import (
    RunState,
    SynthesizeRequest,
    SynthesizeResponse,
)
from saexplain.common.v1.experiment_pb2 import (
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
from services.agent.explainers.citations import (
    MAX_DESCRIPTION_LENGTH,
    MAX_LABEL_LENGTH,
    MAX_PARTS,
    remove_unknown_citations,
)
from services.agent.explainers.sage.asking import ask, shown_hypothesis
from services.agent.explainers.sage.propose import fires
from services.agent.explainers.sage.render import EvidenceView, ShownResult, show_result
from services.agent.explainers.sage.replies import SynthesizeReply
from services.common.errors import Aborted
from services.common.llm.session import LlmSession

_EXEMPLARS = 10
_RESULTS_PER_SIDE = 3
_STANDING = (HYPOTHESIS_STATUS_SUPPORTED, HYPOTHESIS_STATUS_OPEN)
_SHOWN = (*_STANDING, HYPOTHESIS_STATUS_REFUTED)


async def synthesize(request: SynthesizeRequest, session: LlmSession) -> SynthesizeResponse:
    """Asks once. Where the feature does not fire, or the verdicts have left no hypothesis
    standing, that is the answer and nobody is asked."""
    state, evidence = request.state, request.evidence
    if not fires(evidence):
        detail = "the feature fires in none of the windows"
        return _unexplained(EXPLANATION_STATUS_NO_EVIDENCE, detail, session.usage())
    if not any(h.status in _STANDING for h in state.hypotheses):
        detail = "no hypothesis stands up to the experiments"
        return _unexplained(EXPLANATION_STATUS_NO_EXPLANATION, detail, session.usage())
    view = EvidenceView.of(evidence)
    reply = await ask(
        session,
        request.options,
        "synthesize",
        SynthesizeReply,
        hypotheses=[shown_hypothesis(h) for h in _in_order(state)],
        exemplars=view.strongest(_EXEMPLARS),
        near_misses=view.near_misses(),
        results=_telling(state, evidence.facts.reference_max),
    )
    if reply.outcome == "no_explanation":
        detail = reply.why.strip() or "the model found that nothing stands up to the evidence"
        return _unexplained(EXPLANATION_STATUS_NO_EXPLANATION, detail, session.usage())
    return _explained(request, reply, view, session.usage())


def _in_order(state: RunState) -> list[Hypothesis]:
    return sorted(
        (h for h in state.hypotheses if h.status in _SHOWN),
        key=lambda h: _SHOWN.index(h.status),
    )


def _telling(state: RunState, reference_max: float) -> list[ShownResult]:
    """For each standing hypothesis the last few probes that bore each prediction out,
    and that failed it, oldest first."""
    present = {h.id: h.revision for h in state.hypotheses if h.status in _SHOWN}
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
        if counts[side] <= _RESULTS_PER_SIDE:
            kept.append(show_result(result, reference_max))
    return kept[::-1]


def _unexplained(
    status: ExplanationStatus.ValueType, detail: str, usage: LlmUsage
) -> SynthesizeResponse:
    explanation = Explanation(status=status, status_detail=detail)
    return SynthesizeResponse(explanation=explanation, usage=usage)


def _explained(
    request: SynthesizeRequest, reply: SynthesizeReply, view: EvidenceView, usage: LlmUsage
) -> SynthesizeResponse:
    label, description = " ".join(reply.label.split()), reply.description.strip()
    if not label or not description:
        raise Aborted(
            "the language model says that it explains, without a label or description",
            "LLM_REPLY_UNUSABLE",
            metadata={"outcome": "UNPARSED"},
        )
    explanation = Explanation(
        status=(
            EXPLANATION_STATUS_POSITIONAL
            if reply.outcome == "positional"
            else EXPLANATION_STATUS_EXPLAINED
        ),
        label=shortened(label, MAX_LABEL_LENGTH),
        description=shortened(description, MAX_DESCRIPTION_LENGTH),
        parts=[
            ExplanationPart(
                statement=part.statement,
                # A short name that is none of ours stays, to be removed and counted.
                window_citations=[view.name(alias) or alias for alias in part.windows],
                probe_citations=[citation.strip() for citation in part.probes],
            )
            for part in reply.parts[:MAX_PARTS]
        ],
    )
    removed = remove_unknown_citations(explanation, request.evidence, request.state)
    return SynthesizeResponse(explanation=explanation, removed_citations=removed, usage=usage)


def shortened(text: str, limit: int) -> str:
    """Text cut at a word so that it has at most `limit` characters, with an ellipsis."""
    if len(text) <= limit:
        return text
    head = text[: limit - 1]
    return (head.rsplit(" ", 1)[0] if " " in head else head) + "…"

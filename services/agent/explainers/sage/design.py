"""Second step of a round: probes for all open hypotheses, in one call."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence

from saexplain.agent.v1.agent_pb2 import (
    DesignProbesRequest,
    DesignProbesResponse,
    RefusedProbe,
    RunState,
)
from saexplain.common.v1.experiment_pb2 import (
    HYPOTHESIS_STATUS_OPEN,
    PROBE_ROLE_BOUNDARY,
    PROBE_ROLE_MINIMAL_PAIR,
    PROBE_ROLE_POSITIVE,
    Hypothesis,
    Probe,
    ProbeRole,
)
from services.agent.explainers.base import StepOptions
from services.agent.explainers.carriers import Carriers
from services.agent.explainers.llm.asking import Asker, shown_hypothesis
from services.agent.explainers.llm.render import ShownResult, show_result
from services.agent.explainers.llm.views import EvidenceView
from services.agent.explainers.probe_checks import ProbeGate
from services.agent.explainers.sage.replies import DesignedTest, DesignReply

HYPOTHESES_PER_QUESTION = 6
"""So many hypotheses with 12 probes each fit the default limit of a reply."""

_EXEMPLARS = 6
_RESULTS_PER_HYPOTHESIS = 2


async def design(
    request: DesignProbesRequest,
    asker: Asker,
    *,
    hypotheses_per_question: int = HYPOTHESES_PER_QUESTION,
) -> DesignProbesResponse:
    """Asks once for up to `hypotheses_per_question` OPEN hypotheses; no call where there
    is none. Half of the probes predicted inactive are boundaries, half minimal pairs.
    """
    tested = [h for h in request.state.hypotheses if h.status == HYPOTHESIS_STATUS_OPEN]
    groups = [
        tested[i : i + hypotheses_per_question]
        for i in range(0, len(tested), hypotheses_per_question)
    ]
    asked = [_ask(request, asker, group) for group in groups]
    # All are waited for, also when one fails: what was bought is in the journal.
    replies = await asyncio.gather(*asked, return_exceptions=True)
    designed: list[DesignedTest] = []
    for reply in replies:
        if isinstance(reply, BaseException):
            raise reply
        designed += reply.tests
    return _checked(request, designed, asker)


async def _ask(
    request: DesignProbesRequest, asker: Asker, tested: Sequence[Hypothesis]
) -> DesignReply:
    evidence, options = request.evidence, StepOptions.of(request.options)
    twin_count = _twin_count(options)
    return await asker.ask(
        "design_probes",
        DesignReply,
        exemplars=EvidenceView.of(evidence).strongest(_EXEMPLARS),
        hypotheses=[shown_hypothesis(h) for h in tested],
        results=_latest(request.state, {h.id for h in tested}, evidence.facts.reference_max),
        positive_count=options.positive_probe_count,
        boundary_count=options.negative_probe_count - twin_count,
        twin_count=twin_count,
    )


def _twin_count(options: StepOptions) -> int:
    return min(options.negative_probe_count // 2, options.positive_probe_count)


def _latest(state: RunState, tested: set[str], reference_max: float) -> list[ShownResult]:
    """The last few results of each hypothesis, oldest first."""
    counts: Counter[str] = Counter()
    kept = []
    for result in reversed(state.results):
        owner = result.probe.hypothesis_id
        if owner in tested and counts[owner] < _RESULTS_PER_HYPOTHESIS:
            counts[owner] += 1
            kept.append(show_result(result, reference_max))
    return kept[::-1]


def _checked(
    request: DesignProbesRequest, designed: Sequence[DesignedTest], asker: Asker
) -> DesignProbesResponse:
    state, options = request.state, StepOptions.of(request.options)
    carriers = Carriers(request.evidence, f"{options.seed}/{state.round}")
    drafts = [draft for test in designed for draft in _drafts(test, carriers)]
    wanted, beyond = _within_counts(drafts, options)
    admitted, refused = ProbeGate(request.evidence, state).admit(wanted)
    return DesignProbesResponse(
        probes=admitted, refused_probes=[*refused, *beyond], usage=asker.usage()
    )


def _drafts(test: DesignedTest, carriers: Carriers) -> Iterator[Probe]:
    """The probes of a hypothesis under names of this round: positives are numbered as
    their twins refer to them, and twins stand behind the carrier of their positive."""
    owner = test.hypothesis.strip()

    def probe(name: str, role: ProbeRole.ValueType, text: str, carrier: int, of: str = "") -> Probe:
        return Probe(
            id=f"{owner}/{name}",
            hypothesis_id=owner,
            text=carriers.put(text, carrier),
            role=role,
            predicted_active=role == PROBE_ROLE_POSITIVE,
            twin_probe_id=of,
        )

    for number, text in enumerate(test.positives, 1):
        yield probe(str(number), PROBE_ROLE_POSITIVE, text, number)
    for number, text in enumerate(test.boundaries, len(test.positives) + 1):
        yield probe(f"b{number}", PROBE_ROLE_BOUNDARY, text, number)
    for number, twin in enumerate(test.twins, 1):
        partner = f"{owner}/{twin.of}"
        yield probe(f"t{number}", PROBE_ROLE_MINIMAL_PAIR, twin.text, twin.of, partner)


def _within_counts(
    drafts: Sequence[Probe], options: StepOptions
) -> tuple[list[Probe], list[RefusedProbe]]:
    """The first so many of each role of each hypothesis, which is what was asked for."""
    twins = _twin_count(options)
    limits = {
        PROBE_ROLE_POSITIVE: options.positive_probe_count,
        PROBE_ROLE_BOUNDARY: options.negative_probe_count - twins,
        PROBE_ROLE_MINIMAL_PAIR: twins,
    }
    counts: Counter[tuple[str, int]] = Counter()
    kept, beyond = [], []
    for draft in drafts:
        counts[draft.hypothesis_id, draft.role] += 1
        if counts[draft.hypothesis_id, draft.role] <= limits[draft.role]:
            kept.append(draft)
        else:
            beyond.append(
                RefusedProbe(
                    text=draft.text, reason="beyond_count", hypothesis_id=draft.hypothesis_id
                )
            )
    return kept, beyond

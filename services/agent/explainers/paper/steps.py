"""The steps of the published setting (method, section 2): for every open hypothesis one test,
then its analysis and verdict; once all have one, a review that may open some again.

Every question shows the whole log of experiments, as published. The published agent asks
three times per test, this one twice: analysis and verdict are one reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import TypeVar

from saexplain.agent.v1.agent_pb2 import (
    REVISION_KIND_REFINE,
    DesignProbesRequest,
    DesignProbesResponse,
    ExplainerVerdict,
    ReviseHypothesesRequest,
    ReviseHypothesesResponse,
    RevisionOperation,
)
from saexplain.common.v1.experiment_pb2 import (
    HYPOTHESIS_STATUS_OPEN,
    HYPOTHESIS_STATUS_REFUTED,
    HYPOTHESIS_STATUS_SUPPORTED,
    PROBE_ROLE_BOUNDARY,
    PROBE_ROLE_POSITIVE,
    Hypothesis,
    Probe,
    ProbeResult,
)
from services.agent.explainers.carriers import Carriers
from services.agent.explainers.llm.asking import Asker, shown_hypothesis
from services.agent.explainers.llm.propose import folded
from services.agent.explainers.llm.render import ShownResult, show_result
from services.agent.explainers.llm.views import EvidenceView, ShownWindow
from services.agent.explainers.paper.replies import ReviewReply, TestReply, UpdateReply
from services.agent.explainers.probe_checks import ProbeGate

MOST_REVIEWS = 3

_EXEMPLARS = 10
_DECIDED = (HYPOTHESIS_STATUS_SUPPORTED, HYPOTHESIS_STATUS_REFUTED)
_VERDICTS = {
    "confirmed": HYPOTHESIS_STATUS_SUPPORTED,
    "refuted": HYPOTHESIS_STATUS_REFUTED,
    "refined": HYPOTHESIS_STATUS_OPEN,
    "open": HYPOTHESIS_STATUS_OPEN,
}

_R = TypeVar("_R")


async def design(request: DesignProbesRequest, asker: Asker) -> DesignProbesResponse:
    """One question and one test per OPEN hypothesis."""
    state, seed = request.state, request.options.seed
    tested = _open(state.hypotheses)
    windows = EvidenceView.of(request.evidence).strongest(_EXEMPLARS)
    results = _log(state.results, request.evidence.facts.reference_max)
    replies = await _all(
        asker.ask(
            "design_test",
            TestReply,
            hypothesis=shown_hypothesis(hypothesis),
            others=[shown_hypothesis(h) for h in state.hypotheses if h.id != hypothesis.id],
            windows=windows,
            results=results,
        )
        for hypothesis in tested
    )
    carriers = Carriers(request.evidence, f"{seed}/{state.round}")
    drafts = [
        Probe(
            id=hypothesis.id,
            hypothesis_id=hypothesis.id,
            text=carriers.put(reply.text, number),
            role=PROBE_ROLE_POSITIVE if reply.fires else PROBE_ROLE_BOUNDARY,
            predicted_active=reply.fires,
            rationale=reply.why.strip(),
        )
        for number, (hypothesis, reply) in enumerate(zip(tested, replies, strict=True))
    ]
    admitted, refused = ProbeGate(request.evidence, state).admit(drafts)
    return DesignProbesResponse(probes=admitted, refused_probes=refused, usage=asker.usage())


async def revise(request: ReviseHypothesesRequest, asker: Asker) -> ReviseHypothesesResponse:
    """One question per OPEN hypothesis that was tested this round; a review where none is
    left open and fewer than `MOST_REVIEWS` were made."""
    state = request.state
    response = ReviseHypothesesResponse(hypotheses=state.hypotheses)
    tested_now = {r.probe.hypothesis_id for r in state.results if r.probe.round == state.round}
    updated = [h for h in _open(response.hypotheses) if h.id in tested_now]
    windows = EvidenceView.of(request.evidence).strongest(_EXEMPLARS)
    results = _log(state.results, request.evidence.facts.reference_max)
    replies = await _all(_ask_update(asker, h, windows, results) for h in updated)
    for hypothesis, reply in zip(updated, replies, strict=True):
        _apply(hypothesis, reply, response)
    decided = [h for h in response.hypotheses if h.status in _DECIDED]
    if decided and not _open(response.hypotheses) and state.review_count < MOST_REVIEWS:
        review = await asker.ask(
            "review_hypotheses",
            ReviewReply,
            hypotheses=[shown_hypothesis(h) for h in decided],
            results=results,
        )
        response.reviewed = True
        _reopen(decided, review)
    response.usage.CopyFrom(asker.usage())
    return response


async def _ask_update(
    asker: Asker,
    hypothesis: Hypothesis,
    windows: Sequence[ShownWindow],
    results: Sequence[ShownResult],
) -> UpdateReply:
    return await asker.ask(
        "update_hypothesis",
        UpdateReply,
        hypothesis=shown_hypothesis(hypothesis),
        windows=windows,
        results=results,
    )


def _apply(hypothesis: Hypothesis, reply: UpdateReply, response: ReviseHypothesesResponse) -> None:
    """Writes a verdict down. A rewording that says nothing new leaves it open."""
    response.verdicts.append(
        ExplainerVerdict(
            hypothesis_id=hypothesis.id,
            hypothesis_revision=hypothesis.revision,
            status=_VERDICTS[reply.verdict],
            rationale=reply.analysis.strip(),
        )
    )
    hypothesis.status = _VERDICTS[reply.verdict]
    wording = " ".join(reply.statement.split())
    known = {folded(h.statement) for h in response.hypotheses}
    if reply.verdict != "refined" or not wording or folded(wording) in known:
        return
    hypothesis.statement = wording
    hypothesis.revision += 1
    hypothesis.ClearField("tally")
    response.operations.append(
        RevisionOperation(
            kind=REVISION_KIND_REFINE,
            sources=[hypothesis.id],
            targets=[hypothesis.id],
            rationale=reply.analysis.strip(),
        )
    )


def _reopen(decided: Iterable[Hypothesis], review: ReviewReply) -> None:
    further = {name.strip() for name in review.further}
    for hypothesis in decided:
        if hypothesis.id in further:
            hypothesis.status = HYPOTHESIS_STATUS_OPEN


def _open(hypotheses: Iterable[Hypothesis]) -> list[Hypothesis]:
    return [h for h in hypotheses if h.status == HYPOTHESIS_STATUS_OPEN]


def _log(results: Iterable[ProbeResult], reference_max: float) -> list[ShownResult]:
    return [show_result(result, reference_max) for result in results]


async def _all(asked: Iterable[Awaitable[_R]]) -> list[_R]:
    """All replies; the first error once every question has its answer, since what was
    bought is in the journal."""
    found = await asyncio.gather(*asked, return_exceptions=True)
    replies: list[_R] = []
    for answer in found:
        if isinstance(answer, BaseException):
            raise answer
        replies.append(answer)
    return replies

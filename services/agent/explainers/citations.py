"""Citations of an explanation, checked in code: what names nothing is taken out."""

from __future__ import annotations

from saexplain.agent.v1.agent_pb2 import Evidence, RunState
from saexplain.common.v1.explanation_pb2 import Explanation


def remove_unknown_citations(
    explanation: Explanation, evidence: Evidence, state: RunState
) -> list[str]:
    """Takes out of `explanation` every citation that names no window of the evidence
    and no measured probe, and repeats.

    Returns:
        The citations that named nothing, in the order in which they stood.
    """
    windows = {window.name for listed in evidence.windows for window in listed.windows}
    probes = {result.probe.id for result in state.results}
    removed: list[str] = []
    for part in explanation.parts:
        for citations, known in (
            (part.window_citations, windows),
            (part.probe_citations, probes),
        ):
            kept = list(dict.fromkeys(name for name in citations if name in known))
            removed += [name for name in citations if name not in known]
            del citations[:]
            citations.extend(kept)
    return removed

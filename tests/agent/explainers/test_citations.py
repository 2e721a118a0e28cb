"""Guards that an explanation cites only what its author was shown."""

from __future__ import annotations

from saexplain.common.v1.explanation_pb2 import Explanation, ExplanationPart
from services.agent.explainers.citations import remove_unknown_citations
from tests.agent.builders import evidence, hypothesis, result, state


def test_citations_that_name_nothing_are_removed_and_told() -> None:
    explanation = Explanation(
        parts=[
            ExplanationPart(
                window_citations=["indexes/i1/windows/10", "indexes/i1/windows/99"],
                probe_citations=["p1.1", "p1.1", "p9.9"],
            ),
            ExplanationPart(window_citations=["indexes/i1/windows/20"]),
        ]
    )
    run = state([hypothesis("h1")], [result("p1.1", "h1", "Text.")])
    removed = remove_unknown_citations(explanation, evidence(), run)
    assert removed == ["indexes/i1/windows/99", "p9.9"]
    assert list(explanation.parts[0].window_citations) == ["indexes/i1/windows/10"]
    assert list(explanation.parts[0].probe_citations) == ["p1.1"]
    assert list(explanation.parts[1].window_citations) == ["indexes/i1/windows/20"]

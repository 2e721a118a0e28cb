"""The deterministic writer: texts composed from an explanation's pattern."""

from __future__ import annotations

import asyncio

from saexplain.common.v1.usage_pb2 import LlmUsage
from saexplain.scorer.v1.scorer_pb2 import PlanScoreRequest, WrittenText
from services.scorer.methods.base import evidence_of
from services.scorer.texts import composer, written


class PatternWriter:
    """Fills EXPLAIN carriers with what `Explanation.pattern` names; see `composition`.

    It reads the explanation, silent carriers and the vocabulary of the windows, and no
    activation.
    """

    async def write(
        self, request: PlanScoreRequest, positives: int, boundaries: int
    ) -> tuple[list[WrittenText], LlmUsage]:
        """At most so many texts; fewer where the pattern and the carriers allow no more.

        Raises:
            InvalidArgument: an invalid pattern.
        """
        # Composing takes a good part of a second: health checks must not wait for it.
        return await asyncio.to_thread(_write, request, positives, boundaries), LlmUsage()


def _write(request: PlanScoreRequest, positives: int, boundaries: int) -> list[WrittenText]:
    composing = composer(evidence_of(request), request.options.seed)
    pattern = request.explanation.pattern
    return written(
        "",
        composing.positives(pattern, positives),
        composing.boundaries(pattern, boundaries) if boundaries else (),
    )

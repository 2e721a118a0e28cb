"""Expected value of a 0-10 reply from the log-probabilities of its candidates.

Two published readings differ in which tokens count as numbers; both discard the mass on
everything else and renormalise. Neither returns 0 for "no number among the candidates":
0 is a legal prediction, so that case is undefined.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from services.scorer.statistics.estimate import Estimate, defined, undefined

Candidates = Iterable[tuple[str, float]]
"""Token text and natural log-probability, in the order of the reply."""


def exact_digits(candidates: Candidates) -> dict[int, float]:
    """Probability of each number whose token is exactly "0" to "10" (OpenAI)."""
    legal = {str(k): k for k in range(11)}
    return {legal[token]: math.exp(lp) for token, lp in candidates if token in legal}


def stripped_digits(candidates: Candidates) -> dict[int, float]:
    """Probability of each number 0 to 10 whose token is digits after stripping (SAGE); of
    two spellings of one number the later one counts, they are not added."""
    kept: dict[int, float] = {}
    for token, log_probability in candidates:
        text = token.strip()
        # str.isdigit holds for superscripts, which int() refuses.
        if text.isdecimal() and 0 <= int(text) <= 10:
            kept[int(text)] = math.exp(log_probability)
    return kept


def expected_value(probabilities: Mapping[int, float]) -> Estimate:
    """Sum of k p(k) over the kept candidates, renormalised.

    Undefined where none was kept, or all their probabilities underflow to 0.
    """
    total = sum(probabilities.values())
    if not probabilities:
        return undefined("no candidate is a number from 0 to 10")
    if not total > 0:
        return undefined("every candidate's probability underflows")
    return defined(sum(k * p for k, p in probabilities.items()) / total)

"""SAEBench's autointerp evaluation (MIT, arXiv 2503.09532): which examples are shown, how
a reply is read, what it scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.scorer.statistics.estimate import Bools, Estimate, Floats, defined, undefined


def saebench_probabilities(activations: Floats, buffer: int, squared: bool = True) -> Floats:
    """Chance of each cell [rows, columns - 2 buffer] to be drawn as an importance-weighted
    example. The columns within `buffer` of an end are left out.

    Raises:
        ValueError: no activation is above 0 in what is left, or nothing is left: a buffer
            of 0 leaves nothing.
    """
    inner = activations[:, buffer:-buffer] if buffer else activations[:, :0]
    weights = inner**2 if squared else inner
    total = float(weights.sum())
    if not total > 0:
        raise ValueError("nothing to draw from")
    probabilities: Floats = weights / total
    return probabilities


def saebench_top(
    activations: Floats, k: int, buffer: int, no_overlap: bool
) -> list[tuple[int, int]]:
    """At most `k` cells (row, column) from the strongest down, at least `buffer` columns
    from both ends and, with `no_overlap`, more than `buffer` from each other in a row.
    None at all for a buffer of 0."""
    inner = activations[:, buffer:-buffer] if buffer else activations[:, :0]
    chosen: list[tuple[int, int]] = []
    for flat in np.argsort(-inner, axis=None, kind="stable"):
        row, column = divmod(int(flat), inner.shape[1])
        column += buffer
        near = any(r == row and abs(c - column) <= buffer for r, c in chosen)
        if not (no_overlap and near):
            chosen.append((row, column))
        if len(chosen) == k:
            break
    return chosen


def saebench_predictions(reply: str) -> list[int] | None:
    """The example numbers of a reply such as "1, 4 and 7" or "None."; None where a piece
    is no number: then the whole latent leaves the results. An empty reply is an answer.

    Raises:
        ValueError: a piece of digits that are no decimal ones, such as a superscript.
    """
    text = reply.strip().rstrip(".").replace("and", ",").replace("None", "")
    pieces = [piece for piece in (p.strip() for p in text.split(",")) if piece]
    return [int(p) for p in pieces] if all(p.isdigit() for p in pieces) else None


def saebench_active(activations: Sequence[Floats], threshold: float) -> Bools:
    """Whether each example has an activation above the threshold, strictly; shape [n]."""
    return np.array([bool(np.any(values > threshold)) for values in activations], np.bool_)


def saebench_score(active: Bools, predictions: Sequence[int]) -> Estimate:
    """Share of examples, numbered from 1, that are predicted if and only if they are
    active: plain accuracy. Numbers of no example cost nothing."""
    if not active.size:
        return undefined("there is no example")
    called = np.isin(np.arange(1, active.size + 1), np.asarray(predictions, np.int64))
    return defined(float(np.mean(called == active)))

"""EleutherAI's delphi (Apache-2.0; arXiv 2410.13928): detection and fuzzing, sampling,
simulation.

A class without examples counts as 0 in balanced accuracy and in every ratio; metrics over
no usable reply are 0. Its count of failed replies is always 0, which is a defect and not
repeated here. Simulated activations are compared with integers that were rounded up, in
single precision.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.scorer.statistics.auc import auroc
from services.scorer.statistics.correlation import pearson
from services.scorer.statistics.estimate import Estimate, Floats, Ints, defined, undefined
from services.scorer.statistics.expected import Candidates
from services.scorer.statistics.published.labels import Label, first_list

SEED = 22
"""Seed of all its sampling, whatever seed is asked for."""


@dataclass(frozen=True)
class Confusion:
    """Counts over the examples that have a prediction; `failed` have none."""

    tp: int
    tn: int
    fp: int
    fn: int
    failed: int


def delphi_confusion(
    predictions: Sequence[Label | None], activating: Sequence[bool], threshold: float = 0.5
) -> Confusion:
    """Counts; a prediction is positive from `threshold` on, None is left out."""
    kept = [
        (p >= threshold, a) for p, a in zip(predictions, activating, strict=True) if p is not None
    ]
    return Confusion(
        tp=sum(p and a for p, a in kept),
        tn=sum(not p and not a for p, a in kept),
        fp=sum(p and not a for p, a in kept),
        fn=sum(not p and a for p, a in kept),
        failed=len(predictions) - len(kept),
    )


def delphi_metrics(c: Confusion) -> dict[str, float]:
    """Its metrics by its names; `accuracy` is balanced accuracy."""
    positives, negatives = c.tp + c.fn, c.tn + c.fp
    precision, recall = _ratio(c.tp, c.tp + c.fp), _ratio(c.tp, positives)
    specificity = _ratio(c.tn, negatives)
    return {
        "precision": precision,
        "recall": recall,
        "f1_score": _ratio(2 * precision * recall, precision + recall),
        "accuracy": (recall + specificity) / 2,
        "true_positive_rate": recall,
        "true_negative_rate": specificity,
        "false_positive_rate": _ratio(c.fp, negatives),
        "false_negative_rate": _ratio(c.fn, positives),
        "positive_class_ratio": _ratio(positives, positives + negatives),
        "negative_class_ratio": _ratio(negatives, positives + negatives),
    }


def delphi_auc(probabilities: Sequence[float | None], activating: Sequence[bool]) -> Estimate:
    """Area under the ROC curve of the examples that have a probability."""
    kept = [(p, a) for p, a in zip(probabilities, activating, strict=True) if p is not None]
    if not kept:
        return undefined("no reply came with probabilities")
    return auroc(np.array([p for p, _ in kept]), np.array([a for _, a in kept], np.bool_))


def delphi_labels(
    reply: str | None,
    shown: int,
    tokens: Sequence[tuple[str, Candidates]] | None = None,
) -> tuple[list[Label], list[float | None]] | None:
    """Labels and probabilities of a batch, `shown` of each; None where the batch fails.

    A batch shorter than `shown` fails too unless it is answered with `shown` labels.

    Args:
        reply: None where the call failed.
        shown: examples per call.
        tokens: the reply's tokens with their likeliest alternatives, where asked for.
    """
    labels = first_list(reply, shown)
    if labels is None:
        return None
    if tokens is None:
        return labels, [None] * shown
    probabilities: list[float | None] = [
        delphi_probability(top) for token, top in tokens if "0" in token or "1" in token
    ]
    return (labels, probabilities) if len(probabilities) == shown else None


def delphi_probability(candidates: Candidates) -> float:
    """P(1) / (P(0) + P(1)) over candidates that hold the digit; one that holds both counts
    as 0. 0.0 where neither is among them."""
    p0 = p1 = 0.0
    for token, log_probability in candidates:
        if "0" in token:
            p0 += math.exp(log_probability)
        elif "1" in token:
            p1 += math.exp(log_probability)
    return p1 / (p0 + p1) if p0 + p1 > 0 else 0.0


def delphi_frequency_weighted_f1(
    f1: Mapping[tuple[str, int], float], firing_counts: Mapping[str, Sequence[int]]
) -> Estimate:
    """F1 of a module's latents weighted by how often they fire, averaged over modules.

    Args:
        f1: by module and latent.
        firing_counts: by module, indexed by latent; modules whose latents never fire are
            left out.
    """
    values = []
    for module in dict.fromkeys(module for module, _ in f1):
        latents = [latent for m, latent in f1 if m == module]
        counts = np.array([firing_counts[module][latent] for latent in latents], np.float32)
        scores = np.array([f1[module, latent] for latent in latents], np.float32)
        if counts.sum() > 0:
            values.append(np.sum(scores * counts) / counts.sum())
    if not values:
        return undefined("no scored latent ever fires")
    return defined(float(np.mean(np.array(values, np.float32))))


def delphi_expected_digits(candidates: Candidates) -> dict[int, float]:
    """Probability of each number 0 to 10 among the candidates: whatever `int` takes (" 7",
    "+3", "1_0"); of two spellings the later one counts."""
    kept: dict[int, float] = {}
    for token, log_probability in candidates:
        try:
            number = int(token)
        except ValueError:
            continue
        if 0 <= number <= 10:
            kept[number] = math.exp(log_probability)
    return kept


def delphi_scale(values: Floats, maximum: float) -> Ints:
    """min(10, ceil(10 a / maximum)) in single precision, negatives 0: what its simulator
    is scored against. Any positive activation gives at least 1."""
    scaled = np.float32(10) * values.astype(np.float32) / np.float32(max(maximum, 1e-6))
    integers: Ints = np.clip(np.ceil(scaled), 0, 10).astype(np.int64)
    return integers


def delphi_sample(
    kind: str,
    example_count: int,
    quantile_count: int,
    sample_count: int,
    ratio_top: float = 0.2,
    seed: int = SEED,
) -> tuple[list[int], list[int]]:
    """Ranks (0 the strongest) that it trains or tests on, and the quantile of each.

    `top` takes the first, `random` any, `quantiles` equal shares of equal quantiles of
    which the weakest remainder is never seen, `mix` the top and then quantiles of the
    rest. Training and testing draw from one list with one seed, so that they overlap.

    Raises:
        ValueError: another kind.
    """
    ranks = list(range(example_count))
    if kind == "top":
        drawn = ranks[:sample_count]
        return drawn, [0] * len(drawn)
    if kind == "random":
        enough = example_count > sample_count
        drawn = random.Random(seed).sample(ranks, sample_count) if enough else ranks
        return drawn, [0] * len(drawn)
    if kind == "quantiles":
        return delphi_quantiles(ranks, quantile_count, sample_count, seed)
    if kind == "mix":
        top = int(sample_count * ratio_top)
        rest, of_rest = delphi_quantiles(ranks[top:], quantile_count, sample_count - top, seed)
        return [*ranks[:top], *rest], [*[0] * len(ranks[:top]), *of_rest]
    raise ValueError(f"{kind!r} is no kind of sampling")


def delphi_quantiles(
    ranks: Sequence[int], quantiles: int, count: int, seed: int = SEED
) -> tuple[list[int], list[int]]:
    """floor(count / quantiles) ranks of each quantile of floor(n / quantiles) ranks, and
    the quantile of each; a smaller quantile is taken whole."""
    rng = random.Random(seed)
    size, share = len(ranks) // quantiles, count // quantiles
    drawn: list[int] = []
    of_each: list[int] = []
    for quantile in range(quantiles):
        group = list(ranks[quantile * size : (quantile + 1) * size])
        chosen = group if len(group) < share else rng.sample(group, share)
        drawn += chosen
        of_each += [quantile] * len(chosen)
    return drawn, of_each


@dataclass(frozen=True)
class Simulated:
    """A sequence with its simulation.

    Attributes:
        quantile: None for a sequence in which the feature is silent.
        true: activations it is scored against.
        predicted: same length.
    """

    quantile: int | None
    true: Floats
    predicted: Floats


def delphi_groups(sequences: Iterable[Simulated]) -> list[tuple[int, list[Simulated], Estimate]]:
    """Distance, sequences and pooled Pearson of every quantile (distance quantile + 1, in
    order of appearance) and, where any sequence is silent, of all together (distance 0)."""
    everything = list(sequences)
    quantiles = dict.fromkeys(s.quantile for s in everything if s.quantile is not None)
    groups = [(q + 1, [s for s in everything if s.quantile == q]) for q in quantiles]
    if any(s.quantile is None for s in everything):
        active = [s for s in everything if s.quantile is not None]
        groups.append((0, active + [s for s in everything if s.quantile is None]))
    return [(distance, members, pooled_pearson(members)) for distance, members in groups]


def pooled_pearson(sequences: Sequence[Simulated]) -> Estimate:
    """Pearson's r over all tokens of all sequences."""
    predicted = np.concatenate([s.predicted for s in sequences])
    return pearson(predicted, np.concatenate([s.true for s in sequences]))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0

"""Cost against length, batch, number of features and concurrency, one plot each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.throughput.material import FEATURES, Material
from benchmarks.throughput.served import Client
from services.activation.encoder.rows import TokenRow

LENGTHS = (16, 32, 64, 128, 256, 512, 1_024)
BUDGETS = (128, 256, 512, 1_024, 2_048, 4_096, 8_192)
FEATURE_COUNTS = (1, 4, 16, 64, 256, 1_024, 4_608)
CALLERS = (1, 2, 4, 8, 16, 32, 64)
_TOKENS = 4_096
"""Tokens of one measurement; the plots show shape, the table is measured on more."""
_TRIES = 2

Curve = Mapping[int, float]
"""Tokens per second by what is varied."""


def measure(material: Material, client: Client) -> dict[str, Curve]:
    """All four curves, in process but for concurrency, which is over gRPC."""
    rows = _first(material.rows)
    texts = material.texts[: len(rows)]
    tokens = sum(len(row) for row in rows)

    def encode(given: Sequence[TokenRow], features: Sequence[int], budget: int) -> None:
        encoder = material.encoder()
        encoder.batch_token_budget = budget
        encoder.encode(material.sae, given, features)

    by_length, by_batch, by_features, by_callers = {}, {}, {}, {}
    for length in LENGTHS:
        same = _of_length(material, length)
        by_length[length] = _speed(partial(encode, same, FEATURES, material.budget), _TOKENS)
    for budget in BUDGETS:
        by_batch[budget] = _speed(partial(encode, rows, FEATURES, budget), tokens)
    for count in FEATURE_COUNTS:
        chosen = np.linspace(0, material.sae.feature_count - 1, count).astype(int).tolist()
        by_features[count] = _speed(partial(encode, rows, chosen, material.budget), tokens)
    for callers in CALLERS:
        by_callers[callers] = _speed(partial(client.one_text_each, texts, callers), tokens)
    return {
        "tokens of one text": by_length,
        "tokens of one forward pass": by_batch,
        "features asked for": by_features,
        "callers with one text each, over gRPC": by_callers,
    }


def draw(curves: Mapping[str, Curve], folder: Path) -> list[Path]:
    """One SVG per curve; the same figures give the same picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "saexplain"
    from matplotlib import pyplot as plt

    written = []
    for number, (axis, curve) in enumerate(curves.items()):
        figure, plot = plt.subplots(figsize=(5, 3.2))
        plot.plot(list(curve), list(curve.values()), marker="o")
        plot.set_xscale("log", base=2)
        plot.set_xticks(list(curve), [str(value) for value in curve])
        plot.set_ylim(bottom=0)
        plot.set_xlabel(axis)
        plot.set_ylabel("tokens per second")
        plot.grid(alpha=0.3)
        figure.tight_layout()
        path = folder / f"throughput_{('length', 'batch', 'features', 'concurrency')[number]}.svg"
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        written.append(path)
    return written


def _speed(work: Callable[[], object], tokens: int) -> float:
    """The better of some tries."""
    seconds = []
    for _ in range(_TRIES):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return tokens / min(seconds)


def _first(rows: Sequence[TokenRow]) -> list[TokenRow]:
    taken: list[TokenRow] = []
    for row in rows:
        if sum(len(one) for one in taken) >= _TOKENS:
            break
        taken.append(row)
    return taken


def _of_length(material: Material, length: int) -> list[TokenRow]:
    """The corpus cut into rows of one length, each with the first token."""
    joined = np.concatenate([row[1:] for row in material.rows])
    begin = np.array([material.tokenizer.bos_token_id])
    return [
        np.concatenate([begin, joined[start : start + length - 1]])
        for start in range(0, (_TOKENS // length) * (length - 1), length - 1)
    ]

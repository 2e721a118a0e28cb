"""The vocabulary probe against a bare forward pass of one position per token.

    python -m benchmarks.vocabulary [--tokens 0] [--repeats 3] [--threads 2] [--coverage 300]

Every token of the vocabulary behind one short carrier, all features of the demo SAE. The limit is
the fastest plain variant without an SAE; it is given the prefix's keys for nothing. `--coverage`
looks at so many eligible features of the demo index: how often the token at which most exemplars
peak is ACTIVE behind a carrier.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import DynamicCache

from benchmarks.throughput.material import SAE_ID, Material, load_material
from services.activation.annotations.build import BATCH_TOKENS, TOP_COUNT
from services.activation.encoder.continuations import Continuations
from services.activation.encoder.rows import SparseRow, TokenRow
from services.activation.encoder.shared_prefix import share_prefix, states_behind
from services.activation.index.reader import open_index
from services.activation.index.statistics import Stratum
from services.activation.indexes import IndexLibrary
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings
from services.activation.vocabulary.carriers import Carrier, bare_carrier, short_carriers
from services.activation.vocabulary.tops import TopTokens

OURS = "ours: all features, strongest tokens of each"
BAR = 1.3
T = TypeVar("T")
Work = Callable[[NDArray[np.int64]], object]


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokens", type=int, default=0, help="0: the whole vocabulary")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--coverage", type=int, default=0, help="features to look at")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    material = load_material(1)
    count = arguments.tokens or material.tokenizer.vocabulary_size
    prefix = short_carriers(material.tokenizer)[0].row(material.tokenizer)
    tokens = np.arange(count, dtype=np.int64)
    _times(material, prefix, tokens, arguments.repeats)
    _profile(material, prefix, tokens)
    if arguments.coverage:
        _coverage(material, arguments.coverage)


def _times(material: Material, prefix: TokenRow, tokens: NDArray[np.int64], repeats: int) -> None:
    """Arms take turns batch by batch: whatever else the machine does, it does to all of them."""
    bare: dict[str, Work] = {
        "bare: keys expanded into a cache per batch": _expanded(material, prefix),
        "bare: keys shared, ours without the SAE": _shared(material, prefix),
    }
    for work in (*bare.values(), _Ours(material, prefix).work):
        work(tokens[:BATCH_TOKENS])  # first touch of weights and buffers
    sweeps = [_sweep(material, prefix, tokens, bare) for _ in range(repeats)]
    medians = {name: statistics.median(sweep[name] for sweep in sweeps) for name in sweeps[0]}
    limit = min(bare, key=lambda name: medians[name])
    print(f"{len(tokens)} tokens behind {len(prefix)}, batches of {BATCH_TOKENS}, {repeats} sweeps")
    print("| arm | tokens/s | seconds | times the limit |\n| --- | ---: | ---: | ---: |")
    for name, seconds in medians.items():
        cost = statistics.median(sweep[name] / sweep[limit] for sweep in sweeps)
        print(f"| {name} | {len(tokens) / seconds:,.0f} | {seconds:.2f} | {cost:.2f} |")
    costs = sorted(sweep[OURS] / sweep[limit] for sweep in sweeps)
    listed = ", ".join(f"{cost:.3f}" for cost in costs)
    print(
        f"\nbar: at most {BAR} times the limit; measured {statistics.median(costs):.2f} ({listed})"
    )


def _sweep(
    material: Material, prefix: TokenRow, tokens: NDArray[np.int64], bare: dict[str, Work]
) -> dict[str, float]:
    """Seconds of every arm for all tokens; who is first changes from batch to batch."""
    ours = _Ours(material, prefix)
    arms = [*bare.items(), (OURS, ours.work)]
    seconds = dict.fromkeys((name for name, _ in arms), 0.0)
    for batch in _batches(tokens):
        for name, work in arms:
            begin = time.perf_counter()
            work(batch)
            seconds[name] += time.perf_counter() - begin
        arms = arms[1:] + arms[:1]
    begin = time.perf_counter()
    ours.tops.result()
    seconds[OURS] += time.perf_counter() - begin
    return seconds


def _batches(tokens: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(tokens), BATCH_TOKENS):
        yield tokens[start : start + BATCH_TOKENS]


def _expanded(material: Material, prefix: TokenRow) -> Work:
    """transformers' own way: the prefix's cache repeated over a batch, one position each."""
    model, hook = material.model, material.sae.config.hook
    shared = share_prefix(model, prefix, hook)

    @torch.inference_mode()
    def run(batch: NDArray[np.int64]) -> None:
        cache = DynamicCache()
        for index, (keys, values) in shared.blocks.items():
            size = (len(batch), -1, -1, -1)
            cache.update(keys.expand(size), values.expand(size), index)
        model.hidden_states_at(
            torch.from_numpy(batch)[:, None], (hook,), past_key_values=cache, use_cache=True
        )

    return run


def _shared(material: Material, prefix: TokenRow) -> Work:
    model = material.model
    shared = share_prefix(model, prefix, material.sae.config.hook)
    return lambda batch: states_behind(model, shared, torch.from_numpy(batch))


class _Ours:
    """One pass over the vocabulary as an index's annotations are made."""

    def __init__(self, material: Material, prefix: TokenRow) -> None:
        self._material, self._prefix = material, prefix
        self._continuations = Continuations()
        self.tops = TopTokens(material.sae.feature_count, TOP_COUNT)

    def work(self, batch: NDArray[np.int64]) -> None:
        """One batch, its activations taken into the lists."""
        model, sae = self._material.model, self._material.sae
        self.tops.add(batch, self._continuations.sparse(model, sae, self._prefix, batch))


def _profile(material: Material, prefix: TokenRow, tokens: NDArray[np.int64]) -> None:
    """Where the time of ours goes, part by part over a quarter of the tokens."""
    model, sae = material.model, material.sae
    shared = share_prefix(model, prefix, sae.config.hook)
    tops = TopTokens(sae.feature_count, TOP_COUNT)
    seconds: dict[str, float] = dict.fromkeys(
        ("forward pass", "SAE: product", "SAE: the k of each token", "tokens of each feature"), 0.0
    )

    def timed(part: str, work: Callable[[], T]) -> T:
        begin = time.perf_counter()
        done = work()
        seconds[part] += time.perf_counter() - begin
        return done

    quarter = tokens[: max(1, len(tokens) // 4)]
    for batch in _batches(quarter):
        ids = torch.from_numpy(batch)
        states = timed("forward pass", lambda ids=ids: states_behind(model, shared, ids))
        timed("SAE: product", lambda states=states: sae.pre_activations(states))
        found = timed("SAE: the k of each token", lambda states=states: sae.encode_sparse(states))
        rows, features, values = (part.numpy() for part in found)
        offsets = np.searchsorted(rows, np.arange(len(batch) + 1))
        row = SparseRow(offsets, features.astype(np.int32), values)
        timed("tokens of each feature", lambda batch=batch, row=row: tops.add(batch, row))
    timed("tokens of each feature", tops.result)
    seconds["SAE: the k of each token"] -= seconds["SAE: product"]  # it was made again
    whole = sum(seconds.values())
    print("\n| part of ours | microseconds a token | share |\n| --- | ---: | ---: |")
    for part, spent in seconds.items():
        print(f"| {part} | {1e6 * spent / len(quarter):.1f} | {spent / whole:.3f} |")


def _coverage(material: Material, count: int) -> None:
    """Of eligible features by index: is the commonest peak token ACTIVE behind the carriers?"""
    registry = load_registry(ActivationSettings().registry)
    archive = registry.sae(SAE_ID).index
    with tempfile.TemporaryDirectory() as folder:
        library = IndexLibrary(Path(folder))
        key = library.install(archive) if archive else None
        if key is None:
            raise SystemExit("the demo index is not there")
        reader = open_index(library.path(key))
        eligible = [i for i, s in enumerate(reader.strata) if s is Stratum.ELIGIBLE][:count]
        peaks = {
            feature: tokens[0] for feature in eligible if (tokens := reader.peak_tokens(feature))
        }
        taus = {feature: 0.5 * reader.numbers(feature).reference_max for feature in peaks}
    active = _active_behind(material, peaks, taus)
    carriers = short_carriers(material.tokenizer)
    print(f"\n{len(peaks)} eligible features; commonest peak token ACTIVE behind")
    for carrier in (bare_carrier(), *carriers):
        print(f"- {carrier.name}: {np.mean(active(carrier)):.3f}")
    any_short = np.any([active(carrier) for carrier in carriers], axis=0)
    print(f"- any short carrier: {np.mean(any_short):.3f}")


def _active_behind(
    material: Material, peaks: dict[int, int], taus: dict[int, float]
) -> Callable[[Carrier], NDArray[np.bool_]]:
    features = list(peaks)
    tokens = np.array(sorted(set(peaks.values())), dtype=np.int64)
    places = np.searchsorted(tokens, [peaks[feature] for feature in features])
    floors = np.array([taus[feature] for feature in features])

    def active(carrier: Carrier) -> NDArray[np.bool_]:
        values = Continuations().dense(
            material.model, material.sae, carrier.row(material.tokenizer), tokens, features
        )
        found: NDArray[np.bool_] = values[places, np.arange(len(features))] >= floors
        return found

    return active


if __name__ == "__main__":
    main()

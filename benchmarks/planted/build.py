"""SAEs and indexes of planted features and nulls, built once and kept in the cache.

Two worlds: the demo's model with 24 planted directions, random directions and shuffled
features; and the same architecture with random weights and a SAE trained on it.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.planted import concepts, directions, material, nulls
from benchmarks.planted.concepts import CONCEPTS
from benchmarks.planted.directions import Directions
from benchmarks.planted.material import Material
from services.activation.encoder.bound import BoundEncoder
from services.activation.encoder.identity import Fingerprints
from services.activation.encoder.sae import Sae, load_sae
from services.activation.encoder.sources import SaeSource
from services.activation.index.archive import unpack
from services.activation.index.config import FORMAT_VERSION, IndexConfig
from services.activation.index.merge import merge_parts
from services.activation.index.misses import nearest
from services.activation.index.plan import make_plan
from services.activation.index.reader import open_index
from services.activation.index.statistics import Stratum
from services.activation.index.sweep import SparseEncoder, sweep_chunks
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings

SEED = 11
RANDOM_COUNT, SHUFFLED_COUNT = 4, 4
SHUFFLED_FROM = (0, 8, 16, 20)
"""Planted features whose values are shuffled: the first of each family."""
LATENTS, K = 1_024, 24
_SAE_TRAINING_ROWS = 500
_CODE = (concepts, directions, material, nulls)


@dataclass(frozen=True)
class World:
    """A model, an SAE on it and an index over it, as folders."""

    model: Path
    sae: Path
    index: Path


@dataclass(frozen=True)
class Built:
    """Both worlds.

    Attributes:
        planted: features in the order of `CONCEPTS`, then random directions, then shuffled
            ones.
        random_model: a SAE on a model with random weights.
        agreement: token F1 of firing against the concept when it was fitted, per concept.
    """

    planted: World
    random_model: World
    agreement: tuple[float, ...]

    @property
    def random_directions(self) -> list[int]:
        """Features of `planted`."""
        return list(range(len(CONCEPTS), len(CONCEPTS) + RANDOM_COUNT))

    @property
    def shuffled(self) -> list[int]:
        """Features of `planted`; they cannot be encoded anew."""
        first = len(CONCEPTS) + RANDOM_COUNT
        return list(range(first, first + SHUFFLED_COUNT))


def build(given: Material, say: Callable[[str], None]) -> Built:
    """Everything, or what the cache holds of it; some eight minutes of two cores."""
    sources = b"".join(Path(module.__file__ or "").read_bytes() for module in _CODE)
    digest = hashlib.sha256(sources + given.index.fingerprint.encode()).hexdigest()
    folder = given.cache / digest[:16]
    # Indexes of another format are swept anew; what they were swept with is kept.
    indexes = folder / f"format-{FORMAT_VERSION}"
    planted = World(given.model_folder, folder / "sae", indexes / "planted")
    random_model = World(folder / "random-model", folder / "random-sae", indexes / "random-model")
    if not (folder / "agreement.npy").is_file():
        _plant(given, planted, folder / "agreement.npy", say)
    if not planted.index.is_dir():
        _sweep(given, planted, _with_shuffled, say)
    if not (random_model.sae / "cfg.json").is_file():
        _randomise(given, random_model, say)
    if not random_model.index.is_dir():
        _sweep(given, random_model, lambda encoder: encoder, say)
    agreement = np.load(folder / "agreement.npy")
    return Built(planted, random_model, tuple(float(f1) for f1 in agreement))


def _plant(given: Material, world: World, agreement: Path, say: Callable[[str], None]) -> None:
    rows = material.contexts(given.tokenizer, given.train)
    say(f"hidden states of {sum(map(len, rows)):,} tokens to fit directions on")
    hidden = material.hidden_states(material.cut_model(world.model), rows)
    say("fitting directions")
    held = material.labels(given.tokenizer, rows, [c.holds for c in CONCEPTS])
    fitted = directions.fit_concepts(hidden, held)
    drawn = directions.random_directions(hidden, _demo_densities(RANDOM_COUNT), SEED)
    everything: Directions = fitted.joined(drawn).joined(fitted.take(list(SHUFFLED_FROM)))
    directions.save_sae(everything, world.sae)
    np.save(agreement, fitted.agreement)


def _randomise(given: Material, world: World, say: Callable[[str], None]) -> None:
    say("a model with random weights and a SAE on it")
    nulls.save_random_model(given.model_folder, world.model, SEED)
    rows = material.contexts(given.tokenizer, given.train)
    drawn = np.random.default_rng(SEED).permutation(len(rows))[:_SAE_TRAINING_ROWS]
    hidden = material.hidden_states(material.cut_model(world.model), [rows[i] for i in drawn])
    nulls.save_topk(nulls.train_sae(hidden, LATENTS, K, SEED), K, world.sae)


def _demo_densities(count: int) -> list[float]:
    """Densities of the demo SAE's eligible features, at even quantiles."""
    settings = ActivationSettings()
    registry = load_registry(settings.registry)
    archive = registry.saes[min(registry.saes)].index
    assert archive is not None
    with tempfile.TemporaryDirectory() as scratch:
        reader = open_index(unpack(archive, Path(scratch) / "index").folder)
        eligible = [s is Stratum.ELIGIBLE for s in reader.strata]
        found = np.quantile(reader.densities[eligible], (np.arange(count) + 1) / (count + 1))
    return [float(density) for density in found]


def _with_shuffled(encoder: SparseEncoder) -> SparseEncoder:
    total = encoder.feature_count
    return nulls.Shuffling(encoder, list(range(total - SHUFFLED_COUNT, total)), SEED)


def _sweep(
    given: Material,
    world: World,
    around: Callable[[SparseEncoder], SparseEncoder],
    say: Callable[[str], None],
) -> None:
    config = IndexConfig()
    prints = Fingerprints(*(str(path) for path in (world.model, world.sae, "demo tokenizer")))
    sae: Sae = load_sae(SaeSource(str(world.sae)))
    world.index.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=world.index.parent) as scratch:
        texts, part = Path(scratch) / "plan", Path(scratch) / "part"
        texts.mkdir()
        plan = make_plan(given.index, given.tokenizer, prints, config, texts)
        say(f"sweeping {plan.token_count:,} tokens into {world.index.name}")
        model = material.cut_model(world.model)
        encoder = around(BoundEncoder(model, sae, config.batch_token_budget))
        chunks = range(plan.chunk_count)
        sweep_chunks(plan, encoder, chunks, part, clock=time.monotonic, report=lambda _: None)
        merge_parts(plan, [part], _neighbors(sae), world.index)


def _neighbors(sae: Sae) -> Callable[[range], list[NDArray[np.int64]]]:
    """Decoder neighbours, which near misses are drawn by."""
    rows = torch.nn.functional.normalize(sae.weights["W_dec"], dim=-1)

    def of(block: range) -> list[NDArray[np.int64]]:
        cosines = (rows[block.start : block.stop] @ rows.T).numpy()
        return [nearest(values, feature) for feature, values in zip(block, cosines, strict=True)]

    return of

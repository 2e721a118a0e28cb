"""A tiny index, swept once, and everything that went into it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from services.activation.encoder.bound import BoundEncoder
from services.activation.encoder.fingerprints import fingerprints_of
from services.activation.encoder.model import CutModel
from services.activation.encoder.sae import Sae
from services.activation.encoder.sources import ModelSource
from services.activation.encoder.tokenizer import TextTokenizer
from services.activation.index.artifact import open_artifact
from services.activation.index.config import IndexConfig
from services.activation.index.corpus import read_corpus
from services.activation.index.merge import Neighbors, merge_parts
from services.activation.index.misses import nearest
from services.activation.index.plan import IndexPlan, make_plan
from services.activation.index.reader import IndexReader, open_index
from services.activation.index.sweep import Progress, context_row, sweep_chunks

CONFIG = IndexConfig(
    context_token_count=48,
    window_token_count=12,
    min_window_token_count=4,
    chunk_context_count=16,
    panel_counts=(40, 20, 30),
    pool_counts=(80, 40, 60),
    miss_counts=(6, 3, 6),
    top_counts=(8, 4, 5),
    batch_token_budget=512,
)


def sweep(
    plan: IndexPlan, encoder: BoundEncoder, folder: Path, shard: int = 0, shards: int = 1
) -> Path:
    """One shard's part of an index, in a folder below ``folder``."""
    part = folder / f"part-{shard}-of-{shards}"
    chunks = plan.shard_chunks(shard, shards)
    sweep_chunks(plan, encoder, chunks, part, clock=time.monotonic, report=lambda _: None)
    return part


def no_neighbors(block: range) -> list[np.ndarray]:
    """For SAEs whose decoder does not matter."""
    return [np.empty(0, np.int64) for _ in block]


@dataclass(frozen=True)
class Built:
    """An index and what it was made from."""

    plan: IndexPlan
    encoder: BoundEncoder
    folder: Path
    reader: IndexReader
    dense: list[np.ndarray]
    """Per window float32 [tokens, features], encoded context by context without the index's code
    for collecting."""

    def panel_reader(self) -> IndexReader:
        """The same index as format 1 has it: without near misses."""
        files = open_artifact(self.folder)
        kept = {n: sha for n, sha in files.manifest["files"].items() if not n.startswith("miss_")}
        return IndexReader(replace(files, manifest={**files.manifest, "files": kept}))


@pytest.fixture(scope="session")
def plan(
    corpus_path: Path,
    model_folder: Path,
    model: CutModel,
    sae: Sae,
    tokenizer: TextTokenizer,
    tmp_path_factory: pytest.TempPathFactory,
) -> IndexPlan:
    fingerprints = fingerprints_of(model, ModelSource(str(model_folder)), sae, tokenizer)
    folder = tmp_path_factory.mktemp("plan")
    return make_plan(read_corpus(corpus_path), tokenizer, fingerprints, CONFIG, folder)


@pytest.fixture(scope="session")
def bound(model: CutModel, sae: Sae) -> BoundEncoder:
    return BoundEncoder(model, sae, CONFIG.batch_token_budget)


@pytest.fixture(scope="session")
def neighbors(sae: Sae) -> Neighbors:
    """Decoder neighbours, by a plain product."""
    decoder = torch.nn.functional.normalize(sae.weights["W_dec"], dim=-1)
    cosines = (decoder @ decoder.T).numpy()
    return lambda block: [nearest(cosines[feature], feature) for feature in block]


@pytest.fixture(scope="session")
def built(
    plan: IndexPlan,
    bound: BoundEncoder,
    neighbors: Neighbors,
    tmp_path_factory: pytest.TempPathFactory,
) -> Built:
    work = tmp_path_factory.mktemp("index")
    folder = work / plan.key
    merge_parts(plan, [sweep(plan, bound, work)], neighbors, folder)
    return Built(plan, bound, folder, open_index(folder), dense_windows(plan, bound))


def dense_windows(plan: IndexPlan, encoder: BoundEncoder) -> list[np.ndarray]:
    """Activations of every window, the slow and plain way."""
    windows: list[np.ndarray] = []
    for context in range(plan.layout.context_count):
        (row,) = encoder.encode_sparse([context_row(plan, context)])
        values = np.zeros((len(row.indptr) - 1, encoder.feature_count), np.float32)
        tokens = np.repeat(np.arange(len(values)), np.diff(row.indptr))
        values[tokens, row.features] = row.values
        text = values[1:]
        for start in range(0, len(text), plan.config.window_token_count):
            tile = text[start : start + plan.config.window_token_count]
            if len(tile) >= plan.config.min_window_token_count:
                windows.append(tile)
    return windows


__all__ = ["CONFIG", "Built", "Progress", "dense_windows", "no_neighbors", "sweep"]

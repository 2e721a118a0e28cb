"""Building indexes: plan, shards, merge; resumable, because every step leaves a whole folder.

Below ``<index_dir>/.work/<key>`` lie the plan and one folder per finished shard; merging moves the
result to ``<index_dir>/<id>`` and removes them. Several indexers share the work by sharing the
folder: whoever finishes a shard second leaves the first one's result.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from services.activation.encoder.bound import BoundEncoder
from services.activation.encoder.loaded import LoadedSae, SaeLoader
from services.activation.encoder.tokenizer import TextTokenizer
from services.activation.index.artifact import ArtifactFiles, open_artifact
from services.activation.index.config import IndexConfig
from services.activation.index.corpora.locations import LocationPolicy
from services.activation.index.corpus import MAX_DOCUMENT_BYTES, CorpusSpec, open_corpus
from services.activation.index.folders import put_folder
from services.activation.index.layout import Ints
from services.activation.index.merge import Neighbors, merge_parts
from services.activation.index.misses import nearest
from services.activation.index.plan import (
    PLAN,
    IndexPlan,
    load_plan,
    plan_corpus,
    read_into,
    save_plan,
)
from services.activation.index.sweep import Progress, chunk_tokens, sweep_chunks
from services.activation.indexes import IndexLibrary
from services.common.errors import FailedPrecondition


@dataclass(frozen=True)
class IndexRequest:
    """Which index is meant."""

    sae_id: str
    corpus: CorpusSpec
    config: IndexConfig


@dataclass(frozen=True)
class PlannedIndex:
    """What has to be done for an index."""

    key: str
    shard_count: int
    token_count: int
    document_count: int
    built: bool


@dataclass(frozen=True)
class CorpusLimits:
    """What an indexer reads."""

    policy: LocationPolicy = field(default_factory=LocationPolicy)
    max_document_bytes: int = MAX_DOCUMENT_BYTES


def _go_on() -> bool:
    return False


class IndexBuilder:
    """Blocking; call it from a worker thread. Steps of one index may run in many processes.

    Args:
        load: Finds or loads an SAE with its model.
        tokenizer_of: The tokenizer of an SAE's model.
        library: Where finished indexes lie.
        work_dir: Where unfinished ones lie.
        clock: Seconds, monotonic.
        corpora: Which corpora may be read; local files by default.
    """

    def __init__(
        self,
        load: SaeLoader,
        tokenizer_of: Callable[[str], TextTokenizer],
        library: IndexLibrary,
        work_dir: Path,
        clock: Callable[[], float],
        corpora: CorpusLimits | None = None,
    ) -> None:
        self._load = load
        self._tokenizer_of = tokenizer_of
        self._library = library
        self._work_dir = work_dir
        self._clock = clock
        self._corpora = corpora or CorpusLimits()

    def plan(
        self,
        request: IndexRequest,
        shard_tokens: int,
        cancelled: Callable[[], bool] = _go_on,
    ) -> PlannedIndex:
        """Plan an index and remember the plan. Errors: those of corpus and loading, Cancelled."""
        plan = self._plan(request, cancelled)
        shards = min(plan.chunk_count, max(1, round(plan.token_count / shard_tokens)))
        return PlannedIndex(
            key=plan.key,
            shard_count=shards,
            token_count=plan.token_count,
            document_count=len(plan.documents.ids),
            built=self._library.holds(plan.key),
        )

    def shard(
        self,
        request: IndexRequest,
        key: str,
        shard: int,
        shard_count: int,
        *,
        cancelled: Callable[[], bool],
        report: Callable[[Progress], None],
    ) -> None:
        """Sweep one shard and keep its part; a part that is there already is not swept again.

        Raises:
            FailedPrecondition: FINGERPRINT_MISMATCH where the request has another key.
            Cancelled: ``cancelled`` said so between two forward passes.
        """
        with self._load.lease(request.sae_id) as loaded:
            plan = self._plan_of(request, loaded, key, cancelled)
            chunks = plan.shard_chunks(shard, shard_count)
            folder = self._part(key, shard, shard_count)
            if folder.is_dir() or self._library.holds(key):
                total = sum(chunk_tokens(plan, chunk) for chunk in chunks)
                report(Progress(total, total, 0.0))
                return
            encoder = BoundEncoder(
                loaded.encoder.model, loaded.sae, plan.config.batch_token_budget, cancelled
            )
            sweep_chunks(plan, encoder, chunks, folder, clock=self._clock, report=report)

    def merge(
        self,
        request: IndexRequest,
        key: str,
        shard_count: int,
        index_id: str = "",
        *,
        cancelled: Callable[[], bool] = _go_on,
    ) -> ArtifactFiles:
        """Merge all shards; an index that is there already is returned as it is.

        Args:
            index_id: Another id under which the index shall be found; empty for none.

        Raises:
            FailedPrecondition: ARTIFACT_CORRUPT where a part is missing or damaged.
            Cancelled: ``cancelled`` said so between two blocks of features.
        """
        target = self._library.path(key)
        if not self._library.holds(key):
            loaded = self._load(request.sae_id)
            plan = self._plan_of(request, loaded, key, cancelled)
            parts = [self._part(key, shard, shard_count) for shard in range(shard_count)]
            merge_parts(plan, parts, _neighbors(loaded), target, cancelled)
        if index_id:
            self._library.name(index_id, key)
        shutil.rmtree(self._folder(key), ignore_errors=True)
        return open_artifact(target)

    def _plan(self, request: IndexRequest, cancelled: Callable[[], bool]) -> IndexPlan:
        """The plan of a request: read the corpus, and plan it unless that was done before."""
        loaded = self._load(request.sae_id)
        corpus = open_corpus(request.corpus, self._corpora.policy, self._corpora.max_document_bytes)
        self._work_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".plan-", dir=self._work_dir) as scratch:
            folder = Path(scratch)
            tokenizer = self._tokenizer_of(request.sae_id)
            tokenizer = tokenizer.with_prefix(loaded.sae.config.prepend_bos)
            skipped = 0 if tokenizer.prepend_bos else 1
            config = replace(request.config, skipped_token_count=skipped)
            prints = loaded.fingerprints
            read = read_into(corpus, tokenizer, prints, config, folder, cancelled)
            if self._library.holds(read.key):
                return self._library.reader(read.key, prints).plan
            target = self._folder(read.key)
            if not (target / PLAN).is_file():
                save_plan(plan_corpus(read, prints, config, cancelled), folder)
                put_folder(folder, target)
            return load_plan(target)

    def _plan_of(
        self,
        request: IndexRequest,
        loaded: LoadedSae,
        key: str,
        cancelled: Callable[[], bool],
    ) -> IndexPlan:
        """The plan with a key, made again only where it is gone."""
        if self._library.holds(key):
            plan = self._library.reader(key, loaded.fingerprints).plan
        elif (self._folder(key) / PLAN).is_file():
            plan = load_plan(self._folder(key))
        else:
            plan = self._plan(request, cancelled)
        if (plan.key, plan.fingerprints) != (key, loaded.fingerprints):
            message = f"the configuration has key {plan.key}, not {key}"
            raise FailedPrecondition(message, "FINGERPRINT_MISMATCH")
        return plan

    def _folder(self, key: str) -> Path:
        return self._work_dir / key

    def _part(self, key: str, shard: int, shard_count: int) -> Path:
        return self._folder(key) / f"part-{shard}-of-{shard_count}"


def _neighbors(loaded: LoadedSae) -> Neighbors:
    """Decoder neighbours, block by block of features."""
    decoder = loaded.sae.weights["W_dec"]
    norms = decoder.norm(dim=-1).clamp(min=1e-12)

    def of(block: range) -> list[Ints]:
        rows = slice(block.start, block.stop)
        with torch.inference_mode():
            cosines = (decoder[rows] / norms[rows, None]) @ decoder.T / norms
        return [
            nearest(values, feature)
            for feature, values in zip(block, cosines.cpu().float().numpy(), strict=True)
        ]

    return of

"""Building indexes: plan, shards, merge; resumable, because every step leaves a whole file.

Below ``<index_dir>/.work/<key>`` lie the plan and one file per finished shard; merging moves the
result to ``<index_dir>/<id>`` and removes them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.activation.encoder.bound import BoundEncoder
from services.activation.encoder.inprocess import LoadedSae, SaeLoader
from services.activation.encoder.tokenizer import TextTokenizer
from services.activation.index.artifact import ArtifactFiles, open_artifact, write_artifact
from services.activation.index.config import IndexConfig, index_key
from services.activation.index.corpus import Corpus, read_corpus
from services.activation.index.partial import join_partials, load_partial, save_partial
from services.activation.index.plan import IndexPlan, load_plan, make_plan, save_plan
from services.activation.index.sweep import Progress, chunk_tokens, sweep_chunks
from services.activation.indexes import IndexLibrary
from services.common.errors import FailedPrecondition


@dataclass(frozen=True)
class IndexRequest:
    """Which index is meant."""

    sae_id: str
    corpus: str
    config: IndexConfig
    max_documents: int = 0


@dataclass(frozen=True)
class PlannedIndex:
    """What has to be done for an index."""

    key: str
    shard_count: int
    token_count: int
    document_count: int
    built: bool


class IndexBuilder:
    """Blocking; call it from a worker thread. Steps of one index may run in many processes.

    Args:
        load: Finds or loads an SAE with its model.
        tokenizer_of: The tokenizer of an SAE's model.
        library: Where finished indexes lie.
        work_dir: Where unfinished ones lie.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        load: SaeLoader,
        tokenizer_of: Callable[[str], TextTokenizer],
        library: IndexLibrary,
        work_dir: Path,
        clock: Callable[[], float],
    ) -> None:
        self._load = load
        self._tokenizer_of = tokenizer_of
        self._library = library
        self._work_dir = work_dir
        self._clock = clock

    def plan(self, request: IndexRequest, shard_tokens: int) -> PlannedIndex:
        """Plan an index and remember the plan. Errors: those of corpus and loading."""
        plan = self._plan(request)
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
        plan = self._checked_plan(request, key)
        chunks = plan.shard_chunks(shard, shard_count)
        path = self._part(key, shard, shard_count)
        if path.is_file() or self._library.holds(key):
            total = sum(chunk_tokens(plan, chunk) for chunk in chunks)
            report(Progress(total, total, 0.0))
            return
        loaded = self._load(request.sae_id)
        encoder = BoundEncoder(
            loaded.encoder.model, loaded.sae, plan.config.batch_token_budget, cancelled
        )
        part = sweep_chunks(plan, encoder, chunks, clock=self._clock, report=report)
        save_partial(part, path)

    def merge(self, request: IndexRequest, key: str, shard_count: int) -> ArtifactFiles:
        """Merge all shards; an index that is there already is returned as it is.

        Raises:
            FailedPrecondition: ARTIFACT_CORRUPT where a part is missing or damaged.
        """
        target = self._library.path(key)
        if self._library.holds(key):
            return open_artifact(target)
        plan = self._checked_plan(request, key)
        parts = [load_partial(self._part(key, s, shard_count)) for s in range(shard_count)]
        files = write_artifact(plan, join_partials(plan, parts), target)
        shutil.rmtree(self._folder(key), ignore_errors=True)
        return files

    def _plan(self, request: IndexRequest) -> IndexPlan:
        loaded = self._load(request.sae_id)
        corpus = read_corpus(request.corpus, request.max_documents)
        key = index_key(loaded.fingerprints.as_dict(), corpus.fingerprint, request.config)
        if self._library.holds(key):
            return self._library.reader(key, loaded.fingerprints).plan
        folder = self._folder(key)
        if (folder / "plan.json").is_file():
            return load_plan(folder)
        plan = self._new_plan(request, loaded, corpus)
        save_plan(plan, folder)
        return plan

    def _new_plan(self, request: IndexRequest, loaded: LoadedSae, corpus: Corpus) -> IndexPlan:
        tokenizer = self._tokenizer_of(request.sae_id)
        return make_plan(corpus, tokenizer, loaded.fingerprints, request.config)

    def _checked_plan(self, request: IndexRequest, key: str) -> IndexPlan:
        plan = self._plan(request)
        if plan.key != key:
            message = f"the configuration has key {plan.key}, not {key}"
            raise FailedPrecondition(message, "FINGERPRINT_MISMATCH")
        return plan

    def _folder(self, key: str) -> Path:
        return self._work_dir / key

    def _part(self, key: str, shard: int, shard_count: int) -> Path:
        return self._folder(key) / f"part-{shard}-of-{shard_count}.npz"

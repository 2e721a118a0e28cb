"""An index holds what its model does, however it was sharded.

Load-bearing: ``test_counts_equal_those_of_a_plain_recount``, from dense activations.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from services.activation.encoder.bound import BoundEncoder
from services.activation.encoder.model import CutModel
from services.activation.encoder.sae import Sae
from services.activation.encoder.tokenizer import TextTokenizer
from services.activation.index import grid
from services.activation.index.archive import pack, unpack
from services.activation.index.artifact import open_artifact
from services.activation.index.collector import Collector
from services.activation.index.config import EXCLUDED, IndexConfig, Split
from services.activation.index.corpus import read_corpus
from services.activation.index.merge import Neighbors, merge_parts
from services.activation.index.partial import save_partial
from services.activation.index.plan import IndexPlan, load_plan, make_plan, save_plan
from services.activation.index.records import collect
from services.activation.index.sweep import Progress, chunk_batches, context_row, sweep_chunks
from services.common.errors import Cancelled, FailedPrecondition, InvalidArgument
from tests.activation.index.conftest import CONFIG, Built, no_neighbors, sweep


def test_counts_equal_those_of_a_plain_recount(built: Built) -> None:
    """Guards against lost windows, shifted tokens, excluded windows that count."""
    plan, reader = built.plan, built.reader
    assert len(built.dense) == plan.layout.window_count
    split = plan.window_split
    scored = [np.zeros(built.encoder.feature_count) for _ in Split]
    active = [np.zeros(built.encoder.feature_count) for _ in Split]
    for window, values in enumerate(built.dense):
        assert len(values) == plan.layout.window_length[window]
        if split[window] != EXCLUDED:
            scored[split[window]] += (values > 0).sum(axis=0)
            active[split[window]] += (values > 0).any(axis=0)
    tokens = sum(plan.split_report.scored_token_counts)
    for feature in range(built.encoder.feature_count):
        numbers = reader.numbers(feature)
        assert numbers.density == pytest.approx(sum(s[feature] for s in scored) / tokens)
        counted = [one.active_window_count for one in numbers.splits]
        assert counted == [int(a[feature]) for a in active]
        assert sum(count for _, _, count in numbers.histogram) == sum(s[feature] for s in scored)
        reference = max(
            (v[:, feature].max() for w, v in enumerate(built.dense) if split[w] == Split.EXPLAIN),
            default=0.0,
        )
        assert numbers.reference_max == pytest.approx(reference, rel=1e-5)


def test_documents_above_tau_are_counted_over_whole_documents(built: Built) -> None:
    plan = built.plan
    for feature in (0, 17, 95):
        numbers = built.reader.numbers(feature)
        above: dict[int, set[int]] = {split: set() for split in Split}
        for window, values in enumerate(built.dense):
            split = int(plan.window_split[window])
            if split != EXCLUDED and values[:, feature].max() >= 0.5 * numbers.reference_max:
                above[split].add(int(plan.layout.window_document[window]))
        counted = [one.document_count_above_tau for one in numbers.splits]
        assert counted == [len(above[split]) for split in Split]


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_shards_merge_to_the_same_bytes_in_any_number_and_order(
    built: Built, neighbors: Neighbors, tmp_path: Path, shards: int
) -> None:
    """Guards against results that depend on who swept what, and when it was done."""
    parts = [sweep(built.plan, built.encoder, tmp_path, shard, shards) for shard in range(shards)]
    expected = open_artifact(built.folder).fingerprint
    orders = np.random.default_rng(shards).permuted(np.tile(np.arange(shards), (3, 1)), axis=1)
    for number, order in enumerate(orders.tolist()):
        target = tmp_path / f"index-{number}"
        files = merge_parts(built.plan, [parts[shard] for shard in order], neighbors, target)
        assert files.fingerprint == expected


def test_a_collector_that_folds_often_keeps_the_same(
    built: Built, neighbors: Neighbors, tmp_path: Path
) -> None:
    """Guards against candidates that are dropped although they would have been selected: after a
    fold, only what beats the lists so far is kept."""
    plan, part = built.plan, tmp_path / "part"
    part.mkdir()
    often = Collector(plan, built.encoder.feature_count, part, rows_per_fold=100)
    for chunk in range(plan.chunk_count):
        for batch in chunk_batches(plan, chunk):
            rows = built.encoder.encode_sparse([context_row(plan, c) for c in batch])
            records = collect(plan.layout, batch, rows, plan.config.window_token_count)
            for piece in np.array_split(np.arange(len(records)), 7):
                often.add(records.take(piece))
    save_partial(often.result(list(range(plan.chunk_count))), part)
    once = sweep(plan, built.encoder, tmp_path)
    names = sorted(path.name for path in once.glob("*.npy"))
    assert len(names) > 20
    for name in names:
        assert (part / name).read_bytes() == (once / name).read_bytes(), name


def test_a_plan_survives_being_saved(
    built: Built, neighbors: Neighbors, corpus_path: Path, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    folder = tmp_path / "plan"
    folder.mkdir()
    plan = make_plan(
        read_corpus(corpus_path), tokenizer, built.plan.fingerprints, built.plan.config, folder
    )
    save_plan(plan, folder)
    again = load_plan(folder)
    assert again.key == plan.key == built.plan.key
    for name in ("document_split", "window_split", "panel_windows", "pool_windows"):
        assert np.array_equal(getattr(again, name), getattr(plan, name))
    assert again.split_report == plan.split_report
    files = merge_parts(again, [sweep(again, built.encoder, tmp_path)], neighbors, tmp_path / "i")
    assert files.fingerprint == open_artifact(built.folder).fingerprint
    with pytest.raises(FailedPrecondition, match="no usable plan"):
        load_plan(tmp_path / "nothing")


def test_missing_repeated_and_foreign_parts_are_refused(built: Built, tmp_path: Path) -> None:
    """Guards against an index with holes."""
    plan = built.plan
    first, second = (sweep(plan, built.encoder, tmp_path, shard, 2) for shard in (0, 1))
    with pytest.raises(FailedPrecondition, match="missing"):
        merge_parts(plan, [first], no_neighbors, tmp_path / "hole")
    assert not (tmp_path / "hole").exists()
    with pytest.raises(FailedPrecondition, match="same chunk"):
        merge_parts(plan, [first, first], no_neighbors, tmp_path / "twice")
    np.save(second / "key.npy", np.array("other"))
    with pytest.raises(FailedPrecondition) as caught:
        merge_parts(plan, [first, second], no_neighbors, tmp_path / "foreign")
    assert caught.value.reason == "FINGERPRINT_MISMATCH"
    (second / "top.value.npy").write_bytes(b"PK")
    with pytest.raises(FailedPrecondition, match="damaged"):
        merge_parts(plan, [first, second], no_neighbors, tmp_path / "bad")


def test_a_cancelled_shard_leaves_nothing_behind(
    plan: IndexPlan, model: CutModel, sae: Sae, tmp_path: Path
) -> None:
    """Guards against half a part that a merge would take for a whole one."""
    asked = iter([False, False, True])
    encoder = BoundEncoder(model, sae, CONFIG.batch_token_budget, lambda: next(asked))
    with pytest.raises(Cancelled):
        sweep(plan, encoder, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_token_once(
    plan: IndexPlan, bound: BoundEncoder, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    part = tmp_path / "part"
    sweep_chunks(plan, bound, range(2), part, clock=time.monotonic, report=seen.append)
    assert seen[0].done_tokens == 0
    assert (
        seen[-1].done_tokens
        == seen[-1].total_tokens
        == sum(int(plan.layout.context_length[c]) for n in range(2) for c in plan.chunk_contexts(n))
    )
    assert [p.done_tokens for p in seen] == sorted(p.done_tokens for p in seen)


def test_chunks_and_batches_hold_every_context_once(plan: IndexPlan) -> None:
    contexts = [
        context
        for shard in range(3)
        for chunk in plan.shard_chunks(shard, 3)
        for batch in chunk_batches(plan, chunk)
        for context in batch
    ]
    assert sorted(contexts) == list(range(plan.layout.context_count))
    with pytest.raises(InvalidArgument):
        plan.shard_chunks(3, 3)


def test_an_archive_has_the_same_bytes_and_restores_the_same_index(
    built: Built, tmp_path: Path
) -> None:
    pack(built.folder, tmp_path / "a.tar.zst")
    pack(built.folder, tmp_path / "b.tar.zst")
    assert (tmp_path / "a.tar.zst").read_bytes() == (tmp_path / "b.tar.zst").read_bytes()
    restored = unpack(tmp_path / "a.tar.zst", tmp_path / "restored")
    assert restored.fingerprint == open_artifact(built.folder).fingerprint
    (tmp_path / "c.tar.zst").write_bytes((tmp_path / "a.tar.zst").read_bytes()[:-100])
    with pytest.raises(FailedPrecondition, match="damaged"):
        unpack(tmp_path / "c.tar.zst", tmp_path / "broken")


def test_a_changed_or_missing_file_is_found_when_an_index_is_opened(
    built: Built, tmp_path: Path
) -> None:
    """Guards against silently reading another index's arrays."""
    pack(built.folder, tmp_path / "a.tar.zst")
    unpack(tmp_path / "a.tar.zst", tmp_path / "index")
    values = tmp_path / "index" / "entry_value_low.npy"
    raw = bytearray(values.read_bytes())
    raw[-1] ^= 1
    values.write_bytes(raw)
    with pytest.raises(FailedPrecondition, match="entry_value_low") as caught:
        open_artifact(tmp_path / "index")
    assert caught.value.reason == "ARTIFACT_CORRUPT"
    with pytest.raises(FailedPrecondition) as caught:
        open_artifact(tmp_path / "nowhere")
    assert caught.value.reason == "INDEX_NOT_BUILT"
    manifest = tmp_path / "index" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    with pytest.raises(FailedPrecondition, match="format 99"):
        open_artifact(tmp_path / "index")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("window_token_count", 128),
        ("window_token_count", 1),
        ("min_window_token_count", 0),
        ("split_shares", (0.5, 0.5, 0.5)),
        ("panel_counts", (1, 0, 1)),
    ],
)
def test_a_senseless_configuration_names_its_field(field: str, value: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        IndexConfig.from_dict({field: value})
    assert caught.value.violations[0].field == field


def test_a_quantile_lies_in_its_bin() -> None:
    values = np.sort(np.random.default_rng(0).lognormal(1, 1, 4_000)).astype(np.float32)
    counts = np.bincount(grid.bin_of(values), minlength=grid.BIN_COUNT)
    for probability in (0.1, 0.5, 0.9, 0.99):
        exact = float(np.quantile(values, probability))
        assert grid.quantile(counts, probability, float(values.max())) == pytest.approx(
            exact, rel=0.2
        )
    assert grid.quantile(np.zeros(grid.BIN_COUNT, int), 0.5, 1.0) == 0.0
    assert grid.bin_of(np.array([1.0, 0.999, 1e-9, 1e9], np.float32)).tolist() == [24, 23, 0, 55]

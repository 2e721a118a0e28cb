"""The shipped index. The load-bearing check recomputes the leak gate by brute force, from
token ids alone: no HELDOUT window may share an 11-gram around any of its tokens, so also
around its peak, with EXPLAIN."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from demo.build_index import ARCHIVE, CORPUS
from services.activation.index.archive import pack, unpack
from services.activation.index.artifact import ArtifactFiles
from services.activation.index.config import Split
from services.activation.index.corpus import read_corpus
from services.activation.index.plan import IndexPlan
from services.activation.index.reader import IndexReader
from services.activation.index.statistics import Stratum
from services.activation.index.strategies import Strategy

_NGRAM = 11


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ArtifactFiles:
    return unpack(ARCHIVE, tmp_path_factory.mktemp("index") / "shipped")


@pytest.fixture(scope="module")
def reader(files: ArtifactFiles) -> IndexReader:
    return IndexReader(files)


def _ngrams_around(plan: IndexPlan, window: int) -> Iterator[tuple[int, ...]]:
    """Every 11-gram of the document that holds a token of the window."""
    layout = plan.layout
    document = int(layout.window_document[window])
    low, high = layout.document_offsets[document : document + 2]
    start = int(layout.window_start[window])
    end = start + int(layout.window_length[window])
    for at in range(max(int(low), start - _NGRAM + 1), min(int(high) - _NGRAM, end - 1) + 1):
        yield tuple(layout.tokens[at : at + _NGRAM].tolist())


def test_no_heldout_window_shares_an_eleven_gram_with_explain(reader: IndexReader) -> None:
    plan = reader.plan
    seen: set[tuple[int, ...]] = set()
    for window in np.flatnonzero(plan.window_split == Split.EXPLAIN):
        seen.update(_ngrams_around(plan, int(window)))
    heldout = np.flatnonzero(plan.window_split == Split.HELDOUT)
    leaks = [w for w in heldout if not seen.isdisjoint(_ngrams_around(plan, int(w)))]
    assert len(heldout) > 10_000
    assert leaks == []


def test_sources_stay_in_one_split_and_the_shares_are_as_wanted(reader: IndexReader) -> None:
    plan = reader.plan
    splits: dict[str, set[int]] = {}
    for source, split in zip(plan.documents.sources, plan.document_split, strict=True):
        splits.setdefault(source, set()).add(int(split))
    assert all(len(found) == 1 for found in splits.values())
    lengths = np.diff(plan.layout.document_offsets)
    shares = [lengths[plan.document_split == split].sum() / lengths.sum() for split in Split]
    assert shares == pytest.approx([0.5, 0.2, 0.3], abs=0.02)


def test_the_index_is_the_one_of_the_shipped_corpus(reader: IndexReader) -> None:
    assert reader.plan.corpus_fingerprint == read_corpus(str(CORPUS)).fingerprint
    assert reader.plan.token_count >= 1_500_000


def test_corpus_and_index_together_stay_below_twenty_megabytes() -> None:
    assert ARCHIVE.stat().st_size + CORPUS.stat().st_size <= 20 * 10**6


def test_packing_what_was_unpacked_gives_the_same_bytes(
    files: ArtifactFiles, tmp_path: Path
) -> None:
    pack(files.folder, tmp_path / "again.tar.zst")
    assert (tmp_path / "again.tar.zst").read_bytes() == ARCHIVE.read_bytes()


def test_the_funnel_of_the_card_is_that_of_the_index(files: ArtifactFiles) -> None:
    card = json.loads((ARCHIVE.parents[1] / "sae" / "card.json").read_text())
    stages = {name: count for name, count in card["funnel"].items() if name != "index"}
    assert stages == files.manifest["funnel"]
    assert card["funnel"]["index"]["fingerprint"] == files.manifest["key"]
    assert stages["eligible"] > 1_000


def test_samples_weighted_by_their_probability_give_back_the_population(
    reader: IndexReader,
) -> None:
    """Horvitz-Thompson: the inverse probabilities of the windows that were drawn must add up
    to the number of windows that there are, or every score at natural prevalence is wrong."""
    eligible = [f for f, stratum in enumerate(reader.strata) if stratum is Stratum.ELIGIBLE]
    for feature in eligible[::300]:
        numbers = reader.numbers(feature).splits[Split.HELDOUT]
        active = reader.exemplars(feature, Strategy.RANDOM_ACTIVE, Split.HELDOUT, 1_000)
        silent = reader.exemplars(feature, Strategy.NON_ACTIVATING, Split.HELDOUT, 300)
        assert sum(1 / w.probability for w in active) == pytest.approx(
            numbers.active_window_count, rel=1e-6
        )
        # Silent windows come from a random panel of all windows: their total is estimated.
        assert sum(1 / w.probability for w in silent) == pytest.approx(
            numbers.window_count - numbers.active_window_count, rel=0.03
        )
        assert all(w.maximum > 0 for w in active)
        assert all(w.maximum == 0 for w in silent)

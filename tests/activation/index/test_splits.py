"""Splits keep sources and near-duplicates together, and nothing leaks through the gate.

Load-bearing: ``test_no_window_shares_a_run_of_tokens_with_an_earlier_split``, which recomputes
the gate from the tokens, by sets of tuples, without any of its code.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.activation.encoder.identity import Fingerprints
from services.activation.encoder.tokenizer import TextTokenizer
from services.activation.index.clusters import find_clusters
from services.activation.index.config import EXCLUDED, IndexConfig, Split
from services.activation.index.corpus import Corpus, Document
from services.activation.index.layout import Documents, lay_out
from services.activation.index.plan import IndexPlan, make_plan
from services.activation.index.splits import assign_documents
from services.common.errors import InvalidArgument
from tests.activation import tiny
from tests.activation.index.conftest import CONFIG

NOBODY = Fingerprints("m", "s", "t")


def plan_of(tokenizer: TextTokenizer, documents: list[Document], config: IndexConfig) -> IndexPlan:
    with tempfile.TemporaryDirectory() as folder:  # what is mapped outlives its name
        return make_plan(Corpus(tuple(documents), "c"), tokenizer, NOBODY, config, Path(folder))


def random_documents(count: int, seed: int = 0, words: int = 120) -> list[Document]:
    rng = np.random.default_rng(seed)
    return [
        Document(f"d{i}", f"s{i}", ("prose", "code")[i % 2], tiny.sentences(rng, words))
        for i in range(count)
    ]


def runs(tokens: np.ndarray, n: int) -> set[tuple[int, ...]]:
    return {tuple(tokens[i : i + n].tolist()) for i in range(len(tokens) - n + 1)}


def leaking_documents() -> list[Document]:
    """Documents that share 12 to 16 tokens in a row: too few to be joined, enough to leak."""
    documents = random_documents(40)
    phrase = "because the cat never sleeps under the red stone house."
    return [
        replace(d, text=f"{d.text[:200]} {phrase} {d.text[200:]}") if i % 4 == 0 else d
        for i, d in enumerate(documents)
    ]


def test_no_window_shares_a_run_of_tokens_with_an_earlier_split(tokenizer: TextTokenizer) -> None:
    """Guards against HELDOUT windows that an explainer has seen."""
    plan = plan_of(tokenizer, leaking_documents(), CONFIG)
    layout, n = plan.layout, CONFIG.leak_ngram
    seen: dict[int, set[tuple[int, ...]]] = {split: set() for split in Split}
    for document, split in enumerate(plan.document_split.tolist()):
        begin, end = layout.document_offsets[document : document + 2]
        seen[split] |= runs(layout.tokens[begin:end], n)
    expected = []
    for window in range(layout.window_count):
        document = int(layout.window_document[window])
        split = int(plan.document_split[document])
        begin = max(
            int(layout.document_offsets[document]), int(layout.window_start[window]) - n + 1
        )
        end = int(layout.window_start[window] + layout.window_length[window]) + n - 1
        end = min(end, int(layout.document_offsets[document + 1]))
        mine = runs(layout.tokens[begin:end], n)
        earlier = {Split.EXPLAIN: [], Split.SELECT: [0], Split.HELDOUT: [0, 1]}[Split(split)]
        expected.append(any(mine & seen[other] for other in earlier))
    assert (plan.window_split == EXCLUDED).tolist() == expected
    assert sum(expected) > 5  # the gate had something to do
    assert sum(plan.split_report.leaked_window_counts) == sum(expected)


def test_sources_stay_whole_and_shares_are_met(tokenizer: TextTokenizer) -> None:
    """Guards against one source on both sides, and against lopsided splits."""
    documents = [replace(d, source=f"s{i // 3}") for i, d in enumerate(random_documents(90))]
    plan = plan_of(tokenizer, documents, CONFIG)
    by_source: dict[str, set[int]] = {}
    for source, split in zip(plan.documents.sources, plan.document_split.tolist(), strict=True):
        by_source.setdefault(source, set()).add(split)
    assert all(len(splits) == 1 for splits in by_source.values())
    for shares in plan.split_report.kind_token_shares.values():
        assert shares == pytest.approx(CONFIG.split_shares, abs=0.08)


def clusters_of(
    tokenizer: TextTokenizer, texts: list[str], config: IndexConfig = CONFIG
) -> list[int]:
    rows = tokenizer.content_ids(texts)
    tokens, offsets = np.concatenate(rows), np.cumsum([0, *map(len, rows)])
    names = tuple(f"s{i:02}" for i in range(len(texts)))
    layout = lay_out(tokens, offsets, config)
    documents = Documents(names, names, ("x",) * len(texts))
    with tempfile.TemporaryDirectory() as scratch:
        found = find_clusters(layout, documents, config, Path(scratch))
    return found.source_cluster.tolist()


def test_sources_with_a_long_run_in_common_are_one_cluster(tokenizer: TextTokenizer) -> None:
    rng = np.random.default_rng(1)
    texts = [tiny.sentences(rng, 60) for _ in range(4)]
    shared = " ".join(tiny.sentences(rng, 30).split()[:24])
    texts[1] += " " + shared
    texts[3] = shared + " " + texts[3]
    assert clusters_of(tokenizer, texts, replace(CONFIG, max_cluster_share=1.0)) == [0, 1, 2, 1]


def test_short_texts_that_are_mostly_alike_are_one_cluster(tokenizer: TextTokenizer) -> None:
    """Guards against near-duplicates that are too short for a long run."""
    rng = np.random.default_rng(2)
    words = tiny.sentences(rng, 16).split()
    other = [*words[:-1], "bird"]
    config = replace(CONFIG, max_cluster_share=1.0)
    texts = [" ".join(words), tiny.sentences(rng, 16), " ".join(other)]
    assert clusters_of(tokenizer, texts, config) == [0, 1, 0]


def test_boilerplate_does_not_join_a_corpus_and_is_reported(tokenizer: TextTokenizer) -> None:
    """Guards against one licence text that puts everything into one split."""
    licence = " ".join(tiny.sentences(np.random.default_rng(3), 40).split())
    documents = [replace(d, text=f"{d.text} {licence}") for d in random_documents(30)]
    joined = plan_of(tokenizer, random_documents(30), CONFIG).cluster_report
    assert (joined.cluster_count, joined.widest_joining_ngram) == (30, 0)
    plan = plan_of(tokenizer, documents, CONFIG)
    report = plan.cluster_report
    assert report.widest_joining_ngram > 0
    assert report.largest_cluster_share <= CONFIG.max_cluster_share
    # What the licence touches outside EXPLAIN is left to the gate.
    assert all(count > 0 for count in plan.split_report.leaked_window_counts[1:])


def test_the_seed_decides_and_nothing_else(tokenizer: TextTokenizer) -> None:
    documents = random_documents(60, words=30)
    first = plan_of(tokenizer, documents, CONFIG)
    again = plan_of(tokenizer, documents, CONFIG)
    other = plan_of(tokenizer, documents, replace(CONFIG, seed=1))
    assert np.array_equal(first.window_split, again.window_split)
    assert not np.array_equal(first.document_split, other.document_split)
    assert first.key == again.key != other.key


def test_a_corpus_without_enough_sources_is_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(InvalidArgument, match="too few sources"):
        plan_of(tokenizer, random_documents(2), CONFIG)


def test_documents_go_where_their_cluster_goes(plan: IndexPlan, tmp_path: Path) -> None:
    clusters = find_clusters(plan.layout, plan.documents, plan.config, tmp_path)
    again = assign_documents(plan.layout, plan.documents, clusters, plan.config)
    assert np.array_equal(again, plan.document_split)
    for cluster in range(clusters.report.cluster_count):
        assert len(set(again[clusters.document_cluster == cluster].tolist())) == 1

"""The shipped corpus is what its notice says: mixed, large enough, licensed, without repeats.

Guards against a rebuilt corpus that drifts from its notice, and against one kind of text, one
book or markup taking it over. Load-bearing: the token count with the real tokenizer.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from demo.corpus_builder.catalog import GROUPS, load_packages
from demo.corpus_builder.duplicates import NearDuplicates
from demo.corpus_rows import CorpusDocument, is_held_out
from demo.train_sae import CORPUS


@pytest.fixture(scope="module")
def tokens(corpus: list[CorpusDocument], model_folder: Path) -> list[int]:
    """Tokens of each document, special ones left out."""
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    encoded = tokenizer.encode_batch_fast([d.text for d in corpus], add_special_tokens=False)
    return [len(item.ids) for item in encoded]


def test_the_corpus_has_at_least_one_and_a_half_million_tokens(tokens: list[int]) -> None:
    """Too small a corpus leaves half of the features without held-out documents."""
    assert sum(tokens) >= 1_500_000


def test_the_notice_states_the_size_that_the_tokenizer_counts(tokens: list[int]) -> None:
    """The notice could be left behind when the corpus changes."""
    notice = (CORPUS.parent / "SOURCES.md").read_text(encoding="utf-8")
    stated = re.search(r"(\d+) documents of (\d+) sources, (\d+) tokens", notice)
    assert stated is not None
    assert int(stated[1]) == len(tokens)
    assert int(stated[3]) == sum(tokens)


def test_no_kind_is_above_a_third_and_the_required_kinds_are_there(
    corpus: list[CorpusDocument], tokens: list[int]
) -> None:
    """One kind of text would make features of that kind only."""
    by_kind: Counter[str] = Counter()
    for document, count in zip(corpus, tokens, strict=True):
        by_kind[document.kind] += count
    assert {"prose", "dialogue", "reference", "code", "lists"} <= by_kind.keys()
    assert max(by_kind.values()) <= sum(tokens) / 3
    assert min(by_kind.values()) >= sum(tokens) / 50


def test_no_source_is_above_sixty_thousand_tokens(
    corpus: list[CorpusDocument], tokens: list[int]
) -> None:
    """A big book would unbalance the split, which keeps sources whole."""
    by_source: Counter[str] = Counter()
    for document, count in zip(corpus, tokens, strict=True):
        by_source[document.source] += count
    assert max(by_source.values()) <= 60_000
    assert len(by_source) >= 1_000


def test_identifiers_are_unique_and_begin_with_their_source(corpus: list[CorpusDocument]) -> None:
    """Two documents under one id would be one exemplar."""
    assert len({document.id for document in corpus}) == len(corpus)
    assert all(document.id.startswith(document.source + "#") for document in corpus)


def test_every_group_names_its_licence_and_its_pinned_packages_in_the_notice() -> None:
    """Text without a licence can't be redistributed."""
    notice = (CORPUS.parent / "SOURCES.md").read_text(encoding="utf-8")
    pinned = load_packages()
    for group in GROUPS:
        line = next(x for x in notice.splitlines() if x.startswith(f"| {group.name} |"))
        assert f"| {group.licence} |" in line
        assert all(pinned[name].label in line for name in group.packages)


def test_a_licence_text_ships_for_every_licence_that_asks_for_it() -> None:
    """GPL, PSF, BSD and the others want their text to go with the work."""
    texts = "\n".join(path.name for path in (CORPUS.parent / "licences").iterdir())
    for group in GROUPS:
        if group.licence.startswith("Public domain"):
            continue
        if group.licence in {"MIT", "ISC"}:
            assert "javascript-libraries" in texts
            continue
        family = re.split(r"-(?:only|or-later)| ", group.licence)[0]
        assert family in texts, group.licence


def test_documents_are_clean_text(corpus: list[CorpusDocument]) -> None:
    """Mail headers, base64 and markup give many dull features."""
    for document in corpus:
        assert 12 <= len(document.text.split()) <= 2_500, document.id
        assert "\ufffd" not in document.text and "\r" not in document.text, document.id
        assert not re.search(r"[A-Za-z0-9+/]{160,}", document.text), document.id
    tagged = [d for d in corpus if d.kind != "code" and re.search(r"</(p|div|span)>", d.text)]
    assert len(tagged) <= 10


def test_no_document_repeats_an_earlier_one(corpus: list[CorpusDocument]) -> None:
    """A copy on the other side of the split would leak.

    The builder's bar is a quarter, in the order of reading; in the order of the file a short
    document may come after the longer one that it shares a phrase with, hence a half.
    """
    seen = NearDuplicates(maximum_shared=0.5)
    assert [document.id for document in corpus if seen.repeats(document.text)] == []


def test_a_repeated_document_would_be_found(corpus: list[CorpusDocument]) -> None:
    """The check above must be able to fail."""
    seen = NearDuplicates(maximum_shared=0.5)
    text = next(document.text for document in corpus if len(document.text.split()) > 200)
    assert not seen.repeats(text)
    assert seen.repeats(text + " and a few words more")


def test_about_a_twentieth_of_the_sources_is_held_out_of_training(
    corpus: list[CorpusDocument],
) -> None:
    """The card's figures need text that training never saw."""
    sources = {document.source for document in corpus}
    held_out = sum(map(is_held_out, sources)) / len(sources)
    assert 0.03 <= held_out <= 0.07

"""Model, corpus halves and hidden states that planted features are made from.

Documents are drawn by the hash of their source: one part to fit directions on, another to
index. No source is in both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from services.activation.encoder.encode import plan_batches
from services.activation.encoder.hooks import HookPoint, parse_hook
from services.activation.encoder.model import CutModel, load_model, pad_rows
from services.activation.encoder.sources import ModelSource
from services.activation.encoder.tokenizer import TextTokenizer, load_tokenizer
from services.activation.index.corpus import Corpus, Document, read_corpus
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings

CORPUS = Path(__file__).parents[2] / "demo" / "corpus" / "corpus.jsonl.zst"
HOOK = "blocks.8.hook_resid_post"
TRAIN, INDEX = (0.0, 0.12), (0.12, 0.34)
"""Ranges of a source's hash: of the demo's 1.75 M tokens about 210,000 and 385,000."""
CONTEXT_TOKENS = 127
"""As in the index: a context less its first token."""
_BATCH_TOKENS = 4_096

Halves = NDArray[np.float16]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Material:
    """What everything is made from.

    Attributes:
        tokenizer: of the model.
        model_folder: the converted model.
        train: documents that directions are fitted on.
        index: documents that the index is swept over.
        cache: folder for what may be kept between runs.
    """

    tokenizer: TextTokenizer
    model_folder: Path
    train: Corpus
    index: Corpus
    cache: Path


def load_material() -> Material:
    """The demo's model and corpus."""
    settings = ActivationSettings()
    registry = load_registry(settings.registry)
    entry = registry.saes[min(registry.saes)]
    source = registry.model_source(entry.model, settings.cache_dir)
    corpus = read_corpus(CORPUS)
    return Material(
        tokenizer=load_tokenizer(source),
        model_folder=Path(source.location),
        train=_between(corpus, *TRAIN),
        index=_between(corpus, *INDEX),
        cache=settings.cache_dir / "planted",
    )


def cut_model(folder: Path) -> CutModel:
    """A model as far as the hook."""
    return load_model(ModelSource(str(folder)), hook().layer_count)


def hook() -> HookPoint:
    """Where directions are planted."""
    return parse_hook(HOOK)


def contexts(tokenizer: TextTokenizer, corpus: Corpus) -> list[NDArray[np.int64]]:
    """Token rows as an index cuts them, the first token in front."""
    rows = tokenizer.content_ids([document.text for document in corpus.documents])
    return [
        np.concatenate([[tokenizer.bos_token_id], row[begin : begin + CONTEXT_TOKENS]]).astype(
            np.int64
        )
        for row in rows
        for begin in range(0, len(row), CONTEXT_TOKENS)
    ]


def hidden_states(model: CutModel, rows: Sequence[NDArray[np.int64]]) -> Halves:
    """The residual stream at the hook for every token but the first of each row, in the
    order of the rows; float16, shape [tokens, d_model]."""
    found: dict[int, Halves] = {}
    for batch in plan_batches([len(row) for row in rows], _BATCH_TOKENS):
        states = model.hidden_states(pad_rows([rows[i] for i in batch]), hook())
        for place, index in enumerate(batch):
            found[index] = states[place, 1 : len(rows[index])].to(torch.float16).numpy()
    return np.concatenate([found[index] for index in range(len(rows))])


def labels(
    tokenizer: TextTokenizer,
    rows: Sequence[NDArray[np.int64]],
    predicates: Sequence[Callable[[Sequence[bytes]], Bools]],
) -> Bools:
    """Which predicate holds at which token, in the order of `hidden_states`; shape
    [tokens, predicates]."""
    pieces = tokenizer.vocabulary_bytes
    return np.concatenate([_labels([pieces[i] for i in row[1:]], predicates) for row in rows])


def _labels(
    tokens: Sequence[bytes], predicates: Sequence[Callable[[Sequence[bytes]], Bools]]
) -> Bools:
    return np.stack([holds(tokens) for holds in predicates], axis=1)


def _between(corpus: Corpus, low: float, high: float) -> Corpus:
    chosen = tuple(_drawn(corpus.documents, low, high))
    digest = hashlib.sha256("\n".join(d.id for d in chosen).encode()).hexdigest()
    return Corpus(chosen, hashlib.sha256(f"{corpus.fingerprint} {digest}".encode()).hexdigest())


def _drawn(documents: Sequence[Document], low: float, high: float) -> Iterator[Document]:
    for document in documents:
        place = hashlib.sha256(f"{document.kind} {document.source}".encode()).digest()
        if low <= int.from_bytes(place[:8]) / 2**64 < high:
            yield document

"""What every arm is measured on: the demo's model and SAE, texts of 12 to 128 tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import zstandard

from services.activation.encoder.encode import Encoder
from services.activation.encoder.model import CutModel, load_model
from services.activation.encoder.rows import TokenRow
from services.activation.encoder.sae import Sae, load_sae
from services.activation.encoder.sources import ModelSource
from services.activation.encoder.tokenizer import TextLimits, TextTokenizer, load_tokenizer
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings

SAE_ID = "smollm2-135m-instruct-l8"
SAE_FOLDER = Path(__file__).parents[2] / "demo" / "sae"
CORPUS = Path(__file__).parents[2] / "demo" / "corpus" / "corpus.jsonl.zst"
FEATURES = tuple(range(0, 4_608, 288))
_SHORTEST, _LONGEST = 12, 128
_STRIDE = 17
"""Every so many documents of the corpus, so that all its sources are among the texts."""


@dataclass(frozen=True)
class Material:
    """One text is one token row; both are kept because services are given texts."""

    source: ModelSource
    tokenizer: TextTokenizer
    model: CutModel
    sae: Sae
    texts: tuple[str, ...]
    rows: tuple[TokenRow, ...]
    budget: int
    """Tokens of one forward pass, as the service has it by default."""

    @property
    def token_count(self) -> int:
        """Tokens of all rows, the first token of each included."""
        return sum(len(row) for row in self.rows)

    def encoder(self, model: CutModel | None = None) -> Encoder:
        """Our encoder, of the float32 model unless another is given."""
        return Encoder(model or self.model, batch_token_budget=self.budget)

    def cut_model(self, dtype: torch.dtype) -> CutModel:
        """The same model in another type."""
        return load_model(self.source, self.sae.config.hook.layer_count, dtype=dtype)


def load_material(text_count: int) -> Material:
    """Model, SAE and texts; the texts are drawn by seed 0."""
    settings = ActivationSettings()
    registry = load_registry(settings.registry)
    source = registry.model_source(registry.sae(SAE_ID).model, settings.cache_dir)
    tokenizer = load_tokenizer(source)
    sae = load_sae(registry.sae(SAE_ID).source)
    texts = _texts(tokenizer, text_count)
    tokenized = tokenizer.tokenize(texts, TextLimits())
    return Material(
        source,
        tokenizer,
        load_model(source, sae.config.hook.layer_count),
        sae,
        tuple(texts),
        tuple(text.ids for text in tokenized),
        settings.batch_token_budget,
    )


def _texts(tokenizer: TextTokenizer, count: int) -> list[str]:
    """Beginnings of documents, each cut to a length drawn evenly from the range."""
    rng = np.random.default_rng(0)
    texts: list[str] = []
    for document in _documents():
        wanted = int(rng.integers(_SHORTEST, _LONGEST + 1))
        pieces = tokenizer.tokenize([document], TextLimits(2**20, 2**20))[0].token_bytes
        text = b"".join(pieces[:wanted]).decode(errors="ignore")
        if _SHORTEST <= len(tokenizer.tokenize([text], TextLimits())[0].ids) <= _LONGEST:
            texts.append(text)
        if len(texts) == count:
            return texts
    raise SystemExit(f"the corpus has {len(texts)} texts of the wanted lengths, not {count}")


def _documents() -> Iterator[str]:
    with zstandard.open(CORPUS, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number % _STRIDE == 0:
                yield json.loads(line)["text"]

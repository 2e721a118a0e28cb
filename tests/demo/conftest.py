"""The demo's model and shipped artifacts, read once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.corpus_rows import CorpusDocument, read_corpus
from demo.train_sae import CORPUS
from services.activation.encoder.gguf import ensure_converted
from services.common.settings import default_cache_dir


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The demo's language model, converted where it isn't yet (half a minute)."""
    return ensure_converted(default_cache_dir())


@pytest.fixture(scope="session")
def corpus() -> list[CorpusDocument]:
    """All documents of the shipped corpus."""
    return read_corpus(CORPUS)


@pytest.fixture(scope="session")
def sae_folder() -> Path:
    """Folder of the shipped SAE."""
    return CORPUS.parent.parent / "sae"

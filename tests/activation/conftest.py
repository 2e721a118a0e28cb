"""Fixtures shared by the activation tests: tiny parts, written and loaded once per session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from services.activation.encoder.encode import Encoder
from services.activation.encoder.hooks import parse_hook
from services.activation.encoder.model import CutModel, load_model
from services.activation.encoder.sae import Sae, load_sae
from services.activation.encoder.sources import ModelSource, SaeSource
from services.activation.encoder.tokenizer import TextTokenizer, load_tokenizer
from tests.activation import tiny


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def sae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_sae(tmp_path_factory.mktemp("sae") / "tiny-topk")


@pytest.fixture(scope="session")
def corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_corpus(tmp_path_factory.mktemp("corpus") / "tiny.jsonl.zst")


@pytest.fixture(scope="session")
def model(model_folder: Path) -> CutModel:
    return load_model(ModelSource(str(model_folder)), parse_hook(tiny.HOOK).layer_count)


@pytest.fixture(scope="session")
def tokenizer(model_folder: Path) -> TextTokenizer:
    return load_tokenizer(ModelSource(str(model_folder)))


@pytest.fixture(scope="session")
def sae(sae_folder: Path) -> Sae:
    return load_sae(SaeSource(str(sae_folder)))


@pytest.fixture(scope="session")
def encoder(model: CutModel) -> Encoder:
    return Encoder(model, batch_token_budget=256)

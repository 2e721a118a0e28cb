"""Texts to token rows and back to bytes.

The begin-of-sequence token stands first; nothing else is added, and names of special tokens
inside a text are ordinary text. Whitespace is never stripped. Every token carries the bytes of
the text it stands for, so that the bytes of all tokens, joined, are the text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as FastTokenizer

from services.activation.encoder.rows import TokenRow
from services.activation.encoder.sources import ModelSource
from services.common.errors import FailedPrecondition, InvalidArgument


@dataclass(frozen=True)
class TextLimits:
    """What a text may be: bytes are checked before tokenising, tokens after."""

    max_text_bytes: int = 65_536
    """UTF-8 bytes of one text."""
    max_tokens: int = 2_048
    """Tokens of one text, the begin-of-sequence token included."""


@dataclass(frozen=True)
class TokenizedText:
    """One text as tokens. All fields have the same length; index 0 is the added first token."""

    ids: TokenRow
    """Token ids, int64 [n_tokens]."""
    token_bytes: tuple[bytes, ...]
    """The text's bytes under each token; empty for the added first token."""

    @cached_property
    def byte_spans(self) -> tuple[tuple[int, int], ...]:
        """Half-open byte ranges of the text, one per token."""
        ends = np.cumsum([len(piece) for piece in self.token_bytes]).tolist()
        return tuple(
            (end - len(piece), end) for end, piece in zip(ends, self.token_bytes, strict=True)
        )


class TextTokenizer:
    """A Hugging Face fast tokenizer under the numerics contract of this service."""

    def __init__(self, backend: FastTokenizer, bos_token_id: int) -> None:
        self._backend = FastTokenizer.from_str(backend.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True
        self.bos_token_id = bos_token_id

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids, added tokens included."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the tokenizer's definition and the first token."""
        definition = f"{self._backend.to_str()}\nbos={self.bos_token_id}"
        return hashlib.sha256(definition.encode()).hexdigest()

    @cached_property
    def vocabulary_bytes(self) -> tuple[bytes, ...]:
        """Bytes of every token id on its own, as they stand in the middle of a text."""
        to_bytes = _piece_decoder(self._backend)
        special = {
            i for i, token in self._backend.get_added_tokens_decoder().items() if token.special
        }
        pieces = []
        for token_id in range(self.vocabulary_size):
            piece = self._backend.id_to_token(token_id)
            if piece is None:
                pieces.append(b"")
            else:
                pieces.append(piece.encode() if token_id in special else to_bytes(piece))
        return tuple(pieces)

    @cached_property
    def ids_of_bytes(self) -> dict[bytes, int]:
        """The lowest token id for each sequence of bytes that is one token."""
        ids: dict[bytes, int] = {}
        for token_id, piece in enumerate(self.vocabulary_bytes):
            ids.setdefault(piece, token_id)
        return ids

    def tokenize(
        self, texts: Sequence[str], limits: TextLimits, *, first_index: int = 0
    ) -> list[TokenizedText]:
        """Tokenise texts; errors count them from ``first_index``.

        Raises:
            InvalidArgument: TEXT_EMPTY, TEXT_NOT_UNICODE (lone surrogates), TEXT_TOO_LONG (bytes
                or tokens); ``field`` is ``texts[i]``.
        """
        raw = [_check_text(index, text, limits) for index, text in enumerate(texts, first_index)]
        encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        results = []
        for index, encoding in enumerate(encodings):
            if len(encoding.ids) + 1 > limits.max_tokens:
                raise InvalidArgument(
                    f"{len(encoding.ids) + 1} tokens, at most {limits.max_tokens} are allowed",
                    field=f"texts[{first_index + index}]",
                    reason="TEXT_TOO_LONG",
                )
            pieces = self._pieces(texts[index], raw[index], encoding)
            ids = np.array([self.bos_token_id, *encoding.ids], dtype=np.int64)
            results.append(TokenizedText(ids=ids, token_bytes=(b"", *pieces)))
        return results

    def content_ids(self, texts: Sequence[str]) -> list[TokenRow]:
        """Token ids of texts of any length, without the first token; for corpora."""
        encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def describe_ids(self, ids: TokenRow) -> TokenizedText:
        """A row of token ids, the first token included, with each token's own bytes."""
        vocabulary = self.vocabulary_bytes
        first = b"" if int(ids[0]) == self.bos_token_id else vocabulary[int(ids[0])]
        return TokenizedText(ids=ids, token_bytes=(first, *(vocabulary[int(i)] for i in ids[1:])))

    def _pieces(self, text: str, raw: bytes, encoding: Any) -> list[bytes]:
        vocabulary = self.vocabulary_bytes
        pieces = [vocabulary[token_id] for token_id in encoding.ids]
        joined = b"".join(pieces)
        if joined == raw:
            return pieces
        if joined == b" " + raw and pieces[0].startswith(b" "):
            return [pieces[0][1:], *pieces[1:]]
        return _pieces_by_offset(text, encoding.offsets)


def load_tokenizer(source: ModelSource, bos_token: str | None = None) -> TextTokenizer:
    """Load a model's fast tokenizer (``tokenizer.json``).

    Args:
        source: Folder or hub id that holds it.
        bos_token: The token to put first; by default the one that ``tokenizer_config.json`` names.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT (no tokenizer), STATE_CONFLICT (no first token).
    """
    try:
        backend = FastTokenizer.from_file(str(_model_file(source, "tokenizer.json")))
        settings = json.loads(_model_file(source, "tokenizer_config.json").read_text())
    except (OSError, ValueError) as error:
        raise _no_tokenizer(source, error) from error
    named = bos_token or settings.get("bos_token")
    token = named.get("content") if isinstance(named, dict) else named
    token_id = backend.token_to_id(token) if token else None
    if token_id is None:
        raise FailedPrecondition(
            f"the tokenizer of {source.location!r} knows no begin-of-sequence token {token!r}; "
            "set bos_token in the registry entry",
            reason="STATE_CONFLICT",
        )
    return TextTokenizer(backend, int(token_id))


def _model_file(source: ModelSource, name: str) -> Path:
    if source.folder is None:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(source.location, name, revision=source.revision))
    path = source.folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    return path


def _no_tokenizer(source: ModelSource, error: Exception) -> FailedPrecondition:
    message = f"tokenizer of {source.location!r} cannot be loaded: {error}"
    return FailedPrecondition(message, reason="ARTIFACT_CORRUPT")


def _check_text(index: int, text: str, limits: TextLimits) -> bytes:
    field = f"texts[{index}]"
    if not text:
        raise InvalidArgument("the text is empty", field=field, reason="TEXT_EMPTY")
    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError as error:
        message = f"character {error.start} cannot be written as UTF-8 ({error.reason})"
        raise InvalidArgument(message, field=field, reason="TEXT_NOT_UNICODE") from error
    if len(raw) > limits.max_text_bytes:
        message = f"{len(raw)} bytes, at most {limits.max_text_bytes} are allowed"
        raise InvalidArgument(message, field=field, reason="TEXT_TOO_LONG")
    return raw


def _pieces_by_offset(text: str, offsets: Sequence[tuple[int, int]]) -> list[bytes]:
    """Bytes by character offsets, for tokenizers that rewrite the text.

    A character spread over several tokens belongs to the first of them; characters that no token
    covers belong to the token after them, and to the last one at the end of the text.
    """
    pieces, position = [], 0
    for _, end in offsets:
        end = max(end, position)
        pieces.append(text[position:end].encode())
        position = end
    if pieces:
        pieces[-1] += text[position:].encode()
    return pieces


def _piece_decoder(backend: FastTokenizer) -> Any:
    """How this tokenizer writes bytes in its vocabulary: byte-level letters, or pieces of text."""
    definition = backend.to_str()
    if '"ByteLevel"' in definition:
        table = _byte_level_table()
        return lambda piece: b"".join(table.get(char, char.encode()) for char in piece)
    return _metaspace_bytes


def _metaspace_bytes(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()


def _byte_level_table() -> dict[str, bytes]:
    """GPT-2's byte-level alphabet: printable bytes stand for themselves, others from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): bytes([byte]) for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    table.update({chr(256 + index): bytes([byte]) for index, byte in enumerate(others)})
    return table

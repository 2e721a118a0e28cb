"""Texts to token rows and back to bytes.

The begin-of-sequence token stands first, unless the SAE was trained without it; nothing else is
added, and names of special tokens inside a text are ordinary text. Whitespace is never stripped.
Every token carries the bytes of the text it stands for, so that the bytes of all tokens, joined,
are the text.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as FastTokenizer

from services.activation.encoder.rows import TokenRow
from services.activation.encoder.sources import ModelSource
from services.activation.encoder.special_tokens import SpecialTokens, read_special_tokens
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
    """One text as tokens. ``ids`` and ``token_bytes`` have the same length."""

    ids: TokenRow
    """Token ids, int64 [n_tokens]."""
    token_bytes: tuple[bytes, ...]
    """The text's bytes under each token; empty for the added first token."""
    prefix_count: int = 1
    """Tokens at the beginning that are no part of the text: 1, or 0 without a first token."""

    @cached_property
    def byte_spans(self) -> tuple[tuple[int, int], ...]:
        """Half-open byte ranges of the text, one per token."""
        ends = np.cumsum([len(piece) for piece in self.token_bytes]).tolist()
        return tuple(
            (end - len(piece), end) for end, piece in zip(ends, self.token_bytes, strict=True)
        )


class TextTokenizer:
    """A Hugging Face fast tokenizer under the numerics contract of this service."""

    def __init__(self, backend: FastTokenizer, special: SpecialTokens) -> None:
        self._backend = FastTokenizer.from_str(backend.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True
        self._special = special
        self.prepend_bos = True

    @property
    def bos_token_id(self) -> int:
        """The token that stands first where :attr:`prepend_bos` says so."""
        return self._special.bos

    @property
    def special_token_ids(self) -> tuple[int, ...]:
        """Begin, end, padding and separator tokens, ascending."""
        return self._special.structural

    @property
    def prefix(self) -> tuple[int, ...]:
        """What is put in front of every row: one token, or none."""
        return (self.bos_token_id,) if self.prepend_bos else ()

    def with_prefix(self, prepend_bos: bool) -> TextTokenizer:
        """The same tokenizer with or without a first token; shares its vocabulary."""
        if prepend_bos == self.prepend_bos:
            return self
        other = copy.copy(self)
        other.__dict__.pop("fingerprint", None)
        other.prepend_bos = prepend_bos
        return other

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids, added tokens included."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the tokenizer's definition and the first token."""
        first = self.bos_token_id if self.prepend_bos else "none"
        definition = f"{self._backend.to_str()}\nbos={first}"
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
        prefix, results = self.prefix, []
        for index, encoding in enumerate(encodings):
            count = len(prefix) + len(encoding.ids)
            if count > limits.max_tokens:
                raise InvalidArgument(
                    f"{count} tokens, at most {limits.max_tokens} are allowed",
                    field=f"texts[{first_index + index}]",
                    reason="TEXT_TOO_LONG",
                )
            pieces = self._pieces(texts[index], raw[index], encoding)
            ids = np.array([*prefix, *encoding.ids], dtype=np.int64)
            results.append(TokenizedText(ids, (*(b"" for _ in prefix), *pieces), len(prefix)))
        return results

    def content_ids(self, texts: Sequence[str]) -> list[TokenRow]:
        """Token ids of texts of any length, without the first token; for corpora."""
        encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def describe_ids(self, ids: TokenRow) -> TokenizedText:
        """Token ids of a text, the first token put in front, with each token's own bytes."""
        vocabulary, prefix = self.vocabulary_bytes, self.prefix
        pieces = (*(b"" for _ in prefix), *(vocabulary[int(i)] for i in ids))
        row = np.array([*prefix, *ids], dtype=np.int64)
        return TokenizedText(row, pieces, len(prefix))

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
        bos_token: The token to put first; by default the one that the model's files name, see
            :mod:`services.activation.encoder.special_tokens`.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT (no tokenizer), STATE_CONFLICT (no first token).
    """
    try:
        backend = FastTokenizer.from_file(str(_model_file(source, "tokenizer.json")))
        special = read_special_tokens(lambda name: _model_file(source, name), backend, bos_token)
    except (OSError, ValueError) as error:
        raise _no_tokenizer(source, error) from error
    except Exception as error:
        if type(error) is Exception:  # what tokenizers raises for a garbled definition
            raise _no_tokenizer(source, error) from error
        raise
    return TextTokenizer(backend, special)


def _model_file(source: ModelSource, name: str) -> Path:
    if source.folder is None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            return Path(hf_hub_download(source.location, name, revision=source.revision))
        except EntryNotFoundError as error:
            raise FileNotFoundError(f"{name} is missing in {source.location}") from error
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

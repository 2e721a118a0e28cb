"""Which special tokens a model's files name.

The begin-of-sequence token is the one the tokenizer names. Where it names none (Qwen), its end
token stands in, as in TransformerLens; where it names neither (GPT-2), the ids of the model's
configuration count. The registry's ``bos_token`` outranks all of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as FastTokenizer

from services.common.errors import FailedPrecondition

ReadFile = Callable[[str], Path]
"""Finds a file of the model by its name; raises FileNotFoundError where there is none."""

_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json")
_STRUCTURAL = ("bos_token", "eos_token", "pad_token", "sep_token")


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of a tokenizer's special tokens."""

    bos: int
    """What stands first in a row."""
    structural: tuple[int, ...]
    """Begin, end, padding and separator, ascending; tokens of chat templates are not among them.
    SAELens leaves these out of training with ``exclude_special_tokens``."""


def read_special_tokens(
    read: ReadFile, backend: FastTokenizer, bos_token: str | None
) -> SpecialTokens:
    """The special tokens of one model.

    Args:
        read: Finds the model's files.
        backend: Its tokenizer.
        bos_token: The registry's word on the first token.

    Raises:
        FailedPrecondition: STATE_CONFLICT where no first token is named, or the tokenizer does
            not know the one that is; ARTIFACT_CORRUPT where a file is garbled.
    """
    ids = {name: i for name, i in _named_ids(read, backend).items() if i is not None}
    configured = _read_object(read, "config.json")
    for name in ("bos_token", "eos_token"):
        value = configured.get(f"{name}_id")
        first = value[0] if isinstance(value, list) and value else value
        if not {"bos_token", "eos_token"} & set(ids) and isinstance(first, int):
            ids[f"configured {name}"] = first
    bos = backend.token_to_id(bos_token) if bos_token else None
    order = ("bos_token", "eos_token", "configured bos_token", "configured eos_token")
    if bos_token is None:
        bos = next((ids[name] for name in order if name in ids), None)
    if bos is None:
        raise FailedPrecondition(
            f"the tokenizer knows no begin-of-sequence token {bos_token or ''!r}; "
            "set bos_token in the registry entry",
            reason="STATE_CONFLICT",
        )
    return SpecialTokens(bos, tuple(sorted({bos, *ids.values()})))


def _named_ids(read: ReadFile, backend: FastTokenizer) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for file in _TOKENIZER_FILES:
        settings = _read_object(read, file)
        for name in _STRUCTURAL:
            token = settings.get(name)
            text = token.get("content") if isinstance(token, dict) else token
            if found.get(name) is None and isinstance(text, str):
                found[name] = backend.token_to_id(text)
    return found


def _read_object(read: ReadFile, name: str) -> Mapping[str, Any]:
    try:
        path = read(name)
    except FileNotFoundError:  # each is optional; together they name a first token or are refused
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FailedPrecondition(f"{path}: {error}", reason="ARTIFACT_CORRUPT") from error
    return value if isinstance(value, dict) else {}

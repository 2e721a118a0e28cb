"""From request messages to token rows: every limit is checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from saexplain.activation.v1 import activation_pb2 as pb
from services.activation.encoder.tokenizer import TextLimits, TextTokenizer, TokenizedText
from services.common.errors import InvalidArgument


def tokenize_inputs(
    inputs: Sequence[pb.TextInput], tokenizer: TextTokenizer, limits: TextLimits, max_texts: int
) -> list[TokenizedText]:
    """Token rows of texts and of token ids, in the order of the request.

    Raises:
        InvalidArgument: TOO_MANY_ITEMS, TEXT_EMPTY, TEXT_NOT_UNICODE, TEXT_TOO_LONG,
            FIELD_INVALID; the field names the text.
    """
    _check_count(len(inputs), max_texts, "texts")
    tokenized = []
    for index, item in enumerate(inputs):
        kind = item.WhichOneof("input")
        if kind == "text":
            tokenized.append(tokenizer.tokenize([item.text], limits, first_index=index)[0])
        elif kind == "token_ids":
            tokenized.append(_from_ids(index, item.token_ids.ids, tokenizer, limits))
        else:
            raise InvalidArgument("neither text nor token_ids is set", f"texts[{index}]")
    return tokenized


def check_features(features: Sequence[int], feature_count: int, max_features: int) -> list[int]:
    """Feature indices as they were given.

    Raises:
        InvalidArgument: TOO_MANY_ITEMS, FEATURE_OUT_OF_RANGE, FIELD_INVALID for a repeat.
    """
    _check_count(len(features), max_features, "feature_indices")
    seen: set[int] = set()
    for place, feature in enumerate(features):
        field = f"feature_indices[{place}]"
        if not 0 <= feature < feature_count:
            message = f"feature {feature} is not in [0, {feature_count})"
            raise InvalidArgument(message, field, "FEATURE_OUT_OF_RANGE")
        if feature in seen:
            raise InvalidArgument(f"feature {feature} is repeated", field)
        seen.add(feature)
    return list(features)


def check_token_ids(
    token_ids: Sequence[int], vocabulary_size: int, max_count: int, field: str = "token_ids"
) -> list[int]:
    """Vocabulary ids as they were given. InvalidArgument: TOO_MANY_ITEMS, FIELD_INVALID."""
    _check_count(len(token_ids), max_count, field)
    for place, token_id in enumerate(token_ids):
        if not 0 <= token_id < vocabulary_size:
            message = f"token {token_id} is not in [0, {vocabulary_size})"
            raise InvalidArgument(message, f"{field}[{place}]")
    return list(token_ids)


def check_range(value: int, low: int, high: int, field: str) -> int:
    """``value`` if it is in [low, high]. InvalidArgument otherwise."""
    if not low <= value <= high:
        raise InvalidArgument(f"{value} is not in [{low}, {high}]", field)
    return value


def pages(texts: Sequence[TokenizedText], token_count: int) -> Iterator[range]:
    """Runs of texts with about ``token_count`` tokens each, at least one text."""
    start = tokens = 0
    for index, text in enumerate(texts):
        if index > start and tokens + len(text.ids) > token_count:
            yield range(start, index)
            start, tokens = index, 0
        tokens += len(text.ids)
    yield range(start, len(texts))


def _from_ids(
    index: int, ids: Sequence[int], tokenizer: TextTokenizer, limits: TextLimits
) -> TokenizedText:
    field = f"texts[{index}].token_ids"
    if not ids:
        raise InvalidArgument("there is no token id", field, "TEXT_EMPTY")
    count = len(tokenizer.prefix) + len(ids)
    if count > limits.max_tokens:
        message = f"{count} tokens, at most {limits.max_tokens} are allowed"
        raise InvalidArgument(message, field, "TEXT_TOO_LONG")
    check_token_ids(ids, tokenizer.vocabulary_size, len(ids), f"{field}.ids")
    return tokenizer.describe_ids(np.array(ids, dtype=np.int64))


def _check_count(count: int, max_count: int, field: str) -> None:
    message = f"{count} items, between 1 and {max_count} are allowed"
    if count < 1:
        raise InvalidArgument(message, field)
    if count > max_count:
        raise InvalidArgument(message, field, "TOO_MANY_ITEMS")

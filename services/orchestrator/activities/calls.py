"""Calls of other services as activities make them: with the activity's own deadline and
with typed errors."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from saexplain.activation.v1 import activation_pb2
from services.common.errors import InvalidArgument
from services.common.grpc_client import rpc_errors
from services.orchestrator.activity_shell import remaining_seconds
from services.orchestrator.clients import Services

_R = TypeVar("_R")
_TEXT_FIELD = re.compile(r"texts\[(\d+)\]")
_MOST_REFUSALS = 16


async def unary(method: Callable[..., Awaitable[_R]], request: Any) -> _R:
    """One call; its failure is the error that the service raised."""
    async with rpc_errors():
        return await method(request, timeout=remaining_seconds())


async def encode(
    services: Services,
    sae: str,
    texts: Sequence[activation_pb2.TextInput],
    feature_indices: Sequence[int],
) -> tuple[dict[int, activation_pb2.EncodedText], str]:
    """Encodes texts in one batch. A text that the service refuses is left out of the
    answer and the others are sent again: one bad probe does not cost a round.

    Returns:
        Encoded texts by index in `texts`, and the backend that computed them.

    Raises:
        InvalidArgument: the request is refused for another reason than single texts, or
            for too many of them.
    """
    kept = list(range(len(texts)))
    for _ in range(_MOST_REFUSALS):
        request = activation_pb2.EncodeRequest(
            sae=sae, texts=[texts[i] for i in kept], feature_indices=feature_indices
        )
        if not kept:
            return {}, ""
        try:
            pages, backend = await _encode_once(services, request)
        except InvalidArgument as error:
            refused = _refused_texts(error)
            if not refused:
                raise
            kept = [index for position, index in enumerate(kept) if position not in refused]
        else:
            return {kept[encoded.text_index]: encoded for encoded in pages}, backend
    raise InvalidArgument(f"more than {_MOST_REFUSALS} rounds of refused texts", "texts")


async def _encode_once(
    services: Services, request: activation_pb2.EncodeRequest
) -> tuple[list[activation_pb2.EncodedText], str]:
    texts: list[activation_pb2.EncodedText] = []
    backend = ""
    async with rpc_errors():
        async for page in services.activation.Encode(request, timeout=remaining_seconds()):
            texts.extend(page.texts)
            backend = page.backend or backend
    return texts, backend


def _refused_texts(error: InvalidArgument) -> set[int]:
    matches = [_TEXT_FIELD.match(violation.field) for violation in error.violations]
    return {int(match[1]) for match in matches if match}

"""The Temporal client that API, worker and tests share: records as compact JSON, the
call's context in the header."""

from __future__ import annotations

import asyncio

import structlog
from temporalio.client import Client
from temporalio.contrib.pydantic import PydanticPayloadConverter, ToJsonOptions
from temporalio.converter import DataConverter

from services.common.errors import Unavailable
from services.orchestrator.context_propagation import ContextClientInterceptor

_log = structlog.get_logger(__name__)
_RETRY_SECONDS = 0.5


class CompactPayloadConverter(PydanticPayloadConverter):
    """Leaves unset fields out, which keeps histories small."""

    def __init__(self) -> None:
        """Without arguments, as Temporal asks of a converter class."""
        super().__init__(ToJsonOptions(exclude_unset=True))


DATA_CONVERTER = DataConverter(payload_converter_class=CompactPayloadConverter)


async def connect(address: str, namespace: str, wait_seconds: float) -> Client:
    """A connected client; waits for a server that is still starting.

    Raises:
        Unavailable: no server answered in time.
    """
    deadline = asyncio.get_running_loop().time() + wait_seconds
    while True:
        try:
            return await Client.connect(
                address,
                namespace=namespace,
                data_converter=DATA_CONVERTER,
                interceptors=[ContextClientInterceptor()],
            )
        except RuntimeError as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise Unavailable(f"Temporal at {address} does not answer") from error
            _log.info("waiting_for_temporal", address=address)
            await asyncio.sleep(_RETRY_SECONDS)

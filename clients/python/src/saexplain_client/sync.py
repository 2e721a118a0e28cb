"""The blocking client: a facade that runs the asynchronous one on a thread of its own."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar, cast

import grpc

from saexplain_client.client import AsyncSaexplainClient

P = ParamSpec("P")
R = TypeVar("R")


def _blocking(
    method: Callable[Concatenate[AsyncSaexplainClient, P], Awaitable[R]],
) -> Callable[Concatenate[SaexplainClient, P], R]:
    """The method as one that returns its result."""

    def call(self: SaexplainClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(method(self._client, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


def _iterating(
    method: Callable[Concatenate[AsyncSaexplainClient, P], AsyncIterator[R]],
) -> Callable[Concatenate[SaexplainClient, P], Iterator[R]]:
    """The method as one that returns a plain iterator."""

    def call(self: SaexplainClient, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        items = cast("AsyncGenerator[R, None]", method(self._client, *args, **kwargs))
        end = cast("R", object())
        try:
            while (item := self._run(anext(items, end))) is not end:
                yield item
        finally:
            self._run(items.aclose())

    functools.update_wrapper(call, method)
    return call


class SaexplainClient:
    """The methods of `AsyncSaexplainClient`, blocking; arguments and errors are its own.

    Use it as a context manager, or call `close`: it holds a thread. Any thread may call.
    """

    def __init__(
        self,
        address: str,
        *,
        project: str = "default",
        timeout: float = 60.0,
        reconnects: int = 8,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="saexplain-client", daemon=True
        )
        self._thread.start()

        async def connect() -> AsyncSaexplainClient:
            return AsyncSaexplainClient(
                address,
                project=project,
                timeout=timeout,
                reconnects=reconnects,
                credentials=credentials,
            )

        try:
            # A channel belongs to the loop that it is made in.
            self._client = self._run(connect())
        except BaseException:
            self._stop_loop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection and ends the thread. Safe to repeat."""
        if self._loop.is_closed():
            return
        try:
            self._run(self._client.close())
        finally:
            self._stop_loop()

    create_explanation = _blocking(AsyncSaexplainClient.create_explanation)
    score_explanation = _blocking(AsyncSaexplainClient.score_explanation)
    list_features = _iterating(AsyncSaexplainClient.list_features)
    get_explanation = _blocking(AsyncSaexplainClient.get_explanation)
    list_explanations = _iterating(AsyncSaexplainClient.list_explanations)
    watch_explanation = _iterating(AsyncSaexplainClient.watch_explanation)
    wait = _blocking(AsyncSaexplainClient.wait)
    cancel_explanation = _blocking(AsyncSaexplainClient.cancel_explanation)
    get_dossier = _blocking(AsyncSaexplainClient.get_dossier)
    create_index = _blocking(AsyncSaexplainClient.create_index)
    get_index = _blocking(AsyncSaexplainClient.get_index)
    list_indexes = _iterating(AsyncSaexplainClient.list_indexes)
    cancel_index = _blocking(AsyncSaexplainClient.cancel_index)

    def _run(self, awaitable: Awaitable[R]) -> R:
        async def body() -> R:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(body(), self._loop).result()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

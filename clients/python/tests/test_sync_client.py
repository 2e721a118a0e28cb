"""The blocking facade: same methods, no event loop for the caller to know of."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator

import pytest

from saexplain_client import AsyncSaexplainClient, SaexplainClient, SaexplainClientError


@pytest.fixture
def address(fake_service) -> Iterator[str]:
    """A server on a thread of its own, as a blocking caller would meet it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    serving = fake_service(events_per_stream=2).serving()
    yield asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result()
    asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def public(cls: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(cls, callable) if not name.startswith("_")}


def test_both_clients_have_the_same_methods() -> None:
    """Guards against an RPC that only one of them got."""
    assert public(SaexplainClient) == public(AsyncSaexplainClient)


def test_a_run_is_created_followed_and_listed_without_await(address: str) -> None:
    """The facade has to turn iterators and coroutines alike."""
    with SaexplainClient(address) as client:
        run = client.create_explanation("saes/demo/features/3", "lexical")
        assert [e.sequence for e in client.watch_explanation(run.name)] == [1, 2, 3, 4]
        assert len(list(client.list_explanations(page_size=2))) == 5


def test_leaving_an_iteration_early_leaves_a_usable_client(address: str, fake_service) -> None:
    """A stream left open would hold the connection."""
    with SaexplainClient(address) as client:
        for event in client.watch_explanation(fake_service.NAME):
            assert event.sequence == 1
            break
        assert client.get_explanation(fake_service.NAME).name == fake_service.NAME


def test_errors_come_through_unchanged_and_closing_ends_the_thread(address: str) -> None:
    """A wrapped error would hide its reason; a living thread would keep the process."""
    client = SaexplainClient(address)
    with pytest.raises(SaexplainClientError) as caught:
        client.get_explanation("projects/default/explanations/none")
    assert caught.value.reason == "RESOURCE_NOT_FOUND"
    client.close()
    client.close()
    assert "saexplain-client" not in {thread.name for thread in threading.enumerate()}

"""The client against a real server in this process.

Load-bearing: a watcher that loses its stream sees every event exactly once. Written
without plugins of pytest, so that it also runs in the bare environment with protobuf 5.
"""

from __future__ import annotations

import asyncio

import pytest

from saexplain.explanation.v1 import explanation_pb2 as pb
from saexplain_client import AsyncSaexplainClient, SaexplainClientError


def run(service, body, **options):
    """Runs `body(client)` against `service`."""

    async def main():
        async with (
            service.serving() as address,
            AsyncSaexplainClient(address, **options) as client,
        ):
            return await body(client)

    return asyncio.run(main())


def test_a_request_id_is_made_up_when_absent_and_kept_when_given(fake_service) -> None:
    """A missing id would be refused, a shared one would find somebody else's run."""
    service = fake_service()

    async def body(client):
        for request_id in (None, None, "mine"):
            await client.create_explanation(
                "saes/demo/features/3", "lexical", seed=7, request_id=request_id
            )

    run(service, body)
    first, second, third = service.created
    assert first.request_id
    assert first.request_id != second.request_id
    assert third.request_id == "mine"
    assert (third.parent, third.explainer.explainer, third.seed) == (
        "projects/default",
        "lexical",
        7,
    )


def test_a_lost_stream_is_resumed_and_no_event_is_lost_or_repeated(fake_service) -> None:
    """Guards against starting over, or skipping an event, after UNAVAILABLE."""
    service = fake_service(events_per_stream=1)

    async def body(client):
        return [event.sequence async for event in client.watch_explanation(fake_service.NAME)]

    assert run(service, body) == [1, 2, 3, 4]
    assert service.watched_after == [0, 1, 2, 3]


def test_a_stream_that_ends_before_the_run_does_is_opened_again(fake_service) -> None:
    """A draining server ends streams without an error; the run is not over."""
    service = fake_service(events_per_stream=2, cut_cleanly=True)

    async def body(client):
        return [event.sequence async for event in client.watch_explanation(fake_service.NAME)]

    assert run(service, body) == [1, 2, 3, 4]


def test_watching_behind_the_last_event_of_an_ended_run_ends(fake_service) -> None:
    """Guards against reconnecting for ever to a run that has nothing more to say."""
    service = fake_service()

    async def body(client):
        return [e async for e in client.watch_explanation(fake_service.NAME, after_sequence=4)]

    assert run(service, body) == []


def test_watching_gives_up_after_the_allowed_reconnects(fake_service) -> None:
    """An absent server must not hang a caller."""
    service = fake_service()
    service.refusals_left = 9

    async def body(client):
        return [e async for e in client.watch_explanation(fake_service.NAME)]

    with pytest.raises(SaexplainClientError) as caught:
        run(service, body, reconnects=1)
    assert caught.value.status == "UNAVAILABLE"
    assert len(service.watched_after) == 2


def test_wait_returns_the_ended_run(fake_service) -> None:
    """`wait` must not return the state at its beginning."""

    async def body(client):
        return await client.wait(fake_service.NAME)

    assert run(fake_service(), body).state == pb.RUN_STATE_SUCCEEDED


def test_a_listing_goes_through_all_pages_in_order(fake_service) -> None:
    """Guards against stopping at the first page."""

    async def body(client):
        return [e.name[-2:] async for e in client.list_explanations(page_size=2)]

    assert run(fake_service(), body) == ["e0", "e1", "e2", "e3", "e4"]


def test_the_chunks_of_a_dossier_are_joined(fake_service) -> None:
    """Chunks cut messages anywhere; only the whole parses."""
    service = fake_service()
    service.bundle.dossier.digest = "d" * 50
    service.bundle.run.activation_backend = "triton"

    async def body(client):
        return await client.get_dossier(fake_service.NAME)

    assert run(service, body) == service.bundle


def test_an_error_carries_status_reason_fields_and_delay(fake_service) -> None:
    """Guards against losing the details that say what to do."""

    async def bad_feature(client):
        await client.create_explanation("nonsense", "lexical")

    async def full(client):
        await client.create_index(pb.IndexResource().config)

    with pytest.raises(SaexplainClientError) as caught:
        run(fake_service(), bad_feature)
    error = caught.value
    assert (error.status, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")
    assert [v.field for v in error.violations] == ["feature"]
    assert error.retry_after_seconds is None
    with pytest.raises(SaexplainClientError) as caught:
        run(fake_service(), full)
    assert (caught.value.reason, caught.value.retry_after_seconds) == ("QUEUE_FULL", 2.5)


def test_nobody_listening_is_unavailable_without_a_reason(fake_service) -> None:
    """A reason would claim that saexplain itself had answered."""

    async def main():
        async with AsyncSaexplainClient("127.0.0.1:1", timeout=5) as client:
            await client.get_explanation(fake_service.NAME)

    with pytest.raises(SaexplainClientError) as caught:
        asyncio.run(main())
    assert (caught.value.status, caught.value.reason) == ("UNAVAILABLE", "")


def test_a_project_that_is_no_id_is_refused_at_once() -> None:
    """`projects/x` would become `projects/projects/x`."""
    with pytest.raises(ValueError, match="id of a project"):
        AsyncSaexplainClient("127.0.0.1:1", project="projects/default")

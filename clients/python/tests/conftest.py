"""A real gRPC server with a part of `ExplanationService`, scripted by a test."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from saexplain.explanation.v1 import explanation_pb2 as pb
from saexplain.explanation.v1.explanation_pb2_grpc import (
    ExplanationServiceServicer,
    add_ExplanationServiceServicer_to_server,
)


def status(
    code: grpc.StatusCode,
    reason: str,
    message: str,
    *,
    field: str = "",
    retry_seconds: float | None = None,
) -> object:
    """A status with details, as the services of saexplain send it."""
    details = [error_details_pb2.ErrorInfo(reason=reason, domain="saexplain")]
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if retry_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(retry_seconds * 1e9))
        details.append(retry)
    packed = []
    for detail in details:
        item = any_pb2.Any()
        item.Pack(detail)
        packed.append(item)
    return rpc_status.to_status(
        status_pb2.Status(code=code.value[0], message=message, details=packed)
    )


class FakeService(ExplanationServiceServicer):
    """Four events, of which a stream gives at most `events_per_stream`; five explanations."""

    NAME = "projects/default/explanations/e1"

    def __init__(self, *, events_per_stream: int = 99, cut_cleanly: bool = False) -> None:
        self.created: list[pb.CreateExplanationRequest] = []
        self.watched_after: list[int] = []
        self.refusals_left = 0
        self.bundle = pb.DossierBundle()
        self._events_per_stream = events_per_stream
        self._cut_cleanly = cut_cleanly

    async def CreateExplanation(self, request, context):
        self.created.append(request)
        if not request.feature.startswith("saes/demo/"):
            await context.abort_with_status(
                status(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "FIELD_INVALID",
                    "is not a feature",
                    field="feature",
                )
            )
        return pb.CreateExplanationResponse(explanation=self._resource())

    async def GetExplanation(self, request, context):
        if request.name != self.NAME:
            await context.abort_with_status(
                status(grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND", "no such explanation")
            )
        return pb.GetExplanationResponse(explanation=self._resource())

    async def ListExplanations(self, request, context):
        begin = int(request.page_token or 0)
        end = min(begin + (request.page_size or 50), 5)
        return pb.ListExplanationsResponse(
            explanations=[
                pb.ExplanationResource(name=f"{request.parent}/explanations/e{i}")
                for i in range(begin, end)
            ],
            next_page_token=str(end) if end < 5 else "",
        )

    async def WatchExplanation(self, request, context):
        self.watched_after.append(request.after_sequence)
        if self.refusals_left:
            self.refusals_left -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")
        begin = request.after_sequence + 1
        for sequence in range(begin, min(begin + self._events_per_stream, 5)):
            state = pb.RUN_STATE_SUCCEEDED if sequence == 4 else pb.RUN_STATE_RUNNING
            event = pb.ExplanationEvent(sequence=sequence, step=f"s{sequence}", state=state)
            yield pb.WatchExplanationResponse(event=event)
        if begin + self._events_per_stream < 5 and not self._cut_cleanly:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "connection lost")

    async def GetDossier(self, request, context):
        data = self.bundle.SerializeToString()
        for begin in range(0, len(data), 7):
            yield pb.GetDossierResponse(chunk=data[begin : begin + 7])

    async def CreateIndex(self, request, context):
        await context.abort_with_status(
            status(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", "too many", retry_seconds=2.5)
        )

    def _resource(self) -> pb.ExplanationResource:
        # Ended once a watcher could have seen the last event.
        seen = self.watched_after and max(self.watched_after) + self._events_per_stream >= 4
        state = pb.RUN_STATE_SUCCEEDED if seen else pb.RUN_STATE_RUNNING
        return pb.ExplanationResource(name=self.NAME, state=state)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serves on a free port; yields the address."""
        server = grpc.aio.server()
        add_ExplanationServiceServicer_to_server(self, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)


@pytest.fixture
def fake_service() -> type[FakeService]:
    """The class, for tests to make as they need it."""
    return FakeService

"""The asynchronous client: a method per RPC of `ExplanationService`, and `wait`."""

from __future__ import annotations

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from saexplain.activation.v1.activation_pb2 import IndexConfig
from saexplain.agent.v1.agent_pb2 import ExplainerOptions
from saexplain.common.v1.feature_pb2 import FeatureFacts, FeatureStratum
from saexplain.explanation.v1 import explanation_pb2 as pb
from saexplain.explanation.v1.dossier_pb2 import Budget
from saexplain.explanation.v1.explanation_pb2_grpc import ExplanationServiceStub
from saexplain.scorer.v1.scorer_pb2 import MethodOptions
from saexplain_client.errors import SaexplainClientError
from saexplain_client.states import is_terminal

MAX_MESSAGE_BYTES = 16 * 2**20
_PROJECT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 5.0


class AsyncSaexplainClient:
    """Talks to one `ExplanationService`, within one project.

    Every method raises `SaexplainClientError`. Use it as a context manager, or call
    `close`. One client serves any number of concurrent calls of one event loop.

    Args:
        address: `host:port` of the orchestrator's API.
        project: id of the project, the part behind `projects/`.
        timeout: seconds that a single call may take. Streams may take longer.
        reconnects: how often in a row `watch` tries again after a lost stream before it
            gives up. An event in between starts the count anew.
        credentials: for TLS; None for a plain connection.
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
        if not _PROJECT.fullmatch(project):
            raise ValueError(f"{project!r} is not the id of a project, such as 'default'")
        self.parent = f"projects/{project}"
        self._timeout = timeout
        self._reconnects = reconnects
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.enable_retries", 0),
        ]
        self._channel = (
            grpc.aio.insecure_channel(address, options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options)
        )
        # The generated stubs are typed for blocking channels.
        self._stub: Any = ExplanationServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls in flight end as CANCELLED."""
        await self._channel.close()

    async def create_explanation(
        self,
        feature: str,
        explainer: str | ExplainerOptions,
        *,
        methods: Sequence[MethodOptions] = (),
        budget: Budget | None = None,
        index: str = "",
        seed: int = 0,
        request_id: str | None = None,
    ) -> pb.ExplanationResource:
        """Starts a durable explanation, or finds the one started under `request_id`.

        Args:
            feature: `saes/{sae}/features/{index}`.
            explainer: `lexical`, `sage`, or options in full.
            methods: methods to score with; empty for all that can be run.
            budget: what may be spent; None for the defaults.
            index: name of the index to take evidence from; empty for the SAE's default.
            seed: seed of every random choice.
            request_id: makes a repeat harmless. A fresh one where absent: then every
                call starts another run.
        """
        options = ExplainerOptions(explainer=explainer) if isinstance(explainer, str) else explainer
        request = pb.CreateExplanationRequest(
            parent=self.parent,
            request_id=uuid.uuid4().hex if request_id is None else request_id,
            feature=feature,
            explainer=options,
            methods=methods,
            budget=budget,
            index=index,
            seed=seed,
        )
        response: pb.CreateExplanationResponse = await self._call(
            self._stub.CreateExplanation, request
        )
        return response.explanation

    async def score_explanation(
        self,
        subject: str | pb.GivenExplanation,
        *,
        methods: Sequence[MethodOptions] = (),
        budget: Budget | None = None,
        index: str = "",
        seed: int = 0,
        request_id: str | None = None,
    ) -> pb.ExplanationResource:
        """Starts a run that scores an explanation which is there already, or finds the one
        started under `request_id`. What is scored is never changed.

        Args:
            subject: `projects/{project}/explanations/{explanation}`, or one from elsewhere.
            methods: methods to score with; empty for those that run by default.
            budget: what judging may spend; None for the defaults.
            index: name of the index; empty for the explanation's own, else the default.
            seed: of sampling and bootstrap.
            request_id: makes a repeat harmless. A fresh one where absent.
        """
        request = pb.ScoreExplanationRequest(
            parent=self.parent,
            request_id=uuid.uuid4().hex if request_id is None else request_id,
            methods=methods,
            budget=budget,
            index=index,
            seed=seed,
        )
        if isinstance(subject, str):
            request.explanation = subject
        else:
            request.given.CopyFrom(subject)
        response: pb.ScoreExplanationResponse = await self._call(
            self._stub.ScoreExplanation, request
        )
        return response.explanation

    async def list_features(
        self,
        sae: str,
        *,
        index: str = "",
        strata: Sequence[FeatureStratum.ValueType] = (),
    ) -> AsyncIterator[FeatureFacts]:
        """The features of a SAE by index, rising; only those of some strata where given."""

        def page(token: str) -> Awaitable[Any]:
            request = pb.ListFeaturesRequest(
                sae=sae, index=index, strata=strata, page_size=1000, page_token=token
            )
            return self._call(self._stub.ListFeatures, request)

        async for response in _pages(page):
            for feature in response.features:
                yield feature

    async def get_explanation(self, name: str) -> pb.ExplanationResource:
        """The explanation `projects/{project}/explanations/{explanation}` as it stands."""
        request = pb.GetExplanationRequest(name=name)
        response: pb.GetExplanationResponse = await self._call(self._stub.GetExplanation, request)
        return response.explanation

    async def list_explanations(
        self,
        *,
        sae: str = "",
        state: pb.RunState.ValueType = pb.RUN_STATE_UNSPECIFIED,
        page_size: int = 0,
    ) -> AsyncIterator[pb.ExplanationResource]:
        """The project's explanations, newest first; pages are fetched as they are needed."""

        def page(token: str) -> Awaitable[Any]:
            request = pb.ListExplanationsRequest(
                parent=self.parent, sae=sae, state=state, page_size=page_size, page_token=token
            )
            return self._call(self._stub.ListExplanations, request)

        async for response in _pages(page):
            for explanation in response.explanations:
                yield explanation

    async def watch_explanation(
        self, name: str, *, after_sequence: int = 0
    ) -> AsyncIterator[pb.ExplanationEvent]:
        """What happens to an explanation until it ends, every event once and in order.

        A stream that is lost (UNAVAILABLE) or ends too early is opened again behind the
        last event that arrived.
        """
        sequence, failures = after_sequence, 0
        while True:
            try:
                async for event in self._events(name, sequence):
                    sequence, failures = event.sequence, 0
                    yield event
                    if is_terminal(event.state):
                        return
                if is_terminal((await self.get_explanation(name)).state):
                    return
            except SaexplainClientError as error:
                if error.status != "UNAVAILABLE" or failures >= self._reconnects:
                    raise
            # Doubles from one failure to the next.
            delay = _FIRST_DELAY_SECONDS * 2**failures
            failures += 1
            await asyncio.sleep(min(delay, _LONGEST_DELAY_SECONDS))

    async def wait(self, name: str) -> pb.ExplanationResource:
        """Waits until an explanation has ended, however it did, and returns it."""
        async for _ in self.watch_explanation(name):
            pass
        return await self.get_explanation(name)

    async def cancel_explanation(self, name: str) -> pb.ExplanationResource:
        """Asks a run to stop and returns it as it stands; harmless on one that ended."""
        request = pb.CancelExplanationRequest(name=name)
        response: pb.CancelExplanationResponse = await self._call(
            self._stub.CancelExplanation, request
        )
        return response.explanation

    async def get_dossier(self, name: str) -> pb.DossierBundle:
        """The dossier of an explanation that ended well, with its run record."""
        request = pb.GetDossierRequest(name=name)
        with _client_errors():
            stream = self._stub.GetDossier(request, timeout=self._timeout)
            chunks = [response.chunk async for response in stream]
        return pb.DossierBundle.FromString(b"".join(chunks))

    async def create_index(self, config: IndexConfig, *, request_id: str = "") -> pb.IndexResource:
        """Starts building an index, or finds the one that this configuration and id mean.

        Args:
            config: what to build.
            request_id: another one reads the corpus again.
        """
        request = pb.CreateIndexRequest(parent=self.parent, config=config, request_id=request_id)
        response: pb.CreateIndexResponse = await self._call(self._stub.CreateIndex, request)
        return response.index

    async def get_index(self, name: str) -> pb.IndexResource:
        """The index `projects/{project}/indexes/{index}` with its progress."""
        request = pb.GetIndexRequest(name=name)
        response: pb.GetIndexResponse = await self._call(self._stub.GetIndex, request)
        return response.index

    async def list_indexes(self, *, page_size: int = 0) -> AsyncIterator[pb.IndexResource]:
        """The project's indexes, newest first; pages are fetched as they are needed."""

        def page(token: str) -> Awaitable[Any]:
            request = pb.ListIndexesRequest(
                parent=self.parent, page_size=page_size, page_token=token
            )
            return self._call(self._stub.ListIndexes, request)

        async for response in _pages(page):
            for index in response.indexes:
                yield index

    async def cancel_index(self, name: str) -> pb.IndexResource:
        """Asks a build to stop and returns it as it stands; finished shards are kept."""
        request = pb.CancelIndexRequest(name=name)
        response: pb.CancelIndexResponse = await self._call(self._stub.CancelIndex, request)
        return response.index

    async def _call(self, method: Any, request: Any) -> Any:
        with _client_errors():
            return await method(request, timeout=self._timeout)

    async def _events(self, name: str, after: int) -> AsyncIterator[pb.ExplanationEvent]:
        request = pb.WatchExplanationRequest(name=name, after_sequence=after)
        call = self._stub.WatchExplanation(request)
        try:
            with _client_errors():
                async for response in call:
                    yield response.event
        finally:
            call.cancel()


@contextlib.contextmanager
def _client_errors() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise SaexplainClientError.from_rpc_error(error) from error


async def _pages(page: Callable[[str], Awaitable[Any]]) -> AsyncIterator[Any]:
    token = ""
    while True:
        response = await page(token)
        yield response
        token = response.next_page_token
        if not token:
            return

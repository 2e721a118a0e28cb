"""An orchestrator for the command line to talk to: a real gRPC server, made-up runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from saexplain.common.v1.feature_pb2 import (
    FEATURE_STRATUM_DEAD,
    FEATURE_STRATUM_DENSE,
    FEATURE_STRATUM_ELIGIBLE,
    FeatureFacts,
)
from saexplain.explanation.v1 import explanation_pb2 as pb
from saexplain.explanation.v1.explanation_pb2_grpc import (
    ExplanationServiceServicer,
    add_ExplanationServiceServicer_to_server,
)
from services.cli.__main__ import main
from services.cli.testing import DossierBuilder, FeatureSketch
from services.common.errors import InvalidArgument, NotFound
from services.common.testing import serving

HOSTILE = "[bold red]not markup[/] \x1b[31m"


class FakeOrchestrator(ExplanationServiceServicer):
    """Explains every feature at once. 666 fails, 5000 and above are out of range. `sage` does
    a little better than `lexical`, by a different amount on each feature."""

    def __init__(self) -> None:
        self.requests: list[pb.CreateExplanationRequest] = []
        self.score_requests: list[pb.ScoreExplanationRequest] = []
        self.index_polls = 0

    async def CreateExplanation(self, request: Any, context: Any) -> Any:
        index = int(request.feature.rpartition("/")[2])
        if index >= 5000:
            raise InvalidArgument(
                "index is not below 4608", "feature", reason="FEATURE_OUT_OF_RANGE"
            )
        self.requests.append(request)
        suffix = "" if request.explainer.explainer == "lexical" else "-sage"
        name = f"projects/default/explanations/e{index}{suffix}"
        return pb.CreateExplanationResponse(
            explanation=pb.ExplanationResource(name=name, state=pb.RUN_STATE_PENDING)
        )

    async def ScoreExplanation(self, request: Any, context: Any) -> Any:
        self.score_requests.append(request)
        feature = request.given.feature or f"features/{_index_of(request.explanation)}"
        name = f"projects/default/explanations/e{feature.rpartition('/')[2]}"
        return pb.ScoreExplanationResponse(
            explanation=pb.ExplanationResource(name=name, state=pb.RUN_STATE_PENDING)
        )

    async def ListFeatures(self, request: Any, context: Any) -> Any:
        strata = [FEATURE_STRATUM_ELIGIBLE, FEATURE_STRATUM_DENSE, FEATURE_STRATUM_DEAD]
        return pb.ListFeaturesResponse(
            features=[
                FeatureFacts(feature=f"{request.sae}/features/{i}", stratum=strata[i % 3])
                for i in range(30)
            ]
        )

    async def GetExplanation(self, request: Any, context: Any) -> Any:
        return pb.GetExplanationResponse(explanation=_resource(request.name))

    async def ListExplanations(self, request: Any, context: Any) -> Any:
        names = [f"{request.parent}/explanations/e{i}" for i in (3, 2, 1)]
        return pb.ListExplanationsResponse(explanations=map(_resource, names))

    async def WatchExplanation(self, request: Any, context: Any) -> Any:
        hypothesis = pb.HypothesisSummary(id="h1", statement="almost", status="SUPPORTED")
        steps = ("gather", "design_probes", "score.corpus", "end")
        for sequence, step in enumerate(steps, 1):
            ended = _resource(request.name).state
            event = pb.ExplanationEvent(
                sequence=sequence,
                step=step,
                round=1,
                state=ended if step == "end" else pb.RUN_STATE_RUNNING,
                message=f"did {step}",
                hypotheses=[hypothesis],
                probe_count=12,
            )
            yield pb.WatchExplanationResponse(event=event)

    async def CancelExplanation(self, request: Any, context: Any) -> Any:
        return pb.CancelExplanationResponse(explanation=_resource(request.name))

    async def GetDossier(self, request: Any, context: Any) -> Any:
        yield pb.GetDossierResponse(chunk=_bundle(request.name).SerializeToString())

    async def CreateIndex(self, request: Any, context: Any) -> Any:
        index = pb.IndexResource(
            name="projects/default/indexes/0a1b2c3d4e5f6071",
            config=request.config,
            state=pb.RUN_STATE_PENDING,
        )
        return pb.CreateIndexResponse(index=index)

    async def GetIndex(self, request: Any, context: Any) -> Any:
        self.index_polls += 1
        index = pb.IndexResource(
            name=request.name,
            state=pb.RUN_STATE_RUNNING,
            done_token_count=500,
            total_token_count=1000,
            tokens_per_second=700,
        )
        if self.index_polls > 1:
            index.state = pb.RUN_STATE_SUCCEEDED
            index.done_token_count = 1000
            index.summary.document_count = 60
        return pb.GetIndexResponse(index=index)

    async def ListIndexes(self, request: Any, context: Any) -> Any:
        return pb.ListIndexesResponse()


def _index_of(name: str) -> int:
    ending = name.rpartition("/e")[2].removesuffix("-sage")
    if not ending.isdigit():
        raise NotFound(f"no explanation {name}")
    return int(ending)


def _bundle(name: str) -> pb.DossierBundle:
    sketch = FeatureSketch(index=_index_of(name), label=f"not quite {HOSTILE}")
    if not name.endswith("-sage"):
        return DossierBuilder(sketch).build()
    bundle = DossierBuilder(sketch, explainer="sage").build()
    bundle.dossier.results[0].scores[0].value += 0.02 * (1 + sketch.index % 5)
    return bundle


def _resource(name: str) -> pb.ExplanationResource:
    dossier = _bundle(name).dossier
    resource = pb.ExplanationResource(name=name, feature=dossier.facts.feature)
    if _index_of(name) == 666:
        resource.state = pb.RUN_STATE_FAILED
        resource.failure.reason = "LLM_UNAVAILABLE"
        resource.failure.step = "propose_hypotheses"
        resource.failure.message = "the provider does not answer"
        return resource
    resource.state = pb.RUN_STATE_SUCCEEDED
    resource.explanation.CopyFrom(dossier.explanation)
    resource.scores.extend(score for result in dossier.results for score in result.scores)
    return resource


@pytest.fixture
def orchestrator() -> Iterator[FakeOrchestrator]:
    """The service, running in a thread of its own; `address` says where."""
    service = FakeOrchestrator()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def register(server: Any, health: Any) -> None:
        add_ExplanationServiceServicer_to_server(service, server)

    running = serving(register)
    address = asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result(timeout=30)
    service.address = address  # type: ignore[attr-defined]
    try:
        # The server is in this process: its log must not look like the command's output.
        with structlog.testing.capture_logs():
            yield service
    finally:
        asyncio.run_coroutine_threadsafe(running.__aexit__(None, None, None), loop).result(
            timeout=30
        )
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def saexplain(orchestrator: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`main` against the fake orchestrator."""
    monkeypatch.setenv("SAEXPLAIN_ADDRESS", orchestrator.address)
    monkeypatch.setenv("SAEXPLAIN_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: main([str(a) for a in arguments])

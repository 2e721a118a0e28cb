"""Puts the service together from its settings."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import structlog
from prometheus_client import CollectorRegistry

from saexplain.activation.v1 import activation_pb2, activation_pb2_grpc
from services.activation.annotations.library import AnnotationLibrary
from services.activation.cache import CachedEngine, RowCache
from services.activation.catalog import Catalog
from services.activation.encoder.tokenizer import TextTokenizer, load_tokenizer
from services.activation.engine import Engine
from services.activation.facts_source import FactsSource
from services.activation.indexes import IndexLibrary
from services.activation.listing import FeatureLister
from services.activation.measures import PassMetrics, watch_cache, watch_queue, watch_store
from services.activation.registry import Registry, load_registry
from services.activation.server import ActivationServicer
from services.activation.settings import ActivationSettings
from services.activation.vocabulary.prober import VocabularyProber
from services.activation.vocabulary.source import ContinuationSource, RowsOfBackend
from services.common.errors import SaexplainError
from services.common.grpc_server import HealthReporter, run_server

if TYPE_CHECKING:  # torch, which a front that asks Triton does without
    from services.activation.annotating import IndexAnnotator
    from services.activation.encoder.loaded import SaeLoader
    from services.activation.indexer import IndexerServicer
    from services.activation.indexing import IndexBuilder
    from services.activation.loading import RegistryLoader

_Sources = tuple[Engine, FactsSource, ContinuationSource]
_log = structlog.get_logger(__name__)

_RETRY_SECONDS = 2.0
"""Between two tries to load what has to be there before the service says SERVING."""

SERVICE = activation_pb2.DESCRIPTOR.services_by_name["ActivationService"].full_name


@dataclass(frozen=True)
class Parts:
    """What a front is made of; tests build servers from it."""

    servicer: ActivationServicer
    catalog: Catalog
    engine: Engine


async def run(settings: ActivationSettings, role: str) -> None:
    """Serve as ``front`` or ``indexer`` until SIGTERM."""
    registry = load_registry(settings.registry)
    if role == "indexer":
        await _run_indexer(settings, registry)
        return
    metrics = CollectorRegistry()
    async with front(settings, registry, metrics) as parts:
        await _run_front(settings, registry, parts, metrics)


@contextlib.asynccontextmanager
async def front(
    settings: ActivationSettings, registry: Registry, metrics: CollectorRegistry | None = None
) -> AsyncIterator[Parts]:
    """The front's parts, closed at the end. What they count goes to ``metrics``."""
    metrics = metrics or CollectorRegistry()
    choose = _triton if settings.backend == "triton" else _in_process
    engine, facts, continuations = choose(settings, registry, metrics)
    if settings.row_cache_bytes:
        cache = RowCache(settings.row_cache_bytes)
        watch_cache(metrics, cache)
        engine = CachedEngine(engine, cache)
    library = IndexLibrary(settings.index_dir)
    catalog = Catalog(registry, engine, library, settings.cache_dir, settings.max_text_tokens)
    features = FeatureLister(catalog, annotation_library(settings, registry), facts)
    prober = VocabularyProber(catalog, continuations, settings.probe_limits)
    servicer = ActivationServicer(catalog, engine, facts, features, prober, settings)
    watch_queue(metrics, lambda: servicer.admission.tokens, lambda: servicer.admission.calls)
    try:
        yield Parts(servicer, catalog, engine)
    finally:
        await continuations.close()
        await engine.close()
        await facts.close()


def index_builder(
    settings: ActivationSettings, registry: Registry, loader: SaeLoader | None = None
) -> IndexBuilder:
    """What builds indexes below the settings' folder, with the models in this process."""
    from services.activation.index.corpora.locations import LocationPolicy
    from services.activation.indexing import CorpusLimits, IndexBuilder

    policy = LocationPolicy(settings.corpus_schemes, settings.corpus_folders)
    return IndexBuilder(
        loader or _loader(settings, registry),
        _tokenizers(settings, registry),
        IndexLibrary(settings.index_dir),
        settings.index_dir / ".work",
        time.monotonic,
        CorpusLimits(policy, settings.max_document_bytes),
    )


def index_annotator(
    settings: ActivationSettings,
    registry: Registry,
    library: AnnotationLibrary,
    loader: SaeLoader | None = None,
) -> IndexAnnotator:
    """What makes the annotations of indexes below the settings' folder, with the models in this
    process."""
    from services.activation.annotating import IndexAnnotator

    return IndexAnnotator(
        loader or _loader(settings, registry),
        _tokenizers(settings, registry),
        IndexLibrary(settings.index_dir),
        library,
    )


def annotation_library(settings: ActivationSettings, registry: Registry) -> AnnotationLibrary:
    """Annotations beside the indexes, and those that the registry's indexes come with."""
    shipped = [entry.annotations for entry in registry.saes.values() if entry.annotations]
    return AnnotationLibrary(settings.index_dir, shipped)


def indexer(settings: ActivationSettings, registry: Registry) -> IndexerServicer:
    """The indexer's servicer."""
    from services.activation.indexer import IndexerServicer

    loader = _loader(settings, registry)
    library = annotation_library(settings, registry)
    return IndexerServicer(
        index_builder(settings, registry, loader),
        index_annotator(settings, registry, library, loader),
        time.monotonic,
    )


def _tokenizers(settings: ActivationSettings, registry: Registry) -> Callable[[str], TextTokenizer]:
    """The tokenizer of an SAE's model, by the SAE's id."""

    def load(sae_id: str) -> TextTokenizer:
        model = registry.sae(sae_id).model
        source = registry.model_source(model, settings.cache_dir)
        return load_tokenizer(source, registry.models[model].bos_token)

    return load


async def _run_front(
    settings: ActivationSettings, registry: Registry, parts: Parts, metrics: CollectorRegistry
) -> None:
    preload = to_preload(settings, registry)
    warming: list[asyncio.Task[None]] = []

    async def register(server: grpc.aio.Server, health: HealthReporter) -> None:
        activation_pb2_grpc.add_ActivationServiceServicer_to_server(parts.servicer, server)
        warming.append(asyncio.create_task(_warm(preload, parts.catalog, health)))

    try:
        await run_server(settings, register, [SERVICE], metrics)
    finally:
        for task in warming:
            task.cancel()


def to_preload(settings: ActivationSettings, registry: Registry) -> list[str]:
    """SAEs to load before the service says SERVING.

    Raises:
        NotFound: SAE_NOT_FOUND where the setting names one that the registry does not.
    """
    if settings.preload is None:
        return [min(registry.saes)]
    if settings.preload == ("*",):
        return sorted(registry.saes)
    for sae_id in settings.preload:
        registry.sae(sae_id)
    return list(settings.preload)


async def _warm(preload: Sequence[str], catalog: Catalog, health: HealthReporter) -> None:
    """Load what is asked for first, then say SERVING. What fails stays NOT_SERVING, and is tried
    again: a Triton server may still be starting."""
    missing = list(preload)
    while missing:
        sae_id = missing[0]
        try:
            sae = await catalog.message(sae_id, load=True)
        except SaexplainError as error:
            _log.warning("not_ready", sae=sae_id, reason=error.reason, message=error.message)
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        _log.info("ready", sae=sae_id, index=sae.default_index)
        missing.pop(0)
    await health.set_serving()


async def _run_indexer(settings: ActivationSettings, registry: Registry) -> None:
    servicer = indexer(settings, registry)

    async def register(server: grpc.aio.Server, health: HealthReporter) -> None:
        activation_pb2_grpc.add_ActivationServiceServicer_to_server(servicer, server)
        await health.set_serving()

    await run_server(settings, register, [SERVICE])


def _loader(settings: ActivationSettings, registry: Registry) -> RegistryLoader:
    import torch

    from services.activation.loading import RegistryLoader

    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    return RegistryLoader(
        registry,
        settings.cache_dir,
        settings.device,
        settings.encoder_limits,
        settings.memory_budget_bytes,
    )


def _in_process(
    settings: ActivationSettings, registry: Registry, metrics: CollectorRegistry
) -> _Sources:
    from services.activation.local import LocalEngine, WeightFacts
    from services.activation.vocabulary.local import LocalContinuations

    loader = _loader(settings, registry)
    watch_store(metrics, loader.facts)
    engine = LocalEngine(loader, settings.encoder_limits, PassMetrics(metrics))
    return engine, WeightFacts(loader), LocalContinuations(loader)


def _triton(
    settings: ActivationSettings, registry: Registry, _metrics: CollectorRegistry
) -> _Sources:
    from services.activation.triton.backend import TritonBackend
    from services.activation.triton.facts import TritonFacts
    from services.activation.triton.repository import triton_model_name

    def model_of(sae_id: str) -> str:
        model = registry.sae(sae_id).model
        return triton_model_name(model, settings.device, registry.models[model].compute_dtype)

    backend = TritonBackend(
        settings.triton_address,
        model_of,
        settings.encoder_limits,
        timeout_seconds=settings.triton_timeout_seconds,
        recovery_seconds=settings.triton_recovery_seconds,
    )
    return backend, TritonFacts(backend), RowsOfBackend(backend, "triton", settings.encoder_limits)

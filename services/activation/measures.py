"""What the activation service exports besides its calls; names and meanings: `docs/METRICS.md`.

What others count already is read from them when somebody looks. Free of torch: a front that asks
Triton exports its queue and cache, and Triton's own endpoint what its model did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from services.activation.encoder.batcher import PassFacts
    from services.activation.store import StoreFacts

_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKENS = (64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768)
_PREFIX = "saexplain_activation_"


class Counted(Protocol):
    """What a cache knows of itself."""

    @property
    def hits(self) -> int:
        """Rows found."""
        ...

    @property
    def misses(self) -> int:
        """Rows computed."""
        ...

    @property
    def bytes(self) -> int:
        """Held now."""
        ...


class PassMetrics:
    """An observer of forward passes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(_PREFIX + name, text, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(_PREFIX + name, text, buckets=buckets, registry=registry)

        self._tokens = counter("tokens", "Tokens run through the model")
        self._batch_rows = histogram("batch_rows", "Rows of a forward pass", _ROWS)
        self._batch_tokens = histogram("batch_tokens", "Tokens of a forward pass", _TOKENS)
        self._queue = histogram("queue_seconds", "From a call to its first pass", _SECONDS)
        self._compute = histogram("compute_seconds", "Time of a forward pass", _SECONDS)

    def __call__(self, facts: PassFacts) -> None:
        """One pass has run."""
        self._tokens.inc(facts.tokens)
        self._batch_rows.observe(facts.rows)
        self._batch_tokens.observe(facts.tokens)
        self._compute.observe(facts.seconds)
        for seconds in facts.waited_seconds:
            self._queue.observe(seconds)


class _Asked(Collector):
    """Metrics whose values are asked for at each look."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        return self._collect()


def watch_queue(
    registry: CollectorRegistry, tokens: Callable[[], int], calls: Callable[[], int]
) -> None:
    """Export what is under way."""

    def collect() -> Iterator[Metric]:
        yield _gauge("queued_tokens", "Tokens of calls under way", tokens())
        yield _gauge("queued_calls", "Encode calls under way", calls())

    registry.register(_Asked(collect))


def watch_store(registry: CollectorRegistry, facts: Callable[[], StoreFacts]) -> None:
    """Export what is loaded."""

    def collect() -> Iterator[Metric]:
        now = facts()
        yield _gauge("loaded_saes", "SAEs in memory", now.loaded_saes)
        yield _gauge("loaded_models", "Language models in memory", now.loaded_models)
        yield _gauge("memory_used_bytes", "Accounted for by what is loaded", now.used_bytes)
        yield _gauge("memory_budget_bytes", "What may be accounted for", now.budget_bytes)
        yield _counter("loads", "SAEs loaded", now.load_count)
        yield _counter("failed_loads", "Loads that failed", now.failed_load_count)
        yield _counter("evictions", "Models and SAEs that made room", now.eviction_count)

    registry.register(_Asked(collect))


def watch_cache(registry: CollectorRegistry, cache: Counted) -> None:
    """Export a cache of activations."""

    def collect() -> Iterator[Metric]:
        yield _counter("cache_hits", "Rows answered from the cache", cache.hits)
        yield _counter("cache_misses", "Rows that had to be computed", cache.misses)
        yield _gauge("cache_bytes", "Held by the cache", cache.bytes)

    registry.register(_Asked(collect))


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(_PREFIX + name, text, value=value)

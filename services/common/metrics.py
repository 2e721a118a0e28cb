"""Prometheus metrics: one registry per process, passed down, and an endpoint that shows it.

Every service counts its calls by method and status; a service adds what it knows besides. Names
and meanings are in `docs/METRICS.md`, which a test compares with what is exported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from services.common.errors import Unavailable

_log = structlog.get_logger(__name__)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class RpcMetrics:
    """What the interceptor tells of every call of ours."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "saexplain_rpc_requests",
            "Calls that ended, by gRPC status",
            ["method", "code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "saexplain_rpc_duration_seconds",
            "Time from a call's arrival to its end, streams included",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "saexplain_rpc_in_flight", "Calls being answered", ["method"], registry=registry
        )

    @contextmanager
    def call(self, method: str) -> Iterator[CallRecord]:
        """Counts one call; the body says how it ended.

        Args:
            method: `/package.Service/Method`; only methods that exist, so that strangers
                cannot make new series.
        """
        name = method.rsplit("/", 1)[-1]
        record, begin = CallRecord(), perf_counter()
        self._in_flight.labels(name).inc()
        try:
            yield record
        finally:
            self._in_flight.labels(name).dec()
            self._seconds.labels(name).observe(perf_counter() - begin)
            self._requests.labels(name, record.code).inc()


class CallRecord:
    """How one call ended."""

    code = "OK"
    """Name of its gRPC status."""


class MetricsServer:
    """The endpoint, until closed."""

    def __init__(self, listen: str, registry: CollectorRegistry) -> None:
        host, _, port = listen.rpartition(":")
        try:
            self._server, self._thread = start_http_server(int(port), host, registry)
        except (OSError, ValueError) as error:
            raise Unavailable(f"cannot serve metrics on {listen!r}: {error}") from error
        self.address = f"{host}:{self._server.server_port}"
        """`host:port` that it listens on."""
        _log.info("metrics", address=self.address)

    def close(self) -> None:
        """Ends the endpoint and its thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serve_metrics(listen: str, registry: CollectorRegistry) -> Iterator[MetricsServer | None]:
    """Shows `registry` at `http://<listen>/metrics` for the length of the body.

    Args:
        listen: `host:port`, port 0 for a free one; empty for no endpoint.

    Raises:
        Unavailable: the address cannot be bound.
    """
    if not listen:
        yield None
        return
    server = MetricsServer(listen, registry)
    try:
        yield server
    finally:
        server.close()

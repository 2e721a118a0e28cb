"""The activation service over tiny parts, on a real port."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import yaml

from saexplain.activation.v1 import activation_pb2_grpc
from services.activation.bootstrap import SERVICE, front, indexer
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings
from services.common.grpc_client import open_channel
from services.common.testing import serving


def write_registry(path: Path, model: Path, sae: Path, **entry: Any) -> Path:
    """A registry of one model and one SAE, `tiny`."""
    saes = {"tiny": {"model": "tiny-llama", "folder": str(sae), **entry}}
    path.write_text(
        yaml.safe_dump({"models": {"tiny-llama": {"folder": str(model)}}, "saes": saes})
    )
    return path


def settings(registry: Path, work: Path, **overrides: Any) -> ActivationSettings:
    """Settings with folders below `work`; every call computes, unless a cache is asked for."""
    return ActivationSettings(
        registry=registry,
        cache_dir=work / "cache",
        index_dir=work / "indexes",
        **{"row_cache_bytes": 0, **overrides},
    )


@contextlib.asynccontextmanager
async def front_stub(chosen: ActivationSettings) -> AsyncIterator[Any]:
    """A client of a front that serves for the length of the body."""
    registry = load_registry(chosen.registry)
    async with front(chosen, registry) as parts, stub_of(parts.servicer) as stub:
        yield stub


@contextlib.asynccontextmanager
async def front_channel(chosen: ActivationSettings) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a front that serves for the length of the body."""
    registry = load_registry(chosen.registry)
    async with front(chosen, registry) as parts, _channel(parts.servicer) as channel:
        yield channel


@contextlib.asynccontextmanager
async def indexer_stub(chosen: ActivationSettings) -> AsyncIterator[Any]:
    """A client of an indexer that serves for the length of the body."""
    async with stub_of(indexer(chosen, load_registry(chosen.registry))) as stub:
        yield stub


@contextlib.asynccontextmanager
async def stub_of(servicer: Any) -> AsyncIterator[Any]:
    """A client of a servicer that serves for the length of the body."""
    async with _channel(servicer) as channel:
        yield activation_pb2_grpc.ActivationServiceStub(channel)


@contextlib.asynccontextmanager
async def _channel(servicer: Any) -> AsyncIterator[grpc.aio.Channel]:
    async def register(server: grpc.aio.Server, health: Any) -> None:
        activation_pb2_grpc.add_ActivationServiceServicer_to_server(servicer, server)
        await health.set_serving()

    async with serving(register, [SERVICE]) as address, open_channel(address) as channel:
        yield channel

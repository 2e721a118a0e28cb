"""Methods of the contract that a role does not serve: refused in words, never INTERNAL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NoReturn

from saexplain.activation.v1 import activation_pb2_grpc
from services.common.errors import Unimplemented


class ServesNoIndexing(activation_pb2_grpc.ActivationServiceServicer):
    """Base of the front: writing an index is the indexers' work."""

    async def PlanIndex(self, request: Any, context: Any) -> NoReturn:  # noqa: N802
        """Refused."""
        raise _elsewhere("PlanIndex", "an indexer (--role indexer)")

    async def IndexShard(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Refused."""
        async for response in _refuse("IndexShard", "an indexer (--role indexer)"):
            yield response

    async def MergeIndex(self, request: Any, context: Any) -> NoReturn:  # noqa: N802
        """Refused."""
        raise _elsewhere("MergeIndex", "an indexer (--role indexer)")

    async def AnnotateIndex(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Refused."""
        async for response in _refuse("AnnotateIndex", "an indexer (--role indexer)"):
            yield response


class ServesIndexingOnly(activation_pb2_grpc.ActivationServiceServicer):
    """Base of an indexer: reading is the front's work."""

    async def ListSaes(self, request: Any, context: Any) -> NoReturn:  # noqa: N802
        """Refused."""
        raise _elsewhere("ListSaes", "the front")

    async def GetSae(self, request: Any, context: Any) -> NoReturn:  # noqa: N802
        """Refused."""
        raise _elsewhere("GetSae", "the front")

    async def Encode(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Refused."""
        async for response in _refuse("Encode", "the front"):
            yield response

    async def EncodeSparse(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Refused."""
        async for response in _refuse("EncodeSparse", "the front"):
            yield response

    async def GetFeature(self, request: Any, context: Any) -> NoReturn:  # noqa: N802
        """Refused."""
        raise _elsewhere("GetFeature", "the front")

    async def ListFeatures(self, request: Any, context: Any) -> NoReturn:  # noqa: N802
        """Refused."""
        raise _elsewhere("ListFeatures", "the front")

    async def ProbeVocabulary(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Refused."""
        async for response in _refuse("ProbeVocabulary", "the front"):
            yield response

    async def GetVocabularyProbe(self, request: Any, context: Any) -> NoReturn:  # noqa: N802
        """Refused."""
        raise _elsewhere("GetVocabularyProbe", "the front")

    async def ListExemplars(self, request: Any, context: Any) -> NoReturn:  # noqa: N802
        """Refused."""
        raise _elsewhere("ListExemplars", "the front")

    async def SearchWindows(self, request: Any, context: Any) -> NoReturn:  # noqa: N802
        """Refused."""
        raise _elsewhere("SearchWindows", "the front")

    async def ListTokenNeighbors(self, request: Any, context: Any) -> NoReturn:  # noqa: N802
        """Refused."""
        raise _elsewhere("ListTokenNeighbors", "the front")


async def _refuse(method: str, who: str) -> AsyncIterator[Any]:
    raise _elsewhere(method, who)
    yield  # makes this a stream, as the method is one


def _elsewhere(method: str, who: str) -> Unimplemented:
    return Unimplemented(f"{method} is served by {who}")

"""Which features of the shipped SAE the tests explain."""

from __future__ import annotations

from typing import Any

from saexplain.activation.v1 import activation_pb2 as pb
from saexplain.activation.v1.activation_pb2_grpc import ActivationServiceStub
from saexplain.common.v1.feature_pb2 import FEATURE_STRATUM_ELIGIBLE
from services.common.grpc_client import open_channel

SAE = "saes/smollm2-135m-instruct-l8"


async def eligible_features(address: str, count: int, start: int = 0) -> list[str]:
    """The first eligible features from `start` on."""
    found: list[str] = []
    async with open_channel(address) as channel:
        stub: Any = ActivationServiceStub(channel)
        index = start
        while len(found) < count:
            name = f"{SAE}/features/{index}"
            facts = (await stub.GetFeature(pb.GetFeatureRequest(name=name))).facts
            if facts.stratum == FEATURE_STRATUM_ELIGIBLE:
                found.append(name)
            index += 1
    return found

"""The same recorded texts through both backends: the values must agree within the
tolerance of the numerics contract, and an explanation must run on Triton end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saexplain.activation.v1 import activation_pb2 as pb
from saexplain.activation.v1.activation_pb2_grpc import ActivationServiceStub
from saexplain.explanation.v1 import explanation_pb2
from saexplain_client import AsyncSaexplainClient
from services.common.grpc_client import open_channel
from services.common.tensors import from_tensor
from tests.e2e.features import SAE, eligible_features
from tests.e2e.running import RunningStack, running

pytestmark = [pytest.mark.stack, pytest.mark.triton, pytest.mark.timeout(900)]

TEXTS = (
    "x",
    "The price rose by 17 percent in 1999, almost twice as much.",
    "def main():\n    return [n for n in range(10)]\n",
    "«Où est la gare?» — naïve café, 東京, 🙂",
    "  leading and trailing spaces  ",
    "It was virtually the greatest of all. " * 12,
)


async def _values(address: str, features: list[int]) -> tuple[str, list[np.ndarray]]:
    request = pb.EncodeRequest(
        sae=SAE, texts=[pb.TextInput(text=t) for t in TEXTS], feature_indices=features
    )
    async with open_channel(address) as channel:
        stub: Any = ActivationServiceStub(channel)
        pages = [page async for page in stub.Encode(request)]
    return pages[0].backend, [from_tensor(t.activations) for page in pages for t in page.texts]


async def test_triton_serves_the_same_values_and_a_whole_run(
    stack: RunningStack, tmp_path: Path
) -> None:
    features = list(range(0, 4608, 37))
    backend, plain = await _values(stack.address("activation"), features)
    assert backend == "in_process"
    with running(tmp_path, "--triton") as served:
        backend, fast = await _values(served.address("activation"), features)
        assert backend == "triton"
        feature = (await eligible_features(served.address("activation"), 1, start=40))[0]
        async with AsyncSaexplainClient(served.address("orchestrator")) as client:
            run = await client.create_explanation(feature, "lexical")
            done = await client.wait(run.name)
            assert done.state == explanation_pb2.RUN_STATE_SUCCEEDED, done.failure
            bundle = await client.get_dossier(done.name)
    assert bundle.run.activation_backend == "triton"
    largest = np.maximum(np.max([v.max(axis=0) for v in plain], axis=0), 1.0)
    for one, other in zip(plain, fast, strict=True):
        assert one.shape == other.shape
        assert (np.abs(one - other) / largest).max() <= 1e-4
    assert sum(int((v > 0).sum()) for v in plain) > 20, "the texts must make features fire"

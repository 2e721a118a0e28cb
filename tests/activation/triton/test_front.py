"""The activation service over Triton: the same answers, and no torch in the front."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from saexplain.activation.v1 import activation_pb2 as pb
from services.common.tensors import from_tensor
from tests.activation.stack import front_stub, settings
from tests.activation.triton.conftest import RunningTriton

pytestmark = pytest.mark.triton

_WITHOUT_TORCH = """
import asyncio, sys
sys.modules["torch"] = None  # importing it is an ImportError
from services.activation.bootstrap import front
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings

async def main():
    chosen = ActivationSettings()
    async with front(chosen, load_registry(chosen.registry)) as parts:
        sae = await parts.catalog.message("tiny-topk", load=True)
        tokenizer = await parts.catalog.tokenizer("tiny-topk")
        (text,) = tokenizer.tokenize(["the cat sleeps"], chosen.text_limits)
        (row,) = await parts.engine.encode("tiny-topk", [text.ids], [3])
        assert row.shape == (len(text.ids), 1), row.shape
        assert sae.numerics.tokenizer_fingerprint == tokenizer.fingerprint

asyncio.run(main())
"""


async def test_both_backends_answer_alike_and_say_which_they_are(
    triton: RunningTriton, registry_path: Path, tmp_path: Path
) -> None:
    """The whole way from text to values, on the wire."""
    request = pb.EncodeRequest(
        sae="saes/tiny-relu",
        texts=[pb.TextInput(text="the old dog sleeps"), pb.TextInput(text="a bird")],
        feature_indices=[4, 90, 17],
    )
    found = {}
    for backend in ("in_process", "triton"):
        chosen = settings(registry_path, tmp_path, backend=backend, triton_address=triton.address)
        async with front_stub(chosen) as stub:
            (page,) = [page async for page in stub.Encode(request)]
        assert page.backend == backend
        found[backend] = [from_tensor(text.activations) for text in page.texts]
    assert len(found["triton"]) == 2
    assert any(values.any() for values in found["triton"])
    for one, other in zip(found["triton"], found["in_process"], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_front_with_triton_needs_no_torch(
    triton: RunningTriton, registry_path: Path, tmp_path: Path
) -> None:
    """The image of the front has no torch: one import of it at the wrong place breaks it."""
    environment = os.environ | {
        "SAEXPLAIN_REGISTRY": str(registry_path),
        "SAEXPLAIN_CACHE_DIR": str(tmp_path),
        "SAEXPLAIN_INDEX_DIR": str(tmp_path / "indexes"),
        "SAEXPLAIN_ACTIVATION_BACKEND": "triton",
        "SAEXPLAIN_ACTIVATION_ROW_CACHE_BYTES": "0",  # every call has to reach Triton
        "SAEXPLAIN_TRITON_ADDRESS": triton.address,
    }
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr

"""A probe of the vocabulary by way of a real Triton server, asked over gRPC like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saexplain.activation.v1 import activation_pb2 as pb
from services.common.tensors import from_tensor
from tests.activation.stack import front_stub, settings
from tests.activation.triton.conftest import RunningTriton

pytestmark = pytest.mark.triton

SAE = "saes/tiny-topk"
FEATURES = [5, 17, 40]


async def test_triton_answers_a_probe_as_the_process_itself_does(
    triton: RunningTriton, registry_path: Path, tmp_path: Path
) -> None:
    """Guards against whole rows whose last token is not the probed one, and against another order
    of the strongest tokens. The prefix is long enough for several calls."""
    carrier = pb.CarrierInput(token_ids=pb.TokenIds(ids=[7, 8, 9, 30, 31, 32] * 8))
    requests = [
        pb.ProbeVocabularyRequest(sae=SAE, carriers=[carrier], token_ids=range(3, 90), **fields)
        for fields in ({"top_count": 5}, {"feature_indices": FEATURES, "all_values": True})
    ]
    answers: dict[str, list[Any]] = {}
    for backend in ("in_process", "triton"):
        chosen = settings(
            registry_path,
            tmp_path / backend,
            backend=backend,
            triton_address=triton.address,
            probe_batch_tokens=40,
            max_texts=30,
        )
        async with front_stub(chosen) as stub:
            answers[backend] = [[page async for page in stub.ProbeVocabulary(r)] for r in requests]
    (top, values), (top_here, values_here) = answers["triton"], answers["in_process"]
    assert {page.backend for page in top if page.backend} == {"triton"}
    assert [page.key for page in top] == [page.key for page in top_here]
    found, expected = top[-1].top_tokens, top_here[-1].top_tokens
    assert from_tensor(found.token_ids).tolist() == from_tensor(expected.token_ids).tolist()
    assert from_tensor(found.positive_token_counts).sum() > 100
    for one, other in zip(values, values_here, strict=True):
        if one.HasField("values"):
            ours, theirs = (from_tensor(page.values.activations) for page in (one, other))
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)

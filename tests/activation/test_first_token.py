"""Over gRPC, an SAE trained without a first token reads rows without one.

Load-bearing: the comparison with the encoder on bare rows. It guards against a value that belongs
to the token before it, and against a contract that says otherwise than what is computed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from saexplain.activation.v1 import activation_pb2 as pb
from services.activation.encoder.encode import Encoder
from services.activation.encoder.sae import load_sae
from services.activation.encoder.sources import SaeSource
from services.activation.encoder.tokenizer import TextTokenizer
from services.common.tensors import from_tensor
from tests.activation import tiny
from tests.activation.stack import front_stub, settings, write_registry

TEXTS = ["the cat sees the old river", "never"]


async def test_rows_without_a_first_token_are_scored_from_the_second(
    tmp_path: Path, model_folder: Path, encoder: Encoder, tokenizer: TextTokenizer
) -> None:
    metadata = {"hook_name": tiny.HOOK, "prepend_bos": False}
    folder = tiny.write_sae(tmp_path / "sae", "standard", metadata=metadata)
    registry = write_registry(tmp_path / "r.yaml", model_folder, folder)
    features = [3, 40, 77]
    request = pb.EncodeRequest(sae="saes/tiny", feature_indices=features)
    request.texts.extend(pb.TextInput(text=text) for text in TEXTS)
    async with front_stub(settings(registry, tmp_path)) as stub:
        numerics = (await stub.GetSae(pb.GetSaeRequest(name="saes/tiny"))).sae.numerics
        encoded = [text async for page in stub.Encode(request) for text in page.texts]
    assert not numerics.prepend_bos
    assert not numerics.HasField("bos_token_id")

    rows = tokenizer.content_ids(TEXTS)
    expected = encoder.encode(load_sae(SaeSource(str(folder))), rows, features)
    assert np.concatenate(expected).any()
    for text, raw, row, values in zip(encoded, TEXTS, rows, expected, strict=True):
        assert text.tokens.token_ids == row.tolist()
        assert b"".join(text.tokens.token_bytes) == raw.encode()
        assert text.scored_begin == 1
        received = from_tensor(text.activations)
        np.testing.assert_allclose(received, values, atol=1e-4)
        assert not received[0].any()

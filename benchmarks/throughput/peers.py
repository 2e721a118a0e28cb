"""The ways of other tools, with their own encoder where their package is installed.

SAELens (installed): padded batches of 32 in the order of arrival, the model stopped at the hook,
every feature encoded by SAELens' own ``encode``, then the wanted columns.

The serving peers' way: what inference servers for SAEs compute (the whole model with its output
logits, batches of 4, every feature, then the wanted columns). Their packages do not install here
beside our pins, so this is the way they compute, not their code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from sae_lens import SAE
from transformers import AutoModelForCausalLM

from benchmarks.throughput.material import FEATURES, SAE_FOLDER, Material
from services.activation.encoder.model import pad_rows
from services.activation.encoder.rows import TokenRow

Way = Callable[[Sequence[TokenRow]], None]

_SAELENS_BATCH = 32
_SERVING_BATCH = 4


def saelens(material: Material) -> Way:
    """SAELens' way on the plain model, stopped at the hook."""
    reference: Any = SAE.load_from_disk(str(SAE_FOLDER), dtype="float32")
    hook = material.sae.config.hook

    @torch.inference_mode()
    def run(rows: Sequence[TokenRow]) -> None:
        for begin in range(0, len(rows), _SAELENS_BATCH):
            ids = pad_rows(rows[begin : begin + _SAELENS_BATCH])
            hidden = material.model.hidden_states(ids, hook)
            reference.encode(hidden)[..., list(FEATURES)].numpy()

    return run


def serving_peers(material: Material) -> Way:
    """Whole model with logits, small batches in the order of arrival, every feature."""
    reference: Any = SAE.load_from_disk(str(SAE_FOLDER), dtype="float32")
    model: Any = AutoModelForCausalLM.from_pretrained(material.source.location, dtype=torch.float32)
    model.requires_grad_(False).train(False)
    state = material.sae.config.hook.layer_count

    @torch.inference_mode()
    def run(rows: Sequence[TokenRow]) -> None:
        for begin in range(0, len(rows), _SERVING_BATCH):
            ids = pad_rows(rows[begin : begin + _SERVING_BATCH])
            hidden = model(ids, output_hidden_states=True, use_cache=False).hidden_states[state]
            reference.encode(hidden)[..., list(FEATURES)].numpy()

    return run

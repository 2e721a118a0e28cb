"""How models and SAEs are measured and loaded; the store decides when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from services.activation.encoder.encode import Encoder
from services.activation.encoder.fingerprints import fingerprints_of, readout_fingerprint
from services.activation.encoder.fitting import fit
from services.activation.encoder.loaded import LoadedSae
from services.activation.encoder.memory import model_bytes, sae_bytes
from services.activation.encoder.model import load_model
from services.activation.encoder.sae import load_sae
from services.activation.encoder.shapes import model_shape, sae_shape
from services.activation.encoder.tokenizer import TextTokenizer, load_tokenizer
from services.activation.triton.repository import TritonModelSpec, TritonSae


@dataclass(frozen=True)
class Needs:
    """What one SAE takes, before anything is loaded."""

    layer_count: int
    """Blocks of the language model."""
    model_bytes: int
    sae_bytes: int


@dataclass(frozen=True)
class LoadedModel:
    """A language model cut at a depth, with its tokenizer."""

    encoder: Encoder
    tokenizer: TextTokenizer
    layer_count: int
    readout: str = ""
    """Fingerprint of final norm and unembedding."""


class Parts(Protocol):
    """Blocking; each raises what :mod:`encoder` raises."""

    def measure(self, spec: TritonModelSpec, entry: TritonSae) -> Needs:
        """Sizes, from configurations and headers."""
        ...

    def load_model(self, spec: TritonModelSpec, layer_count: int) -> LoadedModel:
        """The first blocks of the model."""
        ...

    def load_sae(self, spec: TritonModelSpec, entry: TritonSae, model: LoadedModel) -> LoadedSae:
        """One SAE, on a model that is deep enough."""
        ...


class RealParts:
    """Implements :class:`Parts` with files and the hub's cache."""

    def measure(self, spec: TritonModelSpec, entry: TritonSae) -> Needs:
        """Sizes, from configurations and headers."""
        sae = sae_shape(entry.source)
        dtype: torch.dtype = getattr(torch, spec.dtype)
        budget, longest = spec.limits.batch_token_budget, spec.limits.max_row_tokens
        return Needs(
            layer_count=sae.layer_count,
            model_bytes=model_bytes(
                model_shape(spec.model, sae.layer_count),
                parameter_bytes=dtype.itemsize,
                token_budget=budget,
                max_row_tokens=longest,
            ),
            sae_bytes=sae_bytes(sae, token_budget=budget, max_row_tokens=longest),
        )

    def load_model(self, spec: TritonModelSpec, layer_count: int) -> LoadedModel:
        """The first blocks of the model."""
        dtype: torch.dtype = getattr(torch, spec.dtype)
        model = load_model(spec.model, layer_count, device=spec.device, dtype=dtype)
        encoder = Encoder(model, batch_token_budget=spec.limits.batch_token_budget)
        tokenizer = load_tokenizer(spec.model, spec.bos_token)
        return LoadedModel(encoder, tokenizer, layer_count, readout_fingerprint(model))

    def load_sae(self, spec: TritonModelSpec, entry: TritonSae, model: LoadedModel) -> LoadedSae:
        """One SAE, on a model that is deep enough."""
        sae = load_sae(entry.source, device=spec.device, center_input=entry.center_input)
        fitted = fit(sae, model.encoder.model, model.tokenizer, center_input=entry.center_input)
        found = fingerprints_of(model.encoder.model, spec.model, fitted, model.tokenizer)
        return LoadedSae(model.encoder, fitted, found, model.readout)

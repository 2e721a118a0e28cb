"""Loads what a Triton model serves: one language model, and SAEs as they are asked for."""

from __future__ import annotations

from collections import OrderedDict

from services.activation.encoder.encode import Encoder
from services.activation.encoder.fingerprints import fingerprints_of
from services.activation.encoder.inprocess import LoadedSae
from services.activation.encoder.model import load_model
from services.activation.encoder.sae import load_sae
from services.activation.encoder.tokenizer import load_tokenizer
from services.activation.triton.executor import Executor
from services.activation.triton.repository import TritonModelSpec
from services.common.errors import FailedPrecondition, NotFound


class SpecLoader:
    """A :class:`SaeLoader` over a specification.

    The language model is as deep as the deepest SAE asked for so far. SAEs used longest ago are
    dropped; an SAE that comes back with other weights is refused.
    """

    def __init__(self, spec: TritonModelSpec) -> None:
        self._spec = spec
        self._saes = {sae.sae_id: sae for sae in spec.saes}
        self._loaded: OrderedDict[str, LoadedSae] = OrderedDict()
        self._seen: dict[str, str] = {}
        self._encoder: Encoder | None = None
        self._tokenizer = load_tokenizer(spec.model, spec.bos_token)

    def __call__(self, sae_id: str) -> LoadedSae:
        """Raises NotFound (SAE_NOT_FOUND), and whatever loading raises."""
        if sae_id not in self._saes:
            raise NotFound(f"the Triton model serves no SAE {sae_id!r}", reason="SAE_NOT_FOUND")
        if sae_id not in self._loaded:
            self._loaded[sae_id] = self._load(sae_id)
        self._loaded.move_to_end(sae_id)
        while len(self._loaded) > self._spec.max_loaded_saes:
            self._loaded.popitem(last=False)
        return self._loaded[sae_id]

    def _load(self, sae_id: str) -> LoadedSae:
        entry, spec = self._saes[sae_id], self._spec
        sae = load_sae(entry.source, device=spec.device, center_input=entry.center_input)
        encoder = self._encoder_of(sae.config.hook.layer_count)
        fingerprints = fingerprints_of(encoder.model, spec.model, sae, self._tokenizer)
        known = self._seen.setdefault(sae_id, entry.fingerprint or fingerprints.sae)
        if known != fingerprints.sae:
            raise FailedPrecondition(
                f"SAE {sae_id!r} has weights {fingerprints.sae}, the registry or an earlier load "
                f"says {known}; other weights need another name",
                reason="FINGERPRINT_MISMATCH",
            )
        return LoadedSae(encoder, sae, fingerprints)

    def _encoder_of(self, layer_count: int) -> Encoder:
        known = self._encoder
        if known is None or known.model.layer_count < layer_count:
            self._loaded.clear()  # they hold the shallower model
            model = load_model(self._spec.model, layer_count, device=self._spec.device)
            self._encoder = known = Encoder(model, batch_token_budget=self._spec.batch_token_budget)
        return known


def executor_of(spec: TritonModelSpec) -> Executor:
    """The executor of a specification, with its first SAE loaded so that errors show at once."""
    loader = SpecLoader(spec)
    if spec.saes:
        loader(spec.saes[0].sae_id)
    return Executor(
        loader, batch_token_budget=spec.batch_token_budget, max_features=spec.max_features
    )

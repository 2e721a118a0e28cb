"""Architectures by SAELens' name. An unknown one is refused by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from services.activation.encoder.saes.base import Sae
from services.activation.encoder.saes.batchtopk import BatchTopKSae, with_threshold
from services.activation.encoder.saes.config import SaeConfig
from services.activation.encoder.saes.gated import GatedSae
from services.activation.encoder.saes.jumprelu import JumpReluSae
from services.activation.encoder.saes.standard import StandardSae
from services.activation.encoder.saes.topk import TopKSae
from services.activation.encoder.saes.transcoder import JumpReluTranscoder, Transcoder
from services.common.errors import Unimplemented

Prepare = Callable[[SaeConfig, Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Brings a file's tensors into the form that the class reads."""


@dataclass(frozen=True)
class Architecture:
    """One kind of SAE."""

    encoder: type[Sae]
    prepare: Prepare | None = None


ARCHITECTURES: Mapping[str, Architecture] = {
    "standard": Architecture(StandardSae),
    "gated": Architecture(GatedSae),
    "jumprelu": Architecture(JumpReluSae),
    "topk": Architecture(TopKSae),
    "batchtopk": Architecture(BatchTopKSae, with_threshold),
    "matryoshka_batchtopk": Architecture(BatchTopKSae, with_threshold),
    "transcoder": Architecture(Transcoder),
    "skip_transcoder": Architecture(Transcoder),
    "jumprelu_transcoder": Architecture(JumpReluTranscoder),
    "jumprelu_skip_transcoder": Architecture(JumpReluTranscoder),
}

_REFUSED: Mapping[str, str] = {
    "abstopk": "its activations are signed, and everything here takes 0 for silent",
    "matching_pursuit": "its features depend on each other through a loop over the dictionary",
    "temporal": "its features depend on earlier tokens, not on one position",
}


def architecture(name: str) -> Architecture:
    """One kind of SAE by its name.

    Raises:
        Unimplemented: UNSUPPORTED, naming the kind, the reason where there is one, and the
            known kinds.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    reason = f" ({_REFUSED[name]})" if name in _REFUSED else ""
    raise Unimplemented(
        f"SAE architecture {name!r} is not supported{reason}; {', '.join(ARCHITECTURES)} are",
        metadata={"architecture": name},
    )

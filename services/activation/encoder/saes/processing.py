"""What TransformerLens did to the model's weights before an SAE saw its activations.

An SAE's metadata holds the arguments that the model was loaded with. Most of them change no
activation at the places that are read; centring can be done to the activation instead of the
weights; the rest is refused by name. TransformerLens' ``from_pretrained_no_processing`` is
the default: what is not named was not done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.activation.encoder.hooks import WRITES_TO_RESIDUAL, Site
from services.common.errors import Unimplemented

_HARMLESS = frozenset(
    {
        "attn_implementation",
        "cache_dir",
        "center_unembed",
        "default_padding_side",
        "default_prepend_bos",
        "device",
        "device_map",
        "dtype",
        "fold_ln",
        "local_files_only",
        "low_cpu_mem_usage",
        "move_to_device",
        "n_ctx",
        "n_devices",
        "token",
        "torch_dtype",
        "trust_remote_code",
        "use_safetensors",
    }
)
"""Arguments that leave the tensors at supported places as they are, up to rounding; ``fold_ln``
with the exception below. The SAE's own ``prepend_bos`` outranks ``default_prepend_bos``."""

_CHANGES: Mapping[str, tuple[frozenset[Site], str]] = {
    "fold_ln": (
        frozenset({Site.MLP_IN}),
        "the norm's weight moves from the MLP's input into the MLP",
    ),
    "fold_value_biases": (
        frozenset({Site.ATTENTION_HEADS}),
        "value biases move from the heads into the output projection",
    ),
    "refactor_factored_attn_matrices": (
        frozenset({Site.ATTENTION_HEADS}),
        "the heads' values are rotated",
    ),
}
"""Processing that changes some places, those places, and why."""

_REFUSED: Mapping[str, str] = {
    "checkpoint_index": "name the checkpoint as the model's revision in the registry",
    "checkpoint_value": "name the checkpoint as the model's revision in the registry",
    "checkpoint_label": "name the checkpoint as the model's revision in the registry",
    "revision": "name it as the model's revision in the registry",
    "first_n_layers": "blocks would be missing before the hook",
    "load_in_4bit": "quantised weights give other activations",
    "load_in_8bit": "quantised weights give other activations",
    "quantization_config": "quantised weights give other activations",
}


def is_centred(kwargs: Mapping[str, Any], site: Site) -> bool:
    """Whether the mean has to be subtracted from what is read at ``site``.

    TransformerLens centres only models with LayerNorm, which is decided where the model is known:
    :func:`services.activation.encoder.fitting.fit`.

    Raises:
        Unimplemented: UNSUPPORTED, naming the argument and the reason.
    """
    for name, value in sorted(kwargs.items()):
        if value is None or value is False:
            continue
        if name in _REFUSED:
            raise _refusal(name, value, _REFUSED[name])
        sites, reason = _CHANGES.get(name, (frozenset[Site](), ""))
        if site in sites:
            raise _refusal(name, value, f"{reason}, so that {site.value} holds other values")
        if name not in _HARMLESS and name not in _CHANGES and name != "center_writing_weights":
            known = sorted(_HARMLESS | set(_CHANGES) | {"center_writing_weights"})
            raise _refusal(name, value, f"it is not known; {', '.join(known)} are")
    return bool(kwargs.get("center_writing_weights")) and site in WRITES_TO_RESIDUAL


def _refusal(name: str, value: Any, reason: str) -> Unimplemented:
    return Unimplemented(
        f"model_from_pretrained_kwargs {name}={value!r} is not supported: {reason}",
        metadata={"argument": name},
    )

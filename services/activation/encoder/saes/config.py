"""What changes an SAE's values, read from SAELens' configuration dictionary.

Both layouts are read: the present one, with ``metadata``, and the flat one before version 6.
Whatever is not understood is refused by name: a setting that is silently a default would give
plausible values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.activation.encoder.hooks import HookPoint, Site, parse_hook
from services.activation.encoder.saes.processing import is_centred
from services.common.errors import FailedPrecondition, Unimplemented

NORMALISATIONS = (
    "none",
    "layer_norm",
    "constant_norm_rescale",
    "expected_average_only_in",
    "constant_scalar_rescale",
)
"""Input normalisations. The last two scale by one number and are folded into the weights when an
SAE is loaded."""
_RENAMED = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index"}
_ACTIVATION_FUNCTIONS = ("relu", "topk")


@dataclass(frozen=True)
class SaeConfig:
    """What changes an SAE's values."""

    architecture: str
    d_in: int
    d_sae: int
    hook: HookPoint
    apply_b_dec_to_input: bool
    normalize_activations: str
    k: int | None
    """Active features per token; TopK only."""
    rescale_acts_by_decoder_norm: bool
    center_input: bool
    """Subtract the mean over the hidden dimension first: the SAE was trained on a model whose
    writing weights TransformerLens had centred."""
    stored_dtype: str
    hook_out: HookPoint | None = None
    """Where a transcoder writes; None where the SAE writes back to ``hook``."""
    head_index: int | None = None
    """The one attention head that is read, of those side by side at ``hook``."""
    prepend_bos: bool = True
    """Whether rows begin with a token that is not part of the text."""
    excluded_token_ids: tuple[int, ...] = ()
    """Tokens that its files say were left out of training, ascending."""
    exclude_special_tokens: bool = False
    """Whether the tokenizer's special tokens were left out of training."""
    special_token_ids: tuple[int, ...] = ()
    """Those tokens, once the tokenizer is known; ascending."""

    @property
    def features_are_independent(self) -> bool:
        """Whether chosen features can be computed without the others."""
        return self.architecture != "topk"

    @property
    def silent_token_ids(self) -> tuple[int, ...]:
        """Tokens whose activations are 0, not measured: the SAE was trained without them."""
        return self.excluded_token_ids + self.special_token_ids


def read_config(raw: Mapping[str, Any], *, center_input: bool | None = None) -> SaeConfig:
    """Read a configuration dictionary.

    Args:
        raw: As in ``cfg.json``.
        center_input: Overrides what the metadata says about centring.

    Raises:
        Unimplemented: UNSUPPORTED, naming the setting that is not understood.
        FailedPrecondition: ARTIFACT_CORRUPT, naming the setting that is missing or garbled.
    """
    settings = {_RENAMED.get(key, key): value for key, value in raw.items()}
    settings.update({_RENAMED.get(k, k): v for k, v in (raw.get("metadata") or {}).items()})
    try:
        hook = _hook(settings, "hook_name", "hf_hook_name")
        kwargs = settings.get("model_from_pretrained_kwargs") or {}
        centred = is_centred(kwargs, hook.site)
        excluded = settings.get("exclude_special_tokens") or False
        head = settings.get("hook_head_index")
        architecture = _architecture(settings)
        _check_reshaping(settings, hook.site)
        return SaeConfig(
            architecture=architecture,
            d_in=int(settings["d_in"]),
            d_sae=int(settings["d_sae"]),
            hook=hook,
            apply_b_dec_to_input=bool(settings.get("apply_b_dec_to_input", True)),
            normalize_activations=_normalisation(settings),
            k=_k(settings) if architecture == "topk" else None,
            rescale_acts_by_decoder_norm=bool(settings.get("rescale_acts_by_decoder_norm", False)),
            center_input=centred if center_input is None else center_input,
            stored_dtype=str(settings.get("dtype", "float32")).removeprefix("torch."),
            hook_out=_hook_out(settings),
            head_index=None if head is None else int(head),
            prepend_bos=_prepends_bos(settings),
            exclude_special_tokens=excluded is True,
            excluded_token_ids=() if isinstance(excluded, bool) else _token_ids(excluded),
        )
    except (KeyError, TypeError, ValueError) as error:
        message = f"cfg.json of the SAE lacks or garbles {error}"
        raise FailedPrecondition(message, reason="ARTIFACT_CORRUPT") from error


def _hook(settings: Mapping[str, Any], lens_name: str, module_name: str) -> HookPoint:
    """The place an SAE names.

    Where a Hugging Face module is named too, it decides: it is what the weights were trained on,
    while ``hook_mlp_in`` is used for two tensors.
    """
    module = settings.get(module_name)
    if module:
        return parse_hook(str(module))
    return parse_hook(str(settings[lens_name]))


def _hook_out(settings: Mapping[str, Any]) -> HookPoint | None:
    if not settings.get("hook_name_out"):
        return None
    return _hook(settings, "hook_name_out", "hf_hook_name_out")


def _architecture(settings: Mapping[str, Any]) -> str:
    function = settings.get("activation_fn_str", settings.get("activation_fn")) or "relu"
    if function not in _ACTIVATION_FUNCTIONS:
        raise Unimplemented(
            f"activation_fn={function!r} is not supported; {', '.join(_ACTIVATION_FUNCTIONS)} are",
            metadata={"activation_fn": str(function)},
        )
    return "topk" if function == "topk" else str(settings.get("architecture", "standard"))


def _k(settings: Mapping[str, Any]) -> int:
    nested = settings.get("activation_fn_kwargs") or {}
    k = int(nested["k"] if "k" in nested else settings["k"])
    if not 1 <= k <= int(settings["d_sae"]):
        raise ValueError(f"k={k}")
    return k


def _normalisation(settings: Mapping[str, Any]) -> str:
    named = settings.get("normalize_activations") or "none"
    if named is True:  # before version 6
        named = "expected_average_only_in"
    if named not in NORMALISATIONS:
        raise Unimplemented(
            f"normalize_activations={named!r} is not supported; {', '.join(NORMALISATIONS)} are",
            metadata={"normalize_activations": str(named)},
        )
    return str(named)


def _check_reshaping(settings: Mapping[str, Any], site: Site) -> None:
    """Heads are read side by side anyway, so ``hook_z`` needs no work, but the place must fit."""
    reshaping = settings.get("reshape_activations") or "none"
    if reshaping == "none" or (reshaping == "hook_z" and site is Site.ATTENTION_HEADS):
        return
    raise Unimplemented(
        f"reshape_activations={reshaping!r} at {site.value}; hook_z at attn.hook_z is supported",
        metadata={"reshape_activations": str(reshaping)},
    )


def _prepends_bos(settings: Mapping[str, Any]) -> bool:
    """SAELens' default is True, also for its configurations that do not say."""
    value = settings.get("prepend_bos")
    return True if value is None else bool(value)


def _token_ids(values: Any) -> tuple[int, ...]:
    return tuple(sorted({int(value) for value in values}))

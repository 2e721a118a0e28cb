"""sha256 identities of what decides a value: model weights as far as the hook, SAE, tokenizer.

Hashing a model takes seconds, so its fingerprint is kept in a small file beside the weights and
trusted as long as name, size and modification time of every weight file are unchanged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from services.activation.encoder import gguf
from services.activation.encoder.families import submodule
from services.activation.encoder.identity import Fingerprints, canonical_json, digest
from services.activation.encoder.model import CutModel
from services.activation.encoder.readout import unembedding
from services.activation.encoder.sae import Sae
from services.activation.encoder.sources import ModelSource
from services.activation.encoder.tokenizer import TextTokenizer

CACHE_FILE = ".saexplain-fingerprints.json"
_WEIGHT_PATTERNS = ("*.safetensors", "config.json")
_ARITHMETIC = (
    "activation_function",
    "attn_logit_softcapping",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "layer_types",
    "model_type",
    "num_attention_heads",
    "num_key_value_heads",
    "query_pre_attn_scalar",
    "rms_norm_eps",
    "rope_parameters",
    "scale_attn_by_inverse_layer_idx",
    "scale_attn_weights",
    "sliding_window",
    "use_parallel_residual",
)
"""Settings of the families that decide how their tensors are used."""
_SCHEME = 3
"""Of what a model's fingerprint covers; remembered answers of another one are not used."""
_NEUTRAL: Mapping[str, Any] = {
    "head_index": None,
    "prepend_bos": True,
    "excluded_token_ids": (),
}
"""Settings that change values and are rarely used, with the values that change nothing."""
_NO_VALUE = frozenset({"stored_dtype", "hook_out", "exclude_special_tokens", "special_token_ids"})
"""Settings that change no activation of a text. Special tokens never come out of one, since their
names are read as ordinary text; only rows of ids that a caller makes up can hold them."""


def tensors_digest(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """sha256 over facts, then name, shape, type and bytes of each tensor in order of name."""
    sha = hashlib.sha256(canonical_json(dict(facts)))
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"\n{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        sha.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def sae_fingerprint(sae: Sae) -> str:
    """Weights in float32 and every setting that changes a value; not the file's layout.

    A setting that is at its neutral value is left out, so that learning to read a new setting
    leaves the fingerprints of SAEs that do not use it as they were.
    """
    config = sae.config
    facts = {
        name: value
        for name, value in asdict(config).items()
        if name not in _NO_VALUE | set(_NEUTRAL)
    }
    for name, neutral in _NEUTRAL.items():
        if getattr(config, name) != neutral:
            facts[name] = getattr(config, name)
    facts["hook"] = str(config.hook)
    return tensors_digest(sae.weights, facts)


def model_fingerprint(model: CutModel, source: ModelSource, layer_count: int) -> str:
    """Embedding, learned positions where there are any, the first ``layer_count`` blocks, and the
    settings that say how they are computed.

    A folder's answer is remembered beside its files; where that folder cannot be written, it is
    computed at every start.
    """
    folder = source.folder
    cache = folder / CACHE_FILE if folder else None
    files = _file_states(folder) if folder else []
    state: dict[str, Any] = {"layer_count": layer_count, "files": files, "scheme": _SCHEME}
    if model.compute_dtype != "float32":
        state["dtype"] = model.compute_dtype
    key = digest(state)
    known = _read_cache(cache)
    if cache is not None and key in known:
        return known[key]
    facts = {"layer_count": layer_count, **_arithmetic(model, source, layer_count)}
    fingerprint = tensors_digest(_cut_tensors(model, layer_count), facts)
    if cache is not None:
        _write_cache(cache, {**known, key: fingerprint})
    return fingerprint


def readout_fingerprint(model: CutModel) -> str:
    """Final norm and unembedding: what promoted and suppressed tokens follow from and no
    activation does, so that no other fingerprint covers it.

    A head that is the input embedding is left out, it is part of the model's fingerprint.
    """
    tensors = dict(submodule(model.base, model.family.final_norm).state_dict())
    head = unembedding(model)
    tied = head.data_ptr() == model.embedding.data_ptr()
    if not tied:
        tensors["unembedding"] = head
    return tensors_digest(tensors, {"tied": tied})


def fingerprints_of(
    model: CutModel, source: ModelSource, sae: Sae, tokenizer: TextTokenizer
) -> Fingerprints:
    """All three for one SAE."""
    return Fingerprints(
        model=model_fingerprint(model, source, sae.config.hook.layer_count),
        sae=sae_fingerprint(sae),
        tokenizer=tokenizer.with_prefix(sae.config.prepend_bos).fingerprint,
    )


def _cut_tensors(model: CutModel, layer_count: int) -> dict[str, Tensor]:
    tensors = {"embedding": model.embedding}
    if model.family.positions is not None:
        learned = submodule(model.base, model.family.positions).state_dict()
        tensors.update({f"positions.{name}": value for name, value in learned.items()})
    for index, block in enumerate(model.blocks[:layer_count]):
        tensors.update({f"{index}.{name}": value for name, value in block.state_dict().items()})
    return tensors


def _arithmetic(model: CutModel, source: ModelSource, layer_count: int) -> dict[str, Any]:
    """Settings of a model that change values and are no tensors.

    Those of a converted package follow from the package, whose tensors are covered.
    """
    if source.folder is not None and (source.folder / gguf.MANIFEST_NAME).is_file():
        return {}
    settings: dict[str, Any] = model.config.to_dict()
    if settings.get("layer_types"):
        settings["layer_types"] = settings["layer_types"][:layer_count]
    return {"arithmetic": {name: settings[name] for name in _ARITHMETIC if name in settings}}


def _file_states(folder: Path) -> list[list[Any]]:
    paths = sorted(path for pattern in _WEIGHT_PATTERNS for path in folder.glob(pattern))
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]


def _read_cache(path: Path | None) -> dict[str, str]:
    if path is None or not path.is_file():
        return {}
    try:
        known = json.loads(path.read_text())
    except ValueError:  # half-written by a killed process: it is only a cache
        return {}
    return known if isinstance(known, dict) else {}


def _write_cache(path: Path, known: Mapping[str, str]) -> None:
    try:
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(known, sort_keys=True))
        temporary.replace(path)
    except OSError:  # read-only model folder: the fingerprint is computed at every start
        return

"""The same corpus tokens, three ways: a bare forward of the cut model, our index sweep, and the
way delphi computes its cache of latents."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from services.activation.encoder.bound import BoundEncoder
from services.activation.encoder.loaded import LoadedSae
from services.activation.encoder.model import CutModel, load_model, pad_rows
from services.activation.encoder.sources import ModelSource
from services.activation.encoder.tokenizer import load_tokenizer
from services.activation.index.config import IndexConfig
from services.activation.index.corpus import read_corpus
from services.activation.index.plan import IndexPlan, make_plan
from services.activation.index.sweep import chunk_batches, context_row, sweep_chunks
from services.activation.loading import RegistryLoader
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings

SAE_ID = "smollm2-135m-instruct-l8"
CORPUS = Path(__file__).parents[2] / "demo" / "corpus" / "corpus.jsonl.zst"
_DELPHI_CONTEXT = 256
_DELPHI_ROWS = 8
"""delphi packs documents into rows of 256 tokens; 8 rows were the fastest batch here."""


@dataclass(frozen=True)
class Setting:
    """Everything the arms need, loaded once."""

    plan: IndexPlan
    loaded: LoadedSae
    whole: CutModel
    """The model at full depth."""
    folder: Path


def load_setting(document_count: int, folder: Path) -> Setting:
    """The demo's SAE and some documents of its corpus."""
    settings = ActivationSettings()
    registry = load_registry(settings.registry)
    loaded = RegistryLoader(registry, settings.cache_dir, "cpu", settings.encoder_limits)(SAE_ID)
    source: ModelSource = registry.model_source(registry.sae(SAE_ID).model, settings.cache_dir)
    tokenizer = load_tokenizer(source, registry.models[registry.sae(SAE_ID).model].bos_token)
    corpus = read_corpus(CORPUS)
    step = max(1, len(corpus.documents) // document_count)  # documents of all kinds and sources
    corpus = replace(corpus, documents=corpus.documents[::step])
    (folder / "plan").mkdir()
    plan = make_plan(corpus, tokenizer, loaded.fingerprints, IndexConfig(), folder / "plan")
    return Setting(plan, loaded, load_model(source, 30), folder)


def arms(setting: Setting) -> dict[str, Callable[[], None]]:
    """Name and run of every arm; the first is the limit."""
    return {
        "limit: bare forward of the cut model, the sweep's batches": lambda: _bare(setting),
        "ours: index sweep, all features, part written": lambda: _ours(setting),
        "the way delphi computes: full depth, packed rows, dense encode": lambda: _delphi(setting),
    }


def _bare(setting: Setting) -> None:
    hook = setting.loaded.sae.config.hook
    for chunk in range(setting.plan.chunk_count):
        for batch in chunk_batches(setting.plan, chunk):
            rows = [context_row(setting.plan, context) for context in batch]
            setting.loaded.encoder.model.hidden_states(pad_rows(rows), hook)


def _ours(setting: Setting) -> None:
    plan = setting.plan
    encoder = BoundEncoder(
        setting.loaded.encoder.model, setting.loaded.sae, plan.config.batch_token_budget
    )
    sweep_chunks(
        plan,
        encoder,
        range(plan.chunk_count),
        setting.folder / f"part-{time.monotonic_ns()}",
        clock=time.monotonic,
        report=lambda _: None,
    )


@torch.inference_mode()
def _delphi(setting: Setting) -> None:
    """All blocks of the model over rows of 256 packed tokens, every latent dense, then nonzero."""
    stream = _packed(setting.plan)
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for begin in range(0, len(stream), _DELPHI_ROWS):
        hidden = _through(setting, stream[begin : begin + _DELPHI_ROWS])
        latents = _dense(setting, hidden.flatten(0, 1))
        where = latents.abs().gt(1e-5).nonzero()
        values = latents[where[:, 0], where[:, 1]]
        kept.append((where.numpy(), values.numpy()))


def _packed(plan: IndexPlan) -> Tensor:
    """Documents one behind the other, the first token between them, in rows of 256."""
    offsets = plan.layout.document_offsets
    pieces = [
        np.concatenate([[plan.bos_token_id], plan.layout.tokens[begin:end]])
        for begin, end in itertools.pairwise(offsets.tolist())
    ]
    flat = np.concatenate(pieces).astype(np.int64)
    rows = -(-len(flat) // _DELPHI_CONTEXT)
    padded = np.zeros(rows * _DELPHI_CONTEXT, np.int64)
    padded[: len(flat)] = flat
    return torch.from_numpy(padded.reshape(rows, _DELPHI_CONTEXT))


def _through(setting: Setting, ids: Tensor) -> Tensor:
    """The hooked residual stream, after the whole model has run."""
    block = setting.whole.base.layers[setting.loaded.sae.config.hook.layer]
    seen: list[Tensor] = []

    def keep(_module: object, _arguments: object, output: Tensor | tuple[Tensor, ...]) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    handle = block.register_forward_hook(keep)
    try:
        setting.whole.base(input_ids=ids, use_cache=False)
    finally:
        handle.remove()
    return seen[0]


def _dense(setting: Setting, hidden: Tensor) -> Tensor:
    sae = setting.loaded.sae
    pre = sae.pre_activations(hidden)
    values, indices = torch.topk(pre, k=sae.config.k, dim=-1)
    return torch.zeros_like(pre).scatter_(-1, indices, values.relu())

"""A language model that computes only as far as a hook.

The model is loaded with no more blocks than the deepest hook needs, and the forward pass stops
inside it as soon as the hooked tensor exists. Rows of unequal length are padded on the right:
under causal attention nothing to the right of a token can reach it, so no mask is needed and a
padded batch equals single runs up to rounding of the matrix kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from services.activation.encoder.hooks import HookPoint, Site, block_list, hooked_block
from services.activation.encoder.rows import TokenRow
from services.activation.encoder.sources import ModelSource
from services.common.errors import FailedPrecondition


class _HookReachedError(Exception):
    """Carries the hooked tensor out of the forward pass."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__("hook reached")
        self.hidden = hidden


class CutModel:
    """A causal language model of ``layer_count`` blocks, in ``dtype``, on ``device``.

    Keeps input embedding, final norm and unembedding too: feature facts read them.
    """

    def __init__(self, model: nn.Module, *, device: torch.device) -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.device = device
        self.base: nn.Module = getattr(model, str(model.base_model_prefix))
        self.layer_count = len(block_list(self.base))

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return int(self.embedding.shape[1])

    @property
    def vocabulary_size(self) -> int:
        """Rows of the embedding matrix: token ids are below it."""
        return int(self.embedding.shape[0])

    @property
    def maximum_positions(self) -> int:
        """Longest row the model was made for, the first token included."""
        config: Any = self.model.config
        return int(getattr(config, "max_position_embeddings", 0) or 2**31 - 1)

    @property
    def embedding(self) -> Float[Tensor, "vocabulary d_model"]:
        """Input embedding matrix."""
        embedding: Any = self.model.get_input_embeddings()  # type: ignore[operator]
        weight: Tensor = embedding.weight
        return weight

    @torch.inference_mode()
    def hidden_states(
        self, ids: Int[Tensor, "rows positions"], hook: HookPoint
    ) -> Float[Tensor, "rows positions d_model"]:
        """The residual stream at ``hook`` for right-padded rows.

        Values at padded positions mean nothing. Blocks after the hook are not computed.
        """
        block = hooked_block(self.base, hook)
        handle = _stop_at(block, hook.site)
        try:
            self.base(input_ids=ids.to(self.device), use_cache=False)
        except _HookReachedError as reached:
            return reached.hidden
        finally:
            handle.remove()
        raise FailedPrecondition(
            f"the forward pass never came to {hook}",
            metadata={"hook": str(hook)},
            reason="STATE_CONFLICT",
        )

    @torch.inference_mode()
    def unembed_direction(
        self, direction: Float[Tensor, " d_model"]
    ) -> Float[Tensor, " vocabulary"]:
        """Logits that a residual direction adds, with the final norm's weight folded in.

        ``rms(d) * (unembed(norm(d)) - unembed(norm(0)))``: the norm's bias cancels, and so does
        its division by the length, which depends on the rest of the residual stream.
        """
        norm = _final_norm(self.base)
        unembedding: Any = self.model.get_output_embeddings()  # type: ignore[operator]
        vector = direction.to(self.device, self.embedding.dtype)[None]
        difference = norm(vector) - norm(torch.zeros_like(vector))
        difference = difference * vector.pow(2).mean().sqrt()
        logits: Tensor = difference @ unembedding.weight.T
        return logits[0]


def load_model(source: ModelSource, layer_count: int, *, device: str = "cpu") -> CutModel:
    """Load the first ``layer_count`` blocks of a causal language model in float32.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT where folder or hub id cannot be read,
            STATE_CONFLICT where the model has fewer blocks than asked for.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(source.location, revision=source.revision)
    except (OSError, ValueError) as error:
        raise _not_found(source, error) from error
    if config.num_hidden_layers < layer_count:
        raise FailedPrecondition(
            f"{source.location} has {config.num_hidden_layers} blocks, not {layer_count}",
            reason="STATE_CONFLICT",
        )
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layer_count]
    config.num_hidden_layers = layer_count
    try:
        with _quiet_loading():
            model = AutoModelForCausalLM.from_pretrained(
                source.location,
                revision=source.revision,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
            )
    except (OSError, ValueError) as error:
        raise _not_found(source, error) from error
    return CutModel(model, device=torch.device(device))


def pad_rows(rows: Sequence[TokenRow]) -> Int[Tensor, "rows positions"]:
    """Rows as one right-padded matrix. The padding id is 0: causal attention never looks at it."""
    matrix = torch.zeros((len(rows), max(len(row) for row in rows)), dtype=torch.int64)
    for index, row in enumerate(rows):
        matrix[index, : len(row)] = torch.from_numpy(np.ascontiguousarray(row, dtype=np.int64))
    return matrix


def _stop_at(block: nn.Module, site: Site) -> torch.utils.hooks.RemovableHandle:
    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _HookReachedError(args[0] if args else kwargs["hidden_states"])

    def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        raise _HookReachedError(output[0] if isinstance(output, tuple) else output)

    if site is Site.RESIDUAL_PRE:
        return block.register_forward_pre_hook(before, with_kwargs=True)
    return block.register_forward_hook(after)


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Without progress bars, and without the report that the blocks behind the hook are unused."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _final_norm(base: nn.Module) -> nn.Module:
    for name in ("norm", "ln_f", "final_layer_norm"):
        module = getattr(base, name, None)
        if isinstance(module, nn.Module):
            return module
    raise FailedPrecondition(
        f"{type(base).__name__} has no final norm under a known name", reason="STATE_CONFLICT"
    )


def _not_found(source: ModelSource, error: Exception) -> FailedPrecondition:
    return FailedPrecondition(
        f"language model {source.location!r} cannot be loaded: {error}",
        metadata={"model": source.location},
        reason="ARTIFACT_CORRUPT",
    )

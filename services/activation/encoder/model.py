"""A language model that computes only as far as its hooks.

The model is loaded with no more blocks than the deepest hook needs, and the forward pass stops as
soon as every wanted tensor exists. Rows of unequal length are padded on the right: under causal
attention nothing to the right of a token can reach it, so no mask is needed and a padded batch
equals single runs up to rounding of the matrix kernels.

Attention runs through the kernel that ``transformers`` chooses for the family: scaled dot product
attention, or its plain form for Gemma 2, whose soft-capped scores the former cannot compute.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from services.activation.encoder.families import family_of, submodule
from services.activation.encoder.hooks import HookPoint, Site
from services.activation.encoder.rows import TokenRow
from services.activation.encoder.sources import ModelSource
from services.activation.encoder.taps import Reader, reader_of
from services.common.errors import FailedPrecondition


class _AllReachedError(Exception):
    """Ends the forward pass: every wanted tensor is there."""


class CutModel:
    """A causal language model of ``layer_count`` blocks, on ``device``.

    Keeps input embedding, final norm and unembedding too: feature facts read them.

    Raises:
        Unimplemented: UNSUPPORTED for a family that is not known, by its name.
    """

    def __init__(self, model: nn.Module, *, device: torch.device) -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.device = device
        self.family = family_of(model.config)
        config: Any = model.config
        self.config: Any = config.get_text_config()
        base: nn.Module = getattr(model, str(model.base_model_prefix))
        self.base = submodule(base, self.family.text_model)
        self.blocks: tuple[nn.Module, ...] = tuple(
            submodule(self.base, self.family.blocks).children()
        )
        self.layer_count = len(self.blocks)
        self._readers: dict[HookPoint, Reader] = {}
        self.turn = threading.RLock()
        """Held during a forward pass: what reads it out is attached to the shared modules."""

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
        config = self.config
        return int(getattr(config, "max_position_embeddings", 0) or 2**31 - 1)

    @property
    def embedding(self) -> Float[Tensor, "vocabulary d_model"]:
        """Input embedding matrix."""
        embedding: Any = self.model.get_input_embeddings()  # type: ignore[operator]
        weight: Tensor = embedding.weight
        return weight

    @property
    def compute_dtype(self) -> str:
        """Arithmetic of the blocks, such as ``float32``."""
        return str(self.embedding.dtype).removeprefix("torch.")

    def hidden_states(
        self, ids: Int[Tensor, "rows positions"], hook: HookPoint
    ) -> Float[Tensor, "rows positions width"]:
        """The tensor at ``hook`` for right-padded rows; see :meth:`hidden_states_at`."""
        return self.hidden_states_at(ids, (hook,))[hook]

    @torch.inference_mode()
    def hidden_states_at(
        self, ids: Int[Tensor, "rows positions"], hooks: Collection[HookPoint], **inputs: Any
    ) -> dict[HookPoint, Float[Tensor, "rows positions width"]]:
        """The tensors at all ``hooks`` for right-padded rows, from one forward pass.

        Values at padded positions mean nothing. What lies behind the deepest hook is not computed.
        ``inputs`` are further arguments of the base model, such as a cache.

        Raises:
            FailedPrecondition: STATE_CONFLICT where the model has fewer blocks.
            Unimplemented: UNSUPPORTED where the family has no such place.
        """
        readers = {hook: self._reader(hook) for hook in hooks}
        found: dict[HookPoint, Tensor] = {}

        def keep(hook: HookPoint, tensor: Tensor) -> None:
            found[hook] = tensor
            if len(found) == len(readers):
                raise _AllReachedError

        with self.turn, ExitStack() as attached:
            for hook, reader in readers.items():
                attached.callback(reader.attach(hook, keep).remove)
            try:
                self.base(input_ids=ids.to(self.device), **{"use_cache": False, **inputs})
            except _AllReachedError:
                return found
        missing = sorted(str(hook) for hook in readers if hook not in found)
        raise FailedPrecondition(
            f"the forward pass never came to {', '.join(missing)}",
            metadata={"hook": missing[0] if missing else ""},
            reason="STATE_CONFLICT",
        )

    def width(self, hook: HookPoint) -> int:
        """Length of the vectors at ``hook``. Errors as for :meth:`hidden_states_at`."""
        return self._reader(hook).width or self.hidden_size

    def _reader(self, hook: HookPoint) -> Reader:
        known = self._readers.get(hook)
        if known is None:
            known = self._readers[hook] = self._new_reader(hook)
        return known

    def _new_reader(self, hook: HookPoint) -> Reader:
        if hook.site is Site.EMBEDDING:
            return Reader(submodule(self.base, self.family.embedding))
        if hook.layer >= self.layer_count:
            raise FailedPrecondition(
                f"hook {hook} wants block {hook.layer}, the loaded model has {self.layer_count}",
                metadata={"hook": str(hook), "layer_count": str(self.layer_count)},
                reason="STATE_CONFLICT",
            )
        tap = self.family.tap(hook.site, self.config)
        return reader_of(self.blocks[hook.layer], tap, self.family.norm)


def load_model(
    source: ModelSource,
    layer_count: int,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> CutModel:
    """Load the first ``layer_count`` blocks of a causal language model from its safetensors.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT where folder or hub id cannot be read,
            STATE_CONFLICT where the model has fewer blocks than asked for.
        Unimplemented: UNSUPPORTED for a family that is not known, before weights are read.
    """
    from transformers import AutoModelForCausalLM

    config = cut_config(source, layer_count)
    try:
        with _quiet_loading():
            model = AutoModelForCausalLM.from_pretrained(
                source.location,
                revision=source.revision,
                config=config,
                dtype=dtype,
                use_safetensors=True,
            )
    except (OSError, ValueError) as error:
        raise _not_found(source, error) from error
    return CutModel(model, device=torch.device(device))


def cut_config(source: ModelSource, layer_count: int) -> Any:
    """The configuration of a model's first ``layer_count`` blocks. Errors as `load_model`."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source.location, revision=source.revision)
    except (OSError, ValueError) as error:
        raise _not_found(source, error) from error
    family_of(config)
    _cut_layers(config.get_text_config(), layer_count, source)
    return config


def _cut_layers(config: Any, layer_count: int, source: ModelSource) -> None:
    """Make a text model's configuration one of fewer blocks; each keeps its kind of attention."""
    if config.num_hidden_layers < layer_count:
        raise FailedPrecondition(
            f"{source.location} has {config.num_hidden_layers} blocks, not {layer_count}",
            reason="STATE_CONFLICT",
        )
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layer_count]
    config.num_hidden_layers = layer_count


def pad_rows(rows: Sequence[TokenRow]) -> Int[Tensor, "rows positions"]:
    """Rows as one right-padded matrix. The padding id is 0: causal attention never looks at it."""
    matrix = torch.zeros((len(rows), max(len(row) for row in rows)), dtype=torch.int64)
    for index, row in enumerate(rows):
        matrix[index, : len(row)] = torch.from_numpy(np.ascontiguousarray(row, dtype=np.int64))
    return matrix


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


def _not_found(source: ModelSource, error: Exception) -> FailedPrecondition:
    return FailedPrecondition(
        f"language model {source.location!r} cannot be loaded: {error}",
        metadata={"model": source.location},
        reason="ARTIFACT_CORRUPT",
    )

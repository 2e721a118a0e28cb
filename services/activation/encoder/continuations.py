"""Activations of one SAE at single tokens behind a prefix, blocking.

Prefixes that were used last are kept with their model, so that a caller may ask batch by batch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.activation.encoder.exclusion import silence
from services.activation.encoder.model import CutModel
from services.activation.encoder.rows import DenseRow, SparseRow, TokenRow
from services.activation.encoder.sae import Sae
from services.activation.encoder.shared_prefix import SharedPrefix, share_prefix, states_behind
from services.common.errors import InvalidArgument


class Continuations:
    """See the module's docstring. Call it on the thread that runs the model.

    Args:
        max_prefixes: Prefixes to keep per model.
    """

    def __init__(self, *, max_prefixes: int = 4) -> None:
        self._max_prefixes = max_prefixes
        self._known: WeakKeyDictionary[CutModel, OrderedDict[tuple[str, bytes], SharedPrefix]] = (
            WeakKeyDictionary()
        )

    def sparse(
        self, model: CutModel, sae: Sae, prefix: TokenRow, token_ids: NDArray[np.int64]
    ) -> SparseRow:
        """All activations above zero: one entry list per token of ``token_ids``.

        Raises:
            InvalidArgument: A prefix or token that the model cannot read.
        """
        states = self._states(model, sae, prefix, token_ids)
        rows, features, values = (part.cpu().numpy() for part in sae.encode_sparse(states))
        counts = np.bincount(rows, minlength=len(token_ids))
        found = SparseRow(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            features.astype(np.int32),
            values.astype(np.float32),
        )
        return silence(token_ids, found, sae)

    def dense(
        self,
        model: CutModel,
        sae: Sae,
        prefix: TokenRow,
        token_ids: NDArray[np.int64],
        features: Sequence[int],
    ) -> DenseRow:
        """Activations float32 [tokens, features] of chosen features.

        Raises:
            InvalidArgument: A prefix, token or feature that model or SAE do not have.
        """
        chosen = torch.tensor(list(features), dtype=torch.int64)
        sae.check_features(chosen)
        states = self._states(model, sae, prefix, token_ids)
        values: DenseRow = sae.encode(states, chosen.to(model.device)).float().cpu().numpy()
        return silence(token_ids, values, sae)

    def _states(
        self, model: CutModel, sae: Sae, prefix: TokenRow, token_ids: NDArray[np.int64]
    ) -> Tensor:
        if len(token_ids) and not 0 <= token_ids.min() <= token_ids.max() < model.vocabulary_size:
            raise InvalidArgument(
                f"token ids must be in [0, {model.vocabulary_size})", field="token_ids"
            )
        shared = self._shared(model, sae, prefix)
        return states_behind(model, shared, torch.from_numpy(token_ids.astype(np.int64)))

    def _shared(self, model: CutModel, sae: Sae, prefix: TokenRow) -> SharedPrefix:
        known = self._known.setdefault(model, OrderedDict())
        key = (str(sae.config.hook), np.asarray(prefix, dtype=np.int64).tobytes())
        if key not in known:
            known[key] = share_prefix(model, prefix, sae.config.hook)
        known.move_to_end(key)
        while len(known) > self._max_prefixes:
            known.popitem(last=False)
        return known[key]

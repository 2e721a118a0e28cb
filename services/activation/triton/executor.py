"""Answers a batch of Triton requests with the encoder; knows nothing of Triton itself.

Requests of one batch come from callers that do not know each other. Each is checked on its own,
so that a bad one spoils only its own answer; the good ones are grouped by SAE and share forward
passes. Dense requests of one group may ask for different features: the group computes their
union, and everyone gets the columns asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.activation.encoder.facts import decoder_cosines, feature_facts, token_cosines
from services.activation.encoder.inprocess import LoadedSae, SaeLoader
from services.activation.encoder.rows import check_rows
from services.activation.triton import wire
from services.common.errors import Cancelled, SaexplainError, Unavailable

_NEIGHBOR_COUNT = 10
_TOKEN_COUNT = 20
"""Nearest features, and tokens promoted and suppressed, of a feature's facts."""

Answer = dict[str, NDArray[Any]] | SaexplainError
"""Output tensors, or why there are none."""


@dataclass(frozen=True)
class Pending:
    """One request of a batch."""

    tensors: wire.Tensors
    """Flat inputs; see :mod:`wire`."""
    cancelled: Callable[[], bool]
    """Whether its caller has gone away."""
    answer: Callable[[Answer], None]
    """To be called exactly once, as soon as the answer is there."""


@dataclass(frozen=True)
class _Checked:
    pending: Pending
    request: wire.Request
    loaded: LoadedSae


class Executor:
    """See the module's docstring.

    Args:
        load: Finds or loads what belongs to an SAE id.
        batch_token_budget: Tokens of requests that are run together; the encoder has its own
            budget per forward pass.
        max_features: Features computed together in one group of dense requests.
    """

    def __init__(self, load: SaeLoader, *, batch_token_budget: int, max_features: int) -> None:
        self._load = load
        self._batch_token_budget = batch_token_budget
        self._max_features = max_features

    def execute(self, batch: Sequence[Pending]) -> None:
        """Answer every request of a batch, each exactly once."""
        checked = [found for pending in batch if (found := self._check(pending)) is not None]
        for group in self._groups(checked):
            self._answer_group(group)

    def _check(self, pending: Pending) -> _Checked | None:
        """Decode and check one request; None where it has been answered already."""
        try:
            request = wire.decode_request(pending.tensors)
            loaded = self._load(request.sae_id)
            model = loaded.encoder.model
            check_rows(
                request.rows,
                vocabulary_size=model.vocabulary_size,
                maximum_tokens=model.maximum_positions,
            )
            loaded.sae.check_features(torch.tensor(request.features, dtype=torch.int64))
            weights = _read_weights(request, loaded)
            if weights is not None:
                pending.answer(weights | _fingerprint(loaded))
                return None
        except SaexplainError as error:
            pending.answer(error)
            return None
        return _Checked(pending, request, loaded)

    def _groups(self, checked: Sequence[_Checked]) -> Iterator[list[_Checked]]:
        """Requests that run together, in order of arrival."""
        waiting = list(checked)
        while waiting:
            group: list[_Checked] = [waiting[0]]
            left: list[_Checked] = []
            for item in waiting[1:]:
                (group if self._fits(group, item) else left).append(item)
            yield group
            waiting = left

    def _fits(self, group: Sequence[_Checked], item: _Checked) -> bool:
        first, members = group[0].request, [*group, item]
        return (
            (first.task, first.sae_id) == (item.request.task, item.request.sae_id)
            and sum(member.request.token_count for member in members) <= self._batch_token_budget
            and len(_union(members)) <= self._max_features
        )

    def _answer_group(self, group: list[_Checked]) -> None:
        def abandoned() -> bool:
            return all(member.pending.cancelled() for member in group)

        try:
            answers: list[Answer] = self._compute(group, abandoned)
        except SaexplainError as error:
            answers = [error] * len(group)
        except (RuntimeError, MemoryError) as error:  # what torch raises out of memory
            failure = Unavailable(f"the encoder failed: {type(error).__name__}: {error}")
            answers = [failure] * len(group)
        for member, answer in zip(group, answers, strict=True):
            member.pending.answer(answer)

    def _compute(self, group: list[_Checked], abandoned: Callable[[], bool]) -> list[Answer]:
        if abandoned():
            raise Cancelled("the caller no longer wants the answer")
        loaded, task = group[0].loaded, group[0].request.task
        rows = [row for member in group for row in member.request.rows]
        if task is wire.Task.SPARSE:
            sparse = loaded.encoder.encode_sparse(loaded.sae, rows, abandoned)
            return [
                wire.encode_sparse(sparse[part]) | _fingerprint(loaded) for part in _slices(group)
            ]
        union = _union(group)
        dense = loaded.encoder.encode(loaded.sae, rows, union, abandoned)
        answers: list[Answer] = []
        for member, part in zip(group, _slices(group), strict=True):
            columns = np.searchsorted(union, member.request.features)
            chosen = [row[:, columns] for row in dense[part]]
            answers.append(wire.encode_dense(chosen) | _fingerprint(loaded))
        return answers


def describe(loaded: LoadedSae) -> wire.SaeDescription:
    """What is loaded, for the backend to check and to tell."""
    config, model = loaded.sae.config, loaded.encoder.model
    return wire.SaeDescription(
        fingerprints=loaded.fingerprints,
        hook_point=str(config.hook),
        architecture=config.architecture,
        d_in=config.d_in,
        d_sae=config.d_sae,
        normalize_activations=config.normalize_activations,
        vocabulary_size=model.vocabulary_size,
        maximum_positions=model.maximum_positions,
    )


def _read_weights(request: wire.Request, loaded: LoadedSae) -> dict[str, NDArray[Any]] | None:
    """The answer to a task that runs no text, None for the others."""
    model, sae = loaded.encoder.model, loaded.sae
    if request.task is wire.Task.DESCRIBE:
        return wire.encode_description(describe(loaded))
    if request.task is wire.Task.FEATURE:
        (feature,) = request.features[:1] or (-1,)
        facts = feature_facts(
            model,
            sae,
            feature,
            vocabulary_size=request.vocabulary_size,
            neighbor_count=_NEIGHBOR_COUNT,
            token_count=_TOKEN_COUNT,
        )
        return wire.encode_facts(facts, decoder_cosines(sae, feature))
    if request.task is wire.Task.TOKENS:
        ids = np.concatenate(request.rows).tolist()
        return {"values": np.concatenate([token_cosines(model, token_id) for token_id in ids])}
    return None


def _fingerprint(loaded: LoadedSae) -> dict[str, NDArray[Any]]:
    return wire.encode_fingerprint(describe(loaded))


def _union(group: Sequence[_Checked]) -> list[int]:
    return sorted({feature for member in group for feature in member.request.features})


def _slices(group: Sequence[_Checked]) -> Iterator[slice]:
    """Each request's place among the rows of its group."""
    start = 0
    for member in group:
        yield slice(start, start + len(member.request.rows))
        start += len(member.request.rows)

"""What travels between the backend and the Triton model: tensors by name, errors as JSON.

Everything that changes an answer is an input, never a request parameter: Triton's response cache
does not look at parameters. Text travels as UINT8 because string tensors cannot go through
DLPack. All tensors are flat; Triton's batch axis of one is added and removed at the edges.

========== ====== =============== ==========================================================
input      type   length          content
========== ====== =============== ==========================================================
task       UINT8  1               a :class:`Task`
sae_id     UINT8  any             UTF-8
ids        INT64  tokens          token ids of all rows, one after the other
lengths    INT64  rows            tokens of each row; with ids for DENSE, SPARSE, TOKENS
features   INT64  features        chosen features for DENSE, the feature for FEATURE
vocabulary INT64  1               tokens that FEATURE may list: those with ids below it
========== ====== =============== ==========================================================

=========== ====== ================ =========================================================
output      type   length           content
=========== ====== ================ =========================================================
record      UINT8  any              JSON of what DESCRIBE or FEATURE asked for
fingerprint UINT8  64               digest of the description, with every answer
values      FP32   any              DENSE: tokens x features; SPARSE: entries of all rows;
                                    FEATURE: features; TOKENS: tokens x vocabulary
indptr      INT64  tokens + rows    :attr:`SparseRow.indptr` of each row, SPARSE only
indices     INT32  entries          :attr:`SparseRow.features` of each row, SPARSE only
=========== ====== ================ =========================================================
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.fact_records import FeatureFacts, Scored
from services.activation.encoder.identity import Fingerprints, canonical_json, digest
from services.activation.encoder.rows import DenseRow, SparseRow, TokenRow
from services.common.errors import (
    BY_STATUS,
    FieldViolation,
    InvalidArgument,
    SaexplainError,
    Unavailable,
)

Tensors = Mapping[str, NDArray[Any]]
"""Flat arrays by name."""

INPUT_TYPES = {
    "task": "UINT8",
    "sae_id": "UINT8",
    "ids": "INT64",
    "lengths": "INT64",
    "features": "INT64",
    "vocabulary": "INT64",
}
OPTIONAL_INPUTS = frozenset({"ids", "lengths", "features", "vocabulary"})
OUTPUT_TYPES = {
    "record": "UINT8",
    "fingerprint": "UINT8",
    "values": "FP32",
    "indptr": "INT64",
    "indices": "INT32",
}
_ERROR_MARK = "saexplain-error:"


class Task(enum.IntEnum):
    """What a request asks for."""

    DESCRIBE = 0
    """What is loaded."""
    DENSE = 1
    """Activations of chosen features."""
    SPARSE = 2
    """All activations above zero."""
    FEATURE = 3
    """What the weights say of a feature, and every feature's decoder cosine with it."""
    TOKENS = 4
    """Every token's embedding cosine with each token of one row."""


TASKS_THAT_RUN_TEXT = frozenset({Task.DENSE, Task.SPARSE})
_TASKS_WITH_ROWS = frozenset({Task.DENSE, Task.SPARSE, Task.TOKENS})
_TASKS_WITH_FEATURES = frozenset({Task.DENSE, Task.FEATURE})


@dataclass(frozen=True)
class SaeDescription:
    """What a Triton model has loaded for one SAE."""

    fingerprints: Fingerprints
    hook_point: str
    architecture: str
    d_in: int
    d_sae: int
    normalize_activations: str
    vocabulary_size: int
    maximum_positions: int
    """Longest row the language model was made for, the first token included."""
    prepend_bos: bool
    """Whether rows begin with a token that is not part of the text."""
    compute_dtype: str = "float32"
    """Arithmetic of the language model."""
    readout: str = ""
    """Fingerprint of final norm and unembedding."""

    @property
    def digest(self) -> str:
        """sha256 (hex); comes with every answer."""
        return digest(asdict(self))


@dataclass(frozen=True)
class Request:
    """One caller's request, decoded."""

    task: Task
    sae_id: str
    rows: tuple[TokenRow, ...] = ()
    features: tuple[int, ...] = ()
    vocabulary_size: int = 0

    @property
    def token_count(self) -> int:
        """Tokens over all rows."""
        return sum(len(row) for row in self.rows)


def encode_request(request: Request) -> dict[str, NDArray[Any]]:
    """Flat input tensors of a request."""
    tensors: dict[str, NDArray[Any]] = {
        "task": np.array([request.task], dtype=np.uint8),
        "sae_id": _bytes_tensor(request.sae_id.encode()),
    }
    if request.task in _TASKS_WITH_ROWS:
        tensors["ids"] = np.concatenate(request.rows).astype(np.int64)
        tensors["lengths"] = np.array([len(row) for row in request.rows], dtype=np.int64)
    if request.task in _TASKS_WITH_FEATURES:
        tensors["features"] = np.array(request.features, dtype=np.int64)
    if request.task is Task.FEATURE:
        tensors["vocabulary"] = np.array([request.vocabulary_size], dtype=np.int64)
    return tensors


def decode_request(tensors: Tensors) -> Request:
    """The request of flat input tensors.

    Raises:
        InvalidArgument: FIELD_INVALID where tensors are missing or do not fit together.
    """
    try:
        task = Task(int(tensors["task"][0]))
        sae_id = tensors["sae_id"].tobytes().decode()
        rows: tuple[TokenRow, ...] = ()
        if task in _TASKS_WITH_ROWS:
            rows = _split(tensors["ids"], tensors["lengths"])
        chosen = tensors["features"].tolist() if task in _TASKS_WITH_FEATURES else []
        vocabulary_size = int(tensors["vocabulary"][0]) if task is Task.FEATURE else 0
    except (KeyError, ValueError, IndexError) as error:
        raise InvalidArgument(f"malformed request tensors: {error}") from error
    return Request(task, sae_id, rows, tuple(chosen), vocabulary_size)


def encode_dense(rows: Sequence[DenseRow]) -> dict[str, NDArray[Any]]:
    """Output tensors of a DENSE answer."""
    return {"values": np.concatenate([row.reshape(-1) for row in rows])}


def decode_dense(tensors: Tensors, request: Request) -> list[DenseRow]:
    """The rows of a DENSE answer.

    Raises:
        Unavailable: The answer has another size than the request asks for.
    """
    values, width = _output(tensors, "values"), len(request.features)
    if len(values) != request.token_count * width:
        raise _wrong_size("values", len(values), request.token_count * width)
    matrix = values.astype(np.float32, copy=False).reshape(-1, width)
    bounds = np.cumsum([len(row) for row in request.rows])[:-1]
    return list(np.split(matrix, bounds))


def encode_sparse(rows: Sequence[SparseRow]) -> dict[str, NDArray[Any]]:
    """Output tensors of a SPARSE answer."""
    return {
        "indptr": np.concatenate([row.indptr for row in rows]),
        "indices": np.concatenate([row.features for row in rows]),
        "values": np.concatenate([row.values for row in rows]),
    }


def decode_sparse(tensors: Tensors, request: Request) -> list[SparseRow]:
    """The rows of a SPARSE answer. Errors as for :func:`decode_dense`."""
    indptr, indices, values = (_output(tensors, name) for name in ("indptr", "indices", "values"))
    expected = request.token_count + len(request.rows)
    if len(indptr) != expected:
        raise _wrong_size("indptr", len(indptr), expected)
    parts = np.split(indptr, np.cumsum([len(row) + 1 for row in request.rows])[:-1])
    ends = np.cumsum([part[-1] for part in parts])
    if not len(indices) == len(values) == int(ends[-1]):
        raise _wrong_size("values", len(values), int(ends[-1]))
    features, entries = np.split(indices, ends[:-1]), np.split(values, ends[:-1])
    return [
        SparseRow(part.astype(np.int64), feature.astype(np.int32), entry.astype(np.float32))
        for part, feature, entry in zip(parts, features, entries, strict=True)
    ]


def encode_description(description: SaeDescription) -> dict[str, NDArray[Any]]:
    """Output tensors of a DESCRIBE answer."""
    return {"record": _bytes_tensor(canonical_json(asdict(description)))}


def decode_description(tensors: Tensors) -> SaeDescription:
    """What a DESCRIBE answer says."""
    fields = json.loads(_output(tensors, "record").tobytes())
    return SaeDescription(**{**fields, "fingerprints": Fingerprints(**fields["fingerprints"])})


def encode_facts(facts: FeatureFacts, cosines: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Output tensors of a FEATURE answer."""
    return {"record": _bytes_tensor(canonical_json(asdict(facts))), "values": cosines}


def decode_facts(tensors: Tensors) -> tuple[FeatureFacts, NDArray[np.float32]]:
    """Facts, and float32 [features] cosines, of a FEATURE answer."""
    fields = json.loads(_output(tensors, "record").tobytes())
    lists = ("nearest_features", "promoted_tokens", "suppressed_tokens")
    scored = {name: tuple(Scored(**entry) for entry in fields[name]) for name in lists}
    return FeatureFacts(**{**fields, **scored}), _output(tensors, "values")


def decode_cosines(tensors: Tensors, token_count: int) -> list[NDArray[np.float32]]:
    """Float32 [vocabulary] for each token of a TOKENS answer."""
    values = _output(tensors, "values")
    if len(values) % token_count:
        raise _wrong_size("values", len(values), token_count)
    return list(values.reshape(token_count, -1))


def encode_fingerprint(description: SaeDescription) -> dict[str, NDArray[Any]]:
    """The output tensor that comes with every answer."""
    return {"fingerprint": _bytes_tensor(description.digest.encode())}


def decode_fingerprint(tensors: Tensors) -> str:
    """Digest of the description under which an answer was computed."""
    return _output(tensors, "fingerprint").tobytes().decode("ascii", "replace")


def error_text(error: SaexplainError) -> str:
    """An error as the message of a Triton error; `decode_error` reads it back."""
    fields = {
        "status": error.status,
        "reason": error.reason,
        "message": error.message,
        "metadata": error.metadata,
        "retry_after_seconds": error.retry_after_seconds,
        "violations": [asdict(violation) for violation in error.violations],
    }
    return f"{_ERROR_MARK}{json.dumps(fields)}"


def decode_error(text: str) -> SaexplainError | None:
    """The error inside a Triton error's message, or None where the message is not ours."""
    _, mark, body = text.partition(_ERROR_MARK)
    if not mark:
        return None
    fields, _ = json.JSONDecoder().raw_decode(body)
    kind = BY_STATUS[fields["status"]]
    error = kind(fields["message"], reason=fields["reason"], metadata=fields["metadata"])
    error.retry_after_seconds = fields["retry_after_seconds"]
    error.violations = tuple(FieldViolation(**violation) for violation in fields["violations"])
    return error


def _split(ids: NDArray[Any], lengths: NDArray[Any]) -> tuple[TokenRow, ...]:
    if len(lengths) == 0 or lengths.min() < 0 or lengths.sum() != len(ids):
        raise ValueError(f"{len(ids)} ids and lengths {lengths[:8].tolist()}… do not fit together")
    return tuple(np.split(ids.astype(np.int64, copy=False), np.cumsum(lengths)[:-1]))


def _bytes_tensor(content: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(content, dtype=np.uint8).copy()


def _output(tensors: Tensors, name: str) -> NDArray[Any]:
    if name not in tensors:
        raise Unavailable(f"Triton's answer has no tensor {name!r}")
    return tensors[name]


def _wrong_size(name: str, size: int, expected: int) -> Unavailable:
    return Unavailable(f"Triton's tensor {name!r} has {size} entries, {expected} were asked for")

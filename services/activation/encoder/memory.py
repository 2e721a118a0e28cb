"""What models and SAEs will take in memory, by plain arithmetic, before they are loaded.

Every figure errs upwards. Weights are counted exactly from shapes, with a margin for the
allocator and for what loading holds for a moment. The workspace assumes the plain attention
kernel, which writes every score down, and all features of a batch at once; the kernels that run
mostly do with a fraction. Not counted: Python, the libraries and index files, which are mapped.
A budget should therefore stay below what the machine has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_WEIGHTS_MARGIN = 1.1
_STATE_COPIES = 8
"""Tensors as wide as the residual stream that a block holds at once: input, norm, queries, keys,
values, attention output and two sums."""
_MLP_COPIES = 3
"""Tensors as wide as the MLP: gate, up, their product."""
_FEATURE_COPIES = 3
"""Tensors as wide as the SAE: pre-activations, activations and a mask or its sorted values."""
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class ModelShape:
    """A language model cut at a depth, before it is loaded."""

    parameter_count: int
    """Of embedding, blocks as far as the cut, final norm and unembedding; tied ones once."""
    hidden_size: int
    mlp_size: int
    head_count: int


@dataclass(frozen=True)
class SaeShape:
    """An SAE before it is loaded."""

    parameter_count: int
    feature_count: int
    input_size: int
    layer_count: int
    """Blocks of the language model that its hook needs."""


def model_bytes(
    shape: ModelShape, *, parameter_bytes: int, token_budget: int, max_row_tokens: int
) -> int:
    """Weights, and the workspace of one forward pass.

    Args:
        shape: The cut model.
        parameter_bytes: Bytes of one loaded parameter: 4 for float32, 2 for bfloat16.
        token_budget: Padded tokens of a pass.
        max_row_tokens: Longest row.
    """
    scores = shape.head_count * min(max_row_tokens, token_budget)
    width = _STATE_COPIES * shape.hidden_size + _MLP_COPIES * shape.mlp_size + scores
    tokens = max(token_budget, max_row_tokens)
    return weight_bytes(shape.parameter_count, parameter_bytes) + tokens * width * _FLOAT_BYTES


def sae_bytes(shape: SaeShape, *, token_budget: int, max_row_tokens: int) -> int:
    """Weights in float32, decoder norms, and the workspace of encoding one pass."""
    tokens = max(token_budget, max_row_tokens)
    width = _FEATURE_COPIES * shape.feature_count + 2 * shape.input_size
    parameters = shape.parameter_count + shape.feature_count
    return weight_bytes(parameters, _FLOAT_BYTES) + tokens * width * _FLOAT_BYTES


def weight_bytes(parameter_count: int, parameter_bytes: int) -> int:
    """Loaded weights with their margin."""
    return int(parameter_count * parameter_bytes * _WEIGHTS_MARGIN)


def machine_bytes(root: Path = Path("/")) -> int:
    """Memory that this process may use: the machine's, or its control group's where that is less.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.
    """
    total = _meminfo_total(root / "proc" / "meminfo")
    groups = root / "sys" / "fs" / "cgroup"
    limits = (groups / "memory.max", groups / "memory" / "memory.limit_in_bytes")
    return min([total, *(limit for path in limits if (limit := _limit(path)) is not None)])


def _meminfo_total(path: Path) -> int:
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            return int(rest.split()[0]) * 1024
    raise OSError(f"{path} says no MemTotal")


def _limit(path: Path) -> int | None:
    """A control group's limit; None without one, or with the word for none."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None

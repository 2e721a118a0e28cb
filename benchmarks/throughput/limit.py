"""The limit: the fastest of several plain ways to run the bare cut model, with no SAE.

Ours without its SAE is one of them, so that nothing in it can hide a slow forward pass. The share
of the machine's matrix-product peak says how much a better kernel could still bring.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from benchmarks.throughput.material import Material
from benchmarks.throughput.turns import Arm
from services.activation.encoder.encode import plan_batches
from services.activation.encoder.model import CutModel, pad_rows
from services.activation.encoder.packing import packed_states

BUDGETS = (512, 1_024, 2_048, 4_096)
"""Tokens of one forward pass; padded ones where rows are padded."""


def variants(material: Material, *, compiled: bool) -> dict[str, Arm]:
    """Plain ways to the same hidden states, by what tells them apart."""
    arms: dict[str, Arm] = {}
    for budget in BUDGETS:
        arms[f"padded, sorted, sdpa, {budget}"] = _padded(material, material.model, budget)
        arms[f"rows side by side, sdpa, {budget}"] = _packed(material, budget)
    eager = material.cut_model(torch.float32)
    eager.model.set_attn_implementation("eager")  # type: ignore[operator]
    arms[f"padded, sorted, eager attention, {BUDGETS[1]}"] = _padded(material, eager, BUDGETS[1])
    if compiled:
        blocks = material.cut_model(torch.float32)
        for block in blocks.blocks:
            block.compile(dynamic=True)
        name = f"padded, sorted, blocks through torch.compile, {BUDGETS[1]}"
        arms[name] = _padded(material, blocks, BUDGETS[1])
    return arms


def operations_per_token(model: CutModel) -> int:
    """Floating point operations of the blocks' matrix products for one token, attention's own
    (a few per cent at these lengths) left out."""
    weights = [
        module.weight
        for block in model.blocks
        for module in block.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    return 2 * sum(weight.numel() for weight in weights)


def peak_operations(model: CutModel, dtype: torch.dtype, tokens: int = 1_024) -> float:
    """Operations per second of bare products of the blocks' own shapes, one after the other."""
    products: list[tuple[Tensor, Tensor]] = []
    for module in model.blocks[0].modules():
        if isinstance(module, torch.nn.Linear):
            weight = module.weight.to(dtype)
            products.append((torch.randn(tokens, weight.shape[1]).to(dtype), weight))
    operations = sum(2 * tokens * weight.numel() for _, weight in products)
    return operations / _best(lambda: [linear(x, weight) for x, weight in products])


def _best(work: Callable[[], object], tries: int = 20) -> float:
    seconds = []
    with torch.inference_mode():
        for _ in range(tries):
            begin = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - begin)
    return min(seconds)


def _padded(material: Material, model: CutModel, budget: int) -> Arm:
    hook, rows = material.sae.config.hook, material.rows

    def run() -> None:
        for batch in _padded_batches([len(row) for row in rows], budget):
            model.hidden_states(pad_rows([rows[index] for index in batch]), hook)

    return run


def _packed(material: Material, budget: int) -> Arm:
    hook, rows = material.sae.config.hook, material.rows

    def run() -> None:
        for batch in plan_batches([len(row) for row in rows], budget):
            packed_states(material.model, [rows[index] for index in batch], (hook,))

    return run


def _padded_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Sorted by length, so that ``rows x longest row`` stays within the budget."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > budget:
            batches.append([])
        batches[-1].append(index)
    return batches


def shares(material: Material, tokens_per_second: float) -> Mapping[str, float]:
    """Billions of operations per second: what the limit does, and the measured peak."""
    done = tokens_per_second * operations_per_token(material.model)
    peak = peak_operations(material.model, torch.float32)
    return {"limit": done / 1e9, "peak": peak / 1e9, "share": done / peak}

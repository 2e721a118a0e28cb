"""Reads the committed vectors: inputs, and what published implementations gave on them.

Where a reference gave NaN or an infinity the file holds null, and our estimators are
undefined: the one rule for all of them is that no such number ever leaves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.scorer.statistics.estimate import Estimate

_FOLDER = Path(__file__).parent / "vectors"


def cases(name: str) -> list[Any]:
    """The cases of a file with their tolerance, as pytest parameters."""
    data = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    tolerance = data["tolerance"]
    return [pytest.param(case, tolerance, id=case["id"]) for case in data["cases"]]


def same(got: Estimate | float | None, expected: float | None, tolerance: dict) -> bool:
    """Whether a value agrees, undefined with null."""
    value = got.value if isinstance(got, Estimate) else got
    if value is None or expected is None:
        return value is None and expected is None
    slack = tolerance.get("abs", 1e-9) + tolerance.get("rel", 0.0) * abs(expected)
    return abs(value - expected) <= slack

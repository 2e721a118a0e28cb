"""The same generated calls against a front whose models run in Triton; see `test_fuzz.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.activation.fuzzed import check_front
from tests.activation.stack import settings
from tests.activation.triton.conftest import RunningTriton

pytestmark = pytest.mark.triton


def test_generated_calls_never_break_triton(
    triton: RunningTriton, registry_path: Path, corpus_path: Path, tmp_path: Path
) -> None:
    chosen = settings(
        registry_path,
        tmp_path,
        backend="triton",
        triton_address=triton.address,
        max_text_tokens=200,
        page_bytes=4_096,
    )
    check_front(chosen, corpus_path, volleys=20, size=12)

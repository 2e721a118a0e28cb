"""Hundreds of generated calls against a front with models in its own process.

Load-bearing: no answer is INTERNAL or UNKNOWN, every refusal has a reason, and a good request
between them always gets the same values. `python -m benchmarks.fuzz` runs thousands.
"""

from __future__ import annotations

from pathlib import Path

from tests.activation.fuzzed import check_front
from tests.activation.stack import settings
from tests.activation.triton.conftest import write_registry


def test_generated_calls_never_break_a_front(
    model_folder: Path, corpus_path: Path, tmp_path: Path
) -> None:
    registry = write_registry(tmp_path, model_folder)
    chosen = settings(registry, tmp_path, max_text_tokens=200, page_bytes=4_096)
    check_front(chosen, corpus_path, volleys=30, size=12)

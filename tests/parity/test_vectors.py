"""No committed vector is forgotten."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_file_of_vectors_has_a_test():
    """Guards against a reference that is copied and never compared with."""
    read = {
        name
        for source in HERE.glob("test_*.py")
        for name in re.findall(r'\bcases\("(\w+)"\)', source.read_text(encoding="utf-8"))
    }
    assert read == {path.stem for path in (HERE / "vectors").glob("*.json")}
    assert len(read) == 31

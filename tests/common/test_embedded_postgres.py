"""Guards against a start that empties a folder it did not fill."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common import embedded_postgres
from services.common.errors import Unavailable


async def test_a_folder_of_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(Unavailable, match="does not start"):
        await embedded_postgres.start(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


async def test_a_server_starts_on_a_fresh_folder_and_again_on_its_own_data(tmp_path: Path) -> None:
    for _ in range(2):
        server = await embedded_postgres.start(tmp_path / "data")
        assert server.url.startswith("postgresql://")
        await server.stop()

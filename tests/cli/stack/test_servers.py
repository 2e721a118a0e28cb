"""The real servers that the stack stands on, each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psycopg

from services.cli.stack import Stack, StackConfig
from services.cli.stack.ports import PortPicker
from services.cli.stack.reaper import strays
from services.cli.stack.spec import ServiceSpec
from services.cli.stack.table import saexplain_services


def only(*names: str):
    """The rows of the real table with these names."""

    def table(config: StackConfig, ports: PortPicker) -> Sequence[ServiceSpec]:
        return [spec for spec in saexplain_services(config, ports) if spec.name in names]

    return table


async def test_postgres_and_temporal_start_serve_and_go(tmp_path: Path) -> None:
    """PostgreSQL leaves its process group when it starts; it must not survive the stack."""
    config = StackConfig(state_dir=tmp_path)
    for _ in range(2):
        async with Stack(config, only("postgres", "temporal")) as stack:
            url = config.postgres_url_path.read_text()
            async with await psycopg.AsyncConnection.connect(url) as connection:
                cursor = await connection.execute("create table if not exists kept (id int)")
                await cursor.close()
            assert set(stack.addresses) == {"temporal"}
            assert strays("nobody", config.postgres_dir), "the control: it runs now"
        assert strays("nobody", config.postgres_dir) == []


def test_the_table_names_each_service_once_and_needs_only_what_it_has(tmp_path: Path) -> None:
    """A misspelt need would wait for ever."""
    specs = saexplain_services(StackConfig(state_dir=tmp_path), PortPicker())
    names = [spec.name for spec in specs]
    assert len(names) == len(set(names))
    assert {need for spec in specs for need in spec.after} <= set(names)
    addresses = [spec.address for spec in specs if spec.address]
    assert len(addresses) == len(set(addresses)) == 7

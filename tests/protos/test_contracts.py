"""The committed stubs must be what the committed contracts say, the contracts must keep
to their style, and errors must be documented where they are raised."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"
FILES = sorted(p.relative_to(PROTOS) for p in PROTOS.glob("saexplain/**/*.proto"))


def _descriptor(path: Path) -> FileDescriptor:
    module = importlib.import_module(".".join(path.with_suffix("").parts) + "_pb2")
    return module.DESCRIPTOR


def test_committed_stubs_are_those_of_the_contracts(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts/generate_stubs.sh", tmp_path], check=True, capture_output=True)
    fresh = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*.py*")}
    committed = {
        p.relative_to(PROTOS): p.read_bytes()
        for p in PROTOS.rglob("*_pb2*.py*")
        if "__pycache__" not in p.parts
    }
    assert fresh == committed, "stubs differ from the contracts: run `make protos` and commit"


def test_contracts_pass_the_linter_and_break_nothing_released() -> None:
    """A renumbered or removed field would be read as something else by an older client."""
    buf = shutil.which("buf", path=str(Path(sys.executable).parent))
    assert buf, "buf is missing: run `make env`"
    against = ["breaking", "--against", "released.binpb"]
    for arguments in (["lint"], ["format", "-d", "--exit-code"], against):
        run = subprocess.run([buf, *arguments], cwd=PROTOS, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_resource_name_of_a_request_says_its_form(path: Path) -> None:
    """A caller who reads only the proto must know what `name` or `parent` looks like."""
    source = (PROTOS / path).read_text().splitlines()
    for message in _descriptor(path).message_types_by_name.values():
        for field in message.fields:
            if field.name in ("name", "parent", "feature", "sae", "index", "owner") and (
                field.type == FieldDescriptor.TYPE_STRING
            ):
                comment = _comment(source, message.name, field.name)
                assert "`" in comment or message.name in {"Explainer", "Method", "Baseline"}, (
                    f"{message.name}.{field.name} does not say its form"
                )


def _comment(source: list[str], message: str, field: str) -> str:
    start = next(i for i, line in enumerate(source) if line.startswith(f"message {message} "))
    end = next(i for i in range(start, len(source)) if f" {field} = " in source[i])
    lines = []
    for line in reversed(source[start:end]):
        if not line.strip().startswith("//"):
            break
        lines.append(line)
    return "\n".join(lines)


def test_all_enums_start_unspecified_and_floats_never_stand_for_unknown() -> None:
    for path in FILES:
        descriptor = _descriptor(path)
        for enum in descriptor.enum_types_by_name.values():
            assert enum.values_by_number[0].name.endswith("_UNSPECIFIED")
    score = _descriptor(Path("saexplain/common/v1/score.proto")).message_types_by_name["Score"]
    usage = _descriptor(Path("saexplain/common/v1/usage.proto")).message_types_by_name["LlmUsage"]
    for message, names in ((score, ("value", "interval", "gap_closed")), (usage, ("cost",))):
        for name in names:
            assert message.fields_by_name[name].has_presence, f"{name} must tell absent from 0"

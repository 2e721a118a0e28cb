"""The wheel of the client, built for real: a caller needs nothing but it and its four
dependencies."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_client_wheel_holds_client_and_stubs_and_little_else(tmp_path: Path) -> None:
    """Guards against a wheel without stubs, which imports only inside the repository."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT / "clients" / "python", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("saexplain_client-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "saexplain/explanation/v1/explanation_pb2_grpc.py" in names
    assert "saexplain/explanation/v1/explanation_pb2.pyi" in names
    assert "saexplain/py.typed" in names
    assert "saexplain_client/py.typed" in names
    rest = {name for name in names if not name.startswith(("saexplain/", "saexplain_client/"))}
    assert all(".dist-info/" in name for name in rest), rest
    assert {Path(name).suffix for name in names if ".dist-info/" not in name} == {
        ".py",
        ".pyi",
        ".typed",
    }
    script = (
        "import sys; import saexplain_client;"
        "heavy = {'torch', 'temporalio', 'structlog', 'numpy', 'pydantic'} & set(sys.modules);"
        "assert not heavy, heavy;"
        f"assert saexplain_client.__file__.startswith({str(wheel)!r})"
    )
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(wheel)!r});{script}"],
        check=True,
    )

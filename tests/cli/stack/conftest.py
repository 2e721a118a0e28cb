"""Loads the dummies, which are a program as well as a module."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

_PATH = Path(__file__).with_name("dummies.py")


@pytest.fixture(scope="session")
def dummies() -> ModuleType:
    """The module `dummies.py`."""
    spec = importlib.util.spec_from_file_location("stack_dummies", _PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["stack_dummies"] = module
    spec.loader.exec_module(module)
    return module

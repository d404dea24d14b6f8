"""The benchmark scripts as modules; each is one command, and imports its neighbours by name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parent.parent.parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Function that imports a script by name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    known = set(sys.modules)

    def load(name: str) -> ModuleType:
        assert name in known or (FOLDER / f"{name}.py").is_file()
        return importlib.import_module(name)

    return load

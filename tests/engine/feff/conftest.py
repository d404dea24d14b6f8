"""Small crystals, and what FEFF leaves running."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure


@pytest.fixture
def rock_salt() -> Structure:
    """MgO, conventional cell: sites 0 to 3 magnesium, 4 to 7 oxygen, 2.106 angstrom apart."""
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.212), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture
def loose() -> Structure:
    """Solid xenon stretched to 9 angstrom: few atoms in any sphere."""
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(9.0), ["Xe"], [[0, 0, 0]])


def _processes_in(folder: Path, below: bool = False) -> list[int]:
    """Processes whose working folder is `folder`, or with `below` one in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            path = (entry / "cwd").resolve()
            if folder.resolve() in [path, *(path.parents if below else ())] and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _left_after(seconds: float, folder: Path, below: bool = False) -> list[int]:
    """Processes that are still there after so many seconds; a kill takes a moment to be carried out."""
    deadline = time.monotonic() + seconds
    while _processes_in(folder, below) and time.monotonic() < deadline:
        time.sleep(0.1)
    return _processes_in(folder, below)


@pytest.fixture
def processes_in() -> Callable[..., list[int]]:
    """Function that gives the processes at work in a folder."""
    return _processes_in


@pytest.fixture
def left_after() -> Callable[..., list[int]]:
    """Function that gives the processes that a folder is not rid of within some seconds."""
    return _left_after

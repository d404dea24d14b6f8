"""One real, tiny build that all tests of the library share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.reference.state import State


@pytest.fixture(scope="session")
def table(tmp_path_factory) -> Path:
    """An npz source: MgO, NaCl, and one structure with overlapping atoms."""
    path = tmp_path_factory.mktemp("source") / "three.npz"
    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0], [0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]])
    np.savez(
        path,
        ids=np.array(["mgo", "nacl", "broken"]),
        cells=np.array([[4.212] * 3 + [90] * 3, [5.64] * 3 + [90] * 3, [4.0] * 3 + [90] * 3]),
        natoms=np.array([8, 8, 2]),
        Z=np.array([12] * 4 + [8] * 4 + [11] * 4 + [17] * 4 + [12, 8]),
        frac=np.concatenate([corners, corners, [[0, 0, 0], [0.05, 0, 0]]]),
    )
    return path


@pytest.fixture(scope="session")
def built(table, tmp_path_factory) -> State:
    """State folder of a finished build of that source: EXAFS of the four sorts of site."""
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("state")
    # In its own process: a build lowers its priority for good.
    command = [
        sys.executable,
        "-m",
        "aiida_xastruct.engine.reference",
        "build",
        "--state",
        str(folder),
        "--source",
        "npz",
        "--path",
        str(table),
    ]
    subprocess.run([*command, "--kinds", "EXAFS", "--seed", "1"], check=True, capture_output=True, timeout=240)
    return State(folder)

"""No number of an answer changes under the same version unnoticed: the engine is held to its record, and the guard is tried."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "algorithm_sources.py"
ENGINE = ROOT / "aiida_xastruct" / "engine"


def guard(*arguments: object) -> tuple[int, str]:
    """Exit status and complaints of the command."""
    done = subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stderr


def test_the_engine_is_the_recorded_one() -> None:
    status, words = guard()
    assert (status, words) == (0, "")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the engine with a record of its own."""
    folder = tmp_path / "engine"
    shutil.copytree(ENGINE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    assert guard("--engine", folder, "--file", tmp_path / "record.json", "--record") == (0, "")
    return folder


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} has {text.count(old)} times {old!r}"
    path.write_text(text.replace(old, new))


def raise_version(engine: Path) -> None:
    text = (engine / "__init__.py").read_text()
    (engine / "__init__.py").write_text(re.sub(r'("forward": ")(\w+)"', r'\1\2.1"', text))


def test_a_changed_source_is_noticed_until_it_is_answered_for(copy: Path, tmp_path: Path) -> None:
    record = ("--engine", copy, "--file", tmp_path / "record.json")
    edit(copy / "batch.py", "SLICE = 128", "SLICE = 64")
    status, words = guard(*record)
    assert status == 1
    assert "forward: batch.py changed under version" in words
    # What reads spectra does not ask batches.
    assert "neighbours" not in words
    # It cannot be recorded as if nothing had been.
    status, words = guard(*record, "--record")
    assert status == 1
    assert "batch.py changed" in words
    assert guard(*record)[0] == 1

    assert guard(*record, "--no-numerical-change", "slices are of 64") == (0, "")
    assert guard(*record) == (0, "")
    (change,) = json.loads((tmp_path / "record.json").read_text())["forward"]["no_numerical_change"]
    assert change["reason"] == "slices are of 64"

    # A second change is a change again, and a version that is raised answers for it once it is recorded.
    edit(copy / "batch.py", "SLICE = 64", "SLICE = 32")
    assert guard(*record)[0] == 1
    raise_version(copy)
    status, words = guard(*record)
    assert status == 1
    assert "is not recorded" in words
    assert guard(*record, "--record") == (0, "")
    assert json.loads((tmp_path / "record.json").read_text())["forward"]["no_numerical_change"] == []


def test_what_a_task_imports_counts_wherever_it_does(copy: Path, tmp_path: Path) -> None:
    record = ("--engine", copy, "--file", tmp_path / "record.json")
    # A module that nothing imports; then one that a function of a source imports.
    (copy / "novel.py").write_text("FACTOR = 2.0\n")
    assert guard(*record) == (0, "")
    edit(copy / "spectrum.py", "EXAFS_GRID: ", "def _novel():\n    from .novel import FACTOR\n    return FACTOR\n\n\nEXAFS_GRID: ")
    assert guard(*record)[0] == 1
    assert guard(*record, "--no-numerical-change", "nobody calls it") == (0, "")
    (copy / "novel.py").write_text("FACTOR = 3.0\n")
    status, words = guard(*record)
    assert status == 1
    for task in ("forward", "neighbours", "distance"):
        assert f"{task}: novel.py changed" in words


def test_features_have_a_version_of_their_own(copy: Path, tmp_path: Path) -> None:
    record = ("--engine", copy, "--file", tmp_path / "record.json")
    edit(copy / "features.py", "NEIGHBOUR_RADIUS = 6.0", "NEIGHBOUR_RADIUS = 6.5")
    _, words = guard(*record)
    assert "features: features.py changed under version" in words
    assert "forward: features.py changed under version" in words
    init = copy / "__init__.py"
    init.write_text(init.read_text().replace('FEATURES_VERSION = "', 'FEATURES_VERSION = "0.'))
    assert "features: version 0." in guard(*record)[1]
    assert guard(*record, "--no-numerical-change", "the radius is in no answer")[0] == 0
    edit(copy / "batch.py", "SLICE = 128", "SLICE = 64")
    assert "features:" not in guard(*record)[1]


def test_prose_and_layout_are_free(copy: Path, tmp_path: Path) -> None:
    path = copy / "batch.py"
    edit(path, "SLICE = 128", "# Why not.\nSLICE = (\n    128\n)")
    path.write_text('"""Another head."""\n' + path.read_text().split('"""', 2)[2])
    assert guard("--engine", copy, "--file", tmp_path / "record.json") == (0, "")


def test_a_record_by_hand_has_a_gap(copy: Path, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    edit(copy / "batch.py", "SLICE = 128", "SLICE = 64")
    record = json.loads(path.read_text())
    other = tmp_path / "other.json"
    guard("--engine", copy, "--file", other, "--record")
    record["forward"]["modules"] = json.loads(other.read_text())["forward"]["modules"]
    path.write_text(json.dumps(record))
    status, words = guard("--engine", copy, "--file", path)
    assert status == 1
    assert "has a gap" in words

"""The demo, run as a user runs it: a process of its own, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with nothing in it."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo with a home that it must leave as it is."""
    environment = {name: value for name, value in os.environ.items() if name not in ("AIIDA_PATH", "AIIDA_PROFILE")}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    command = [sys.executable, str(ROOT / "examples" / "demo.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=550, check=False)


@pytest.mark.slow
def test_quick_form_answers_by_both_and_reads_goethite(home: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = run(home, "--quick", "--output", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Which spectrum does this crystal have?" in done.stdout
    assert "Which local structure made this spectrum?" in done.stdout
    assert (output / "predicted-against-feff.png").stat().st_size > 10_000
    provenance = (output / "provenance.txt").read_text()
    assert "FeffCalculation" in provenance
    assert "AMCSD" in provenance
    assert not (home / ".aiida").exists()


def test_a_folder_that_is_not_the_demos_is_left_alone(home: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    done = run(home, "--quick", "--output", str(tmp_path))
    assert done.returncode == 1
    assert "is not empty and not the demo's" in done.stderr
    assert (tmp_path / "precious.txt").read_text() == "mine"

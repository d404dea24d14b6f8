"""The bundled programs, really run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.errors import FeffError
from aiida_xastruct.engine.feff import FeffParameters, compute, run, write_deck
from aiida_xastruct.engine.feff.runner import engine_of, main

SCRIPT = str(Path(sys.executable).parent / "xastruct-feff")


def test_exafs_by_both_engines_agrees(rock_salt):
    by_8l = compute(rock_salt, 0, FeffParameters(kind="EXAFS"))
    by_10 = compute(rock_salt, 0, FeffParameters(kind="EXAFS", engine="feff10"))
    assert by_8l.problems == by_10.problems == ()
    k = np.arange(3, 12, 0.05)
    curves = [
        k**2 * np.interp(np.asarray(k**2 / 0.26246842), r.spectrum.energy - r.spectrum.e0, r.spectrum.mu / r.spectrum.mu0 - 1)
        for r in (by_8l, by_10)
    ]
    residual = np.sum((curves[0] - curves[1]) ** 2) / np.sum((curves[1] - curves[1].mean()) ** 2)
    assert 1 - residual > 0.95


def test_run_needs_a_deck(tmp_path, capsys):
    with pytest.raises(FeffError, match=r"no feff\.inp"):
        run(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert "no feff.inp" in capsys.readouterr().err


def test_engine_of_a_deck(rock_salt):
    assert engine_of(write_deck(rock_salt, 0, FeffParameters(kind="EXAFS"))) == "feff8l"
    assert engine_of(write_deck(rock_salt, 0, FeffParameters())) == "feff10"
    assert engine_of("TITLE mine\nEXAFS\n") is None


def test_old_output_never_passes_for_new(tmp_path, rock_salt):
    (tmp_path / "feff.inp").write_text(write_deck(rock_salt, 0, FeffParameters(kind="EXAFS")).replace("EDGE K", "EDGE K\nFOOBAR 1"))
    (tmp_path / "xmu.dat").write_text("of yesterday")
    with pytest.raises(FeffError, match=r"wrote no pot\.pad"):
        run(tmp_path)
    assert not (tmp_path / "xmu.dat").exists()


def test_time_limit(tmp_path, rock_salt):
    (tmp_path / "feff.inp").write_text(write_deck(rock_salt, 0, FeffParameters(scf_radius=4.3, fms_radius=5.0)))
    started = time.monotonic()
    with pytest.raises(FeffError, match="ran out of time"):
        run(tmp_path, timeout=3)
    assert time.monotonic() - started < 20
    assert left_after(10, tmp_path) == []


def workers_in(folder: Path) -> list[int]:
    """Processes whose working folder is `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").resolve() == folder.resolve() and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def left_after(seconds: float, folder: Path) -> list[int]:
    """Processes that are still there after so many seconds; a kill takes a moment to be carried out."""
    deadline = time.monotonic() + seconds
    while workers_in(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    return workers_in(folder)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_feff_outlives_the_script(tmp_path, rock_salt, number):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "feff.inp").write_text(write_deck(rock_salt, 0, FeffParameters(scf_radius=4.3, fms_radius=5.0)))
    script = subprocess.Popen([SCRIPT, str(folder)], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # log1.dat is what the long module, pot, writes: from there on a worker of FEFF10 is at it for half a minute.
    deadline = time.monotonic() + 60
    while not (folder / "log1.dat").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(workers_in(folder)) >= 2, "FEFF10 did not start"
    script.send_signal(number)
    script.wait(30)
    assert left_after(20, folder) == []
    assert not (folder / "xmu.dat").exists()


def test_script_reports_its_run(tmp_path, rock_salt):
    (tmp_path / "feff.inp").write_text(write_deck(rock_salt, 0, FeffParameters(kind="EXAFS")))
    done = subprocess.run([SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("FEFF 8.5L")
    facts = json.loads((tmp_path / "xastruct-feff.json").read_text())
    assert facts["engine"] == "feff8l"
    assert facts["cpu_seconds"] > 0

"""The bundled programs, really run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.errors import FeffError
from aiida_xastruct.engine.feff import FeffParameters, compute, read_folder, run, write_deck
from aiida_xastruct.engine.feff.runner import RUN_FILE, _execute, cut_short, engine_of, main, process_group

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


def test_time_limit(tmp_path, rock_salt, left_after):
    (tmp_path / "feff.inp").write_text(write_deck(rock_salt, 0, FeffParameters(scf_radius=4.3, fms_radius=5.0)))
    started = time.monotonic()
    with pytest.raises(FeffError, match="ran out of time"):
        run(tmp_path, timeout=3)
    assert time.monotonic() - started < 20
    assert left_after(30, tmp_path) == []


def test_processor_time_has_a_limit_of_its_own(tmp_path, rock_salt):
    (tmp_path / "feff.inp").write_text(write_deck(rock_salt, 0, FeffParameters()))
    with pytest.raises(FeffError, match="FEFF10 was stopped after 1 CPU seconds in one stage; allow more"):
        run(tmp_path, cpu_limit=1)


@pytest.mark.parametrize(
    ("name", "cpu_limit", "said"),
    [
        ("sh", None, "sh failed with status -24"),  # a limit of a queue or a shell, none of ours
        ("sh", 5, "sh was stopped after 5 CPU seconds in one stage"),
        ("feff8l_pot", None, "feff8l_pot hangs: it was stopped after 15 CPU seconds"),
        ("feff8l_pot", 5, "feff8l_pot was stopped after 5 CPU seconds in one stage"),
    ],
)
def test_whose_limit_of_processor_time_it_was(tmp_path, name, cpu_limit, said):
    program = tmp_path / name
    program.write_text("#!/bin/sh\nkill -XCPU $$\n")
    program.chmod(0o755)
    with process_group() as guard, pytest.raises(FeffError, match=said):
        _execute([str(program)], tmp_path, 60.0, guard.group, cpu_limit)


def test_a_lower_limit_of_the_machine_stays(tmp_path, rock_salt):
    """A queue that lets no process have more than 9 CPU seconds: asking for 600 is no error."""
    (tmp_path / "feff.inp").write_text(write_deck(rock_salt, 0, FeffParameters(kind="EXAFS")))
    program = f"from aiida_xastruct.engine.feff.runner import run; run({str(tmp_path)!r}, cpu_limit=600)"
    done = subprocess.run(["/bin/sh", "-c", f'ulimit -t 9; exec {sys.executable} -c "{program}"'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def heed_signals() -> None:
    """In a child: what a terminal's own programs do with these signals, also where the tests run under nohup or in the background."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def start(processes_in) -> Callable[..., subprocess.Popen]:
    """Function that gives a running `xastruct-feff`, once `log`, of a module that takes half a minute, and so many processes are there."""

    def started(folder: Path, deck: str, log: str, processes: int = 1, **options) -> subprocess.Popen:
        folder.mkdir()
        (folder / "feff.inp").write_text(deck)
        usual = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL) | {"preexec_fn": heed_signals}
        script = subprocess.Popen([SCRIPT, str(folder)], cwd=folder.parent, **(usual | options))
        # Seconds on an idle machine; a busy one may take minutes to import what FEFF10 needs.
        deadline = time.monotonic() + 240
        while not ((folder / log).exists() and len(processes_in(folder)) >= processes) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(processes_in(folder)) >= processes, "FEFF did not start"
        return script

    return started


@pytest.fixture
def long_deck(rock_salt) -> str:
    """Potentials that take FEFF10 half a minute."""
    return write_deck(rock_salt, 0, FeffParameters(scf_radius=4.3, fms_radius=5.0))


@pytest.fixture
def many_paths_deck(rock_salt) -> str:
    """All paths of up to eight legs and 12 angstrom, on which FEFF 8.5L is busy for half a minute."""
    return write_deck(rock_salt, 0, FeffParameters(kind="EXAFS", path_radius=12.0, path_legs=8, cards={"CRITERIA": [0, 0]}))


needs_proc = pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("engine", ["feff10", "feff8l"])
def test_no_feff_outlives_the_script(tmp_path, engine, number, long_deck, many_paths_deck, start, left_after):
    folder = tmp_path / "run"
    deck, log = (long_deck, "log1.dat") if engine == "feff10" else (many_paths_deck, "log4.dat")
    script = start(folder, deck, log, stderr=subprocess.PIPE, text=True)
    script.send_signal(number)
    _, words = script.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert script.returncode == -signal.SIGKILL
    else:
        assert (script.returncode, words) == (128 + number, f"xastruct-feff: stopped by {number.name}.\n")
    assert left_after(30, folder) == []
    assert not (folder / "xmu.dat").exists()
    assert cut_short(folder)


@needs_proc
def test_stages_end_when_script_and_interpreter_are_killed_at_once(tmp_path, long_deck, start, processes_in, left_after):
    folder = tmp_path / "run"
    script = start(folder, long_deck, "log1.dat", processes=2)
    interpreter = [number for number in processes_in(folder) if b"FeffPipeline" in Path(f"/proc/{number}/cmdline").read_bytes()]
    assert len(interpreter) == 1
    for number in (script.pid, *interpreter):
        os.kill(number, signal.SIGKILL)
    script.wait(60)
    assert left_after(30, folder) == []


@needs_proc
def test_closing_the_terminal_ends_feff(tmp_path, long_deck, processes_in, left_after):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "feff.inp").write_text(long_deck)
    pid, terminal = os.forkpty()
    if pid == 0:
        heed_signals()
        os.execv(SCRIPT, [SCRIPT, str(folder)])
    deadline = time.monotonic() + 60
    while not (folder / "log1.dat").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_in(folder), "FEFF did not start"
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    assert left_after(30, folder) == []


@needs_proc
def test_nohup_goes_on(tmp_path, long_deck, start):
    script = start(tmp_path / "run", long_deck, "log1.dat", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    script.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        script.wait(2)
    script.terminate()
    assert script.wait(60) == 128 + signal.SIGTERM


@pytest.mark.parametrize("killed", [False, True])
def test_a_second_run_in_a_folder_waits_for_the_first(tmp_path, rock_salt, killed, start):
    folder = tmp_path / "run"
    deck = write_deck(rock_salt, 0, FeffParameters(scf_radius=2.2, fms_radius=3.1, energy_step=1.0))
    first = start(folder, deck, "log1.dat")
    # However long the second takes to start, the first is not done by then.
    first.send_signal(signal.SIGSTOP)
    second = subprocess.Popen([SCRIPT, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "another one is at work" in second.stderr.readline()
    first.send_signal(signal.SIGKILL if killed else signal.SIGCONT)
    said, errors = second.communicate(timeout=300)
    assert (second.returncode, errors) == (0, "")
    assert said.startswith("FEFF 10")
    assert first.wait(60) == (-signal.SIGKILL if killed else 0)
    # What the first one left is taken; only if it was killed FEFF runs again.
    assert (folder / "xastruct-feff.out").read_text().count("Launching FEFF") == (2 if killed else 1)
    assert read_folder(folder, "Mg", "K", "XANES").problems == ()


def test_a_failure_says_how_it_ended(tmp_path, rock_salt):
    (tmp_path / "feff.inp").write_text(write_deck(rock_salt, 0, FeffParameters(kind="EXAFS")).replace("EDGE K", "EDGE K\nFOOBAR 1"))
    (tmp_path / RUN_FILE).write_text("{}")  # of yesterday
    with pytest.raises(FeffError) as raised:
        run(tmp_path)
    assert json.loads((tmp_path / RUN_FILE).read_text())["error"] == str(raised.value)
    assert not cut_short(tmp_path)


def test_script_reports_its_run(tmp_path, rock_salt):
    (tmp_path / "feff.inp").write_text(write_deck(rock_salt, 0, FeffParameters(kind="EXAFS")))
    done = subprocess.run([SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("FEFF 8.5L")
    facts = json.loads((tmp_path / "xastruct-feff.json").read_text())
    assert facts["engine"] == "feff8l"
    assert facts["cpu_seconds"] > 0

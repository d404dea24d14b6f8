"""Many runs in one job, really run: whatever becomes of one site, the others are there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiida_xastruct.engine.errors import FeffError
from aiida_xastruct.engine.feff import FeffParameters, write_deck
from aiida_xastruct.engine.feff.batch import ARCHIVE_FILE, NOT_STARTED, REPORT_FILE, read_report, run_batch, unpack
from aiida_xastruct.engine.feff.outcome import Request, judge
from aiida_xastruct.engine.feff.runner import main

SCRIPT = str(Path(sys.executable).parent / "xastruct-feff")
EXAFS = FeffParameters(kind="EXAFS")
SLOW = FeffParameters(scf_radius=4.3, fms_radius=5.0)


def write(folder: Path, **decks: str) -> Path:
    """A job's folder: one sub-folder for each deck."""
    for name, deck in decks.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "feff.inp").write_text(deck)
    return folder


def outcome(folder: Path, name: str, absorber: str = "Mg", edge: str = "K"):
    return judge(folder / name, lambda: Request(absorber, edge, "EXAFS", {}))


@pytest.mark.parametrize("cores", [1, 3])
def test_a_failing_site_leaves_the_others_alone(tmp_path, rock_salt, cores):
    deck = write_deck(rock_salt, 0, EXAFS)
    folder = write(tmp_path, a=deck.replace("EDGE K", "EDGE K\nFOOBAR 1"), b=deck, c=write_deck(rock_salt, 4, EXAFS))
    ended = run_batch(folder, cores)
    assert {name: ran.status for name, ran in ended.items()} == {"a": 1, "b": 0, "c": 0}
    assert ended == read_report(folder)
    assert all(ended[name].cpu_seconds > 0.1 for name in "bc")
    # What a job retrieves is the archive; each site in it is judged as a run of its own is.
    unpack(folder / ARCHIVE_FILE, tmp_path / "job" if (tmp_path / "job").mkdir() is None else tmp_path)
    assert outcome(tmp_path / "job", "a").label == "ERROR_INPUT_REFUSED"
    assert outcome(tmp_path / "job", "b").spectrum.absorber == "Mg"
    assert outcome(tmp_path / "job", "c", "O").label == ""


def test_sites_run_where_pyarrow_has_read_a_table(tmp_path, rock_salt):
    """Its readers of CSV hold a pipe that must be there after a fork; a screening and a batch may be of one process."""
    from pyarrow import csv

    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    assert csv.read_csv(tmp_path / "table.csv").num_rows == 1
    ended = run_batch(write(tmp_path / "job", a=write_deck(rock_salt, 0, EXAFS)))
    assert ended["a"].status == 0


def test_a_site_gives_what_it_gives_alone(tmp_path, rock_salt):
    deck = write_deck(rock_salt, 0, EXAFS)
    folder = write(tmp_path, packed=deck)
    run_batch(folder)
    write(tmp_path / "elsewhere", alone=deck)
    assert main([str(tmp_path / "elsewhere" / "alone")]) == 0
    assert (folder / "packed" / "xmu.dat").read_text() == (tmp_path / "elsewhere" / "alone" / "xmu.dat").read_text()


def test_a_site_that_is_too_slow_is_stopped(tmp_path, rock_salt, left_after):
    folder = write(tmp_path, a=write_deck(rock_salt, 0, SLOW), b=write_deck(rock_salt, 0, EXAFS))
    ended = run_batch(folder, timeout=12)
    assert (ended["a"].status, ended["b"].status) == (1, 0)
    assert ended["a"].wall_seconds < 30
    assert outcome(folder, "a").label == "ERROR_OUT_OF_WALLTIME"
    assert left_after(30, folder, below=True) == []


def test_what_does_not_fit_into_the_total_is_not_started(tmp_path, rock_salt):
    folder = write(tmp_path, a=write_deck(rock_salt, 0, SLOW), b=write_deck(rock_salt, 0, EXAFS))
    ended = run_batch(folder, total=3)
    assert (ended["a"].status, ended["b"].status) == (1, NOT_STARTED)
    assert not (folder / "b" / "xmu.dat").exists()
    assert {outcome(folder, name).label for name in "ab"} == {"ERROR_OUT_OF_WALLTIME"}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_all_ends_with_the_batch_and_what_is_done_is_kept(tmp_path, rock_salt, number, left_after, processes_in):
    folder = write(tmp_path / "job", a=write_deck(rock_salt, 0, EXAFS), b=write_deck(rock_salt, 0, SLOW), c=write_deck(rock_salt, 4, EXAFS))
    batch = subprocess.Popen([SCRIPT, "batch", str(folder)], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / "b" / "log1.dat").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_in(folder, below=True), "the second site did not start"
    batch.send_signal(number)
    batch.wait(60)
    assert left_after(30, folder, below=True) == []
    assert set(read_report(folder)) == {"a"}
    (tmp_path / "read").mkdir()
    unpack(folder / ARCHIVE_FILE, tmp_path / "read")
    assert outcome(tmp_path / "read", "a").label == ""
    assert not (tmp_path / "read" / "b").exists()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")
def test_a_killed_site_leaves_the_others_alone(tmp_path, rock_salt, left_after):
    folder = write(tmp_path / "job", a=write_deck(rock_salt, 0, SLOW), b=write_deck(rock_salt, 0, EXAFS))
    batch = subprocess.Popen([SCRIPT, "batch", str(folder)], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / "a" / "log1.dat").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    children = (Path("/proc") / str(batch.pid) / "task" / str(batch.pid) / "children").read_text().split()
    (site,) = [int(pid) for pid in children if b"xastruct-feff" in (Path("/proc") / pid / "cmdline").read_bytes()]
    os.kill(site, signal.SIGKILL)
    assert batch.wait(120) == 1
    assert {name: ran.status for name, ran in read_report(folder).items()} == {"a": -signal.SIGKILL, "b": 0}
    assert outcome(folder, "a").label == "ERROR_KILLED"
    assert left_after(30, folder, below=True) == []


def test_a_cut_off_archive_gives_the_sites_before_the_cut(tmp_path, rock_salt):
    folder = write(tmp_path / "job", a=write_deck(rock_salt, 0, EXAFS), b=write_deck(rock_salt, 4, EXAFS))
    run_batch(folder)
    content = (folder / ARCHIVE_FILE).read_bytes()
    start = content.index(b"b/log")
    for name, cut in {"early": start - 700, "middle": start + 700, "nothing": 0}.items():
        (tmp_path / f"{name}.tar").write_bytes(content[:cut])
        (tmp_path / name).mkdir()
        unpack(tmp_path / f"{name}.tar", tmp_path / name)
    assert (tmp_path / "middle" / "a" / "xmu.dat").read_bytes() == (folder / "a" / "xmu.dat").read_bytes()
    assert list((tmp_path / "nothing").iterdir()) == []
    unpack(tmp_path / "missing.tar", tmp_path / "nothing")
    assert list((tmp_path / "nothing").iterdir()) == []


def test_bad_input_is_said_in_a_sentence(tmp_path, rock_salt, capsys):
    assert main(["batch", str(tmp_path)]) == 2
    assert "no sub-folder with a feff.inp" in capsys.readouterr().err
    write(tmp_path, a=write_deck(rock_salt, 0, EXAFS))
    assert main(["batch", str(tmp_path), "--cores", "0"]) == 2
    assert "cores is 0" in capsys.readouterr().err
    with pytest.raises(FeffError, match="timeout is -1"):
        run_batch(tmp_path, timeout=-1)


def test_a_damaged_report_tells_of_no_site(tmp_path):
    assert read_report(tmp_path) == {}
    for text in ("{", "[]", json.dumps({"sites": {"a": {"state": 1}}})):
        (tmp_path / REPORT_FILE).write_text(text)
        assert read_report(tmp_path) == {}

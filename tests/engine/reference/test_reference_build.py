"""Order, exclusion, stopping and going on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from aiida_xastruct.engine.errors import StructureError, XastructError
from aiida_xastruct.engine.reference.__main__ import main
from aiida_xastruct.engine.reference.build import BuildOptions, Progress, _choose, _companions, _known
from aiida_xastruct.engine.reference.library import default_library, export, library_keys, shards
from aiida_xastruct.engine.reference.order import Excluded, RoundRobin
from aiida_xastruct.engine.reference.sources import open_source
from aiida_xastruct.engine.reference.state import RECORDS, REJECTED, State, key_of


def round_robin(source, path, seed=0, excluded=None, without=(), most_elements=None):
    reasons = {}
    order = RoundRobin(source, str(path), seed, excluded or Excluded(), reasons.__setitem__, set(), without, most_elements)
    return order, reasons


def test_prefixes_are_balanced():
    order, _ = round_robin("amcsd", "", seed=3)
    sites = list(islice(order.sites(), 160))
    counts = Counter(element for element, *_ in sites)
    assert len(counts) >= 75
    assert max(counts.values()) <= 3
    assert "H" not in counts
    assert "He" not in counts
    assert len(set(sites)) == len(sites)


def test_two_builds_seldom_meet():
    first, second = ({site[1:3] for site in islice(round_robin("amcsd", "", seed)[0].sites(), 60)} for seed in (1, 2))
    assert len(first & second) < 20


def test_held_out_materials_are_left_out(table, tmp_path):
    formulas, ids = tmp_path / "formulas.txt", tmp_path / "ids.txt"
    formulas.write_text("MgO 225\nNaCl 62\n")
    ids.write_text("nothing\n")
    order, reasons = round_robin("npz", table, excluded=Excluded.read([formulas, ids]))
    # NaCl is held out in another space group only.
    assert {source_id for _, source_id, _, _ in order.sites()} == {"nacl"}
    assert "held out" in reasons["mgo"]
    order, _ = round_robin("npz", table, excluded=Excluded(ids=frozenset(["nacl"])))
    assert {source_id for _, source_id, _, _ in order.sites()} == {"mgo"}
    formulas.write_text("MgO two two five\n")
    with pytest.raises(XastructError, match="one id, or a formula"):
        Excluded.read([formulas])


def test_structures_with_an_element_are_passed_over(table):
    order, reasons = round_robin("npz", table, without=["O"])
    assert {source_id for _, source_id, _, _ in order.sites()} == {"nacl"}
    assert "mgo" not in reasons
    for wrong in ("Oxygen", "Xx"):
        with pytest.raises(XastructError, match=f"'{wrong}' is not the symbol"):
            BuildOptions(without=(wrong,))


def test_structures_of_many_elements_are_passed_over():
    sites = list(islice(round_robin("amcsd", "", most_elements=1)[0].sites(), 30))
    amcsd = open_source("amcsd", "")
    assert all(len(amcsd.structure(source_id)[0].elements) == 1 for _, source_id, _, _ in sites)
    assert len({element for element, *_ in sites}) >= 25
    with pytest.raises(XastructError, match="at least 1"):
        BuildOptions(most_elements=0)


def test_xanes_gets_its_share():
    streams = {"EXAFS": iter(()), "XANES": iter(())}
    progress = Progress()
    progress.seconds.update({"XANES": 50.0, "EXAFS": 50.0})
    assert _choose(streams, progress, [], mix=0.6, exafs_only=False) == "XANES"
    assert _choose(streams, progress, [], mix=0.4, exafs_only=False) == "EXAFS"
    assert _choose(streams, progress, [], mix=1.0, exafs_only=True) == "EXAFS"
    assert _choose({"XANES": iter(())}, progress, [], mix=0.0, exafs_only=True) == "XANES"


def test_a_site_with_xanes_gets_its_exafs(tmp_path):
    state = State(tmp_path)
    state.create()
    first, second = (
        task for task, _ in zip(RoundRobin("amcsd", "", 0, Excluded(), lambda *_: None, set()).tasks("XANES", set()), "ab", strict=False)
    )
    site = {name: getattr(first, name) for name in ("source", "source_id", "site", "multiplicity", "absorber", "edge")}
    other = {name: getattr(second, name) for name in site}
    for record in (site | {"kind": "XANES"}, other | {"kind": "XANES"}, other | {"kind": "EXAFS"}):
        state.append(RECORDS, record)
    options = BuildOptions(library=None)
    known = _known(state, options)
    assert list(_companions(state, options, known)) == [replace(first, kind="EXAFS")]
    assert not _companions(state, options, known)  # known now, so that the round robin leaves it out too
    # What is held out now has no use for it, and an id of another source may be another crystal here.
    (tmp_path / "held_out").write_text(first.source_id)
    for held_out in (
        BuildOptions(library=None, exclude=(tmp_path / "held_out",)),
        BuildOptions(library=None, source="cif", path="elsewhere"),
    ):
        assert not _companions(state, held_out, _known(state, held_out))


@pytest.mark.slow
def test_build_goes_on_where_it_was_stopped(build_command, built, tmp_path):
    command = build_command(tmp_path)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    state = State(tmp_path)
    deadline = time.monotonic() + 120
    while not list(state.lines(RECORDS)) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0
    assert "the state is in" in output
    done = len(list(state.lines(RECORDS)))
    assert done >= 1
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    records = list(state.lines(RECORDS))
    assert len(records) == 4
    assert len({(record["source_id"], record["site"]) for record in records}) == 4
    # The thermal draws belong to the site, not to the run.
    conditions = {(record["source_id"], record["site"]): record["conditions"] for record in records}
    assert conditions == {(record["source_id"], record["site"]): record["conditions"] for record in built.lines(RECORDS)}


def test_a_fresh_clone_skips_what_its_library_holds(table, built, tmp_path):
    held = list(built.lines(RECORDS))[:2]
    elsewhere, library = State(tmp_path / "elsewhere"), tmp_path / "library"
    elsewhere.create()
    for record in held:
        elsewhere.append(RECORDS, record)
    export(elsewhere, library)
    fresh = State(tmp_path / "fresh")
    command = [sys.executable, "-m", "aiida_xastruct.engine.reference", "build", "--state", str(fresh.folder), "--library", str(library)]
    command += ["--source", "npz", "--path", str(table), "--kinds", "EXAFS"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)
    assert f"the library {library} holds is skipped" in done.stdout
    assert "2 sites computed, 0 failed" in done.stdout
    everything = {key_of(record) for record in built.lines(RECORDS)}
    assert {key_of(record) for record in fresh.lines(RECORDS)} == everything - {key_of(record) for record in held}
    export(fresh, library)
    assert library_keys(library).keys() == everything


@pytest.fixture
def cifs(tmp_path, crystal):
    """A folder of CIF files: rock salt, and what no library takes."""
    folder = tmp_path / "cifs"
    (folder / "below").mkdir(parents=True)
    salt = crystal("NaCl")
    salt.to(folder / "below" / "salt.cif", fmt="cif")
    text = (folder / "below" / "salt.cif").read_text()
    (folder / "half.CIF").write_text(text.replace("  1\n", "  0.5\n"))
    (folder / "notes.cif").write_text("no crystal here")
    (folder / "lost.cif").write_text(text.replace("Na4 Cl4", "Na4 K4 Cl8"))
    salt.make_supercell([2, 2, 2])
    salt.to(folder / "large.cif", fmt="cif")
    (folder / "readme.txt").write_text("not read")
    return folder


def build_cifs(folder, state):
    command = [sys.executable, "-m", "aiida_xastruct.engine.reference", "build", "--state", str(state), "--source", "cif"]
    return subprocess.run([*command, "--path", str(folder), "--kinds", "EXAFS"], capture_output=True, text=True, timeout=240)


def test_folder_of_cif_files(cifs, tmp_path):
    assert "2 sites computed, 0 failed" in (done := build_cifs(cifs, tmp_path / "state")).stdout, done.stderr
    state = State(tmp_path / "state")
    records = list(state.lines(RECORDS))
    assert sorted(record["absorber"] for record in records) == ["Cl", "Na"]
    assert {record["source_id"].partition(":")[0] for record in records} == {"below/salt.cif"}
    assert all(record["structure"]["species"].count("Na") == 4 for record in records)
    rejected = {value["source_id"].partition(":")[0]: value["reason"] for value in state.lines(REJECTED)}
    assert rejected.keys() == {"half.CIF", "notes.cif", "lost.cif", "large.cif"}
    assert "disordered" in rejected["half.CIF"]
    assert "cannot read" in rejected["notes.cif"]
    assert "the formula says" in rejected["lost.cif"]
    assert "64 atoms" in rejected["large.cif"]
    # Another run rejects nothing again; a file that was mended is looked at anew.
    (cifs / "notes.cif").write_text((cifs / "below" / "salt.cif").read_text().replace("5.64", "5.70"))
    assert "2 sites computed, 0 failed" in build_cifs(cifs, tmp_path / "state").stdout
    assert len(list(state.lines(REJECTED))) == 4
    assert len(list(state.lines(RECORDS))) == 4


def test_sources_that_cannot_be_read(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("no table")
    np.savez(tmp_path / "other.npz", ids=np.array(["a"]))
    for source, path, words in [
        ("cif", tmp_path / "empty", "no file"),
        ("npz", tmp_path / "text.npz", "no npz table"),
        ("npz", tmp_path / "other.npz", "no npz table"),
        ("npz", tmp_path / "missing.npz", "no npz table"),
        ("npz", "", "needs a path"),
        ("csv", "", "no source 'csv'"),
        ("aiida", tmp_path / "text.npz", "cannot be read as structures"),
    ]:
        with pytest.raises(StructureError, match=words):
            open_source(source, str(path))


def test_default_library(built, tmp_path, monkeypatch):
    # Beside the package in a clone, unless the working folder has one of its own.
    monkeypatch.chdir(tmp_path)
    assert shards(default_library())
    export(built, tmp_path / "reference")
    assert default_library().resolve() == tmp_path / "reference"
    assert BuildOptions().library.resolve() == tmp_path / "reference"


def test_options_that_make_no_sense(tmp_path):
    for values, words in [
        ({"kinds": ("ELNES",)}, "'ELNES' is unknown"),
        ({"mix": 1.5}, "mix is 1.5"),
        ({"cores": 0}, "cores is 0"),
        ({"library": tmp_path / "none"}, "no library folder"),
    ]:
        with pytest.raises(XastructError, match=words):
            BuildOptions(**values)


def test_commands(built, tmp_path, capsys):
    library = tmp_path / "library"
    assert main(["export", "--state", str(built.folder), "--library", str(library)]) == 0
    assert main(["export", "--state", str(built.folder), "--library", str(library)]) == 0
    assert "already holds every record" in capsys.readouterr().out
    assert main(["status", "--state", str(built.folder), "--library", str(library)]) == 0
    shown = capsys.readouterr().out
    assert "4 unique sites of 4 absorbing elements" in shown
    assert "0 EXAFS, 0 XANES are not exported" in shown
    assert main(["offsets", "--library", str(library)]) == 0
    assert "K  Mg" in capsys.readouterr().out
    assert main(["export", "--state", str(tmp_path / "none"), "--library", str(library)]) == 1
    assert main(["build", "--state", str(tmp_path / "s"), "--kinds", "ELNES"]) == 1
    assert "holds no records" in (errors := capsys.readouterr().err)
    assert "'ELNES' is unknown" in errors

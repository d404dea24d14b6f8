"""`aiida-xastruct reference` on a real library, without a profile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from aiida_xastruct.cli.reference import reference

SCRIPT = str(Path(sys.executable).parent / "aiida-xastruct")


def test_help_and_errors(tmp_path):
    runner = CliRunner()
    shown = runner.invoke(reference, ["--help"])
    assert all(name in shown.output for name in ("build", "status", "export"))
    missing = runner.invoke(reference, ["export", "--state", str(tmp_path), "--library", str(tmp_path / "library")])
    assert missing.exit_code == 1
    assert "holds no records" in missing.output
    assert runner.invoke(reference, ["status"]).exit_code == 2


def test_build_status_export(tmp_path):
    state, library = tmp_path / "state", tmp_path / "library"
    done = subprocess.run(
        [SCRIPT, "reference", "build", "--state", str(state), "--kinds", "EXAFS", "--limit", "2", "--seed", "5", "--json"],
        check=True, capture_output=True, timeout=240, env={"PATH": "/usr/bin:/bin", "AIIDA_PATH": str(tmp_path), "HOME": str(tmp_path)},
        text=True,
    )  # fmt: skip
    facts = json.loads(done.stdout)
    assert (facts["state"], facts["computed"], facts["failed"]["EXAFS"]) == (str(state), {"EXAFS": 2, "XANES": 0}, 0)
    assert "2 done (0 XANES), 0 failed" in done.stderr
    runner = CliRunner()
    assert "2 EXAFS" in runner.invoke(reference, ["status", "--state", str(state)]).output
    facts = json.loads(runner.invoke(reference, ["status", "--state", str(state), "--json"]).stdout)
    assert (facts["state"]["sites"]["EXAFS"], facts["state"]["not_exported"]["EXAFS"]) == (2, 2)
    assert sum(facts["elements"]["EXAFS"].values()) == 2
    written = runner.invoke(reference, ["export", "--state", str(state), "--library", str(library)])
    assert written.exit_code == 0
    (shard,) = library.glob("exafs-*.h5")
    again = json.loads(runner.invoke(reference, ["export", "--state", str(state), "--library", str(tmp_path / "b"), "--json"]).stdout)
    assert again["written"] == [{"path": str(tmp_path / "b" / shard.name), "bytes": shard.stat().st_size}]
    facts = json.loads(runner.invoke(reference, ["status", "--library", str(library), "--json"]).stdout)
    assert (facts["library"]["shards"], facts["library"]["sites"]["EXAFS"]) == (1, 2)
    made = runner.invoke(reference, ["paths", "--library", str(library), "--sites", "1", "--json"])
    facts = json.loads(made.stdout)
    assert (len(facts["written"]), facts["failed"], "paths" in made.stderr) == (1, [], True)
    facts = json.loads(runner.invoke(reference, ["paths", "--library", str(library), "--sites", "1", "--json"]).stdout)
    assert facts["written"] == []


def test_progress_and_answer_go_apart(monkeypatch, tmp_path):
    """With --json the standard output is one object; without, all is said on it."""
    from aiida_xastruct.engine.reference import command
    from aiida_xastruct.engine.reference.build import Progress

    def build(state, options, report):
        found = Progress()
        found.done["EXAFS"] += 1
        found.failed["XANES"] += 2
        report(found)
        return found

    shard = tmp_path / "paths-0.h5"
    shard.write_bytes(b"12")

    def paths(library, sites, cores, seed, failures, track):
        failures.append("a: no.")
        return [shard for _ in track([0], 1)]

    monkeypatch.setattr(command, "build", build)
    monkeypatch.setattr(command, "make_paths", paths)
    words = {"build": ["--state", tmp_path / "s", "--library", tmp_path], "paths": ["--library", tmp_path]}
    facts = {
        "build": {
            "state": str(tmp_path / "s"), "library": str(tmp_path),
            "computed": {"EXAFS": 1, "XANES": 0}, "failed": {"EXAFS": 0, "XANES": 2},
        },
        "paths": {"library": str(tmp_path), "written": [{"path": str(shard), "bytes": 2}], "failed": ["a: no."]},
    }  # fmt: skip
    shown = {"build": "1 done (0 XANES), 2 failed", "paths": "paths"}
    for name, arguments in words.items():
        result = CliRunner().invoke(reference, [name, *map(str, arguments), "--json"])
        assert json.loads(result.stdout) == facts[name]
        assert shown[name] in result.stderr
        result = CliRunner().invoke(reference, [name, *map(str, arguments)])
        assert (shown[name] in result.stdout, result.stderr) == (True, "")


@pytest.fixture
def group(aiida_profile_clean):
    """A crystal of 1 Mg and 1 O site, and members that no library takes: disordered, not periodic, no structure at all."""
    from aiida import orm
    from pymatgen.core import Lattice, Structure

    magnesia = Structure(Lattice.cubic(4.212), ["Mg"] * 4 + ["O"] * 4, CORNERS)
    mixed = Structure(Lattice.cubic(4.3), [{"Mg": 0.5, "Fe": 0.5}] * 4 + ["O"] * 4, CORNERS)
    slab = orm.StructureData(pymatgen=magnesia)
    slab.set_pbc([True, True, False])
    nodes = {"good": orm.StructureData(pymatgen=magnesia), "mixed": orm.StructureData(pymatgen=mixed), "slab": slab, "number": orm.Int(1)}
    group = orm.Group("crystals").store()
    group.add_nodes([node.store() for node in nodes.values()])
    return {name: node.uuid for name, node in nodes.items()}


CORNERS = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0], [0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]


def test_build_from_a_group(group, tmp_path):
    from aiida.manage import get_manager
    from aiida.manage.configuration import get_config

    from aiida_xastruct.engine.reference import export, read_reference
    from aiida_xastruct.engine.reference.state import REJECTED, State

    # In its own process, because a build lowers its priority for good; in this profile.
    environment = {**os.environ, "AIIDA_PATH": str(Path(get_config().dirpath).parent)}
    command = [SCRIPT, "-p", get_manager().get_profile().name, "reference", "build", "--state", str(tmp_path / "state")]
    command += ["--group", "crystals", "--kinds", "EXAFS"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240, env=environment)
    assert "2 sites computed, 0 failed" in done.stdout, done.stderr
    state = State(tmp_path / "state")
    rejected = {value["source_id"]: value["reason"] for value in state.lines(REJECTED)}
    assert rejected.keys() == {group["mixed"], group["slab"], group["number"]}
    assert "disordered" in rejected[group["mixed"]]
    assert "not periodic" in rejected[group["slab"]]
    assert "not a StructureData" in rejected[group["number"]]
    again = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240, env=environment)
    assert "0 sites computed, 0 failed" in again.stdout
    assert len(list(state.lines(REJECTED))) == 3
    export(state, tmp_path / "library")
    records = list(read_reference(tmp_path / "library"))
    assert {(record.source, record.source_id, record.absorber) for record in records} == {("aiida", group["good"], e) for e in ("Mg", "O")}
    assert records[0].crystal().composition.reduced_formula == "MgO"


def test_group_or_source(group, tmp_path, run):
    wrong = run(reference, "build", "--state", tmp_path / "s", "--group", "crystals", "--source", "cif", status=2)
    assert "either --group" in wrong.output
    assert "No result was found" in run(reference, "build", "--state", tmp_path / "s", "--group", "nothing", status=1).output
    assert not (tmp_path / "s").exists()


def test_import_a_library(aiida_profile_clean, built, tmp_path, run):
    from aiida.orm import QueryBuilder

    from aiida_xastruct.data.dataset import DatasetData
    from aiida_xastruct.engine.reference import export

    export(built, tmp_path / "library")
    shown = run(reference, "import", "--library", tmp_path / "library", "-L", "four sites").output
    (node,) = QueryBuilder().append(DatasetData).all(flat=True)
    assert f"{node.pk}: 4 EXAFS, 2 materials, 4 absorbers" in shown
    assert node.label == "four sites"
    refused = run(reference, "import", "--library", tmp_path, status=1).output
    assert "there is no reference library" in refused
    found = json.loads(run(reference, "import", "--library", tmp_path / "library", "--json").stdout)
    assert (found["content_hash"], found["n_records"], found["left_out"]) == (node.content_hash, {"EXAFS": 4}, {})

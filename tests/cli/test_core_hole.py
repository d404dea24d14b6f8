from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from pymatgen.core import Lattice, Structure

from aiida_xastruct.cli.root import cli
from aiida_xastruct.workflows.xspectra.base import XspectraBaseWorkChain

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")

ARCHIVE = Path(__file__).parents[2] / "examples" / "data" / "core_hole.tar.gz"


def test_install_list_show_export(run, tmp_path):
    assert "No core-hole family" in run(cli, "core-hole", "list").output
    said = json.loads(run(cli, "core-hole", "install", ARCHIVE, "--json").output)
    assert (said["label"], said["functional"], len(said["pseudos"])) == ("core_hole", "PBE", 2)
    (row,) = json.loads(run(cli, "core-hole", "list", "--json").output)
    assert (row["absorbers"], row["hole"]) == ("C Si", "1s")
    assert "C Si" in run(cli, "core-hole", "list").output
    shown = run(cli, "core-hole", "show", "core_hole").output
    assert "60.0" in shown
    assert "1.00 1.01" in shown
    run(cli, "core-hole", "export", "core_hole", tmp_path / "out")
    run(cli, "core-hole", "install", tmp_path / "out", "-L", "again")
    assert len(json.loads(run(cli, "core-hole", "list", "--json").output)) == 2


def test_errors_are_a_sentence(run, tmp_path):
    assert "neither a folder nor a file" in run(cli, "core-hole", "install", "nowhere", status=1).output
    assert "no ground_state" in run(cli, "core-hole", "install", tmp_path, status=1).output
    assert "the core level" in run(cli, "core-hole", "install", ARCHIVE, "--core-level", "K", status=1).output


#: As small as it can be: two atoms, few waves and points.
TINY = {
    "description": "Two atoms.", "image_distance": 2.5, "kpoints_spacing": 1.3, "spectrum_spacing": 1.3, "cutoff_factor": 0.4,
    "conv_thr_per_atom": 1.0e-7, "parameters": {"tolerance": 0.01}, "max_wallclock_seconds": 3600,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.skipif(
    not (shutil.which("pw.x") and shutil.which("xspectra.x")), reason="Quantum ESPRESSO (pw.x, xspectra.x) is not installed"
)
def test_predict_and_compare_ask_xspectra(run, tmp_path, monkeypatch):
    """Both commands of the guide on diamond, with a protocol that is done in a minute."""
    protocols = tmp_path / "protocols.yaml"
    protocols.write_text(yaml.safe_dump({"default": "fast", "protocols": {"fast": TINY}}))
    monkeypatch.setattr(XspectraBaseWorkChain, "PROTOCOLS", protocols)
    crystal = tmp_path / "diamond.cif"
    diamond = Structure.from_spacegroup("Fd-3m", Lattice.cubic(3.567), ["C"], [[0.0, 0.0, 0.0]])
    diamond.get_primitive_structure().to(str(crystal))
    run(cli, "core-hole", "install", ARCHIVE)
    asked = ("--absorber", "C", "--engine", "xspectra", "--json")
    answer = json.loads(run(cli, "predict", crystal, *asked, "--fallback", "always").stdout)
    assert (answer["method"], answer["reference"], answer["flagged"]) == ("xspectra", "xspectra", [])
    both = ("--absorber", "C", "--engine", "both", "--json")
    first, second = json.loads(run(cli, "compare", answer["pk"]["spectrum"], crystal, *both).stdout)["candidates"]
    assert (first["name"], first["method"], first["rank"]) == ("diamond_xspectra", "xspectra", 1)
    assert (second["name"], second["method"]) == ("diamond_feff", "feff")
    assert first["distance"] < 0.01 < second["distance"]

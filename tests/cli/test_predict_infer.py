"""`aiida-xastruct predict` and `infer`: files in, answers out, one sentence for what cannot be answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiida.orm import StructureData, load_node
from click.testing import Result
from pymatgen.core import Lattice, Structure

from aiida_xastruct.cli.root import cli

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")

GOETHITE = Path(__file__).parents[2] / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"
FCC = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]


@pytest.fixture
def copper() -> Structure:
    """Conventional cell of copper."""
    return Structure(Lattice.cubic(3.615), ["Cu"] * 4, FCC)


@pytest.fixture
def cif(copper: Structure, tmp_path: Path) -> Path:
    """The same as a file."""
    path = tmp_path / "copper.cif"
    copper.to(filename=str(path))
    return path


def test_a_cif_is_answered(run: Callable[..., Result], cif: Path) -> None:
    result = run(cli, "predict", cif, "--absorber", "Cu", "--fallback", "off", "--json")
    answer = json.loads(result.stdout)
    assert (answer["absorber"], answer["edge"], answer["kind"], answer["method"]) == ("Cu", "K", "XANES", "ml")
    spectrum = load_node(answer["pk"]["spectrum"])
    assert (spectrum.absorber, spectrum.method) == ("Cu", "ml")
    # Its provenance begins with the file's structure, under its name.
    prediction = load_node(answer["pk"]["process"])
    assert prediction.inputs.structure.label == "copper.cif"


def test_a_stored_structure_is_answered(run: Callable[..., Result], copper: Structure) -> None:
    node = StructureData(pymatgen=copper).store()
    result = run(cli, "predict", node.pk, "--site", 0, "--fallback", "off")
    assert "method" in result.stdout
    assert "spectrum of site_0" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--absorber", "Zn"], "Error: Zn is not in the structure (Cu4); choose one of Cu."),
        ([], "Error: give either absorber"),
        (["--site", 9], "Error: site 9 does not exist"),
        (["--absorber", "Cu", "--family", "mine", "--fallback", "off"], "there is no model family 'mine'"),
    ],
)
def test_questions_that_make_no_sense_are_refused(run: Callable[..., Result], cif: Path, arguments: list[str], words: str) -> None:
    result = run(cli, "predict", cif, *arguments, status=1)
    assert words in result.output
    assert "Traceback" not in result.output


def test_files_that_are_no_structures_are_refused(run: Callable[..., Result], tmp_path: Path) -> None:
    assert "neither a file nor a stored structure" in run(cli, "predict", tmp_path / "no.cif", "-a", "Cu", status=1).output
    (tmp_path / "bad.cif").write_text("not a crystal")
    assert "bad.cif cannot be read as a crystal structure" in run(cli, "predict", tmp_path / "bad.cif", "-a", "Cu", status=1).output


def test_scans_are_read(run: Callable[..., Result]) -> None:
    result = run(cli, "infer", GOETHITE, "-a", "Fe", "-E", "Fe", "-E", "O", "-E", "H")
    assert "Fe K EXAFS" in result.stdout
    assert "90 % interval" in result.stdout


def test_a_stored_spectrum_is_read_as_json(run: Callable[..., Result], spectrum: Any) -> None:
    from aiida_xastruct.data.spectrum import SpectrumData

    node = SpectrumData.from_engine(spectrum).store()
    answer = json.loads(run(cli, "infer", node.pk, "--json").stdout)
    assert answer["kind"] == "XANES"
    assert answer["pk"]["spectrum"] == node.pk


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([GOETHITE], "do not say which element absorbs"),
        ([GOETHITE, "-a", "Cu"], "Cu K edge"),
        ([GOETHITE, "-a", "Fe", "-c", "i0=nothing"], "has no column 'nothing'"),
        ([GOETHITE, "-a", "Fe", "-E", "Qq"], "'Qq' is not the symbol of an element"),
        (["nowhere.xdi", "also_not.xdi"], "nowhere.xdi is neither a file"),
        (["nowhere.xdi"], "nowhere.xdi is neither"),
    ],
)
def test_scans_that_cannot_be_used_are_refused(run: Callable[..., Result], arguments: list[Any], words: str) -> None:
    result = run(cli, "infer", *arguments, status=1)
    assert words in result.output
    assert "Traceback" not in result.output


def test_a_column_needs_a_role(run: Callable[..., Result]) -> None:
    assert "ROLE=NAME" in run(cli, "infer", GOETHITE, "-a", "Fe", "-c", "i0", status=2).output


def test_a_scan_is_processed_and_then_inferred(run: Callable[..., Result]) -> None:
    result = run(cli, "process", GOETHITE, "--energy-shift", "-1.5", "--glitch", "7200", "--k-range", "3", "11", "--json", status=1)
    assert "do not say which element absorbs" in result.output
    assert json.loads(run(cli, "process", GOETHITE, "-a", "Fe", "--json").stdout)["energy_shift"] == 0.0
    pk = json.loads(run(cli, "import", GOETHITE, "-a", "Fe", "--json").stdout)["pk"]
    done = json.loads(run(cli, "process", pk, "--energy-shift", "-1.5", "--glitch", "7200", "--k-range", "3", "11", "--json").stdout)
    assert (done["energy_shift"], len(done["points_removed"]), done["k_range"]) == (-1.5, 1, [3.0, 11.0])
    shown = run(cli, "process", pk, "--reference", GOETHITE, "--reference-energy", "7124")
    assert "7124.00 eV, energies moved by" in shown.stdout
    answer = json.loads(run(cli, "infer", done["pk"]["spectrum"], "--json").stdout)
    assert answer["neighbour_set"] == ["O"]
    assert "ends at 40" in run(cli, "process", pk, "--k-range", "2", "40", status=1).output

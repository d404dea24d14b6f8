"""`aiida-xastruct import`: files in, stored spectra with their quality out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from aiida.orm import QueryBuilder, SinglefileData, load_node
from click.testing import Result

from aiida_xastruct.cli.root import cli
from aiida_xastruct.data.spectrum import SpectrumData
from aiida_xastruct.engine.merging import merge
from aiida_xastruct.engine.scans import ScanParameters, read_scan

ROOT = Path(__file__).parents[2]
GOETHITE = ROOT / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"
XMU = ROOT / "tests" / "fixtures" / "feff" / "xanes" / "xmu.dat"

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An Athena project of two scans of iron and one of copper."""
    groups = []
    for label, absorber, e0 in (("first", "Fe", 7112.0), ("second", "Fe", 7112.0), ("wrong", "Cu", 7112.0)):
        energy = np.arange(e0 - 120.0, e0 + 280.0, 1.0)
        mu = 0.5 + np.arctan((energy - e0) / 2.0) / np.pi
        x, y = (",".join(f"'{value:.8g}'" for value in column) for column in (energy, mu))
        groups.append(f"@args = ('label','{label}','bkg_z','{absorber}','fft_edge','k');\n@x = ({x});\n@y = ({y});\n[record] #\n")
    path = tmp_path / "iron.prj"
    path.write_bytes(gzip.compress(("# Athena project file -- Demeter version 0.9.26\n" + "".join(groups)).encode()))
    return path


def test_scans_are_merged_and_their_quality_is_told(run: Callable[..., Result]) -> None:
    output = run(cli, "import", GOETHITE, GOETHITE, "-a", "Fe").output
    for words in ("Fe K EXAFS, measured", "ln(vfc01/vfc02)", "from the table", "edge step", "% of the edge step a point", "1/angstrom"):
        assert words in output
    node = QueryBuilder().append(SpectrumData, filters={"attributes.settings.quality.k_max": {">": 15.0}}).one()[0]
    scan = read_scan(GOETHITE.read_text(), GOETHITE.name)
    np.testing.assert_array_equal(node.mu, merge([scan, scan], ScanParameters(absorber="Fe")).mu)
    raw = [item for item in node.creator.inputs if item.startswith("scan_")]
    assert len(raw) == 2
    assert node.creator.inputs.scan_000.get_content(mode="rb") == GOETHITE.read_bytes()


def test_json_holds_the_quality(run: Callable[..., Result]) -> None:
    found = json.loads(run(cli, "import", GOETHITE, "-a", "Fe", "-k", "XANES", "--json").stdout)
    assert (found["absorber"], found["edge"], found["kind"], found["normalisation"]) == ("Fe", "K", "XANES", "raw")
    assert found["quality"] == load_node(found["pk"]).settings["quality"]
    assert found["quality"]["edge_step"] == pytest.approx(0.80, abs=0.03)


def test_columns_and_mode_are_given(run: Callable[..., Result], tmp_path: Path) -> None:
    foil = json.loads(run(cli, "import", GOETHITE, "-a", "Fe", "-m", "reference", "--json").stdout)
    assert foil["quality"]["e0_minus_table"] == pytest.approx(0.0, abs=1.5)
    energy = np.arange(7000.0, 7400.0, 1.0)
    rows = np.column_stack([energy, np.full(400, 2.0), 2.0 * np.exp(-np.arctan(energy - 7112.0))])
    np.savetxt(tmp_path / "bare.txt", rows)
    output = run(cli, "import", tmp_path / "bare.txt", "-a", "Fe", "-c", "energy=1,i0=2", "--columns", "i1=3").output
    assert "ln(column2/column3)" in output
    assert "the sample is thick" in output
    assert "by number" in run(cli, "import", tmp_path / "bare.txt", "-a", "Fe", status=1).output
    assert "ROLE=NAME" in run(cli, "import", tmp_path / "bare.txt", "-c", "energy", status=2).output


def test_groups_of_a_project(run: Callable[..., Result], project: Path) -> None:
    assert "holds 3 spectra (first, second, wrong)" in run(cli, "import", project, status=1).output
    pk = json.loads(run(cli, "import", project, "-g", "first", "-g", "second", "--json").stdout)["pk"]
    assert load_node(pk).settings["n_scans"] == 2


def test_separate_files_each_get_a_line(run: Callable[..., Result], project: Path) -> None:
    arguments = ("import", "--separate", project, XMU, "nowhere.xdi")
    output = run(cli, *arguments, status=1).stdout
    for words in (
        "iron.prj: first",
        "iron.prj: second",
        "good",
        "Mg K",
        "feff",
        "refused: iron.prj: wrong is likely of the Fe K",
        "neither a file",
    ):
        assert words in " ".join(output.split())
    assert QueryBuilder().append(SpectrumData).count() == 3
    found = json.loads(run(cli, *arguments, "--json", status=1).stdout)
    assert set(found) == {f"{project}: first", f"{project}: second", f"{project}: wrong", str(XMU), "nowhere.xdi"}
    assert found[str(XMU)]["method"] == "feff"
    assert "likely of the Fe K edge" in found[f"{project}: wrong"]["refused"]
    # One file is one node, however many spectra it holds.
    assert {node.filename for node in QueryBuilder().append(SinglefileData).all(flat=True)} == {"iron.prj", "xmu.dat"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((GOETHITE,), "their energies suggest the Fe K edge"),
        ((GOETHITE, "-a", "Co"), "likely of the Fe K edge"),
        ((GOETHITE, "-a", "Xx"), "'Xx' is not the symbol of an element"),
        (("nothing.xdi",), "neither a file"),
        (("mp-149",), "no key of the Materials Project in MP_API_KEY"),
        ((XMU, "-a", "Fe"), "is of Mg K, not of Fe K"),
        ((Path(__file__).parent,), "neither a file"),
    ],
)
def test_what_cannot_be_imported_is_one_sentence(
    run: Callable[..., Result], arguments: tuple[object, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MP_API_KEY", raising=False)
    monkeypatch.delenv("PMG_MAPI_KEY", raising=False)
    output = run(cli, "import", *arguments, status=1).output
    assert words in output
    assert "Traceback" not in output
    assert QueryBuilder().append(SpectrumData).count() == 0

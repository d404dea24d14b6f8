"""`aiida-xastruct compare`: nodes and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from aiida_xastruct.cli.compare import compare
from aiida_xastruct.cli.root import cli
from aiida_xastruct.engine.feff import read_xmu

FEFF = Path(__file__).parents[1] / "fixtures" / "feff"


@pytest.fixture
def nodes(aiida_profile_clean):
    """A stored XANES and EXAFS of FEFF."""
    from aiida_xastruct.data.spectrum import SpectrumData

    return {
        kind: SpectrumData.from_engine(read_xmu((FEFF / kind.lower() / "xmu.dat").read_text(), "Mg", "K", kind)).store()
        for kind in ("XANES", "EXAFS")
    }


@pytest.mark.parametrize("file_format", ["xdi", "csv"])
@pytest.mark.parametrize("kind", ["XANES", "EXAFS"])
def test_a_node_is_what_was_exported_of_it(nodes, kind, file_format, tmp_path, run):
    exported = tmp_path / f"spectrum.{file_format}"
    nodes[kind].export(str(exported), fileformat=file_format)
    for pair in [(nodes[kind].pk, nodes[kind].uuid), (nodes[kind].pk, exported), (exported, FEFF / kind.lower() / "xmu.dat")]:
        found = json.loads(run(compare, *pair, "--json").output)
        assert found["kind"] == kind
        assert found["r2"] == pytest.approx(1.0, abs=1e-6)
        assert found["shift"] == pytest.approx(0.0, abs=1e-3)
    shown = run(compare, nodes[kind].pk, exported).output
    assert "1.0000" in shown
    assert "eV" in shown


def test_what_cannot_be_compared(nodes, tmp_path):
    (tmp_path / "words.txt").write_text("no numbers\n")
    for first, second, words in [
        (nodes["EXAFS"].pk, nodes["XANES"].pk, "says nothing of the edge"),
        (nodes["EXAFS"].pk, 987654, "neither a file nor a stored spectrum"),
        (tmp_path / "words.txt", nodes["XANES"].pk, "no table of numbers"),
    ]:
        result = CliRunner().invoke(cli, ["compare", str(first), str(second)])
        assert result.exit_code == 1
        assert words in result.output
        assert "Traceback" not in result.output


def test_several_candidates_are_ranked(nodes, tmp_path, run):
    from dataclasses import replace

    from aiida_xastruct.data.spectrum import SpectrumData

    spectrum = nodes["XANES"].to_engine()
    other = SpectrumData.from_engine(replace(spectrum, mu=0.7 * spectrum.mu + 0.3), label="other one").store()
    exported = tmp_path / "same.csv"
    nodes["XANES"].export(str(exported), fileformat="csv")
    found = json.loads(run(compare, nodes["XANES"].pk, other.pk, exported, nodes["EXAFS"].pk, "--max-shift", 2, "--json").stdout)
    assert [(row["name"], row["rank"]) for row in found["candidates"]] == [("same", 1), ("other_one", 2)]
    assert found["largest_shift"] == 2.0
    assert "computed as EXAFS" in found["refused"][f"Spectrum_{nodes['EXAFS'].pk}"]
    assert sorted(found["pk"]) == ["process", "ranking", "target"]
    shown = run(compare, nodes["XANES"].pk, other.pk, exported).output
    assert shown.index("same") < shown.index("other_one")
    assert "compared as flat mu" in shown


def test_what_cannot_be_ranked(nodes, tmp_path):
    (tmp_path / "broken.cif").write_text("data_nothing\n")
    xanes, exafs = str(nodes["XANES"].pk), str(nodes["EXAFS"].pk)
    for arguments, words in [
        ([xanes, str(tmp_path / "broken.cif")], "cannot be read as a crystal structure"),
        ([xanes, "987654", "987655"], "987654 is neither a file nor a stored crystal or spectrum"),
        ([xanes, exafs, "--max-shift", "3"], "two spectra were given, and an option that is for crystals"),
        ([xanes, exafs, exafs, "--flat"], "--flat and --k-range are for two spectra"),
        ([xanes, exafs, exafs], "no candidate can be compared with the target"),
        ([xanes, exafs, "--reference", "--fallback", "off"], "give one of the two"),
    ]:
        result = CliRunner().invoke(cli, ["compare", *arguments])
        assert result.exit_code == 1
        assert words in result.output
        assert "Traceback" not in result.output

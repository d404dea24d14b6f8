"""Columns of text: names wherever they stand, numbers where there are none, and heads that become attributes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.readers import read, read_measurement
from aiida_xastruct.engine.scans import ScanParameters
from aiida_xastruct.engine.spectrum import Spectrum

IRON = ScanParameters(absorber="Fe")


def table(spectrum: Spectrum, head: str = "", separator: str = " ", detectors: bool = False, reverse: bool = False) -> bytes:
    """Energy and mu, or energy, i0 and i1, as text."""
    i0 = np.full(len(spectrum), 1e5)
    columns = (spectrum.energy, i0, i0 * np.exp(-spectrum.mu)) if detectors else (spectrum.energy, spectrum.mu)
    rows = np.column_stack(columns)[:: -1 if reverse else 1]
    return (head + "\n".join(separator.join(f"{value:.9g}" for value in row) for row in rows) + "\n").encode()


def test_columns_without_names_are_given_by_number(spectrum: Spectrum) -> None:
    content = table(spectrum, "# a scan of 12 May\n", detectors=True)
    by_number = ScanParameters(absorber="Fe", columns={"energy": "1", "i0": "2", "i1": "3"})
    np.testing.assert_allclose(read_measurement([("a", content)], by_number).mu, spectrum.mu, atol=1e-6)
    with pytest.raises(SpectrumError, match="give columns by number"):
        read(content, "a", IRON)
    with pytest.raises(SpectrumError, match="has no column 'column4'; it has column1, column2, column3"):
        read(content, "a", ScanParameters(columns={"energy": "1", "mu": "4"}))


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ("Energy (eV),Monitor,Transmitted\n", {"i0": "monitor", "i1": "transmitted"}),
        ('"energy","io","it"\n', {}),
        ("# a\n# energy i0 i1\n", {}),
    ],
)
def test_names_of_a_spreadsheet(spectrum: Spectrum, head: str, columns: dict[str, str]) -> None:
    content = table(spectrum, head, ",", detectors=True)
    found = read_measurement([("a.csv", content)], ScanParameters(absorber="Fe", columns=columns))
    np.testing.assert_allclose(found.mu, spectrum.mu, atol=1e-6)


def test_two_columns_that_are_named_otherwise_are_not_taken_for_energy_and_mu(spectrum: Spectrum) -> None:
    with pytest.raises(SpectrumError, match="no column of energies"):
        read(table(spectrum, "# time mu\n"), "a", IRON)


def test_marks_and_encodings_of_other_systems(spectrum: Spectrum) -> None:
    text = table(spectrum, "# energy mu\n").decode()
    for content in (
        b"\xef\xbb\xbf" + text.encode(),
        text.encode("utf-16"),
        text.replace("\n", "\r\n").encode(),
        b"# 20 \xb0C\n" + text.encode(),
    ):
        np.testing.assert_allclose(read_measurement([("a", content)], IRON).mu, spectrum.mu, atol=1e-6)


def test_how_the_energies_ran_is_kept(spectrum: Spectrum) -> None:
    down = read_measurement([("a", table(spectrum, "# energy mu\n", reverse=True))], IRON)
    np.testing.assert_allclose(down.mu, spectrum.mu, atol=1e-6)
    assert down.settings["orders"] == ["reversed"]
    both = table(spectrum, "# energy mu\n") + table(spectrum, reverse=True)
    there_and_back = read_measurement([("a", both)], IRON)
    np.testing.assert_allclose(there_and_back.mu, spectrum.mu, atol=1e-6)
    assert there_and_back.settings["orders"] == ["unsorted"]


def test_fields_of_the_head_become_attributes(spectrum: Spectrum) -> None:
    head = (
        "# XDI/1.0 Larch\n# Column.1: energy eV\n# Column.2: mu\n# Element.symbol: Fe\n# Beamline.name: P65\n# Mono.d_spacing: 3.1356\n"
        "# Sample.temperature: {}\x07\n# ///\n# -----\n# energy mu\n"
    )
    cold, warm = (("a", table(spectrum, head.format(kelvin))) for kelvin in ("20 K", "300 K"))
    xdi = read_measurement([cold]).settings["xdi"]
    assert xdi == {
        "element": {"symbol": "Fe"},
        "beamline": {"name": "P65"},
        "mono": {"d_spacing": "3.1356"},
        "sample": {"temperature": "20 K"},
    }
    assert read_measurement([cold, warm]).settings["xdi"]["sample"] == {"temperature": ["20 K", "300 K"]}


def test_the_goethite_file_names_its_edge() -> None:
    path = Path(__file__).parents[3] / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"
    with pytest.raises(SpectrumError, match=r"which element absorbs; their energies suggest the Fe K edge \(it rises at 712\d eV"):
        read_measurement([(path.name, path.read_bytes())])
    with pytest.raises(SpectrumError, match=r"likely of the Fe K edge .* not of the Co K edge"):
        read_measurement([(path.name, path.read_bytes())], ScanParameters(absorber="Co"))

"""One entry for all formats: what is recognised, merged or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine import readers
from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.merging import merge
from aiida_xastruct.engine.readers import format_of, labels_in, read, read_measurement
from aiida_xastruct.engine.scans import Scan, ScanParameters, read_scan

ROOT = Path(__file__).parents[3]
GOETHITE = ROOT / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"
XMU = ROOT / "tests" / "fixtures" / "feff" / "xanes" / "xmu.dat"


def test_a_beamline_file_reads_as_it_always_did() -> None:
    content = GOETHITE.read_bytes()
    found = read_measurement([("a.xdi", content), ("b.xdi", content)], ScanParameters(absorber="Fe"))
    scan = read_scan(GOETHITE.read_text(), "a.xdi")
    expected = merge([scan, scan], ScanParameters(absorber="Fe"))
    np.testing.assert_array_equal(found.energy, expected.energy)
    np.testing.assert_array_equal(found.mu, expected.mu)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"# Athena project file -- Demeter version 0.9.26\n", "Athena project"),
        (b'[{"absorbing_element": "Fe", "spectrum_type": "XANES"}]', "Materials Project document"),
        (XMU.read_bytes(), "FEFF output"),
        (b"# energy mu\n7000 1\n", "columns of text"),
    ],
)
def test_the_format_is_what_is_in_the_file(content: bytes, name: str) -> None:
    assert format_of(content, "any.name").name == name


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00", "binary file of no known format"),
        (b"7z\xbc\xaf" + bytes(40), "binary"),
    ],
)
def test_what_is_no_spectrum_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(SpectrumError, match=words):
        read(content, "x")


def test_a_file_that_is_too_large_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MAX_BYTES", 1000)
    with pytest.raises(SpectrumError, match="more than the"):
        read(b"# energy mu\n" + b"7000 1\n" * 1000, "x")


def test_a_finished_spectrum_comes_alone() -> None:
    assert read_measurement([("xmu.dat", XMU.read_bytes())]).method == "feff"
    with pytest.raises(SpectrumError, match="is not merged; import it alone"):
        read_measurement([("xmu.dat", XMU.read_bytes()), ("xmu.dat", XMU.read_bytes())])


def test_labels_say_how_to_choose() -> None:
    assert labels_in(XMU.read_bytes(), "xmu.dat") == ["Mg K XANES"]
    assert labels_in(GOETHITE.read_bytes(), "scan.xdi") == ["scan.xdi"]
    assert isinstance(read(GOETHITE.read_bytes(), "scan.xdi")[0], Scan)

"""Spectra in the text files that people compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.errors import FeffError, SpectrumError
from aiida_xastruct.engine.feff import read_xmu
from aiida_xastruct.engine.scans import ScanParameters
from aiida_xastruct.engine.spectrum_file import read_pair, read_spectrum, stated_edge

RECORDED = Path(__file__).parents[1] / "fixtures" / "feff"
XANES, EXAFS = ((RECORDED / kind / "xmu.dat").read_bytes() for kind in ("xanes", "exafs"))


def columns(spectrum, head=""):
    """A file of two columns."""
    rows = "".join(f"{energy:.4f} {mu:.6f}\n" for energy, mu in zip(spectrum.energy, spectrum.mu, strict=True))
    return (head + rows).encode()


@pytest.mark.parametrize(("content", "kind"), [(XANES, "XANES"), (EXAFS, "EXAFS")])
def test_xmu_says_what_it_is(content, kind):
    assert stated_edge(content) == ("Mg", "K")
    spectrum = read_spectrum(content, "xmu.dat")
    assert (spectrum.absorber, spectrum.edge, spectrum.kind, spectrum.method) == ("Mg", "K", kind, "feff")
    np.testing.assert_array_equal(spectrum.mu, read_xmu(content.decode(), "Mg", "K", kind).mu)
    # FEFF's header line of an L3 edge.
    assert stated_edge(content.replace(b"Z=12", b"Z=58").replace(b"K  shell", b"L3 shell")) == ("Ce", "L3")


def test_xmu_without_its_head():
    lines = [line for line in XANES.splitlines() if b"Abs" not in line]
    with pytest.raises(SpectrumError, match="which element"):
        read_spectrum(b"\n".join(lines), "xmu.dat")
    assert read_spectrum(b"\n".join(lines), "xmu.dat", ScanParameters(absorber="Mg")).edge == "K"
    with pytest.raises(SpectrumError, match="is of Mg K, not of Fe K"):
        read_spectrum(XANES, "xmu.dat", ScanParameters(absorber="Fe"))
    with pytest.raises(FeffError, match="no numbers"):
        read_spectrum(b"\n".join(line for line in lines if line.startswith((b"#", b" #"))), "xmu.dat", ScanParameters(absorber="Mg"))


@pytest.mark.parametrize(
    "head",
    [
        "",
        "# made by hand, 12 May\n",
        "# energy in eV, then mu\n",
        "# energy mu\n",
        "energy,mu\n",
        "# Element.symbol: Fe\n# Element.edge: K\n",
    ],
)
def test_two_columns(spectrum, head):
    read = read_spectrum(columns(spectrum, head), "two.txt", ScanParameters(absorber="Fe"))
    np.testing.assert_allclose(read.mu, spectrum.mu, atol=1e-6)
    assert (read.absorber, read.edge, read.method, read.normalisation) == ("Fe", "K", "measured", "raw")
    assert read_spectrum(columns(spectrum, head), "two.txt", ScanParameters(absorber="Fe"), flat=True).normalisation == "flat"


def test_the_other_file_says_what_one_does_not(spectrum):
    said = "# Element.symbol: Fe\n# Element.edge: K\n"
    bare, named = read_pair([(columns(spectrum), "a"), (columns(spectrum, said), "b")])
    assert (bare.absorber, bare.edge) == (named.absorber, named.edge) == ("Fe", "K")
    assert read_pair([(columns(spectrum), "a"), spectrum])[0].absorber == "Fe"
    with pytest.raises(SpectrumError, match="which element"):
        read_pair([(columns(spectrum), "a"), (columns(spectrum), "b")])


def test_what_is_no_spectrum(spectrum):
    iron = ScanParameters(absorber="Fe")
    with pytest.raises(SpectrumError, match="0 lines of numbers"):
        read_spectrum(b"", "empty.txt", iron)
    with pytest.raises(SpectrumError, match="no table of numbers"):
        read_spectrum(b"# e\n1 2\nthree four\n", "words.txt", iron)
    with pytest.raises(SpectrumError, match="within 60 eV"):
        read_spectrum(columns(replace(spectrum, energy=spectrum.energy + 900.0)), "two.txt", iron)

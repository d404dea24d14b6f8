"""Two spectra of one edge, compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.compare import compare
from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.feff import read_xmu

RECORDED = Path(__file__).parents[1] / "fixtures" / "feff"


@pytest.fixture
def feff():
    return read_xmu((RECORDED / "xanes" / "xmu.dat").read_text(), "Mg", "K", "XANES")


def test_a_spectrum_is_like_itself_wherever_its_zero_is(feff):
    same = compare(feff, feff)
    assert (same.shift, same.r2) == (pytest.approx(0.0, abs=1e-9), pytest.approx(1.0))
    moved = compare(replace(feff, energy=feff.energy + 4.0), feff)
    assert moved.shift == pytest.approx(-4.0, abs=0.1)
    assert moved.r2 > 0.999
    assert moved.spearman > 0.99


def test_a_wrong_e0_is_mended_by_the_shift(feff):
    found = compare(replace(feff, e0=compare_e0(feff) + 2.0), feff)
    assert found.shift == pytest.approx(0.0, abs=0.15)
    assert found.mse < 1e-4


def compare_e0(spectrum):
    from aiida_xastruct.engine.spectrum import find_e0

    return find_e0(spectrum)


def test_unlike_spectra_score_low(feff):
    smooth = replace(feff, mu=1.0 / (1.0 + np.exp(-(feff.energy - 1308.0) / 8.0)))
    found = compare(smooth, feff)
    assert found.r2 < 0.8
    assert found.spearman < 0.6


def test_different_edges_and_short_ranges_are_refused(feff):
    exafs = read_xmu((RECORDED / "exafs" / "xmu.dat").read_text(), "Mg", "K", "EXAFS")
    with pytest.raises(SpectrumError, match="different edges"):
        compare(replace(exafs, absorber="Al"), feff)
    short = feff.energy < 1322.0
    with pytest.raises(SpectrumError, match="eV around the edge"):
        compare(replace(feff, energy=feff.energy[short], mu=feff.mu[short], mu0=feff.mu0[short]), feff)

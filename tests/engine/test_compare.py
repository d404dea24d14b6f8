"""Two spectra of one edge, compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.cli import main
from aiida_xastruct.engine.compare import compare
from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.feff import read_xmu
from aiida_xastruct.engine.spectrum import EXAFS_GRID, chi_k

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


@pytest.fixture
def exafs():
    return read_xmu((RECORDED / "exafs" / "xmu.dat").read_text(), "Mg", "K", "EXAFS")


def test_exafs_is_compared_by_chi(exafs):
    same = compare(exafs, exafs)
    assert (same.kind, same.shift, same.low, same.high, same.points) == ("EXAFS", 0.0, 3.0, 12.0, 181)
    assert same.r2 == pytest.approx(1.0)
    # Another zero of energy is no difference; a wrong E0 is, and is found.
    assert compare(replace(exafs, energy=exafs.energy + 30.0, e0=exafs.e0 + 30.0), exafs).shift == pytest.approx(-30.0, abs=0.05)
    wrong = compare(replace(exafs, e0=exafs.e0 + 3.0), exafs)
    assert wrong.shift == pytest.approx(0.0, abs=0.05)
    assert wrong.r2 > 0.999
    # Half the amplitude: R2 is 1 - 1/4 of the squares about zero, which is the mean of chi nearly.
    half = compare(replace(exafs, mu=(exafs.mu + exafs.mu0) / 2), exafs)
    assert half.r2 == pytest.approx(0.75, abs=0.01)
    assert half.spearman > 0.95
    k, chi = chi_k(exafs)
    grid = EXAFS_GRID[(EXAFS_GRID >= 3.0) & (EXAFS_GRID <= 12.0)]
    assert half.mse == pytest.approx(np.mean((0.5 * grid**2 * np.interp(grid, k, chi)) ** 2), rel=0.03)


def test_k_range_is_what_was_asked_for(exafs):
    found = compare(exafs, exafs, k_range=(4.0, 9.0))
    assert (found.low, found.high, found.points) == (4.0, 9.0, 101)
    # FEFF went to 20: what is beyond is no part of the comparison.
    assert compare(exafs, exafs, k_range=(10.0, 30.0)).high < 20.0
    for k_range, words in [((9.0, 4.0), "is none"), ((-1.0, 4.0), "is none"), ((4.0, 6.0), "3 are needed"), ((21.0, 30.0), "share 0 ")]:
        with pytest.raises(SpectrumError, match=words):
            compare(exafs, exafs, k_range=k_range)


def test_kinds_that_cannot_be_compared(feff, exafs):
    with pytest.raises(SpectrumError, match="says nothing of the edge"):
        compare(exafs, feff)
    with pytest.raises(SpectrumError, match="chi\\(k\\) needs at least 100"):
        compare(exafs, feff, "EXAFS")
    with pytest.raises(SpectrumError, match="constant"):
        compare(exafs, replace(exafs, mu=exafs.mu0))


def test_command(tmp_path, feff, capsys):
    table, xmu = tmp_path / "two.txt", str(RECORDED / "xanes" / "xmu.dat")
    np.savetxt(table, np.column_stack([feff.energy + 1.5, feff.mu]))
    assert main(["compare", str(table), xmu, "--flat", "--json", str(tmp_path / "found.json")]) == 0
    assert "two.txt against xmu.dat, Mg K XANES" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["shift"] == pytest.approx(-1.5, abs=0.15)
    assert found["r2"] > 0.9
    for arguments, words in [
        ([str(table), xmu], "normalising needs"),
        ([str(table), str(table)], "which element absorbs"),
        ([xmu, xmu, "--absorber", "Fe"], "is of Mg K, not of Fe K"),
        ([str(tmp_path / "none"), xmu], "none cannot be used"),
        ([xmu, xmu, "--k-range", "5", "4", "--kind", "EXAFS"], "is none"),
        ([xmu, xmu, "--edge", "Q"], "edge is 'Q'"),
    ]:
        assert main(["compare", *arguments]) == 1
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1

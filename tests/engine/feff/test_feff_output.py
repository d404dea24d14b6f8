"""Reading what FEFF wrote, and judging it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.errors import FeffError
from aiida_xastruct.engine.feff.diagnose import diagnose, scf_settled
from aiida_xastruct.engine.feff.offsets import EDGE_OFFSETS
from aiida_xastruct.engine.feff.output import check, edge_offset, read_chi, read_folder, read_xmu
from aiida_xastruct.engine.spectrum import chi_k, edge_of

RECORDED = Path(__file__).parents[2] / "fixtures" / "feff"


@pytest.fixture
def exafs():
    return read_xmu((RECORDED / "exafs" / "xmu.dat").read_text(), "Mg", "K", "EXAFS")


@pytest.fixture
def xanes():
    return read_xmu((RECORDED / "xanes" / "xmu.dat").read_text(), "Mg", "K", "XANES")


#: Energies of k = 0 in the two recorded files.
EXAFS_EDGE, XANES_EDGE = 1305.86, 1305.86


def test_recorded_runs_are_sound(exafs, xanes):
    assert check(exafs, EXAFS_EDGE) == []
    assert check(xanes, XANES_EDGE) == []


def test_chi_of_the_spectrum_is_feffs_own(exafs):
    table = np.loadtxt(RECORDED / "exafs" / "xmu.dat")
    k, chi = chi_k(exafs)
    far = k > 3
    # FEFF divides by the step without the core hole's width, which its mu0 carries: 2 % at k = 3, nothing far out.
    np.testing.assert_allclose(chi[far], np.interp(k[far], table[:, 2], table[:, 5]), rtol=0.03, atol=2e-4)


def test_read_chi():
    k, chi = read_chi("# k chi mag phase\n 0.05 1.5E-02 1 2\n 0.10 -1.5D-02 1 2\n")
    np.testing.assert_allclose(k, [0.05, 0.10])
    np.testing.assert_allclose(chi, [0.015, -0.015])


@pytest.mark.parametrize("text", ["", "# only a header\n", "1 2 3\n", "1 2 3 4 5 6\n7 8\n", "1 2 3 **** 5 6\n"])
def test_damaged_tables_are_refused(text):
    with pytest.raises(FeffError, match="table"):
        read_xmu(text, "Mg", "K", "XANES")


def test_values_that_are_not_finite_are_refused():
    rows = "\n".join(f"{1300 + i} {i} 0.{i} NaN 1 0" for i in range(20))
    with pytest.raises(FeffError, match="not finite"):
        read_xmu(rows, "Mg", "K", "XANES")


def test_a_xanes_run_is_no_exafs():
    rows = (RECORDED / "exafs" / "xmu.dat").read_text().splitlines()
    with pytest.raises(FeffError, match="k starts at"):
        read_xmu("\n".join(rows[-200:]), "Mg", "K", "EXAFS")


def test_check_sees_each_fault(exafs, xanes):
    assert "mu0 is not positive" in check(replace(exafs, mu0=np.where(exafs.energy > 2000, -0.1, exafs.mu0)), EXAFS_EDGE)[0]
    assert "averages 1.2" in check(replace(exafs, mu=1.2 * exafs.mu), EXAFS_EDGE)[0]
    assert "edge lies" in check(replace(exafs, energy=exafs.energy + 20.0, e0=exafs.e0 + 20.0), EXAFS_EDGE + 20.0)[0]
    assert "edge steps" in check(replace(xanes, mu=xanes.mu - 1.0), XANES_EDGE)[0]
    # The expansion in paths fails near k = 0; a dip there is no fault.
    dip = exafs.mu - np.where(exafs.energy < exafs.e0 + 5.0, 3.0, 0.0)
    assert check(replace(exafs, mu=dip), EXAFS_EDGE) == []


def test_offsets_cover_the_periodic_table():
    assert len(EDGE_OFFSETS["K"]) >= 45
    assert len(EDGE_OFFSETS["L3"]) >= 35
    assert all(edge_of(element) == edge for edge, table in EDGE_OFFSETS.items() for element in table)
    assert edge_offset("Fe", "K")[0] == pytest.approx(4, abs=3)
    assert edge_offset("Fe", "L1") == (0.0, 60.0)


def test_facts_of_a_folder():
    result = read_folder(RECORDED / "xanes", "Mg", "K", "XANES", {"protocol": "fast"})
    assert result.facts["scf_converged"] is True
    assert result.facts["scf_settled"] is True
    assert result.facts["edge_energy_ev"] == pytest.approx(XANES_EDGE, abs=3.0)
    assert result.facts["fermi_energy_ev"] == pytest.approx(-11.0, abs=1.0)
    assert result.spectrum.settings["protocol"] == "fast"
    assert read_folder(RECORDED / "scf-not-converged", "Mg", "K", "XANES").facts["scf_converged"] is False
    with pytest.raises(FeffError, match="INCREASE NOVP"):
        read_folder(RECORDED / "potentials-failed", "U", "L3", "EXAFS")


def test_settled_scf():
    step = "New Fermi level:    mu=  {}  eV  Charge distance=  0.1\n"
    assert scf_settled("") is None
    assert scf_settled(step.format("-9.0")) is False
    assert scf_settled(step.format("-9.0") + step.format("-9.5")) is False
    assert scf_settled(step.format("-9.0") + step.format("-9.5") + step.format("-9.6")) is True
    assert scf_settled(step.format("-9.0") + "Convergence reached in 1 iterations") is True


def test_unknown_failures_keep_the_last_words():
    found = diagnose({"log1.dat": "all is well\n", "xastruct-feff.err": "strange noise\n\n"})
    assert (found.cause, found.message) == ("unknown", "strange noise")
    assert diagnose({}).message == "nothing"

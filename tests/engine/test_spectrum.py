"""A spectrum is validated when it is made; E0, the flat form and chi(k) give back what was planted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.feff.output import read_xmu
from aiida_xastruct.engine.readers import read_measurement
from aiida_xastruct.engine.scans import ScanParameters
from aiida_xastruct.engine.spectrum import (
    ETOK,
    EXAFS_GRID,
    XANES_GRID,
    Spectrum,
    atomic_number,
    chi_k,
    edge_of,
    energy_to_k,
    find_e0,
    flatten,
    k_to_energy,
    model_curve,
    multiplets,
    next_edge,
    on_grid,
    smooth_background,
    tabulated_edge,
)

RECORDED = Path(__file__).parents[1] / "fixtures" / "feff"

FE = 7112.0


def measured(e0=7120.0, step=1.3, high=900.0, distance=None):
    """A Fe K edge as a beamline gives it: a sloping pre-edge, a step of `step` at `e0`, and one shell at `distance`."""
    energy = np.concatenate([np.arange(e0 - 150, e0 - 20, 5.0), np.arange(e0 - 20, e0 + 60, 0.3), np.arange(e0 + 60, e0 + high, 2.0)])
    edge = 0.5 + np.arctan((energy - e0) / 1.0) / np.pi
    chi = np.zeros_like(energy)
    if distance is not None:
        k = energy_to_k(np.clip(energy - e0, 0.0, None))
        chi = np.where(k > 0.5, 8.0 * np.sin(2 * k * distance) * np.exp(-0.015 * k**2) / np.maximum(k, 0.5) ** 2 / 5.0, 0.0)
    mu = 0.4 - 2e-4 * (energy - e0) + step * edge * (1 + chi)
    return Spectrum(energy, mu, "Fe", "K", "EXAFS" if high > 300 else "XANES")


def feff(chi, kind="EXAFS"):
    """FEFF-like: mu = mu0 (1 + chi), mu0 falling as the atom's cross section does; edge 15 eV above the table."""
    e0 = FE + 15.0
    k = np.linspace(0.0, 20.0, 401)
    energy = e0 + k_to_energy(k)
    mu0 = smooth_background(energy, e0) * (0.5 + np.arctan((energy - e0) / 2.0) / np.pi)
    return Spectrum(energy, mu0 * (1.0 + chi(k)), "Fe", "K", kind, "feff", "feff", "feff_xsedge50", mu0, e0)


# ---------------------------------------------------------------- what makes a spectrum


GOOD = {"energy": np.linspace(7000.0, 7300.0, 50), "mu": np.linspace(0.0, 1.0, 50), "absorber": "Fe", "edge": "K", "kind": "XANES"}


def test_a_good_spectrum_keeps_what_it_was_given():
    spectrum = Spectrum(**GOOD)
    assert len(spectrum) == 50
    np.testing.assert_array_equal(spectrum.energy, GOOD["energy"])
    assert (spectrum.method, spectrum.energy_reference, spectrum.normalisation) == ("measured", "nominal", "raw")


def test_arrays_are_copies_that_cannot_be_changed():
    energy = GOOD["energy"].copy()
    spectrum = Spectrum(**{**GOOD, "energy": energy})
    energy[0] = 1.0
    assert spectrum.energy[0] == 7000.0
    with pytest.raises(ValueError, match="read-only"):
        spectrum.mu[0] = 2.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mu": np.ones(49)}, "two columns of one length"),
        ({"energy": np.ones((50, 1)), "mu": np.ones((50, 1))}, "two columns of one length"),
        ({"mu0": np.ones(3)}, "two columns of one length"),
        ({"energy": np.linspace(7000, 7100, 9), "mu": np.ones(9)}, "at least 10"),
        ({"mu": np.where(np.arange(50) == 7, np.nan, 1.0)}, "NaN or infinite"),
        ({"mu": np.where(np.arange(50) == 7, np.inf, 1.0)}, "NaN or infinite"),
        ({"mu0": np.where(np.arange(50) == 7, np.nan, 1.0)}, "NaN or infinite"),
        ({"energy": np.linspace(7300.0, 7000.0, 50)}, "do not increase"),
        ({"energy": np.repeat(np.linspace(7000.0, 7300.0, 25), 2)}, "do not increase"),
        ({"energy": np.linspace(7.0, 7.3, 50)}, "not keV"),
        ({"energy": np.linspace(-50.0, 50.0, 50)}, "not E - E0"),
        ({"energy": np.linspace(7e6, 8e6, 50)}, "absolute photon energies"),
        ({"kind": "xanes"}, "use one of XANES, EXAFS"),
        ({"edge": "K1"}, "use one of K, L1"),
        ({"method": "guess"}, "use one of feff, xspectra, ml, measured"),
        ({"normalisation": "norm"}, "feff_xsedge50, flat, raw"),
        ({"energy_reference": "mine"}, "calibrated"),
        ({"absorber": "Xx"}, "not the symbol of an element"),
        ({"absorber": "H", "edge": "L3"}, "no tabulated L3 edge"),
        ({"e0": np.nan}, "E0 is not a finite number"),
    ],
)
def test_bad_spectra_are_refused(refused, change, words):
    with refused(SpectrumError, words):
        Spectrum(**{**GOOD, **change})


def test_e0_may_be_a_number_of_numpy():
    energy = np.linspace(7000.0, 7400.0, 100)
    spectrum = Spectrum(
        energy=energy, mu=np.tanh((energy - FE) / 10.0), absorber="Fe", edge="K", kind="XANES", method="measured",
        energy_reference="nominal", normalisation="raw", e0=np.float32(7112.5),
    )  # fmt: skip
    assert find_e0(spectrum) == 7112.5


@pytest.mark.parametrize(("element", "edge"), [("Fe", "K"), ("Sn", "K"), ("Sb", "L3"), ("U", "L3"), ("Mg", "K")])
def test_the_edge_that_people_measure(element, edge):
    assert edge_of(element) == edge


def test_tabulated_numbers():
    assert atomic_number("W") == 74
    assert tabulated_edge("Fe", "K") == pytest.approx(7112.0, abs=1.0)
    assert tabulated_edge("U", "L3") == pytest.approx(17166.0, abs=1.0)


@pytest.mark.parametrize(
    ("element", "edge", "shell"),
    [("Ti", "L3", "3d"), ("Fe", "L2,3", "3d"), ("Ca", "L2", "3d"), ("Ce", "M5", "4f"), ("U", "M4", "5f"),
     ("Fe", "K", ""), ("Zn", "L3", ""), ("Mo", "L3", ""), ("W", "L3", ""), ("W", "M5", ""), ("Lu", "M5", "")],
)  # fmt: skip
def test_edges_that_multiplets_dominate(element, edge, shell):
    assert (f"multiplets of the {shell} shell" in multiplets(element, edge)) if shell else multiplets(element, edge) == ""


def test_the_sum_of_two_edges_starts_at_the_first():
    assert tabulated_edge("Fe", "L2,3") == tabulated_edge("Fe", "L3") < tabulated_edge("Fe", "L2")


@pytest.mark.parametrize("wrong", ["fe2", "", "Q", 26, True, 200, 26.0, None, ["Fe"]])
def test_what_is_no_element_is_refused(refused, wrong):
    with refused(SpectrumError, "not the symbol of an element"):
        atomic_number(wrong)


@pytest.mark.parametrize("given", ["fe", "FE", np.str_("Fe")])
def test_a_spectrum_has_one_name_for_its_absorber(given):
    assert replace(measured(), absorber=given).absorber == "Fe"


def test_a_truth_value_is_no_edge_energy(refused):
    with refused(SpectrumError, "E0 is not a finite number"):
        replace(measured(), e0=True)


# ---------------------------------------------------------------- E0 and k


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("points", [30, 60, 99, 150])
def test_e0_of_a_coarse_calculation(points):
    """larch divides by zero energy steps below 100 points; the answer and the silence must not depend on it."""
    energy = np.linspace(7110.0, 7170.0, points)
    mu = 0.5 + np.arctan((energy - 7128.0) / 2.0) / np.pi
    found = find_e0(Spectrum(energy, mu, "Fe", "K", "XANES", "feff", "feff", "feff_xsedge50"))
    assert found == pytest.approx(7128.0, abs=60.0 / points + 0.5)


@pytest.mark.parametrize("e0", [7100.0, 7112.0, 7125.5, 7150.0])
def test_e0_of_a_measured_edge(e0):
    assert find_e0(measured(e0)) == pytest.approx(e0, abs=1.0)


def test_e0_of_feff_lies_anywhere_above_the_table():
    """U's edge by FEFF is 400 eV above the table: no window around the table would find it."""
    energy = np.arange(17560.0, 17760.0, 0.5)
    mu = 0.5 + np.arctan((energy - 17570.0) / 2.0) / np.pi
    assert find_e0(Spectrum(energy, mu, "U", "L3", "XANES", "feff", "feff", "feff_xsedge50")) == pytest.approx(17570.0, abs=1.0)


def test_a_stated_e0_is_believed():
    assert find_e0(replace(measured(), e0=7111.1)) == 7111.1


def test_with_e0_fills_it_in_once():
    filled = measured(7121.0).with_e0()
    assert filled.e0 == pytest.approx(7121.0, abs=1.0)
    assert filled.with_e0() is filled


def test_a_scan_of_another_edge_is_refused(refused):
    with refused(SpectrumError, "check absorber, edge and energy unit"):
        find_e0(replace(measured(), absorber="Cu"))


@pytest.mark.parametrize("points", [10, 12, 13, 14, 20])
def test_so_few_points_give_an_e0_or_a_sentence(points):
    """larch's smoothing breaks below 14 points."""
    energy = np.linspace(7100.0, 7140.0, points)
    spectrum = Spectrum(energy, 0.5 + np.arctan((energy - 7118.0) / 3.0) / np.pi, "Fe", "K", "XANES")
    if points < 14:
        with pytest.raises(SpectrumError, match="14 are needed"):
            find_e0(spectrum)
    else:
        assert find_e0(spectrum) == pytest.approx(7118.0, abs=8.0)


def test_k_and_energy_are_inverse_on_both_sides_of_the_edge():
    energy = np.linspace(-30.0, 1500.0, 200)
    np.testing.assert_allclose(k_to_energy(energy_to_k(energy)), energy, atol=1e-9)
    assert energy_to_k(np.array([3.81]))[0] == pytest.approx(1.0, abs=1e-3)  # hbar^2 / 2m = 3.81 eV angstrom^2
    assert energy_to_k(np.array([-3.81]))[0] == pytest.approx(-1.0, abs=1e-3)


# ---------------------------------------------------------------- the flat form


@pytest.mark.parametrize("step", [0.05, 1.3])
def test_flattening_finds_the_planted_edge_step(step):
    flat = flatten(measured(step=step))
    assert flat.settings["edge_step"] == pytest.approx(step, rel=0.02)
    above, below = flat.energy > 7120.0 + 150.0, flat.energy < 7120.0 - 60.0
    np.testing.assert_allclose(flat.mu[above], 1.0, atol=0.02)
    np.testing.assert_allclose(flat.mu[below], 0.0, atol=0.02)


def test_flattening_twice_changes_nothing():
    once = flatten(measured())
    np.testing.assert_array_equal(flatten(once).mu, once.mu)


def test_gain_and_offset_do_not_change_the_flat_form():
    """The same sample on another detector."""
    one = measured(distance=2.0)
    other = replace(one, mu=3.0 * one.mu + 0.7)
    np.testing.assert_allclose(flatten(other).mu, flatten(one).mu, atol=1e-6)


def test_feffs_trend_is_divided_out_and_the_edge_kept():
    flat = flatten(feff(lambda k: 0.0 * k))
    assert flat.normalisation == "flat"
    far = flat.energy > flat.e0 + 200.0
    np.testing.assert_allclose(flat.mu[far], 1.0, atol=0.01)
    assert flat.mu[0] == pytest.approx(0.5, abs=0.01)
    assert feff(lambda k: 0.0 * k).mu[-1] < 0.7  # the trend was there
    np.testing.assert_allclose(flat.mu / flat.mu0, 1.0, atol=1e-12)


@pytest.mark.parametrize(("low", "high"), [(-20.0, 300.0), (-150.0, 40.0)])
def test_too_short_a_scan_cannot_be_normalised(refused, low, high):
    whole = measured()
    keep = (whole.energy > 7120.0 + low) & (whole.energy < 7120.0 + high)
    with refused(SpectrumError, "normalising needs at least -30 to 60 eV"):
        flatten(replace(whole, energy=whole.energy[keep], mu=whole.mu[keep]))


def test_intensity_instead_of_absorption_is_refused(refused):
    upside_down = measured()
    with refused(SpectrumError, "edge step", "not intensity"):
        flatten(replace(upside_down, mu=2.0 - upside_down.mu, e0=7120.0))


def test_a_scan_without_an_edge_is_refused(refused):
    flat = measured()
    with refused(SpectrumError, "edge step"):
        flatten(replace(flat, mu=np.full(len(flat), 0.7), e0=7120.0))


# ---------------------------------------------------------------- chi(k)


def test_chi_of_feff_is_what_was_planted():
    def planted(k):
        return 0.1 * np.sin(4.0 * k) * np.exp(-0.02 * k**2)

    k, chi = chi_k(feff(planted))
    assert k[0] == 0.0
    np.testing.assert_allclose(chi, planted(k), atol=1e-12)


def test_chi_of_a_learned_spectrum_is_mu_less_one():
    energy = FE + k_to_energy(EXAFS_GRID)
    chi = 0.1 * np.sin(4.0 * EXAFS_GRID)
    spectrum = Spectrum(energy, 1.0 + chi, "Fe", "K", "EXAFS", "ml", "feff", "flat", None, FE)
    np.testing.assert_allclose(model_curve(spectrum), chi, atol=1e-9)


def test_chi_of_a_measured_scan_holds_the_planted_shell():
    """autobk takes away the slow background and leaves the sine of the shell: its transform peaks at the shell."""
    k, chi = chi_k(measured(distance=2.4))
    inside = (k > 3) & (k < 12)
    grid = np.arange(1.2, 6.0, 0.02)
    transform = np.abs(np.exp(2j * grid[:, None] * k[inside]) @ (chi[inside] * k[inside] ** 2 * np.hanning(inside.sum())))
    assert grid[transform.argmax()] == pytest.approx(2.4, abs=0.05)


@pytest.mark.parametrize(("absorber", "edge", "following"), [("Pt", "L3", "L2"), ("Pt", "L2,3", "L1"), ("Cu", "L2", "L1")])
def test_the_next_edge(absorber, edge, following):
    assert next_edge(absorber, edge) == tabulated_edge(absorber, following)


def test_no_edge_follows_the_k_edge():
    assert next_edge("Cu", "K") == np.inf


def test_a_scan_that_runs_into_the_next_edge_is_cut_there():
    """Pt L3 with the step of L2 1709 eV above: chi and the edge step are those of the scan that ends before it."""
    e0, l2 = tabulated_edge("Pt", "L3"), tabulated_edge("Pt", "L2")
    energy = np.arange(e0 - 200.0, l2 + 80.0, 1.0)
    above = np.clip(energy - e0, 0.0, None)
    k = np.sqrt(ETOK * above)
    chi = np.where(k > 1, 0.6 * np.sin(2 * 2.7 * k) * np.exp(-0.01 * k**2) / np.clip(k, 1, None) ** 2, 0.0)
    mu = 0.3 - 1e-5 * (energy - e0) + (0.5 + np.arctan((energy - e0) / 2.0) / np.pi) * (1 + chi)
    long = Spectrum(energy, mu + 0.5 * (0.5 + np.arctan((energy - l2) / 2.0) / np.pi), "Pt", "L3", "EXAFS")
    short = energy < l2 - 20.0
    cut = Spectrum(energy[short], long.mu[short], "Pt", "L3", "EXAFS")
    np.testing.assert_allclose(model_curve(long), model_curve(cut), atol=2e-3)
    assert np.nanmax(np.abs(model_curve(long)) * EXAFS_GRID**2) < 1.0
    flat = [flatten(replace(scan, kind="XANES")) for scan in (long, cut)]
    assert flat[0].settings["edge_step"] == pytest.approx(flat[1].settings["edge_step"], rel=2e-3)
    assert len(flat[0]) == len(energy)


def test_too_short_for_chi(refused):
    whole = measured()
    keep = whole.energy < 7120.0 + 80.0
    with refused(SpectrumError, "chi(k) needs at least 100 eV"):
        chi_k(replace(whole, energy=whole.energy[keep], mu=whole.mu[keep]))


# ---------------------------------------------------------------- what models see


def test_on_grid_says_where_nothing_was_measured():
    found = on_grid(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0]), np.array([0.5, 1.0, 2.5, 3.0, 3.1]))
    np.testing.assert_array_equal(found, [np.nan, 10.0, 25.0, 30.0, np.nan])


def test_xanes_curve_is_flat_mu_above_e0():
    spectrum = measured(high=200.0)
    curve = model_curve(spectrum)
    assert curve.shape == XANES_GRID.shape
    assert np.isfinite(curve).all()
    assert curve[np.searchsorted(XANES_GRID, 0.0)] == pytest.approx(0.5, abs=0.1)
    assert curve[0] < 0.1
    assert curve[-1] == pytest.approx(1.0, abs=0.03)


def test_the_same_edge_at_another_energy_gives_the_same_curve():
    """Models see E - E0: a monochromator that is off by 10 eV changes nothing."""
    one, other = measured(7112.0, high=200.0), measured(7122.0, high=200.0)
    np.testing.assert_allclose(model_curve(one), model_curve(other), atol=0.01)


@pytest.mark.parametrize(("kind", "length"), [("xanes", 137), ("exafs", 261)])
def test_a_recorded_feff_run_covers_the_grid(kind, length):
    spectrum = read_xmu((RECORDED / kind / "xmu.dat").read_text(), "Mg", "K", kind.upper())
    curve = model_curve(spectrum)
    assert curve.shape == (length,)
    assert np.isfinite(curve).mean() > 0.8
    assert np.nanmax(np.abs(curve)) < 6.0  # the recorded XANES run is a coarse one


def test_exafs_without_mu0_loses_the_trend_of_the_cross_section():
    """FEFF's mu falls as the cross section does; without mu0 that trend must not end up in chi."""
    energy = 7112.0 + np.linspace(0.0, 900.0, 400)
    mu = (energy / 7162.0) ** -2.6
    spectrum = Spectrum(energy, mu, "Fe", "K", "EXAFS", "feff", "feff", "feff_xsedge50", None, 7112.0)
    assert np.abs(chi_k(spectrum)[1]).max() < 1e-12


@pytest.mark.parametrize("mu", [np.ones(201), np.linspace(2.0, 1.0, 201), 2.0 - np.heaviside(np.linspace(-100.0, 300.0, 201), 0.5)])
def test_what_has_no_edge_step_has_no_fine_structure(mu: np.ndarray) -> None:
    """A constant, a slope and a step down; autobk alone divides by the step's absolute value, and models would answer."""
    measured = Spectrum(np.linspace(7012.0, 7412.0, 201), mu, "Fe", "K", "EXAFS", e0=7112.0)
    with pytest.raises(SpectrumError, match=r"the edge step at 7112\.0 eV"):
        chi_k(measured)


@pytest.mark.parametrize("kind", ["XANES", "EXAFS"])
@pytest.mark.parametrize("unit", [1e-250, 1e-13, 1e9, 1e200, 1e307])
def test_the_unit_of_mu_does_not_matter(kind: str, unit: float) -> None:
    """Larch takes steps below 1e-12 for that, so that mu in a tiny unit was flat, and models answered for it."""
    energy = np.linspace(7012.0, 7912.0, 601)
    mu = 0.5 + np.arctan((energy - 7112.0) / 2.0) / np.pi + 0.02 * np.sin(0.6 * np.sqrt(np.maximum(energy - 7112.0, 0.0)))
    plain = Spectrum(energy, mu, "Fe", "K", kind)
    scaled = replace(plain, mu=unit * mu)
    np.testing.assert_allclose(model_curve(scaled), model_curve(plain), atol=1e-6)
    if kind == "XANES":
        assert flatten(scaled).settings["edge_step"] == pytest.approx(unit * flatten(plain).settings["edge_step"])


def goethite() -> Spectrum:
    path = Path(__file__).parents[2] / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"
    return read_measurement([(path.name, path.read_bytes())], ScanParameters(absorber="Fe"))


@pytest.mark.parametrize("start", [-100.0, -60.0, -40.0, -32.0])
def test_chi_does_not_depend_on_where_the_scan_begins(start: float) -> None:
    whole = goethite()
    k, chi = chi_k(whole)
    kept = whole.energy > find_e0(whole) + start
    other_k, other = chi_k(replace(whole, energy=whole.energy[kept], mu=whole.mu[kept]))
    inner = (k > 3.0) & (k < 10.0)
    chi, other = chi[inner], np.interp(k[inner], other_k, other)
    assert chi @ other / (chi @ chi) == pytest.approx(1.0, abs=0.04)


def test_a_scan_that_begins_at_the_edge_has_no_step() -> None:
    whole = goethite()
    kept = whole.energy > find_e0(whole) - 20.0
    with pytest.raises(SpectrumError, match=r"the scan begins -\d+\.\d eV from E0, too near to tell the edge step"):
        chi_k(replace(whole, energy=whole.energy[kept], mu=whole.mu[kept]))


@pytest.mark.parametrize(("edge", "step"), [("L3", 1.0), ("L2", 0.5), ("L1", 0.25)])
def test_each_edge_of_a_long_scan_is_normalised_from_above_the_one_before(edge: str, step: float) -> None:
    energy = np.arange(11400.0, 14600.0, 2.0)
    rises = [height * (0.5 + np.arctan((energy - at) / 2.5) / np.pi) for at, height in ((11564.0, 1.0), (13273.0, 0.5), (13880.0, 0.25))]
    mu = sum(rises) + 2.0 * (energy / 11564.0) ** -3 + 0.8 * np.exp(-(((energy - 11566.0) / 4.0) ** 2))
    flat = flatten(Spectrum(energy, mu, "Pt", edge, "EXAFS"))
    assert flat.settings["edge_step"] == pytest.approx(step, rel=0.03)
    before = (flat.energy > flat.e0 - 150.0) & (flat.energy < flat.e0 - 20.0)
    assert np.abs(flat.mu[before]).max() < 0.05

"""Averages over sites."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.averaging import average, sum_edges
from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.feff.output import read_folder
from aiida_xastruct.engine.point_band import SHARE
from aiida_xastruct.engine.spectrum import EXAFS_GRID, Spectrum, chi_k, find_e0, flatten, k_to_energy


def xanes(shift: float, method: str = "feff", start: float = 7105.0, step: float = 0.4) -> Spectrum:
    """An iron edge at 7120 + shift."""
    energy = np.arange(start, start + 80.0, step)
    mu = 0.5 + np.arctan((energy - 7120.0 - shift) / 1.5) / np.pi
    e0 = 7120.0 + shift
    return Spectrum(energy, mu, "Fe", "K", "XANES", method, "feff", "flat", None, e0)  # type: ignore[arg-type]


def exafs(amplitude: float, e0: float, phase: float = 0.0) -> Spectrum:
    """A single shell at 2 angstrom, as a model gives it."""
    mu = 1.0 + amplitude * np.sin(4.0 * EXAFS_GRID + phase)
    return Spectrum(e0 + k_to_energy(EXAFS_GRID), mu, "Fe", "K", "EXAFS", "ml", "feff", "flat", None, e0)


def test_sites_of_different_grids_are_averaged_by_energy_not_by_index() -> None:
    first, second = xanes(0.0), xanes(0.0, start=7109.0, step=0.7)
    mean, band = average([first, second], [1, 1])
    assert band is None
    np.testing.assert_allclose(mean.mu, 0.5 + np.arctan((mean.energy - 7120.0) / 1.5) / np.pi, atol=0.02)


def test_shifts_between_sites_of_one_method_are_kept() -> None:
    mean, _ = average([xanes(0.0), xanes(4.0)], [1, 3])
    assert mean.settings["aligned_on"] == "energy"
    first, second = (np.interp(mean.energy, xanes(shift).energy, xanes(shift).mu) for shift in (0.0, 4.0))
    expected = 0.25 * first + 0.75 * second
    np.testing.assert_allclose(mean.mu, expected, atol=1e-9)
    assert mean.e0 == pytest.approx(7123.0)


def test_methods_with_different_zeros_are_aligned_on_the_edge() -> None:
    mean, _ = average([xanes(0.0, "ml"), xanes(10.0, "feff", start=7115.0)], [1, 1])
    assert (mean.method, mean.settings["aligned_on"]) == ("ml", "E0")
    np.testing.assert_allclose(mean.mu, 0.5 + np.arctan((mean.energy - 7125.0) / 1.5) / np.pi, atol=0.02)


def test_a_mean_says_how_wide_its_band_of_single_points_is() -> None:
    def mean(*shares: float | None) -> Spectrum:
        own = [replace(xanes(0.0, "ml"), settings={} if share is None else {SHARE: share}) for share in shares]
        bands = [np.stack([item.mu - 0.1, item.mu + 0.1], axis=1) for item in own]
        # A site by FEFF has no band, and nothing to say.
        return average([*own, xanes(0.0, "feff")], [1] * (len(own) + 1), [*bands, None])[0]

    assert mean(0.4, 0.5).settings[SHARE] == 0.5
    assert SHARE not in mean(0.4, None).settings
    assert SHARE not in average([xanes(0.0), xanes(4.0)], [1, 1])[0].settings


def test_exafs_is_averaged_in_k() -> None:
    mean, _ = average([exafs(0.1, 7120.0), exafs(0.1, 7140.0)], [2, 1])
    k, chi = chi_k(mean)
    inside = (k > 2.1) & (k < 14.9)
    np.testing.assert_allclose(chi[inside], 0.1 * np.sin(4.0 * k[inside]), atol=3e-3)
    assert mean.e0 == pytest.approx(7120.0 + 20.0 / 3)


def test_the_band_is_the_weighted_half_width_and_feff_has_none() -> None:
    learned, reference = xanes(0.0, "ml"), xanes(0.0, "feff")
    band = np.column_stack([learned.mu - 0.1, learned.mu + 0.2])
    mean, found = average([learned, reference], [1, 1], [band, None])
    assert found is not None
    np.testing.assert_allclose(mean.mu - found[:, 0], 0.05, atol=1e-9)
    np.testing.assert_allclose(found[:, 1] - mean.mu, 0.1, atol=1e-9)


def test_one_site_stays_what_it_is() -> None:
    mean, _ = average([xanes(0.0)], [4])
    assert mean.method == "feff"
    np.testing.assert_allclose(mean.mu, np.interp(mean.energy, xanes(0.0).energy, xanes(0.0).mu))


@pytest.mark.parametrize(
    ("spectra", "weights", "words"),
    [
        ([], [], "no spectrum to average"),
        ([xanes(0.0), exafs(0.1, 7120.0)], [1, 1], "different absorbers, edges or kinds"),
        ([xanes(0.0)], [0], "positive weights"),
        ([xanes(0.0)], [1, 2], "positive weights"),
        ([xanes(0.0), xanes(0.0, start=7300.0)], [1, 1], "do not overlap"),
    ],
)
def test_what_cannot_be_averaged_is_refused(spectra: list[Spectrum], weights: list[float], words: str) -> None:
    with pytest.raises(SpectrumError, match=words):
        average(spectra, weights)


# ---------------------------------------------------------------- L3 + L2


def recorded(edge: str) -> Spectrum:
    """Iron's edge by FEFF10, as a job gives it."""
    result = read_folder(Path(__file__).parents[1] / "fixtures" / "edges" / f"fe-{edge.lower()}", "Fe", edge, "XANES")
    kept = {name: result.facts[name] for name in ("edge_energy_ev", "edge_cross_section")}
    return replace(result.spectrum, settings=kept)


def test_the_sum_is_that_of_feffs_cross_sections() -> None:
    l3, l2 = recorded("L3"), recorded("L2")
    total = sum_edges(l3, l2)
    x3, x2 = 8.5108e-3, 4.1541e-3  # xsedge in the headers of the two xmu.dat
    assert total.settings["summed"]["L3"]["edge_cross_section"] == x3
    inside = total.energy >= l2.energy[0]
    absolute = x3 * np.interp(total.energy, l3.energy, l3.mu) + x2 * np.interp(total.energy, l2.energy, l2.mu)
    ratio = total.mu[inside] / absolute[inside]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
    assert (total.energy[0], total.energy[-1]) == (l3.energy[0], l3.energy[-1])
    assert {l2.energy[50], l3.energy[50]} <= set(total.energy)
    # FEFF's own edges are kept: 13.3 eV apart (measured: 13.1).
    assert total.settings["summed"]["L2"]["edge_energy_ev"] - total.settings["summed"]["L3"]["edge_energy_ev"] == pytest.approx(
        13.3, abs=0.1
    )


def test_the_flat_sum_is_one_beyond_both_edges() -> None:
    l3, l2 = recorded("L3"), recorded("L2")
    total = flatten(sum_edges(l3, l2))
    share = total.settings["summed"]["L3"]["share"]
    # The cross sections at one energy: two to one, by the electrons in the two levels.
    assert share == pytest.approx(2 / 3, abs=0.02)
    inside = total.energy >= l2.energy[0]
    flat = [np.interp(total.energy[inside], item.energy, item.mu) for item in (flatten(l3), flatten(l2))]
    # The two are interpolated before and after the trend is divided out.
    np.testing.assert_allclose(total.mu[inside], share * flat[0] + (1 - share) * flat[1], atol=2e-3)
    assert np.mean(total.mu[total.energy > find_e0(l2) + 20]) == pytest.approx(1.0, abs=0.02)
    assert total.e0 == find_e0(l3)


def test_below_its_first_point_the_second_edge_fades_as_a_lorentzian() -> None:
    l3, l2 = recorded("L3"), recorded("L2")
    total = sum_edges(l3, l2)
    joint = int(np.searchsorted(total.energy, l2.energy[0]))
    scale = total.mu[joint] / (8.5108e-3 * np.interp(l2.energy[0], l3.energy, l3.mu) + 4.1541e-3 * l2.mu[0])
    of_l2 = (total.mu / scale - 8.5108e-3 * np.interp(total.energy, l3.energy, l3.mu)) / 4.1541e-3
    below = slice(0, joint)
    np.testing.assert_allclose(of_l2[below] * (find_e0(l2) - total.energy[below]), l2.mu[0] * (find_e0(l2) - l2.energy[0]), rtol=1e-6)


def test_sums_can_be_averaged_over_sites() -> None:
    total = sum_edges(recorded("L3"), recorded("L2"))
    mean, _ = average([total, total], [1, 3])
    assert (mean.edge, mean.normalisation, mean.e0) == ("L2,3", "flat", total.e0)
    assert mean.settings["warnings"] == total.settings["warnings"]
    assert "multiplets of the 3d shell" in mean.settings["warnings"][0]
    np.testing.assert_allclose(mean.mu, np.interp(mean.energy, total.energy, flatten(total).mu), atol=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda l3, l2: (l2, l3), "the one given for L3 is not that"),
        (lambda l3, l2: (flatten(l3), l2), "the one given for L3 is not that"),
        (lambda l3, l2: (l3, replace(l2, settings={})), "compute it again"),
        (lambda l3, l2: (replace(l3, mu0=None), l2), "compute it again"),
        (lambda l3, l2: (l3, replace(l2, absorber="Co", energy=l2.energy + 60)), "Fe and Co"),
        (lambda l3, l2: (l3, replace(l2, energy=l2.energy + 60)), "compute L3 further"),
    ],
)
def test_what_is_no_pair_of_edges_is_refused(change, words: str) -> None:
    with pytest.raises(SpectrumError, match=words):
        sum_edges(*change(recorded("L3"), recorded("L2")))

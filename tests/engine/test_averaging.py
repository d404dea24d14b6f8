"""Averages over sites."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_xastruct.engine.averaging import average
from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.spectrum import EXAFS_GRID, Spectrum, chi_k, k_to_energy


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

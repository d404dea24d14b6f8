"""Ranking by a target: what is the same is nearest, wherever its energies lie, and what cannot be compared is said so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.ranking import distances, structure_means
from aiida_xastruct.engine.spectrum import EXAFS_GRID, XANES_GRID, Spectrum, energy_to_k, k_to_energy


def xanes(white_line: float) -> np.ndarray:
    """Flat mu on the models' grid: an edge at 0 with a white line."""
    return 0.5 + np.arctan(XANES_GRID / 1.5) / np.pi + white_line * np.exp(-(((XANES_GRID - 6.0) / 4.0) ** 2))


def exafs(length: float) -> np.ndarray:
    """1 + chi of one shell on the models' grid."""
    return 1.0 + np.sin(2 * EXAFS_GRID * length) * 6 * np.exp(-0.02 * EXAFS_GRID) / (EXAFS_GRID * length**2)


def as_spectrum(kind: str, mu: np.ndarray, e0: float = 7112.0, method: str = "ml") -> Spectrum:
    energy = e0 + (XANES_GRID if kind == "XANES" else k_to_energy(EXAFS_GRID))
    return Spectrum(energy, mu, "Fe", "K", kind, method, "feff" if method == "ml" else "calibrated", "flat", None, e0)


@pytest.mark.parametrize("e0", [7112.0, 7140.0])
def test_a_xanes_finds_itself_wherever_its_edge_lies(e0):
    curves = np.array([xanes(size) for size in (0.0, 0.3, 0.6, 0.9)], dtype=np.float32)
    found = distances(as_spectrum("XANES", xanes(0.6), e0), curves, "XANES")
    assert np.argsort(found.distance).tolist()[0] == 2
    assert found.distance[2] < 1e-5
    assert found.shift[2] == 0.0
    assert found.distance[1] == pytest.approx(found.distance[3], rel=0.2)


def test_a_wrong_e0_is_made_good_within_reason():
    target = as_spectrum("XANES", xanes(0.6))
    moved = replace(target, e0=target.e0 + 2.0)
    found = distances(moved, xanes(0.6)[None], "XANES")
    assert found.shift[0] == pytest.approx(2.0)
    # What the model's grid holds below the target's first point is not known, and not compared.
    assert found.distance[0] < 0.01
    assert distances(replace(target, e0=target.e0 + 8.0), xanes(0.6)[None], "XANES").distance[0] > 0.1


def test_an_exafs_finds_its_distance():
    lengths = (1.9, 2.0, 2.1, 2.2)
    curves = np.array([exafs(length) for length in lengths])
    found = distances(as_spectrum("EXAFS", exafs(2.1)), curves, "EXAFS")
    assert int(found.distance.argmin()) == 2
    assert found.distance[2] < 1e-3


def measured(length: float, e0: float = 7112.0) -> Spectrum:
    """A scan of that shell: with an edge and a background, weaker than computed, and damped by sigma^2 = 0.005 angstrom^2."""
    energy = np.arange(e0 - 150.0, e0 + 900.0, 0.5)
    k = energy_to_k(np.maximum(energy - e0, 0.1))
    chi = 0.8 * np.sin(2 * k * length) * 6 * np.exp(-0.02 * k) / (k * length**2) * np.exp(-0.01 * k**2) * (1 - np.exp(-((k / 2.5) ** 4)))
    mu = 0.3 - 1e-4 * (energy - e0) + (0.5 + np.arctan((energy - e0) / 1.0) / np.pi) * (1.0 + chi)
    return Spectrum(energy, mu, "Fe", "K", "EXAFS", "measured", "calibrated", "raw", None, e0)


def test_a_measured_exafs_is_damped_and_weak():
    lengths = (1.9, 2.0, 2.1, 2.2)
    found = distances(measured(2.1), np.array([exafs(length) for length in lengths]), "EXAFS")
    assert int(found.distance.argmin()) == 2
    assert 3 * found.distance[2] < found.distance[[1, 3]].min()
    # Without damping and scaling the curve itself would lie far off.
    computed = distances(replace(measured(2.1), method="ml"), exafs(2.1)[None], "EXAFS")
    assert found.distance[2] < 0.5 * computed.distance[0]


def test_curves_that_do_not_reach_have_no_distance():
    curves = np.array([xanes(0.6)] * 3)
    curves[1, 40:] = np.nan
    curves[2, :20] = np.nan  # below the edge, as FEFF begins
    found = distances(as_spectrum("XANES", xanes(0.6)), curves, "XANES")
    assert np.isnan(found.distance[1])
    assert np.isnan(found.shift[1])
    assert found.distance[2] < 1e-5


def test_a_target_that_is_too_short_is_refused():
    target = as_spectrum("XANES", xanes(0.6))
    short = replace(target, energy=target.energy[:60], mu=target.mu[:60])
    with pytest.raises(SpectrumError, match="half of it is needed"):
        distances(short, xanes(0.6)[None], "XANES")


def test_the_curve_of_a_crystal_is_the_mean_of_its_sites():
    curves = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    structures, means = structure_means(np.array([7, 2, 7]), np.array([1, 5, 3]), curves)
    assert structures.tolist() == [2, 7]
    np.testing.assert_allclose(means, [[3.0, 4.0], [4.0, 5.0]])

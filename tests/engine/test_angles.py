"""The density of angles: what it is by hand, and what it does not depend on."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_xastruct.engine.angles import ANGLE_RADIUS, ANGLES_SIZE, DEGREES, SHELL_WIDTH, SHELLS, angular_density, angular_rows

OXYGEN = np.array([8, 8])


def bent(angle, r=2.0):
    """(2, 3) positions of two atoms at r angstrom from the site, `angle` degrees apart."""
    turn = np.deg2rad(angle)
    return r * np.array([[1.0, 0.0, 0.0], [np.cos(turn), np.sin(turn), 0.0]])


@pytest.mark.parametrize("angle", [60.0, 90.0, 109.5, 180.0])
def test_two_atoms_by_hand(angle):
    """In the channel that counts atoms: g^2 times the sum of P_l over both atoms and both orders of the pair, as a root with its sign."""
    fade = 0.5 * (1 + np.cos(np.pi * 2.0 / ANGLE_RADIUS))
    g = fade * np.exp(-0.5 * ((2.0 - SHELLS[1]) / SHELL_WIDTH) ** 2)
    cosine = np.cos(np.deg2rad(angle))
    rows = angular_density(bent(angle), OXYGEN).reshape(DEGREES, -1)
    counts = 3 * len(SHELLS)  # shells times channels
    place = np.flatnonzero((np.triu_indices(counts)[0] == 3) & (np.triu_indices(counts)[1] == 3))[0]
    for degree in range(1, DEGREES + 1):
        legendre = np.polynomial.legendre.Legendre.basis(degree)(cosine)
        value = g**2 * (2.0 + 2.0 * legendre)
        assert rows[degree - 1, place] == pytest.approx(np.sign(value) * np.sqrt(abs(value)), abs=1e-6)


def test_turning_and_relabelling_change_nothing():
    random = np.random.default_rng(0)
    positions, numbers = random.normal(size=(9, 3)) * 2.0, random.integers(1, 80, 9)
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    order = random.permutation(9)
    base = angular_density(positions, numbers)
    np.testing.assert_allclose(angular_density((positions @ turn)[order], numbers[order]), base, atol=1e-6)
    assert np.abs(base).max() > 0.1


def test_it_tells_angles_and_elements_apart():
    base = angular_density(bent(90.0), OXYGEN)
    assert np.abs(angular_density(bent(109.5), OXYGEN) - base).max() > 0.1
    assert np.abs(angular_density(bent(90.0), np.array([8, 26])) - base).max() > 0.1


def test_far_atoms_and_none_add_nothing():
    far = np.concatenate([bent(90.0), [[0.0, 0.0, ANGLE_RADIUS + 0.01]]])
    np.testing.assert_array_equal(angular_density(far, np.array([8, 8, 29])), angular_density(bent(90.0), OXYGEN))
    assert not angular_density(np.zeros((0, 3)), np.zeros(0, dtype=int)).any()


def test_rows_of_a_crystal(crystal):
    """Sites that symmetry makes alike have the same row; sodium's shell is not chlorine's."""
    rows = angular_rows(crystal("NaCl"), [0, 1, 4])
    assert rows.shape == (3, ANGLES_SIZE)
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-3)
    assert np.abs(rows[0] - rows[2]).max() > 0.1
    assert angular_rows(crystal("NaCl"), []).shape == (0, ANGLES_SIZE)

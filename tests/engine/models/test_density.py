"""The density of neighbours: what it is made of, and what it does not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aiida_xastruct.engine.features import MAX_NEIGHBOURS, NEIGHBOUR_RADIUS, neighbour_rows
from aiida_xastruct.engine.models.density import (
    CENTRES,
    FINE_CENTRES,
    FINE_WIDTH,
    WIDTH,
    density_size,
    fine_density,
    fine_size,
    neighbour_density,
)
from aiida_xastruct.engine.models.networks import element_descriptors


def row(*neighbours):
    """(1, 2 MAX_NEIGHBOURS) of (distance, Z) pairs."""
    found = torch.zeros(1, 2 * MAX_NEIGHBOURS)
    for place, (distance, number) in enumerate(neighbours):
        found[0, place], found[0, MAX_NEIGHBOURS + place] = distance, number
    return found


def test_one_neighbour_by_hand():
    """Oxygen at 2 angstrom: a Gaussian of the distance times the descriptors of oxygen, fading towards the radius."""
    density = neighbour_density(row((2.0, 8))).view(len(CENTRES), -1)
    fade = 0.5 * (1 + np.cos(np.pi * 2.0 / NEIGHBOUR_RADIUS))
    shell = fade * np.exp(-0.5 * ((2.0 - CENTRES.numpy()) / WIDTH) ** 2)
    np.testing.assert_allclose(density[:, 0].numpy(), shell, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(density[:, 1:].numpy(), shell[:, None] * element_descriptors()[8].numpy(), rtol=1e-4, atol=1e-6)


def test_the_fine_density_by_hand():
    """The same with sharper shells, and of oxygen: one, period, group, radius and electronegativity in the scale of the descriptors."""
    density = fine_density(row((2.0, 8))).view(len(FINE_CENTRES), -1)
    fade = 0.5 * (1 + np.cos(np.pi * 2.0 / NEIGHBOUR_RADIUS))
    shell = fade * np.exp(-0.5 * ((2.0 - FINE_CENTRES.numpy()) / FINE_WIDTH) ** 2)
    oxygen = np.array([1.0, 2 / 7, 16 / 18, 0.6 / 2, 3.44 / 3])
    np.testing.assert_allclose(density.numpy(), shell[:, None] * oxygen, rtol=1e-4, atol=1e-6)
    assert density.numel() == fine_size()


def test_neighbours_add_up_in_any_order():
    one, two = (2.0, 8), (2.6, 29)
    both = neighbour_density(row(one, two))
    torch.testing.assert_close(both, neighbour_density(row(one)) + neighbour_density(row(two)))
    torch.testing.assert_close(both, neighbour_density(row(two, one)))


@pytest.mark.parametrize("nothing", [(0.0, 0), (0.0, 29), (NEIGHBOUR_RADIUS, 8)])
def test_what_is_no_neighbour_adds_nothing(nothing):
    """An empty place, the site itself, and an atom at the end of the range."""
    assert float(neighbour_density(row(nothing)).abs().max()) < 1e-6


def test_elements_and_distances_tell_apart():
    base = neighbour_density(row((2.0, 8)))
    assert float((neighbour_density(row((2.0, 16))) - base).abs().max()) > 0.1
    assert float((neighbour_density(row((2.02, 8))) - base).abs().max()) > 0.01


def test_shape_of_many_rows_and_of_none(crystal):
    rows = torch.as_tensor(neighbour_rows(crystal("NaCl"), [0, 4]))
    many = neighbour_density(rows.repeat(1100, 1))  # more than one pass holds
    assert many.shape == (2200, density_size())
    torch.testing.assert_close(many[-2:], neighbour_density(rows))
    assert neighbour_density(rows[:0]).shape == (0, density_size())

"""What the absorber alone tells."""

from __future__ import annotations

import numpy as np

from aiida_xastruct.engine.dataset import MAX_Z
from aiida_xastruct.engine.models.baselines import SHRINKAGE, absorber_mean, frequent_neighbours


def test_mean_of_an_absorber_is_shrunk_to_the_mean_of_all():
    values = np.array([[1.0], [3.0], [11.0]])
    table = absorber_mean(values, np.array([26, 26, 29]))
    assert table.shape == (MAX_Z, 1)
    assert table[26, 0] == (1.0 + 3.0 + SHRINKAGE * 5.0) / (2 + SHRINKAGE)
    assert table[29, 0] == (11.0 + SHRINKAGE * 5.0) / (1 + SHRINKAGE)
    assert table[92, 0] == 5.0  # an absorber without sites


def test_many_sites_speak_for_themselves():
    values = np.concatenate([np.full((1000, 2), 1.0), np.full((1000, 2), 3.0)])
    table = absorber_mean(values, np.repeat([26, 29], 1000))
    np.testing.assert_allclose(table[26], 1.0, atol=0.01)
    np.testing.assert_allclose(table[29], 3.0, atol=0.01)


def test_unknown_points_are_left_out_of_the_mean():
    values = np.array([[1.0, np.nan], [1.0, 2.0], [1.0, 4.0]])
    table = absorber_mean(values, np.array([26, 26, 26]))
    np.testing.assert_allclose(table[26], [1.0, 3.0])


def test_frequent_neighbours():
    sets = np.zeros((5, MAX_Z), dtype=bool)
    sets[[0, 1], 8] = True
    sets[2, [8, 16]] = True
    sets[[3, 4], 29] = True
    table = frequent_neighbours(sets, np.array([26, 26, 26, 29, 29]))
    assert np.flatnonzero(table[26]).tolist() == [8]
    assert np.flatnonzero(table[29]).tolist() == [29]
    assert np.flatnonzero(table[50]).tolist() in ([8], [29])  # of all sites, for an absorber without any

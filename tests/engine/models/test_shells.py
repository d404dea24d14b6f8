"""Waves of candidate neighbours, and spectra simulated from a forward model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aiida_xastruct.engine.errors import ModelError
from aiida_xastruct.engine.models.ensemble import Architecture, Ensemble
from aiida_xastruct.engine.models.paths import PathNetwork
from aiida_xastruct.engine.models.shells import CANDIDATES, DISTANCES, ShellNetwork, candidate_waves
from aiida_xastruct.engine.models.simulate import STRAIN, simulate
from aiida_xastruct.engine.models.tasks import Task
from aiida_xastruct.engine.models.views import fourier, view, view_size
from aiida_xastruct.engine.paths import PATHS_SIZE
from aiida_xastruct.engine.spectrum import EXAFS_GRID

SMALL = Architecture(width=16, depth=1)


@pytest.fixture(scope="module")
def table(make_dataset):
    return make_dataset(kinds=("EXAFS",), n=24).tables["EXAFS"]


@pytest.fixture(scope="module")
def forward():
    torch.manual_seed(0)
    return Ensemble(Task("forward", "EXAFS"), [PathNetwork(width=16), PathNetwork(width=16)])


def paths(table):
    return torch.as_tensor(table.features[:, -PATHS_SIZE:])


def test_a_wave_is_found_where_its_neighbour_stands(table, forward):
    network = ShellNetwork(3, 3, 16, 1, 0.0, reads_distance=True, names_elements=False)
    network.waves.copy_(candidate_waves(forward, paths(table)))
    for candidate, distance in ((1, 14), (8, 30), (17, 40)):
        k = torch.tensor(EXAFS_GRID, dtype=torch.float32)
        wave = network.waves[29, candidate] @ network.to_grid.T
        phase = 2.0 * k * DISTANCES[distance]
        curve = wave[0] * torch.sin(phase) + wave[1] * torch.cos(phase)
        found = network.overlaps(curve[None], torch.tensor([29]))[0]
        assert int(found[candidate].argmax()) == distance


def test_waves_have_one_size_and_none_comes_from_nothing(table, forward):
    waves = candidate_waves(forward, paths(table))
    assert waves.shape == (104, len(CANDIDATES), 2, 40)
    size = waves.square().sum(dim=2).mean(dim=2)
    assert torch.allclose(size[1:], torch.ones_like(size[1:]), atol=1e-4)
    assert not waves[0].any()


def test_waves_travel_with_the_weights(table, forward, tmp_path):
    task = Task("distance", "EXAFS")
    network = SMALL.build(task)
    network.waves.copy_(candidate_waves(forward, paths(table)))
    network.start_from(task.inputs(task.source(table)), torch.as_tensor(table.absorber), task.start(table))
    ensemble = Ensemble(task, [network])
    ensemble.save(tmp_path / "weights.safetensors")
    read = Ensemble.load(tmp_path / "weights.safetensors", task, SMALL)
    inputs, absorber = task.inputs(task.source(table)), torch.as_tensor(table.absorber)
    assert torch.allclose(read(inputs, absorber).value, ensemble(inputs, absorber).value, atol=1e-3)


def test_the_view_of_exafs_ends_softly():
    curve = torch.full((1, view_size("EXAFS")), torch.nan)
    curve[:, 40:200] = 1.0
    seen = view(curve, "EXAFS")
    assert seen[0, 39] == seen[0, 40] == seen[0, 199] == seen[0, 200] == 0
    assert float(seen[0, 120]) == pytest.approx(EXAFS_GRID[120] ** 2, rel=1e-5)
    assert fourier(seen).shape == (1, 9 * 68)


def test_simulated_sites_are_strained_with_their_labels(table, forward):
    made = simulate(table, forward, variants=2, seed=3)
    n = len(table)
    assert len(made) <= 2 * n
    assert np.isfinite(made.curve).all()
    assert made.thermal.shape[1] == made.features.shape[1] == 0
    first = made.take(np.arange(n))
    factor = first.mean_distance / table.mean_distance
    assert np.abs(factor - 1.0).max() <= STRAIN + 1e-6
    assert factor.std() > 0.01
    np.testing.assert_allclose(first.nearest_distance / table.nearest_distance, factor, rtol=1e-5)


def test_the_same_seed_simulates_the_same_spectra(table, forward):
    once, again, other = (simulate(table, forward, 1, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(once.curve, again.curve)
    assert np.abs(once.curve - other.curve).max() > 0


def test_only_paths_simulate(table):
    with pytest.raises(ModelError, match="forward model of EXAFS"):
        simulate(table, Ensemble(Task("distance", "XANES"), [SMALL.build(Task("distance", "XANES"))]), 1, 0)

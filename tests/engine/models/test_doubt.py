"""Doubt about absorbers that are seldom seen: it widens what they are told, and leaves the others alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from aiida_xastruct.engine.dataset import MAX_Z
from aiida_xastruct.engine.models.doubt import SELDOM, Doubt
from aiida_xastruct.engine.models.ensemble import Architecture, Ensemble
from aiida_xastruct.engine.models.tasks import Task

OFTEN, RARE = 26, 44


@dataclass
class Part:
    """What `Doubt` looks at of a table of sites."""

    absorber: np.ndarray
    neighbours: np.ndarray

    def __len__(self):
        return len(self.absorber)

    def take(self, rows):
        return Part(self.absorber[rows], self.neighbours[rows])


def part(often, rare, seed=0):
    """Iron with oxygen; ruthenium with oxygen, sulfur or itself, a third each."""
    random = np.random.default_rng(seed)
    absorber = np.repeat([OFTEN, RARE], [often, rare])
    neighbours = np.zeros((often + rare, MAX_Z), dtype=bool)
    neighbours[:often, 8] = True
    neighbours[np.arange(often, often + rare), random.choice([8, 16, RARE], rare)] = True
    return Part(absorber, neighbours)


def test_errors_of_seldom_absorbers_are_widened_by_what_they_were_too_small():
    train, select = part(500, 60), part(400, 300)
    random = np.random.default_rng(1)
    error = np.abs(random.normal(size=700)) * np.where(select.absorber == RARE, 3.0, 1.0)
    doubt = Doubt.fit_errors(train, select, error, np.ones(700))
    assert float(doubt.error[RARE]) == pytest.approx(3.0, rel=0.2)
    assert float(doubt.error[OFTEN]) == 1.0
    assert float(doubt.error[92]) == float(doubt.error[RARE])  # never seen
    # Where they were too large they stay: doubt does not make an answer look better.
    assert float(Doubt.fit_errors(train, select, error / np.where(select.absorber == RARE, 9.0, 1.0), np.ones(700)).error.max()) == 1.0


def test_probabilities_of_seldom_absorbers_are_mixed_until_the_truth_is_likeliest():
    train, select = part(500, 90), part(400, 300, seed=2)
    # Networks that take every neighbour for oxygen, and say so with certainty.
    said = np.full((700, MAX_Z), 1e-5)
    said[:, 8] = 0.999
    doubt = Doubt.fit_neighbours(train, select, said)
    assert 0.6 <= float(doubt.mix[RARE]) <= 0.8
    assert float(doubt.mix[OFTEN]) == 0.0
    mixed = doubt.mixed(torch.as_tensor(said), torch.tensor(select.absorber)).numpy()
    np.testing.assert_array_equal(mixed[:400], said[:400])
    assert mixed[-1, 16] == pytest.approx(mixed[-1, RARE], abs=0.1)
    assert 0.1 < mixed[-1, RARE] < 0.4
    # Networks that are right are believed.
    right = np.where(select.neighbours, 0.97, 0.003)
    assert float(Doubt.fit_neighbours(train, select, right).mix.max()) <= 0.02


def test_too_few_sites_teach_no_doubt():
    train, select = part(500, 60), part(400, 20)
    assert float(Doubt.fit_errors(train, select, np.arange(420.0), np.ones(420)).error.max()) == 1.0
    assert float(Doubt.fit_neighbours(train, select, np.full((420, MAX_Z), 0.5)).mix.max()) == 0.0
    assert float(Doubt.fit_errors(part(500, SELDOM), part(400, 300), np.arange(700.0), np.ones(700)).error[RARE]) == 1.0


@pytest.mark.parametrize("name", ["neighbours", "distance"])
def test_an_ensemble_keeps_its_doubt(tmp_path, name):
    task, architecture = Task(name, "XANES"), Architecture(width=16, depth=1)
    doubt = Doubt.none()
    doubt.error[RARE], doubt.mix[RARE], doubt.share[16] = 2.0, 0.5, 0.3
    torch.manual_seed(0)
    network = architecture.build(task)
    bare, doubting = Ensemble(task, [network]), Ensemble(task, [network], doubt=doubt)
    doubting.save(tmp_path / "weights.safetensors")
    read = Ensemble.load(tmp_path / "weights.safetensors", task, architecture)
    x, z = torch.randn(4, task.n_in), torch.tensor([OFTEN, OFTEN, RARE, RARE])
    plain, said = bare(x, z), read(x, z)
    tolerance = {"rtol": 0.02, "atol": 0.01}  # weights are kept in half precision
    torch.testing.assert_close(said.value[:2], plain.value[:2], **tolerance)
    if name == "distance":
        torch.testing.assert_close(said.value, plain.value, **tolerance)
        torch.testing.assert_close(said.stated[2:], 2.0 * plain.stated[2:], **tolerance)
        torch.testing.assert_close(said.stated[:2], plain.stated[:2], **tolerance)
    else:
        torch.testing.assert_close(said.value[2:, 16], 0.5 * plain.value[2:, 16] + 0.15, **tolerance)

"""Two opinions make one: better than each where both know something, that of the one where the other knows nothing."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from aiida_xastruct.engine.dataset import MAX_Z
from aiida_xastruct.engine.errors import ModelError
from aiida_xastruct.engine.metrics import micro_f1
from aiida_xastruct.engine.models.calibration import NeighbourCalibration
from aiida_xastruct.engine.models.composition import CompositionModel, Sites
from aiida_xastruct.engine.models.pooling import DistancePool, Estimates, Evidence, NeighbourPool

#: Elements of the game; their sites have one or two as neighbours.
ELEMENTS = (8, 16, 17, 26, 29)


def opinions(n, seed):
    """Evidence and sites: both models see the truth, each through noise of its own."""
    random = np.random.default_rng(seed)
    true = np.zeros((n, MAX_Z), dtype=bool)
    true[np.arange(n), random.choice(ELEMENTS, n)] = True
    true[np.arange(n), random.choice(ELEMENTS, n)] = True
    probability = []
    for noise in (1.5, 1.5):
        logits = np.full((n, MAX_Z), -9.0)
        for z in ELEMENTS:
            logits[:, z] = 3.0 * (true[:, z] - 0.5) + noise * random.normal(size=n)
        probability.append(1.0 / (1.0 + np.exp(-logits)))
    present = np.zeros((n, MAX_Z), dtype=bool)
    present[:, ELEMENTS] = True
    return Evidence(*probability), Sites(np.full(n, 22), present, true, probability[0])


@pytest.fixture(scope="module")
def pool():
    (select, known), (calibrate, held_back) = opinions(400, 1), opinions(400, 2)
    chemistry = CompositionModel((0.0,) * 10, (), NeighbourCalibration(1.0, 0.5, 0.0))
    return NeighbourPool.fit(select, calibrate, known, held_back, np.arange(400), chemistry)


def test_both_name_the_neighbours_better_than_each_alone(pool):
    evidence, sites = opinions(500, 5)
    scores = {
        name: micro_f1(pool.calibration.named(probability), sites.neighbours)
        for name, probability in {"both": pool(evidence), "exafs": evidence.exafs, "xanes": evidence.xanes}.items()
    }
    assert scores["both"] > max(scores["exafs"], scores["xanes"]) + 0.02
    covered = (pool.calibration.whole(pool(evidence), sites.absorber) | ~sites.neighbours).all(axis=1).mean()
    assert covered >= 0.85
    _, exafs, xanes = pool.weights
    assert 0.5 < exafs / xanes < 2.0


def test_no_probability_for_what_is_no_element(pool):
    assert (pool(opinions(20, 7)[0])[:, 0] == 0.0).all()


def test_pools_are_the_same_from_a_card(pool):
    evidence, _ = opinions(20, 8)
    again = NeighbourPool.from_json(json.loads(json.dumps(asdict(pool))))
    np.testing.assert_array_equal(again(evidence), pool(evidence))
    distances, said, _ = lengths()
    same = DistancePool.from_json(json.loads(json.dumps(asdict(distances))))
    np.testing.assert_array_equal(same(said)[0], distances(said)[0])
    with pytest.raises(ModelError, match="another version"):
        NeighbourPool.from_json({"weights": [0.0]})
    with pytest.raises(ModelError, match="another version"):
        DistancePool.from_json({"exafs": [0.0]})


def lengths():
    """A pool of distances, what models say about further sites, and the truth: XANES errs twice as much as it states, EXAFS as stated."""
    random = np.random.default_rng(0)

    def draw(n):
        true = random.uniform(1.8, 3.0, (n, 3))
        stated = np.full(true.shape, 0.05)
        values = [(true + wrong * stated * random.normal(size=true.shape), stated) for wrong in (1.0, 2.0)]
        return Estimates(*values), true

    pool = DistancePool.fit(*draw(1000), *draw(1000), np.arange(1000))
    return pool, *draw(2000)


def test_distances_are_weighed_by_what_the_models_turn_out_to_be_worth():
    pool, said, true = lengths()
    value, expected = pool(said)
    error = np.abs(value - true)
    # Weights 4 to 1: the error is 0.89 of that of the better one; the plain mean's would be 1.12 of it.
    assert error.mean() == pytest.approx(0.894 * np.abs(said.exafs[0] - true).mean(), rel=0.03)
    inside = (error[:, 0] <= pool.calibration.factors[0] * expected[:, 0]).mean()
    assert 0.87 < inside < 0.93

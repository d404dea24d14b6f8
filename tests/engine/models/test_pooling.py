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
from aiida_xastruct.engine.models.pooling import DistancePool, Estimates, Evidence, NeighbourPool, knowledge

#: Elements of the game; their sites have one or two as neighbours.
ELEMENTS = (8, 16, 17, 26, 29)


def opinions(n, seed, known=1.0):
    """Truth, evidence and sites: both models see the truth through noise of their own; XANES sees nothing where it is not known."""
    random = np.random.default_rng(seed)
    true = np.zeros((n, MAX_Z), dtype=bool)
    true[np.arange(n), random.choice(ELEMENTS, n)] = True
    true[np.arange(n), random.choice(ELEMENTS, n)] = True
    probability = []
    for signal in (3.0, 3.0 * known):
        logits = np.full((n, MAX_Z), -9.0)
        for z in ELEMENTS:
            logits[:, z] = signal * (true[:, z] - 0.5) + 1.5 * random.normal(size=n)
        probability.append(1.0 / (1.0 + np.exp(-logits)))
    present = np.zeros((n, MAX_Z), dtype=bool)
    present[:, ELEMENTS] = True
    evidence = Evidence(*probability, np.full(n, known))
    return evidence, Sites(np.full(n, 22), present, true, probability[0])


def joined(*parts):
    """One of several opinions."""
    (evidences, sites) = zip(*parts, strict=True)
    evidence = Evidence(*(np.concatenate([getattr(own, name) for own in evidences]) for name in ("exafs", "xanes", "known")))
    names = ("absorber", "present", "neighbours", "probability")
    return evidence, Sites(*(np.concatenate([getattr(own, name) for own in sites]) for name in names))


@pytest.fixture(scope="module")
def pool():
    select, calibrate = (joined(opinions(300, seed), opinions(300, seed + 10, known=0.0)) for seed in (1, 2))
    chemistry = CompositionModel((0.0,) * 10, (), NeighbourCalibration(1.0, 0.5, 0.0))
    sites = {"select": select[1], "calibrate": calibrate[1]}
    return NeighbourPool.fit(select[0], calibrate[0], sites, np.arange(600), chemistry)


def test_both_name_the_neighbours_better_than_each_alone(pool):
    evidence, sites = opinions(500, 5)
    scores = {
        name: micro_f1(pool.calibration.named(probability), sites.neighbours)
        for name, probability in {"both": pool(evidence), "exafs": evidence.exafs, "xanes": evidence.xanes}.items()
    }
    assert scores["both"] > max(scores["exafs"], scores["xanes"]) + 0.02
    covered = (pool.calibration.whole(pool(evidence)) | ~sites.neighbours).all(axis=1).mean()
    assert covered >= 0.85


def test_an_absorber_that_xanes_hardly_knows_is_left_to_exafs(pool):
    evidence, sites = opinions(500, 6, known=0.0)
    both, alone = (pool.calibration.named(own) for own in (pool(evidence), evidence.exafs))
    assert micro_f1(both, sites.neighbours) > micro_f1(alone, sites.neighbours) - 0.03
    _, exafs, xanes, knowing = pool.weights
    assert xanes < 0.3 * exafs
    assert xanes + knowing > 0.5 * exafs


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


def lengths(known=1.0):
    """A pool of distances, what models say about further sites, and the truth; XANES errs twice as much as it states, EXAFS as stated."""
    random = np.random.default_rng(0)

    def draw(n, knowing):
        true = random.uniform(1.8, 3.0, (n, 3))
        values = []
        for stated, wrong in ((0.05, 1.0), (0.05, np.where(knowing > 0.5, 2.0, 8.0)[:, None])):
            values.append((true + stated * wrong * random.normal(size=true.shape), np.full(true.shape, stated)))
        return Estimates(*values, knowing), true

    select, calibrate = (draw(2000, np.repeat([0.0, 1.0], 1000)) for _ in range(2))
    said, true = draw(2000, np.full(2000, known))
    return DistancePool.fit(*select, *calibrate, np.arange(2000)), said, true


@pytest.mark.parametrize(("known", "gain"), [(1.0, 0.93), (0.0, 1.01)])
def test_distances_are_weighed_by_what_the_models_turn_out_to_be_worth(known, gain):
    pool, said, true = lengths(known)
    value, expected = pool(said)
    error = np.abs(value - true)
    assert error.mean() < gain * np.abs(said.exafs[0] - true).mean()
    assert error.mean() < 0.6 * np.abs(said.xanes[0] - true).mean()
    inside = (error[:, 0] <= pool.calibration.factors[0] * expected[:, 0]).mean()
    assert 0.85 < inside < 0.95


def test_knowledge_grows_with_training_sites():
    found = knowledge({22: 10, 29: 3000}, np.array([22, 29, 30]))
    assert 0.0 < found[0] < found[1] == 1.0
    assert found[2] == 0.0

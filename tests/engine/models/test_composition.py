"""What the elements of a compound add: chemistry where the spectrum says little, the spectrum where chemistry does."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from aiida_xastruct.engine.dataset import MAX_Z
from aiida_xastruct.engine.models.composition import CompositionModel, Sites, electronegativity, logit

IRON, COPPER, OXYGEN, SULPHUR = 26, 29, 8, 16


def sites(n, seed, clarity):
    """Ternary compounds Fe Cu + O or S: the anion is the neighbour, but for one in five. The network sees it with some clarity."""
    random = np.random.default_rng(seed)
    anion = np.where(random.random(n) < 0.5, OXYGEN, SULPHUR)
    absorber = np.full(n, IRON)
    neighbour = np.where(random.random(n) < 0.8, anion, COPPER)
    present, true = np.zeros((n, MAX_Z), dtype=bool), np.zeros((n, MAX_Z), dtype=bool)
    rows = np.arange(n)
    for column in (absorber, np.full(n, COPPER), anion):
        present[rows, column] = True
    true[rows, neighbour] = True
    evidence = -4.0 + random.normal(size=(n, MAX_Z)) + clarity * true
    return Sites(absorber, present, true, 1.0 / (1.0 + np.exp(-evidence)))


def fitted(clarity):
    return CompositionModel.fit(sites(400, 0, clarity), sites(300, 1, clarity), sites(300, 2, clarity), np.arange(300))


def right(probability, part):
    return float(part.neighbours[np.arange(len(probability)), probability.argmax(axis=1)].mean())


@pytest.mark.parametrize(("clarity", "least"), [(0.0, 0.7), (4.0, 0.9)])
def test_the_pool_is_as_good_as_the_better_and_better_than_both(clarity, least):
    model, part = fitted(clarity), sites(1000, 3, clarity)
    guess, joint = model.guess(part.absorber, part.present), model(part.probability, part.absorber, part.present)
    alone = right(np.where(part.present, part.probability, 0.0), part)
    assert right(guess, part) == pytest.approx(0.8, abs=0.05)
    assert right(joint, part) >= max(alone, right(guess, part)) - 0.02
    assert right(joint, part) > least
    if clarity:
        assert right(joint, part) > right(guess, part) + 0.05


def test_what_is_not_there_has_no_probability():
    model, part = fitted(2.0), sites(50, 4, 2.0)
    for probability in (model.guess(part.absorber, part.present), model(part.probability, part.absorber, part.present)):
        assert (probability[~part.present] == 0.0).all()
        assert ((probability[part.present] > 0.0) & (probability[part.present] < 1.0)).all()


def test_sets_of_known_composition_hold_90_percent_of_materials():
    model, part = fitted(2.0), sites(2000, 5, 2.0)
    whole = model.calibration.whole(model(part.probability, part.absorber, part.present), part.absorber)
    assert 0.85 <= (whole | ~part.neighbours).all(axis=1).mean() <= 0.95
    assert (whole <= part.present).all()


def test_one_element_alone_is_certain():
    """Elements that are alone in their compound are their own neighbours, which a model learns from such compounds."""
    part = sites(300, 6, 1.0)
    metals = np.zeros((100, MAX_Z), dtype=bool)
    metals[:, IRON] = True
    both = Sites(
        np.concatenate([part.absorber, np.full(100, IRON)]),
        np.concatenate([part.present, metals]),
        np.concatenate([part.neighbours, metals]),
        np.concatenate([part.probability, np.full((100, MAX_Z), 0.01)]),
    )
    model = CompositionModel.fit(both, both, both, np.arange(400))
    assert (model(np.full((1, MAX_Z), 0.01), np.array([IRON]), metals[:1])[0, IRON]) > 0.9


def test_a_model_survives_its_card():
    model = fitted(1.0)
    assert CompositionModel.from_json(json.loads(json.dumps(asdict(model)))) == model


def test_small_things():
    assert electronegativity()[OXYGEN] == pytest.approx(3.44)
    assert electronegativity()[2] == 1.5  # helium
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    assert logit(np.array([0.5]))[0] == 0.0

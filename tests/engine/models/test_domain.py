"""The domain index tells what was seen from what was not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aiida_xastruct.engine.errors import ModelError
from aiida_xastruct.engine.models.domain import DomainIndex


def points(n, seed, dimensions=40):
    """Numbers of very different scale, most of them in a plane."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, 3, generator=generator)
    mixing = torch.randn(3, dimensions, generator=torch.Generator().manual_seed(99))
    return (hidden @ mixing + 0.05 * torch.randn(n, dimensions, generator=generator)) * torch.logspace(-2, 2, dimensions)


def scores_of(index, questions, absorber=0):
    return index.score(questions, np.full(len(questions), absorber))


@pytest.fixture(scope="module")
def index():
    return DomainIndex.fit(points(1500, 0), points(400, 1))


def test_one_is_the_99th_percentile_of_the_unseen(index):
    outside = scores_of(index, points(2000, 2)) > 1.0
    assert 0.0 < outside.mean() < 0.035


def test_far_points_score_above_one(index):
    far = points(50, 3) * 8.0
    assert (scores_of(index, far) > 1.0).mean() > 0.8
    assert (scores_of(index, points(50, 3) + 1000.0) > 10.0).all()


def test_the_score_grows_with_the_distance(index):
    ray = points(1, 4)
    scores = scores_of(index, torch.cat([ray * factor for factor in (1.0, 5.0, 20.0, 100.0)]))
    assert (np.diff(scores) > 0).all()


def test_a_new_combination_is_found(index):
    """Each number is ordinary on its own; together they occur nowhere in the training set."""
    train = points(1500, 0)
    shuffled = torch.stack([train[torch.randperm(1500, generator=torch.Generator().manual_seed(i)), i] for i in range(40)], dim=1)
    assert (scores_of(index, shuffled[:200]) > 1.0).mean() > 0.9


def test_batches_and_order_change_nothing(index):
    questions = points(2100, 5)
    scores = scores_of(index, questions)
    np.testing.assert_allclose(scores_of(index, questions.flip(0))[::-1], scores, rtol=1e-4)
    np.testing.assert_allclose(scores_of(index, questions[7:8]), scores[7:8], rtol=1e-4)


def test_what_is_ordinary_around_another_absorber_is_strange():
    train, unseen = points(1500, 0), points(400, 1)
    absorbers = np.where(train[:, 0] > 0, 26, 40), np.where(unseen[:, 0] > 0, 26, 40)
    index = DomainIndex.fit(train, unseen, absorbers)
    iron = points(2000, 2)
    iron = iron[iron[:, 0] > 0]
    assert (scores_of(index, iron, 26) > 1.0).mean() < 0.05
    assert (scores_of(index, iron, 40) > scores_of(index, iron, 26)).mean() > 0.7
    assert (scores_of(index, iron, 33) > 1.0).all()


def test_few_points_are_enough():
    index = DomainIndex.fit(points(3, 0), points(3, 1))
    assert np.isfinite(scores_of(index, points(5, 2))).all()


def test_what_is_saved_is_loaded(index, tmp_path):
    index.save(tmp_path / "domain.safetensors")
    found = DomainIndex.load(tmp_path / "domain.safetensors")
    questions = points(30, 6)
    np.testing.assert_array_equal(scores_of(found, questions), scores_of(index, questions))  # points are rounded before the unit is found


@pytest.mark.parametrize("harm", ["missing", "cut", "other"])
def test_damaged_files_are_refused(index, tmp_path, refused, harm):
    from safetensors.torch import save_file

    path = tmp_path / "domain.safetensors"
    if harm == "cut":
        index.save(path)
        path.write_bytes(path.read_bytes()[:100])
    elif harm == "other":
        save_file({"weights": torch.ones(2)}, path)
    with refused(ModelError, "domain index", "install the family again"):
        DomainIndex.load(path)

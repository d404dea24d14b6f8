"""Quantiles promise what they say, on scores whose distribution is known and which come in groups."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from aiida_xastruct.engine.errors import DatasetError
from aiida_xastruct.engine.models.conformal import conformal_quantile, material_quantile, site_quantile


def within_binomial(share, count):
    low, high = binom.ppf([0.0005, 0.9995], count, 0.9) / count
    return low <= share <= high


def test_the_quantile_is_the_textbook_rank():
    scores = np.arange(1.0, 100.0)  # 99 scores: rank ceil(100 * 0.9) = 90
    assert conformal_quantile(scores) == 90.0
    assert conformal_quantile(scores[::-1]) == 90.0
    assert conformal_quantile(np.arange(1.0, 10.0)) == 9.0
    assert conformal_quantile(np.arange(1.0, 4.0), 0.5) == 2.0


def test_groups_of_one_are_the_textbook_case():
    scores = np.random.default_rng(0).exponential(size=57)
    labels = np.arange(57)
    assert site_quantile(scores, labels) == material_quantile(scores, labels) == conformal_quantile(scores)


def test_a_group_stands_at_infinity_with_all_its_sites():
    scores = np.arange(1.0, 101.0)
    assert site_quantile(scores, np.arange(100) // 10) == 99.0  # 0.9 x 110
    assert site_quantile(scores, np.arange(100)) == 91.0  # 0.9 x 101
    assert material_quantile(scores, np.arange(100) // 10) == 100.0  # ten scores, 10, 20, ... 100: the tenth


@pytest.mark.parametrize("quantile", [conformal_quantile, site_quantile, material_quantile])
def test_too_few_are_refused(refused, quantile):
    scores = np.ones(80)
    arguments = (scores[:8],) if quantile is conformal_quantile else (scores, np.arange(80) // 10)
    with refused(DatasetError, "8 materials are too few", "at least 9"):
        quantile(*arguments)


def materials(random, count):
    """Scores and labels of materials with 1 to 12 sites that share most of their error; larger ones are harder."""
    sizes = random.integers(1, 13, count)
    labels = np.repeat(np.arange(count), sizes)
    shared = random.normal(size=count) + 0.05 * sizes
    return shared[labels] + 0.3 * random.normal(size=len(labels)), labels


def test_coverage_of_plain_scores_averages_to_what_is_promised():
    """The guarantee is over calibration sets and new cases together: 3000 small sets, one new case each."""
    scores = np.random.default_rng(1).exponential(size=(3000, 30))
    below = [new <= conformal_quantile(row[:-1]) for row, new in zip(scores, scores[:, -1], strict=True)]
    assert within_binomial(np.mean(below), 3000)


def test_coverage_of_materials_averages_to_what_is_promised():
    """All sites of a new material, over 3000 small calibration sets."""
    random = np.random.default_rng(2)
    covered = []
    for _ in range(3000):
        scores, labels = materials(random, 30)
        new = labels == 29
        covered.append((scores[new] <= material_quantile(scores[~new], labels[~new])).all())
    assert within_binomial(np.mean(covered), 3000)


def test_coverage_of_sites_averages_to_what_is_promised():
    """Sites of new materials, over 6000 calibration sets; the plain quantile, which takes sites for independent, falls short."""
    random = np.random.default_rng(3)
    below = {quantile: [0, 0] for quantile in ("grouped", "plain")}
    for _ in range(6000):
        scores, labels = materials(random, 13)
        new = labels == 12
        limits = {"grouped": site_quantile(scores[~new], labels[~new]), "plain": conformal_quantile(scores[~new])}
        for name, limit in limits.items():
            below[name][0] += int((scores[new] <= limit).sum())
            below[name][1] += int(new.sum())
    shares = {name: hits / count for name, (hits, count) in below.items()}
    assert 0.89 <= shares["grouped"] <= 0.93
    assert shares["plain"] < 0.885

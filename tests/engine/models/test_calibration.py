"""Calibration promises what it says on data that it has not seen: checked with numbers whose distribution is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binom

from aiida_xastruct.engine.dataset import MAX_Z
from aiida_xastruct.engine.errors import DatasetError
from aiida_xastruct.engine.models.calibration import (
    COVERAGE,
    DistanceCalibration,
    ErrorModel,
    ForwardCalibration,
    NeighbourCalibration,
    conformal_quantile,
    curve_spread,
    expected_error,
    risk_threshold,
    sites_per_element,
)
from aiida_xastruct.engine.models.tasks import Task


def within_binomial(share, count, coverage=COVERAGE, calibrated_on=0):
    """Whether a share of `count` new cases fits a coverage, given that the coverage itself is known from `calibrated_on` cases."""
    slack = 3.0 * np.sqrt(coverage * (1 - coverage) / calibrated_on) if calibrated_on else 0.0
    low, high = binom.ppf([0.0005, 0.9995], count, coverage) / count
    return low - slack <= share <= high + slack


def test_the_quantile_is_the_textbook_rank():
    scores = np.arange(1.0, 100.0)  # 99 scores: rank ceil(100 * 0.9) = 90
    assert conformal_quantile(scores) == 90.0
    assert conformal_quantile(scores[::-1]) == 90.0
    assert conformal_quantile(np.arange(1.0, 10.0)) == 9.0
    assert conformal_quantile(np.arange(1.0, 4.0), 0.5) == 2.0


def test_too_few_scores_are_refused(refused):
    with refused(DatasetError, "8 sites are too few", "at least 9"):
        conformal_quantile(np.ones(8))


def test_coverage_averages_to_what_is_promised():
    """The guarantee is over calibration sets and new cases together: 3000 small sets, one new case each."""
    random = np.random.default_rng(0)
    scores = random.exponential(size=(3000, 30))
    below = [new <= conformal_quantile(row[:-1]) for row, new in zip(scores, scores[:, -1], strict=True)]
    assert within_binomial(np.mean(below), 3000)


def test_intervals_of_distances_cover_90_percent():
    random = np.random.default_rng(1)
    expected = random.uniform(0.02, 0.2, size=(1500, 3))
    value = random.normal(2.3, 0.3, size=(1500, 3))
    target = value + 1.7 * expected * random.standard_t(4, size=(1500, 3))  # overconfident, with heavy tails
    calibration = DistanceCalibration.fit(value[:700], target[:700], expected[:700])
    assert len(calibration.factors) == 3
    for column in range(3):
        inside = np.abs(value - target)[700:, column] <= calibration.factors[column] * expected[700:, column]
        assert within_binomial(inside.mean(), 800, calibrated_on=700)
        assert calibration.factors[column] > 2.0


def forward_data(n, seed, grid=40):
    """Curves whose error grows with a known number, and more so at the start of the grid."""
    random = np.random.default_rng(seed)
    size = np.exp(random.normal(-3.0, 0.7, n))
    shape = np.linspace(2.0, 0.5, grid)
    target = random.normal(size=(n, grid))
    value = target + size[:, None] * shape * random.normal(size=(n, grid))
    target[::7, 30:] = np.nan
    error = np.sqrt(np.nanmean((value - target) ** 2, axis=1))
    return size, value, target, error


@pytest.fixture(scope="module")
def forward():
    size, value, target, error = forward_data(600, 2)
    model = ErrorModel.fit(error, size, size * 0.3, np.ones(600))
    size, value, target, error = forward_data(600, 3)
    return ForwardCalibration.fit(model, model(size, size * 0.3, np.ones(600)), value, target, error, np.full(600, 0.3))


def test_the_band_holds_90_percent_of_whole_spectra(forward):
    size, value, target, _ = forward_data(800, 4)
    expected = forward.error_model(size, size * 0.3, np.ones(800))
    half = expected[:, None] * np.array(forward.profile)
    ratio = np.abs(value - target) / half
    assert within_binomial((np.nanmax(ratio, axis=1) <= forward.simultaneous).mean(), 800, calibrated_on=600)
    known = ratio[np.isfinite(ratio)]
    assert abs((known <= forward.pointwise).mean() - 0.9) < 0.02
    assert forward.simultaneous > forward.pointwise


def test_the_profile_follows_where_errors_are(forward):
    assert forward.profile[0] / forward.profile[-1] == pytest.approx(4.0, rel=0.2)


@pytest.mark.filterwarnings("error")
def test_a_grid_point_that_nothing_reaches_has_a_band(forward):
    size, value, target, error = forward_data(100, 5)
    target[:, -1] = np.nan
    expected = forward.error_model(size, size * 0.3, np.ones(100))
    profile = ForwardCalibration.fit(forward.error_model, expected, value, target, error, np.full(100, 0.3)).profile
    assert np.isfinite(profile).all()
    assert profile[-1] == max(profile)


def test_a_forward_calibration_survives_its_card(forward):
    assert ForwardCalibration.from_json(json.loads(json.dumps(forward.to_json()))) == forward


def test_the_error_model_ranks_and_averages(forward):
    size, _, _, error = forward_data(800, 6)
    expected = forward.error_model(size, size * 0.3, np.ones(800))
    assert np.corrcoef(np.log(expected), np.log(error))[0, 1] > 0.9
    assert expected.mean() == pytest.approx(error.mean(), rel=0.1)
    surest = np.argsort(expected)[:400]
    assert error[surest].mean() < 0.6 * error.mean()


def test_the_error_model_bears_zeros(forward):
    """One member, or a question that is in the training set, has no spread and no distance."""
    expected = forward.error_model(np.zeros(2), np.zeros(2), np.zeros(2))
    assert np.isfinite(expected).all()
    assert (expected > 0).all()


# ---------------------------------------------------------------- when FEFF answers


def test_the_threshold_keeps_its_promise_on_new_questions():
    """The worst accepted answers err by the risk on average, and none is accepted on the strength of better ones beside it."""
    random = np.random.default_rng(7)
    expected = random.uniform(0.01, 1.0, 8000)
    error = expected * random.exponential(size=8000)  # on average as large as expected
    threshold, accepted = risk_threshold(expected[:4000], error[:4000], 0.3)
    assert threshold == pytest.approx(0.3, abs=0.06)
    assert accepted == pytest.approx((expected[:4000] <= threshold).mean(), abs=1e-3)
    new, truth = expected[4000:], error[4000:]
    worst = (new <= threshold) & (new > threshold - 0.05)
    assert truth[worst].mean() < 0.3 * 1.25
    assert truth[new > threshold].mean() > 0.3


def test_a_good_model_answers_everything_and_a_bad_one_nothing():
    expected = np.linspace(0.1, 0.5, 200)
    assert risk_threshold(expected, 0.01 * expected, 1.0) == (0.5, 1.0)
    assert risk_threshold(expected, np.full(200, 3.0), 1.0) == (0.0, 0.0)


def test_a_smaller_risk_accepts_less():
    random = np.random.default_rng(8)
    expected = random.uniform(0.01, 1.0, 2000)
    error = expected * random.exponential(size=2000)
    shares = [risk_threshold(expected, error, risk)[1] for risk in (0.05, 0.1, 0.2, 0.4)]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]


# ---------------------------------------------------------------- neighbours


def neighbour_data(n, seed):
    """Two candidate elements a site, told apart by a noisy probability."""
    random = np.random.default_rng(seed)
    true = np.zeros((n, MAX_Z), dtype=bool)
    true[np.arange(n), np.where(random.random(n) < 0.5, 8, 16)] = True
    noise = random.normal(size=(n, MAX_Z))
    probability = 1.0 / (1.0 + np.exp(-np.where(true, 2.0, -5.0) - 1.5 * noise))
    return probability, true


def test_the_conformal_set_holds_all_neighbours_in_90_percent():
    calibration = NeighbourCalibration.fit(*neighbour_data(800, 0), *neighbour_data(300, 1))
    probability, true = neighbour_data(1000, 2)
    whole = probability >= calibration.set_threshold
    assert within_binomial((whole | ~true).all(axis=1).mean(), 1000, calibrated_on=800)
    assert whole.sum(axis=1).mean() < 10  # not all elements


def test_the_best_threshold_is_best():
    from aiida_xastruct.engine.metrics import micro_f1

    select = neighbour_data(600, 3)
    calibration = NeighbourCalibration.fit(*neighbour_data(200, 4), *select)
    scores = {t: micro_f1(select[0] >= t, select[1]) for t in (0.05, 0.2, 0.4, 0.6, 0.8, calibration.best_threshold)}
    assert max(scores.values()) == scores[calibration.best_threshold]


def test_small_things(make_dataset):
    assert sites_per_element(make_dataset(n=40).tables["XANES"]) == {26: 20, 29: 20}
    np.testing.assert_allclose(expected_error(Task("distance", "XANES"), np.array([[3.0]]), np.array([[4.0]])), 5.0)
    np.testing.assert_allclose(curve_spread(np.full((2, 137), 0.2), "XANES"), 0.2)
    assert curve_spread(np.full((1, 261), 0.2), "EXAFS")[0] > 0.2 * 50

"""Calibration promises what it says on data that it has not seen: checked with numbers whose distribution is known."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import binom

from aiida_xastruct.engine.dataset import MAX_Z
from aiida_xastruct.engine.errors import ModelError
from aiida_xastruct.engine.metrics import exact, macro_f1, micro_f1
from aiida_xastruct.engine.models.calibration import (
    COVERAGE,
    Curves,
    DistanceCalibration,
    ErrorModel,
    ForwardCalibration,
    NeighbourCalibration,
    curve_spread,
    expected_error,
    read_calibration,
    sites_per_element,
)
from aiida_xastruct.engine.models.tasks import Task


def within_binomial(share, count, coverage=COVERAGE, calibrated_on=0):
    """Whether a share of `count` new cases fits a coverage, given that the coverage itself is known from `calibrated_on` cases."""
    slack = 3.0 * np.sqrt(coverage * (1 - coverage) / calibrated_on) if calibrated_on else 0.0
    low, high = binom.ppf([0.0005, 0.9995], count, coverage) / count
    return low - slack <= share <= high + slack


def test_intervals_of_distances_cover_90_percent():
    random = np.random.default_rng(1)
    expected = random.uniform(0.02, 0.2, size=(1500, 3))
    value = random.normal(2.3, 0.3, size=(1500, 3))
    target = value + 1.7 * expected * random.standard_t(4, size=(1500, 3))  # overconfident, with heavy tails
    calibration = DistanceCalibration.fit(value[:700], target[:700], expected[:700], np.arange(700))
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


def curves(model, seed, n=600):
    size, value, target, error = forward_data(n, seed)
    return Curves(model(size, size * 0.3, np.ones(n)), value, target, error, np.arange(n) // 2)


@pytest.fixture(scope="module")
def forward():
    size, _, _, error = forward_data(600, 2)
    model = ErrorModel.fit(error, size, size * 0.3, np.ones(600))
    return ForwardCalibration.fit(model, curves(model, 2), curves(model, 3), 0.15)


def test_the_band_holds_90_percent_of_whole_spectra(forward):
    new = curves(forward.error_model, 4, 800)
    outside = (np.abs(new.value - new.target) > forward.half_band(new.expected)).any(axis=1)
    assert within_binomial(1.0 - outside.mean(), 800, calibrated_on=600)
    ratio = new.scaled / np.array(forward.profile)
    known = ratio[np.isfinite(ratio)]
    assert abs((known <= forward.pointwise).mean() - 0.9) < 0.02
    assert forward.simultaneous > forward.pointwise


def test_errors_stay_below_their_bound_in_90_percent(forward):
    new = curves(forward.error_model, 9, 1000)
    assert within_binomial((new.error <= forward.bound * new.expected).mean(), 1000, calibrated_on=600)
    assert forward.bound > 1.0


def test_the_profile_follows_where_errors_are(forward):
    assert forward.profile[0] / forward.profile[-1] == pytest.approx(4.0, rel=0.2)


@pytest.mark.filterwarnings("error")
def test_a_grid_point_that_nothing_reaches_has_a_band(forward):
    select, calibrate = curves(forward.error_model, 5, 100), curves(forward.error_model, 6, 100)
    for part in (select, calibrate):
        part.target[:, -1] = np.nan
    profile = ForwardCalibration.fit(forward.error_model, select, calibrate, 0.15).profile
    assert np.isfinite(profile).all()
    assert profile[-1] == max(profile)


def test_calibrations_survive_their_cards(forward):
    sets, apart = NeighbourCalibration(0.1, 0.4, 0.9), NeighbourCalibration(0.1, 0.4, 0.9, 0.02, (22, 29))
    intervals = DistanceCalibration((1.5, 1.4, 2.0), 0.9)
    for task, calibration in (("forward", forward), ("neighbours", sets), ("neighbours", apart), ("distance", intervals)):
        assert read_calibration(task, json.loads(json.dumps(asdict(calibration)))) == calibration


@pytest.mark.parametrize("task", ["forward", "neighbours", "distance"])
def test_calibrations_of_other_versions_are_refused(refused, task):
    with refused(ModelError, f"the {task} model is calibrated as another version"):
        read_calibration(task, {"factors": [1.0]})


def test_the_error_model_ranks_and_averages(forward):
    size, _, _, error = forward_data(800, 6)
    expected = forward.error_model(size, size * 0.3, np.ones(800))
    assert np.corrcoef(np.log(expected), np.log(error))[0, 1] > 0.9
    assert expected.mean() == pytest.approx(error.mean(), rel=0.1)
    surest = np.argsort(expected)[:400]
    assert error[surest].mean() < 0.6 * error.mean()


def test_no_weight_of_the_error_model_is_negative():
    """Spread that happens to fall where errors rise says nothing; it must not make a disagreement look like good news."""
    random = np.random.default_rng(10)
    stated = np.exp(random.normal(-3.0, 0.5, 400))
    error = stated * np.exp(random.normal(0.0, 0.3, 400))
    spread = 1.0 / error
    model = ErrorModel.fit(error, stated, spread, np.ones(400))
    assert model.weights[1] > 0.5
    assert min(model.weights[1:]) >= 0.0
    assert (model(stated, 100.0 * spread, np.ones(400)) >= model(stated, spread, np.ones(400))).all()


def test_the_error_model_bears_zeros(forward):
    """One member, or a question that is in the training set, has no spread and no distance."""
    expected = forward.error_model(np.zeros(2), np.zeros(2), np.zeros(2))
    assert np.isfinite(expected).all()
    assert (expected > 0).all()


# ---------------------------------------------------------------- when FEFF answers


def test_an_accepted_answer_is_rarely_too_wrong(forward):
    """Of new answers just below the threshold, the worst that are accepted, at most a tenth or so exceed the risk."""
    new = curves(forward.error_model, 11, 6000)
    assert forward.threshold == pytest.approx(forward.risk_target / forward.bound)
    worst = (new.expected <= forward.threshold) & (new.expected > 0.8 * forward.threshold)
    assert worst.sum() > 150
    assert (new.error[worst] > forward.risk_target).mean() < 0.15
    accepted = new.expected <= forward.threshold
    assert (new.error[accepted] > forward.risk_target).mean() < 0.05
    assert abs(accepted.mean() - forward.accepted) < 0.06


def test_a_smaller_risk_accepts_less(forward):
    select, calibrate = curves(forward.error_model, 2), curves(forward.error_model, 3)
    shares = [ForwardCalibration.fit(forward.error_model, select, calibrate, risk).accepted for risk in (0.0, 0.05, 0.1, 0.2, 10.0)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert shares[1] < shares[3]


# ---------------------------------------------------------------- neighbours


TITANIUM = np.array([22])


def neighbour_data(n, seed, loud=1.5):
    """One of two elements is the neighbour, and every element's probability is noisy."""
    random = np.random.default_rng(seed)
    true = np.zeros((n, MAX_Z), dtype=bool)
    true[np.arange(n), np.where(random.random(n) < 0.5, 8, 16)] = True
    noise = random.normal(size=(n, MAX_Z))
    probability = 1.0 / (1.0 + np.exp(-np.where(true, 2.0, -5.0) - loud * noise))
    return probability, true


def test_the_conformal_set_holds_all_neighbours_in_90_percent():
    calibration = NeighbourCalibration.fit(*neighbour_data(800, 0, 3.0), np.arange(800), *neighbour_data(300, 1, 3.0))
    probability, true = neighbour_data(1000, 2, 3.0)
    whole = calibration.whole(probability, TITANIUM.repeat(1000))
    assert within_binomial((whole | ~true).all(axis=1).mean(), 1000, calibrated_on=800)
    assert whole.sum(axis=1).mean() < 40  # not all elements
    assert calibration.coverage == COVERAGE


def test_absorbers_seldom_seen_have_sets_of_their_own():
    """A model that is worse around some absorbers promises the same of them by larger sets, and no larger ones around the others."""

    def part(n, seed):
        clear, blurred = neighbour_data(n, seed, 1.5), neighbour_data(n // 4, seed + 50, 4.0)
        joined = [np.concatenate(pair) for pair in zip(clear, blurred, strict=True)]
        return *joined, np.concatenate([TITANIUM.repeat(n), TITANIUM.repeat(n // 4) + 1])

    (probability, true, absorber), select = part(800, 0), part(300, 1)
    group = np.arange(len(true))
    alike = NeighbourCalibration.fit(probability, true, group, *select[:2])
    apart = NeighbourCalibration.fit(probability, true, group, *select[:2], absorber, TITANIUM)
    assert apart.seldom_threshold is not None
    assert apart.seldom_threshold < alike.set_threshold < apart.set_threshold
    probability, true, absorber = part(2000, 2)
    often = absorber == TITANIUM[0]
    for calibration, holds in ((alike, False), (apart, True)):
        covered = (calibration.whole(probability, absorber) | ~true).all(axis=1)
        assert within_binomial(covered[~often].mean(), 500, calibrated_on=200) == holds
    assert covered[often].mean() > 0.88  # what is named alone holds more
    few = np.arange(810)  # ten materials of the seldom absorber are too few
    assert (
        NeighbourCalibration.fit(
            *(item[few] for item in part(800, 0)[:2]), few, *select[:2], part(800, 0)[2][few], TITANIUM
        ).seldom_threshold
        is None
    )


def sites_of_materials(n, seed):
    """Six sites a material, which share most of their error."""
    probability, true = (np.repeat(array, 6, axis=0) for array in neighbour_data(n, seed, 3.0))
    wobble = np.exp(0.5 * np.random.default_rng(seed).normal(size=probability.shape))
    return probability * wobble / (1.0 + probability * (wobble - 1.0)), true


def test_sets_are_calibrated_by_material():
    """The set holds at all sites of a material; as many independent sites would promise less."""
    select, part = neighbour_data(300, 1, 3.0), sites_of_materials(200, 5)
    alone = NeighbourCalibration.fit(*part, np.arange(1200), *select)
    together = NeighbourCalibration.fit(*part, np.arange(1200) // 6, *select)
    assert together.set_threshold < alone.set_threshold
    probability, true = sites_of_materials(1000, 7)
    covered = (together.whole(probability, TITANIUM.repeat(6000)) | ~true).all(axis=1).reshape(1000, 6).all(axis=1)
    assert within_binomial(covered.mean(), 1000, calibrated_on=200)


def test_a_set_is_never_empty_and_holds_what_is_named():
    calibration = NeighbourCalibration(0.9, 0.5, COVERAGE)
    probability = np.array([[0.99, 0.0, 0.1, 0.2], [0.99, 0.6, 0.95, 0.1]])  # the first column is no element
    assert calibration.named(probability).tolist() == [[False, False, False, True], [False, True, True, False]]
    assert calibration.whole(probability, TITANIUM.repeat(2)).tolist() == [[False, False, False, True], [False, True, True, False]]
    wide = NeighbourCalibration(0.1, 0.5, COVERAGE).whole(probability, TITANIUM.repeat(2))
    assert wide.tolist() == [[False, False, True, True], [False, True, True, True]]


def test_the_best_threshold_is_best():
    select = neighbour_data(600, 3)
    calibration = NeighbourCalibration.fit(*neighbour_data(200, 4), np.arange(200), *select)
    scores = {}
    for threshold in (0.05, 0.2, 0.4, 0.6, 0.8, calibration.best_threshold):
        named = NeighbourCalibration(1.0, threshold, 0.9).named(select[0])
        scores[threshold] = micro_f1(named, select[1]) + exact(named, select[1]) + macro_f1(named, select[1], least=20)
    assert max(scores.values()) == scores[calibration.best_threshold]


def test_seldom_elements_are_named_where_it_costs_the_frequent_ones_little():
    """Every site has oxygen, a tenth has fluorine too, and where that is likely it is wrong in more than half of the cases."""
    true = np.zeros((500, MAX_Z), dtype=bool)
    true[:, 8] = True
    true[::10, 9] = True
    probability = np.where(true, 0.9, 0.01)
    for likely in (slice(0, None, 10), slice(5, None, 10), slice(3, 103, 10)):
        probability[likely, 9] = 0.35
    assert NeighbourCalibration.fit(probability, true, np.arange(500), probability, true).best_threshold <= 0.35
    few = slice(0, 100)  # ten sites with fluorine are too few to count
    assert NeighbourCalibration.fit(probability, true, np.arange(500), probability[few], true[few]).best_threshold > 0.35


def test_small_things(make_dataset):
    assert sites_per_element(make_dataset(n=40).tables["XANES"]) == {26: 20, 29: 20}
    np.testing.assert_allclose(expected_error(Task("distance", "XANES"), np.array([[3.0]]), np.array([[4.0]])), 5.0)
    np.testing.assert_allclose(curve_spread(np.full((2, 137), 0.2), "XANES"), 0.2)
    assert curve_spread(np.full((1, 261), 0.2), "EXAFS")[0] > 0.2 * 50

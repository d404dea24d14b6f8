from __future__ import annotations

import numpy as np
import pytest

from aiida_xastruct.engine.metrics import curve_mse, curve_r2, exact, macro_f1, micro_f1, micro_f1_within, r2, r2_within

TRUE = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=bool)
FOUND = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 1]], dtype=bool)


def test_curve_mse_leaves_out_what_is_not_known():
    target = np.array([[1.0, np.nan, 3.0], [0.0, 0.0, 0.0]])
    value = np.array([[2.0, 100.0, 3.0], [0.0, 3.0, 0.0]])
    np.testing.assert_allclose(curve_mse(value, target), [0.5, 3.0])


def test_curve_r2():
    target = np.array([[1.0, 2.0, 3.0, np.nan]])
    np.testing.assert_allclose(curve_r2(target, target), 1.0)
    np.testing.assert_allclose(curve_r2(np.full((1, 4), 2.0), target), 0.0)  # the mean explains nothing
    np.testing.assert_allclose(curve_r2(np.array([[3.0, 2.0, 1.0, 0.0]]), target), -3.0)


def test_curve_r2_with_a_weight_is_that_of_the_weighted_curves():
    random = np.random.default_rng(0)
    value, target, weight = random.normal(size=(2, 30)), random.normal(size=(2, 30)), np.linspace(0.1, 3.0, 30)
    np.testing.assert_allclose(curve_r2(value, target, weight), curve_r2(value * weight, target * weight))


def test_r2_of_numbers():
    target = np.array([1.0, 2.0, 3.0])
    assert r2(target, target) == 1.0
    assert r2(np.full(3, 2.0), target) == 0.0
    assert np.isnan(r2(np.ones(3), np.ones(3)))


def test_r2_within_gives_nothing_for_knowing_the_group():
    """The group's mean is the baseline: predicting it scores 0, though the plain R2 is high."""
    group = np.array([0, 0, 1, 1, 2])
    target = np.array([1.0, 1.2, 5.0, 5.4, 9.0])
    means = np.array([1.1, 1.1, 5.2, 5.2, 0.0])
    assert r2_within(means, target, group) == pytest.approx(0.0)
    assert r2_within(target, target, group) == 1.0
    assert np.isnan(r2_within(target[4:], target[4:], group[4:]))


def test_f1():
    assert micro_f1(TRUE, TRUE) == 1.0
    assert micro_f1(FOUND, TRUE) == pytest.approx(2 * 2 / (3 + 4))
    assert micro_f1(~TRUE, TRUE) == 0.0
    assert micro_f1(np.zeros((2, 3), bool), np.zeros((2, 3), bool)) == 0.0


def test_macro_f1_is_over_the_elements_that_occur():
    assert macro_f1(FOUND, TRUE) == pytest.approx((1.0 + 0.0) / 2)  # the third element is never true
    assert macro_f1(FOUND, TRUE, least=2) == pytest.approx(0.5)
    assert np.isnan(macro_f1(FOUND, TRUE, least=3))


def test_exact_is_of_whole_sets():
    assert exact(FOUND, TRUE) == pytest.approx(1 / 3)


def test_f1_within_two_places_forgives_a_neighbour_in_the_table():
    found, true = np.zeros((3, 10), dtype=bool), np.zeros((3, 10), dtype=bool)
    found[0, 4] = true[0, 4] = True  # right
    found[1, 4] = true[1, 6] = True  # two places off
    found[2, 1] = true[2, 9] = True  # eight places off: neither end of the row is beside the other
    assert micro_f1_within(found, true) == 2 / 3
    assert micro_f1_within(found, true, reach=1) == micro_f1(found, true) == 1 / 3
    assert micro_f1_within(np.zeros_like(true), true) == 0.0

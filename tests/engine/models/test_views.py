"""Views show what is in a curve and nothing that is not; draws do to a curve what a measurement does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aiida_xastruct.engine.models.views import R_GRID, STRETCH, choose, draw, fourier, resample, view, view_size
from aiida_xastruct.engine.models.views import _continued as continued
from aiida_xastruct.engine.models.views import _disordered as disordered
from aiida_xastruct.engine.models.views import _glitches as glitches
from aiida_xastruct.engine.models.views import _splined as splined
from aiida_xastruct.engine.models.views import _steepest as steepest
from aiida_xastruct.engine.models.views import _wandering as wandering
from aiida_xastruct.engine.spectrum import ETOK, EXAFS_GRID, XANES_GRID

K = torch.tensor(EXAFS_GRID, dtype=torch.float32)
E = torch.tensor(XANES_GRID, dtype=torch.float32)
NAN = float("nan")


def sine(distance, amplitude=1.0):
    return (amplitude * torch.sin(2.0 * K * distance) / K**2)[None]


def edge():
    return (0.5 + torch.atan(E / 2.0) / torch.pi)[None]


def magnitude(curve):
    return fourier(view(curve, "EXAFS"))[0, : len(R_GRID)]


@pytest.mark.parametrize(("kind", "grid"), [("XANES", XANES_GRID), ("EXAFS", EXAFS_GRID)])
def test_shapes(kind, grid):
    assert view(torch.zeros(5, len(grid)), kind).shape == (5, view_size(kind))


@pytest.mark.parametrize("kind", ["XANES", "EXAFS"])
@pytest.mark.parametrize("hidden", ["start", "end", "middle", "all"])
def test_missing_data_never_become_nan(kind, hidden):
    curve = torch.randn(3, len(XANES_GRID if kind == "XANES" else EXAFS_GRID), generator=torch.Generator().manual_seed(0))
    curve[1, {"start": slice(0, 30), "end": slice(70, None), "middle": slice(40, 60), "all": slice(None)}[hidden]] = NAN
    features = view(curve, kind)
    assert torch.isfinite(features).all()
    assert torch.equal(features[0], view(curve[:1], kind)[0])  # a neighbour's gap changes nothing


def test_xanes_view_is_curve_slope_and_mask():
    curve = edge()
    curve[0, :20] = NAN
    value, slope, known = view(curve, "XANES")[0].split(len(XANES_GRID))
    assert torch.equal(known, torch.isfinite(curve[0]).float())
    assert (value[:20] == 0).all()
    assert torch.equal(value[20:], curve[0, 20:])
    # twice the slope of the arctangent, in 1/eV, where both sides are known, and none at the start of the data
    expected = 2.0 / (torch.pi * 2.0 * (1.0 + (E / 2.0) ** 2))
    torch.testing.assert_close(slope[21:-1], expected[21:-1], atol=1e-2, rtol=0.0)
    assert (slope[:21] == 0).all()


@pytest.mark.parametrize("distance", [1.6, 2.0, 2.5, 3.3, 4.8])
def test_a_pure_sine_peaks_at_its_distance(distance):
    assert float(R_GRID[magnitude(sine(distance)).argmax()]) == pytest.approx(distance, abs=0.08)


def test_two_shells_are_two_peaks():
    found = magnitude(sine(2.0) + sine(3.5))
    near, between, far = (float(found[(R_GRID - at).abs().argmin()]) for at in (2.0, 2.75, 3.5))
    assert near > 5 * between
    assert far > 5 * between


def test_the_transform_is_linear_in_amplitude():
    torch.testing.assert_close(magnitude(sine(2.2, 3.0)), 3.0 * magnitude(sine(2.2)), rtol=1e-4, atol=1e-4)


def test_light_and_heavy_neighbours_scatter_into_different_halves():
    """The low-k half sees a shell that dies out early, the high-k half one that starts late."""
    n = len(R_GRID)
    early, late = sine(2.0) * (K < 6.5), sine(2.0) * (K > 7.5)
    for curve, strong, weak in ((early, 1, 2), (late, 2, 1)):
        parts = fourier(view(curve, "EXAFS"))[0].split(3 * n)
        assert parts[strong][:n].max() > 3 * parts[weak][:n].max()


def test_a_short_range_keeps_the_peak():
    curve = sine(2.4)
    curve[0, (K < 3.0) | (K > 10.0)] = NAN
    found = magnitude(curve)
    assert float(R_GRID[found.argmax()]) == pytest.approx(2.4, abs=0.1)
    assert found.max() < magnitude(sine(2.4)).max()


# ---------------------------------------------------------------- draws


@pytest.mark.parametrize(("kind", "curve"), [("XANES", edge()), ("EXAFS", sine(2.2))])
def test_draws_repeat_with_the_seed_and_differ_without(kind, curve):
    many = curve.repeat(50, 1)
    one, same, other = (draw(many, kind, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.nan_to_num(one), torch.nan_to_num(same))
    assert not torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))
    assert one.shape == many.shape
    assert torch.isfinite(view(one, kind)).all()


@pytest.mark.parametrize(("kind", "curve"), [("XANES", edge()), ("EXAFS", sine(2.2))])
def test_a_fifth_of_the_draws_changes_nothing(kind, curve):
    many = curve.repeat(2000, 1)
    drawn = draw(many, kind, torch.Generator().manual_seed(0))
    untouched = (drawn == many).all(dim=1).float().mean()
    assert 0.15 < float(untouched) < 0.25


def test_a_temperature_lowers_the_amplitude_most_far_out():
    """exp(-2 sigma^2 k^2) and S0^2 take away, noise adds a little: the mean over many draws must fall, and faster at high k."""
    many = sine(2.2).repeat(4000, 1)
    drawn = torch.nan_to_num(draw(many, "EXAFS", torch.Generator().manual_seed(3)))
    ratio = {}
    for name, window in (("low", (K > 4) & (K < 6)), ("high", (K > 7) & (K < 9))):
        ratio[name] = float((drawn[:, window] ** 2).mean().sqrt() / (many[:, window] ** 2).mean().sqrt())
    assert ratio["low"] < 0.9
    assert ratio["high"] < ratio["low"] - 0.05


def test_a_temperature_flattens_xanes_far_above_the_edge_and_leaves_the_white_line():
    curve = edge() + torch.where(E > 2.0, 0.1 * torch.cos(E), torch.zeros(())) + 0.5 * torch.exp(-(((E - 2.0) / 1.0) ** 2))
    hot = disordered(curve.repeat(2, 1), torch.tensor([[0.0], [0.012]]))
    torch.testing.assert_close(hot[:1], curve)
    assert torch.equal(hot[1, E < 0], curve[0, E < 0])
    white, far = (E - 2.0).abs() < 1.0, 0.8 * E[-1] < E
    torch.testing.assert_close(hot[1, white], curve[0, white], atol=0.01, rtol=0.0)
    expected = 1.0 + (curve[0] - 1.0) * torch.exp(-2.0 * 0.012 * ETOK * E)
    torch.testing.assert_close(hot[1, far], expected[far], atol=1e-5, rtol=0.0)


def test_noise_and_range_of_a_draw_are_a_measurements():
    drawn = draw(torch.zeros(3000, len(K)), "EXAFS", torch.Generator().manual_seed(4))
    known = torch.isfinite(drawn)
    assert float(known[:, K < 1.99].float().sum()) == 0
    assert 0.3 < float(known[:, -1].float().mean()) < 0.9  # some scans end early
    assert known[:, (K > 4.0) & (K < 8.5)].all()
    weighted = (torch.nan_to_num(drawn) * K**2).abs()
    assert float(weighted.max()) < 5.0


def test_e0_of_an_exafs_draw_is_mostly_near_and_sometimes_on_another_rise():
    """A peak at k moves to where k^2 + ETOK shift is what it was."""
    curve = (1e4 * torch.exp(-0.5 * ((K - 8.0) / 0.15) ** 2) / K**2)[None]
    drawn = torch.nan_to_num(draw(curve.repeat(3000, 1), "EXAFS", torch.Generator().manual_seed(6))) * K**2
    shift = (64.0 - K[drawn.argmax(dim=1)] ** 2) / ETOK
    assert -18.5 < float(shift.min()) < -13.0  # the grid's step is 3 eV there
    assert 7.5 < float(shift.max()) < 12.5
    assert 0.6 < float((shift.abs() < 4.0).float().mean()) < 0.8
    assert 0.04 < float((shift < -9.0).float().mean()) < 0.12


def test_a_spline_follows_what_is_slow_and_nothing_twice():
    wave = torch.stack([torch.sin(2.0 * K * distance + 0.5) for distance in (0.4, 0.8, 2.2)])
    assert torch.equal(splined(wave, torch.zeros(3, 1)), wave)
    once = splined(wave, torch.ones(3, 1))
    torch.testing.assert_close(splined(once, torch.ones(3, 1)), once, atol=1e-5, rtol=0.0)
    left = once.square().mean(dim=1).sqrt() / wave.square().mean(dim=1).sqrt()
    assert left[0] < 0.05
    assert 0.1 < left[1] < 0.8
    assert left[2] > 0.95


def test_what_a_background_left_is_slow():
    """Less than 2 % of it beyond the first shells' 1.3 angstrom, though some grow with k."""
    left = wandering(torch.zeros(2000, len(K)), torch.Generator().manual_seed(7))
    assert 0.03 < float(left.abs().mean()) < 0.3
    far = splined(left, torch.ones(2000, 1))
    assert float(far.square().mean()) < 0.1 * float(left.square().mean())
    beyond, whole = (fourier(curves)[:, : len(R_GRID)].square() for curves in (far, left))
    assert float(beyond[:, R_GRID > 1.3].mean()) < 0.02 * float(whole.mean())


def test_four_of_ten_scans_have_a_glitch():
    found = glitches(torch.zeros(4000, len(K)), torch.Generator().manual_seed(8))
    assert 0.35 < float((found.abs().amax(dim=1) > 1e-6).float().mean()) < 0.45
    assert torch.isfinite(found).all()


def test_a_xanes_draw_moves_the_edge_by_about_the_e0_error():
    drawn = draw(edge().repeat(3000, 1), "XANES", torch.Generator().manual_seed(5))
    first = (torch.nan_to_num(drawn) > 0.5).float().argmax(dim=1)
    shift = E[first] - E[(edge()[0] > 0.5).float().argmax()]
    assert abs(float(shift.mean())) < 0.4  # half a grid step, noise, and a drawn baseline
    assert 0.8 < float(shift.std()) < 2.0


def test_a_draw_takes_either_of_two_like_rises_for_the_edge():
    """A metal's edge in two steps 8 eV apart, the second a little steeper: the first is E0 in many draws, in none what lies between."""
    step = 0.5 + torch.atan((E + 8.0) / 1.5) / torch.pi
    curve = (0.45 * step + 0.55 * (0.5 + torch.atan(E / 1.5) / torch.pi))[None].repeat(2000, 1)
    favour = 0.7 * torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
    e0 = steepest(curve, favour)[:, 0]
    first = (e0 + 8.0).abs() <= 1.0
    assert ((e0.abs() <= 1.0) | first).all()
    assert 0.2 < float(first.float().mean()) < 0.8
    assert (steepest(curve, torch.zeros(2000, 1)).abs() <= 0.5).all()
    assert (steepest(edge().repeat(2000, 1), favour).abs() <= 1.0).all()


def test_a_draw_moves_what_lies_above_the_edge_away_from_it_and_never_nearer():
    curve = edge() + 0.5 * torch.exp(-0.5 * ((E - 30.0) / 1.5) ** 2)
    drawn = torch.nan_to_num(draw(curve.repeat(3000, 1), "XANES", torch.Generator().manual_seed(6)))
    high = drawn.amax(dim=1) > 1.2  # where the peak was neither cut off nor damped
    peak = E[drawn.argmax(dim=1)][high]
    assert int(high.sum()) > 500
    assert abs(float(peak.mean()) - 30.0 * (1.0 + 0.5 * 0.8 * STRETCH)) < 0.5  # a fifth of the draws changes nothing
    assert float(peak.min()) > 30.0 - 6.0  # four standard deviations of E0
    assert float(peak.max()) > 32.0


def test_the_start_is_continued_as_a_tail_and_nothing_else_is_filled():
    curve = edge().repeat(3, 1)
    curve[:, :20], curve[:, 60], curve[:, 100:] = NAN, NAN, NAN
    filled = continued(curve, torch.tensor([[0.0], [0.5], [1.0]]))
    assert torch.equal(filled[:, 20:].isnan(), curve[:, 20:].isnan())
    assert (filled[0, :20] == 0.0).all()
    tail = float(curve[0, 20] * E[20]) / E[:20]
    torch.testing.assert_close(filled[1:, :20], torch.stack([0.5 * tail, tail]))


def test_an_e0_shift_moves_chi_in_k():
    """A choice of E0 five eV higher: k^2 shrinks by ETOK * 5 everywhere."""
    shifted = torch.sqrt(K**2 + ETOK * 5.0)
    position = ((shifted - K[0]) / (K[1] - K[0]))[None]
    found = resample(sine(2.0), position)[0]
    expected = torch.sin(2.0 * shifted * 2.0) / shifted**2
    inside = shifted <= K[-1]
    torch.testing.assert_close(found[inside], expected[inside], atol=2e-3, rtol=0.0)
    assert torch.isnan(found[~inside]).all()


def test_choose_takes_only_curves_with_data():
    curves = torch.full((300, 3, 4), NAN)
    curves[:, 0], curves[:, 2] = 1.0, 3.0
    chosen = choose(curves, torch.Generator().manual_seed(0))
    assert set(chosen[:, 0].tolist()) == {1.0, 3.0}
    assert 0.35 < float((chosen[:, 0] == 3.0).float().mean()) < 0.65


def test_resampling_at_the_points_is_exact():
    curve = torch.tensor([[1.0, 4.0, 9.0]])
    found = resample(curve, torch.tensor([[0.0, 1.0, 2.0]]))
    assert found.tolist() == curve.tolist()
    half = resample(curve, torch.tensor([[0.5, 1.5, 2.5]]))[0]
    assert half[:2].tolist() == [2.5, 6.5]
    assert np.isnan(half[2].item())

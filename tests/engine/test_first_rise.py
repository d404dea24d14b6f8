"""The edge of a reference is its first rise, whichever is the steepest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aiida_xastruct.engine.first_rise import first_rise
from aiida_xastruct.engine.processing import process
from aiida_xastruct.engine.spectrum import Spectrum, find_e0, tabulated_edge


def foil(absorber: str, second: float, step: float = 0.5, noise: float = 3e-4) -> Spectrum:
    """A foil whose K edge rises at the tabulated energy and once more, 9 eV later, `second` times as high."""
    e0 = tabulated_edge(absorber, "K")
    energy = np.arange(e0 - 120.0, e0 + 250.0, step)
    rises = [height * (0.5 + np.arctan((energy - at) / 2.0) / np.pi) for at, height in ((e0, 1.0), (e0 + 9.0, second))]
    mu = 0.3 + sum(rises) / (1.0 + second) + noise * np.random.default_rng(0).normal(size=len(energy))
    return Spectrum(energy=energy, mu=mu, absorber=absorber, edge="K", kind="XANES", method="measured", energy_reference="nominal")


@pytest.mark.parametrize("step", [0.2, 0.5, 1.3])
@pytest.mark.parametrize("absorber", ["Mn", "Zr", "Mo"])
def test_the_first_of_two_rises(absorber: str, step: float) -> None:
    twice = foil(absorber, 1.4, step)
    assert find_e0(twice) - tabulated_edge(absorber, "K") == pytest.approx(9.0, abs=1.5)  # what misled
    assert first_rise(twice) == pytest.approx(tabulated_edge(absorber, "K"), abs=1.0)


@pytest.mark.parametrize("second", [0.0, 0.6])
def test_where_the_first_is_the_steepest_it_is_that_of_find_e0(second: float) -> None:
    once = foil("Cu", second)
    assert first_rise(once) == find_e0(once)
    assert first_rise(replace(once, e0=9000.0)) == find_e0(once)  # what the file states is not looked at


def test_a_calibration_takes_it_and_says_so() -> None:
    twice = foil("Mo", 1.4)
    moved = replace(twice, energy=twice.energy + 6.0)
    done = process(moved, reference=moved)
    assert done.record["energy_shift"] == pytest.approx(-6.0, abs=1.0)
    assert done.record["reference"]["steepest"] - done.record["reference"]["e0"] == pytest.approx(9.0, abs=1.5)
    assert "rises twice: the first rise" in " ".join(done.record["remarks"])
    assert "rises twice" not in " ".join(process(foil("Cu", 0.0), reference=foil("Cu", 0.0)).record["remarks"])

"""Mixtures give back what they were made of, with honest errors, and what cannot be told apart is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aiida_xastruct.engine.combination import Fit, combine, describe
from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.spectrum import EXAFS_GRID, Spectrum, k_to_energy

ENERGY = np.arange(7012.0, 7312.0, 0.5)


def xanes(edge: float, white_line: float, width: float = 1.5, method: str = "measured") -> Spectrum:
    """A flat XANES with its edge at an energy, in eV."""
    above = ENERGY - edge
    mu = 0.5 + np.arctan(above / width) / np.pi + white_line * np.exp(-(((above - 6.0) / 4.0) ** 2))
    return Spectrum(ENERGY, mu, "Fe", "K", "XANES", method, "feff" if method == "feff" else "calibrated", "flat", None, edge)


def exafs(length: float, method: str = "feff") -> Spectrum:
    mu = 1.0 + np.sin(2 * EXAFS_GRID * length) * 6 * np.exp(-0.02 * EXAFS_GRID) / (EXAFS_GRID * length**2)
    return Spectrum(7112.0 + k_to_energy(EXAFS_GRID), mu, "Fe", "K", "EXAFS", method, "feff", "flat", None, 7112.0)


def mixture(parts: dict[Spectrum, float], noise: float = 0.0, seed: int = 0) -> Spectrum:
    first = next(iter(parts))
    mu = sum(weight * part.mu for part, weight in parts.items())
    return replace(first, mu=mu + noise * np.random.default_rng(seed).normal(size=len(first)))


COMPONENTS = {"ferrous": xanes(7112.0, 0.3), "ferric": xanes(7116.0, 0.6, 1.2), "metal": xanes(7110.0, 0.0, 2.5)}


@pytest.mark.parametrize("sum_to_one", [True, False])
@pytest.mark.parametrize("weights", [(0.5, 0.3, 0.2), (0.7, 0.3, 0.0), (0.0, 0.0, 1.0)])
def test_a_mixture_gives_back_its_weights(weights: tuple[float, ...], sum_to_one: bool) -> None:
    target = mixture(dict(zip(COMPONENTS.values(), weights, strict=True)))
    found = combine(target, COMPONENTS, Fit("XANES", sum_to_one=sum_to_one))
    assert list(found.weights.values()) == pytest.approx(weights, abs=1e-6)
    assert found.total == pytest.approx(1.0, abs=1e-6)
    assert found.r_factor < 1e-10
    assert (found.low, found.high) == (-20.0, 45.0)
    assert found.parts.sum(axis=0) == pytest.approx(found.target, abs=1e-6)


def test_uncertainties_are_those_of_repeated_measurements() -> None:
    weights = dict(zip(COMPONENTS.values(), (0.5, 0.3, 0.2), strict=True))
    fits = [combine(mixture(weights, 0.005, seed), COMPONENTS, Fit("XANES")) for seed in range(80)]
    values = np.array([list(fit.weights.values()) for fit in fits])
    stated = np.mean([list(fit.uncertainties.values()) for fit in fits], axis=0)
    assert stated == pytest.approx(values.std(axis=0), rel=0.3)
    assert np.abs(values.mean(axis=0) - (0.5, 0.3, 0.2)).max() < 0.01


def test_a_missing_component_shows_in_the_misfit() -> None:
    target = mixture(dict(zip(COMPONENTS.values(), (0.4, 0.2, 0.4), strict=True)), 0.001)
    whole = combine(target, COMPONENTS, Fit("XANES"))
    part = combine(target, {name: COMPONENTS[name] for name in ("ferrous", "ferric")}, Fit("XANES"))
    assert part.r_factor > 20 * whole.r_factor
    assert part.uncertainties["ferrous"] > 3 * whole.uncertainties["ferrous"]


def test_exafs_with_its_own_amplitude() -> None:
    components = {"short": exafs(1.95), "long": exafs(2.15)}
    target = mixture(dict(zip(components.values(), (0.6 * 0.8, 0.4 * 0.8), strict=True)))
    target = replace(target, mu=target.mu + 0.2)  # 1 + 0.8 chi
    said = describe(combine(target, components, Fit("EXAFS")), Fit("EXAFS"))
    assert {row["name"]: row["fraction"] for row in said["components"]} == pytest.approx({"short": 0.6, "long": 0.4}, abs=1e-4)
    assert said["total"] == pytest.approx(0.8, abs=1e-4)
    assert (said["sum_to_one"], said["disorder"]) == (False, 0.0)


def test_alignment() -> None:
    # Computed spectra stand anywhere: each counts from its E0. Measured ones keep their energies, which tell the valence.
    computed = {name: replace(one, energy=one.energy + 20.0, e0=one.e0 + 20.0, method="feff") for name, one in COMPONENTS.items()}
    target = mixture({replace(one, energy=ENERGY + 7112.0 - one.e0, e0=7112.0): 1.0 for one in [COMPONENTS["ferric"]]})
    found = combine(target, computed, Fit("XANES"))
    assert found.weights["ferric"] == pytest.approx(1.0, abs=0.01)
    assert found.shifts["ferric"] == pytest.approx(-24.0)
    moved = replace(mixture(dict(zip(COMPONENTS.values(), (0.6, 0.4, 0.0), strict=True))), energy=ENERGY + 1.5)
    fixed, free = (combine(moved, COMPONENTS, Fit("XANES", largest_shift=size)) for size in (0.0, 3.0))
    assert free.r_factor < 0.05 * fixed.r_factor
    assert free.shifts["ferrous"] == pytest.approx(1.5, abs=0.3)
    assert all(abs(shift) <= 3.0 for shift in free.shifts.values())


def test_what_cannot_be_fitted() -> None:
    target, (ferrous, ferric, _) = COMPONENTS["ferrous"], COMPONENTS.values()
    between = mixture({ferrous: 0.5, ferric: 0.5})
    few = (ENERGY < 7050.0) | (ENERGY > 7160.0) | (np.arange(len(ENERGY)) % 40 == 0)
    sparse = replace(ferrous, energy=ENERGY[few], mu=ferrous.mu[few])
    for goal, components, words in [
        (target, {"one": ferrous, "same": ferrous}, "one and same cannot be told apart"),
        (target, {"one": ferrous, "two": ferric, "both": between}, "one and two and both cannot be told apart"),
        (sparse, {"one": ferrous, "two": ferric}, "share 4 points in the range; at least 10"),
        (target, {"one": replace(ferrous, absorber="Cu")}, "one: it is of Cu K"),
        (target, {"one": exafs(2.0)}, "one: it was computed as EXAFS"),
        (target, {"short": replace(ferrous, normalisation="raw", energy=ENERGY[190:], mu=ferrous.mu[190:])}, "short: the scan covers"),
        (target, {}, "0 components were given; a fit takes 1 to 12"),
        (target, {"nothing": replace(ferric, mu=0.0 * ferric.mu)}, "nothing is zero over the range"),
    ]:
        with pytest.raises(SpectrumError, match=words):
            combine(goal, components, Fit("XANES"))
    for wrong, words in [
        ({"kind": "XES"}, "use XANES or EXAFS"),
        ({"align": "eye"}, "use one of auto, energy, e0"),
        ({"low": 30.0, "high": 10.0}, "the range 30 to 10 is none"),
        ({"largest_shift": 20.0}, "0 to 10"),
    ]:
        with pytest.raises(SpectrumError, match=words):
            Fit(**{"kind": "XANES", **wrong})  # type: ignore[arg-type]

"""A claimed edge against the energies."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.edge_check import left_out, likely_edge, no_edge
from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.merging import merge
from aiida_xastruct.engine.quality import quality
from aiida_xastruct.engine.readers import read_measurement
from aiida_xastruct.engine.scans import Scan, ScanParameters
from aiida_xastruct.engine.spectrum import FloatArray, Spectrum, find_e0, tabulated_edge

GOETHITE = Path(__file__).parents[2] / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"


def steps(energy: FloatArray, *edges: tuple[float, float]) -> FloatArray:
    """Steps of given height at given energies on a falling background, with a little noise."""
    mu = 2.0 - 2e-4 * (energy - energy[0]) + 1e-4 * np.random.default_rng(0).normal(size=len(energy))
    for at, height in edges:
        mu = mu + height * (0.5 + np.arctan((energy - at) / 1.5) / np.pi)
    return mu


def scan(absorber: str, edge: str, shift: float = 0.0, claim: tuple[str, str] | None = None) -> Scan:
    """A scan of an edge whose energies are off by a shift, and what its header claims."""
    e0 = tabulated_edge(absorber, edge) + shift
    energy = np.arange(e0 - 150.0, e0 + 300.0, 0.7)
    return Scan("scan.xdi", energy, steps(energy, (e0, 1.0)), *(claim or (absorber, edge)), "mu")


@pytest.mark.parametrize(
    ("absorber", "edge"),
    [("S", "K"), ("Ca", "K"), ("Fe", "K"), ("Zr", "K"), ("Sn", "K"), ("W", "L3"), ("Au", "L3"), ("Pb", "L3"), ("U", "L3")],
)
def test_the_energies_name_the_edge(absorber: str, edge: str) -> None:
    found = scan(absorber, edge, shift=3.0)
    likely = likely_edge(found.energy, found.mu)
    assert likely is not None
    assert (likely.absorber, likely.edge) == (absorber, edge)
    assert likely.energy == pytest.approx(tabulated_edge(absorber, edge) + 3.0, abs=2.0)


def test_neither_a_spike_nor_noise_is_an_edge() -> None:
    energy = np.arange(7000.0, 7400.0, 1.0)
    noise = 1e-3 * np.random.default_rng(1).normal(size=len(energy))
    assert likely_edge(energy, noise) is None
    spike = noise.copy()
    spike[200] += 1.0
    assert likely_edge(energy, spike) is None
    assert likely_edge(energy[:10], noise[:10]) is None


def test_a_glitch_does_not_hide_the_edge() -> None:
    found = scan("Fe", "K")
    found.mu[30] += 3.0
    likely = likely_edge(found.energy, found.mu)
    assert likely is not None
    assert (likely.absorber, likely.edge) == ("Fe", "K")


@pytest.mark.parametrize("shift", [-35.0, 20.0, 35.0])
def test_nominal_energies_pass(shift: float) -> None:
    assert merge([scan("Sr", "K", shift)]).absorber == "Sr"


@pytest.mark.parametrize(
    ("made", "claim", "words"),
    [
        (
            ("W", "L3"),
            ("W", "K"),
            r"scan.xdi is likely of the W L3 edge \(it rises at 1020\d eV, the table has 10207 eV\), not of the W K edge",
        ),
        (("Zr", "K"), ("Zn", "K"), r"likely of the Zr K edge .* not of the Zn K edge: only 0 points lie within 60 eV"),
        (("Fe", "K"), ("Mn", "K"), r"likely of the Fe K edge .* not of the Mn K edge"),
    ],
)
def test_a_wrong_claim_is_refused_with_the_likely_edge(made: tuple[str, str], claim: tuple[str, str], words: str) -> None:
    with pytest.raises(SpectrumError, match=words):
        merge([scan(*made, claim=claim)])


def test_a_range_with_another_edge_only_is_refused() -> None:
    energy = np.arange(6900.0, 7900.0, 1.0)
    mu = steps(energy, (7112.0, 1.0))
    with pytest.raises(SpectrumError, match=r"likely of the Fe K edge .* not of the Co K edge: mu does not rise at"):
        merge([Scan("s", energy, mu, "Co", "K", "mu")])
    both = steps(energy, (7112.0, 1.0), (7709.0, 0.4))
    for absorber in ("Fe", "Co"):
        assert merge([Scan("s", energy, both, absorber, "K", "mu")]).absorber == absorber


def test_the_lower_edges_of_an_element_are_its_own() -> None:
    energy = np.arange(10000.0, 12400.0, 1.0)
    mu = steps(energy, (10207.0, 1.0), (11544.0, 0.45), (12100.0, 0.2))
    for edge in ("L3", "L2", "L1"):
        assert merge([Scan("s", energy, mu, "W", edge, "mu")], ScanParameters(kind="XANES")).edge == edge


def test_large_scans_are_checked_fast() -> None:
    energy = np.linspace(6900.0, 8100.0, 200_000)
    assert likely_edge(energy, steps(energy, (7112.0, 1.0))) is not None


@pytest.fixture(scope="module")
def goethite() -> Spectrum:
    """A measured Fe K edge."""
    return read_measurement([(GOETHITE.name, GOETHITE.read_bytes())], ScanParameters(absorber="Fe"))


def test_a_measured_edge_is_one(goethite: Spectrum) -> None:
    assert no_edge(goethite) == ""
    assert no_edge(replace(goethite, mu=np.gradient(goethite.mu, goethite.energy), method="feff")) == "", "what is computed is not doubted"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda energy, mu: np.gradient(mu, energy), "has no step"),
        (lambda energy, mu: np.cumsum(mu - mu.min()), "only rises, or only falls"),
        (lambda energy, mu: np.minimum(mu, np.quantile(mu, 0.4)), "same few values"),
        (lambda energy, mu: 0.001 * (energy - energy[0]) + 1e-4 * mu, "only rises, or only falls"),
        (
            lambda energy, mu: np.exp(-np.maximum(energy - 7127.0, 0.0) / 15.0) * (energy > 7127.0) + 1e-3 * np.sin(energy),
            "does not stay near its level",
        ),
        (lambda energy, mu: mu + 0.3 * np.ptp(mu) * np.sin(np.arange(len(mu)) * 2.0), "has no step"),
    ],
)
def test_what_is_no_edge_is_told(goethite: Spectrum, damage: Callable[[FloatArray, FloatArray], FloatArray], words: str) -> None:
    damaged = replace(goethite, mu=damage(goethite.energy, goethite.mu), e0=find_e0(goethite))
    assert re.search(words, no_edge(damaged)), no_edge(damaged)


@pytest.mark.parametrize("shift", [-25.0, 0.0, 20.0])
def test_an_edge_that_was_cut_out_is_missed(goethite: Spectrum, shift: float) -> None:
    e0 = find_e0(goethite)
    kept = np.abs(goethite.energy - e0) > 15.0
    rest = replace(goethite, energy=goethite.energy[kept], mu=goethite.mu[kept], e0=e0 + shift)
    assert re.search("eV are left out near", no_edge(rest)), no_edge(rest)


def test_a_coarse_pre_edge_is_no_gap(goethite: Spectrum) -> None:
    """Steps of 18 eV up to 20 eV below the edge, as a quick scan takes them."""
    below = goethite.energy - find_e0(goethite)
    kept = (below > -20.0) | (np.floor(below / 18.0) != np.floor(np.roll(below, 1) / 18.0))
    coarse = replace(goethite, energy=goethite.energy[kept], mu=goethite.mu[kept])
    assert np.diff(coarse.energy).max() > 15.0
    assert no_edge(coarse) == ""


@pytest.mark.parametrize(("low", "high"), [(150.0, 250.0), (200.0, 400.0)])
def test_a_part_of_exafs_that_was_not_measured_is_told(goethite: Spectrum, low: float, high: float) -> None:
    assert left_out(goethite) == ""
    above = goethite.energy - find_e0(goethite)
    kept = (above < low) | (above > high)
    cut = replace(goethite, energy=goethite.energy[kept], mu=goethite.mu[kept])
    assert left_out(cut).endswith("are left out, where EXAFS goes on")
    assert left_out(cut) in quality(cut).remarks[-1]
    assert left_out(replace(cut, kind="XANES")) == ""

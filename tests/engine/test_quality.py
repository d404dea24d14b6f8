"""Quality of a measured spectrum: what is put in comes out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.quality import Quality, quality, residual, with_quality
from aiida_xastruct.engine.readers import read_measurement
from aiida_xastruct.engine.scans import ScanParameters
from aiida_xastruct.engine.spectrum import Spectrum, energy_to_k

GOETHITE = Path(__file__).parents[2] / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"


def measured(noise: float = 0.0, shift: float = 0.0, step: float = 1.0, glitches: tuple[int, ...] = (), end: float = 800.0) -> Spectrum:
    """An iron edge with an EXAFS wave, of a given step, and what is wrong with it; glitches are points of the scan."""
    energy = np.arange(7112.0 - 150.0, 7112.0 + end, 1.0)
    k = energy_to_k(np.maximum(energy - 7112.0, 0.0))
    mu = 0.5 + np.arctan((energy - 7112.0) / 1.5) / np.pi + 0.1 * np.sin(4.4 * k) * np.exp(-0.02 * k**2) * (k > 2)
    mu = step * (mu + noise * np.random.default_rng(0).normal(size=len(energy)))
    mu[list(glitches)] += 0.2 * step
    return Spectrum(energy + shift, mu + 1.0, "Fe", "K", "EXAFS", settings={"formula": "ln(i0/i1)"})


@pytest.mark.parametrize("noise", [1e-3, 3e-3])
def test_noise_and_step_are_what_they_were_made_with(noise: float) -> None:
    found = quality(measured(noise, step=0.6))
    assert found.noise == pytest.approx(noise, rel=0.2)
    assert found.edge_step == pytest.approx(0.6, rel=0.06)
    assert found.e0_minus_table == pytest.approx(0.0, abs=1.5)
    assert found.k_max == pytest.approx(energy_to_k(np.array([found.reach]))[0])
    assert found.remarks == ()
    assert found.rows()["verdict"] == "good"


def test_more_noise_leaves_less_of_chi() -> None:
    quiet, loud = (quality(measured(noise)).k_useful for noise in (1e-4, 5e-3))
    assert quiet is not None
    assert loud is not None
    assert loud < quiet - 1.0


def test_glitches_are_found_where_they_are() -> None:
    spectrum = measured(1e-3, glitches=(40, 400, 700))
    found = quality(spectrum)
    assert found.glitches == tuple(float(spectrum.energy[i]) for i in (40, 400, 700))
    assert "glitches (3), the first at 7002.0 eV" in found.rows()["verdict"]


@pytest.mark.parametrize(
    ("spectrum", "words"),
    [
        (measured(shift=33.0), r"\+3\d eV from the table, so the energies are nominal"),
        (measured(0.03), "The noise is 3.* % of the edge step"),
        (measured(1e-4, step=0.05), "thin or dilute"),
        (measured(1e-4, step=4.0), "thick"),
        (measured(end=40.0), "cannot be normalised"),
        (replace(measured(), settings={"orders": ["reversed"]}), "was sorted"),
    ],
)
def test_what_is_wrong_is_said(spectrum: Spectrum, words: str) -> None:
    remarks = quality(spectrum).remarks
    assert len(remarks) == 1
    import re

    assert re.search(words, remarks[0])


def test_a_spectrum_that_cannot_be_normalised_has_no_step() -> None:
    found = quality(measured(end=40.0))
    assert (found.edge_step, found.noise, found.k_useful) == (None, None, None)
    assert found.rows()["edge step"] == "unknown"


def test_the_residual_has_the_spread_of_the_noise() -> None:
    generator = np.random.default_rng(3)
    energy = np.cumsum(generator.uniform(0.2, 3.0, 4000))
    assert residual(energy, generator.normal(size=4000)).std() == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(residual(energy, 1.0 + energy - 1e-4 * energy**2), 0.0, atol=1e-6)
    assert (residual(energy[:4], energy[:4]) == 0.0).all()


def test_goethite_is_good() -> None:
    spectrum = with_quality(read_measurement([(GOETHITE.name, GOETHITE.read_bytes())], ScanParameters(absorber="Fe")))
    stored = json.loads(json.dumps(spectrum.settings["quality"]))
    found = Quality.from_dict(stored)
    assert found == quality(spectrum)
    assert found.edge_step == pytest.approx(0.80, abs=0.03)
    assert found.k_max > 15.0


def test_only_what_is_measured_has_a_quality(ml_spectrum: Spectrum) -> None:
    assert with_quality(ml_spectrum) is ml_spectrum

"""Processing of measured spectra: what is asked for is done, what is not stays as models see it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.processing import ProcessingParameters, process
from aiida_xastruct.engine.scans import ScanParameters
from aiida_xastruct.engine.spectrum import Spectrum, chi_k, flatten
from aiida_xastruct.engine.spectrum_file import read_spectrum

GOETHITE = Path(__file__).parents[2] / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"


@pytest.fixture(scope="module")
def goethite() -> Spectrum:
    """One scan of goethite, Fe K."""
    return read_spectrum(GOETHITE.read_bytes(), GOETHITE.name, ScanParameters(absorber="Fe"))


def test_without_parameters_it_is_what_models_see(goethite: Spectrum) -> None:
    done = process(goethite)
    np.testing.assert_array_equal(done.spectrum.mu, flatten(goethite).mu)
    np.testing.assert_array_equal(done.chi, chi_k(goethite)[1])
    assert done.spectrum.e0 == done.record["e0"] == flatten(goethite).e0
    assert done.spectrum.settings["processing"]["parameters"] == ProcessingParameters().to_dict()
    # The first shell of iron in goethite is oxygen at 1.95 to 2.1 angstrom; a transform without phase shows it 0.5 nearer.
    assert done.r[np.argmax(np.abs(done.chi_r))] == pytest.approx(1.5, abs=0.15)
    assert done.record["k_range"] == [2.0, pytest.approx(done.k[-1] - 1.0)]


def test_parameters_survive_a_round_trip() -> None:
    parameters = ProcessingParameters(glitches=(7300.0,), pre_edge=(-150.0, -30.0), k_range=(3.0, 11.0), window="kaiser")
    assert ProcessingParameters.from_dict(parameters.to_dict()) == parameters


def test_a_reference_calibrates(goethite: Spectrum) -> None:
    moved = replace(goethite, energy=goethite.energy + 4.0)
    known = flatten(goethite).e0
    done = process(moved, ProcessingParameters(reference_energy=known), reference=moved)
    assert done.record["energy_shift"] == pytest.approx(-4.0, abs=1e-9)
    assert done.spectrum.energy_reference == "calibrated"
    assert done.spectrum.e0 == pytest.approx(known)
    np.testing.assert_allclose(done.spectrum.energy, goethite.energy)
    # Without another energy, the edge of the reference goes where the table has it.
    table = process(moved, reference=moved)
    assert table.spectrum.e0 == pytest.approx(7112.0)
    assert process(goethite, ProcessingParameters(energy_shift=1.5)).spectrum.energy_reference == "nominal"


def test_glitches_are_taken_out_and_named(goethite: Spectrum) -> None:
    # The scan is so dense that one point hardly counts; with every sixth it does.
    goethite = replace(goethite, energy=goethite.energy[::6], mu=goethite.mu[::6])
    mu = goethite.mu.copy()
    index = int(np.searchsorted(goethite.energy, 7400.0))
    mu[index] += 0.3 * np.ptp(mu)
    spoilt = replace(goethite, mu=mu)
    inner = slice(60, 250)
    assert np.abs(process(spoilt).chi - process(goethite).chi)[inner].max() > 0.02
    for parameters in (ProcessingParameters(deglitch=True), ProcessingParameters(glitches=(float(spoilt.energy[index]),))):
        done = process(spoilt, parameters)
        assert round(float(spoilt.energy[index]), 3) in done.record["points_removed"]
        np.testing.assert_allclose(done.chi[inner], process(goethite, parameters).chi[inner], atol=0.004)
        assert len(done.spectrum) == len(spoilt) - len(done.record["points_removed"])


def test_ranges_change_the_step_as_a_line_fit_says(goethite: Spectrum) -> None:
    done = process(goethite, ProcessingParameters(pre_edge=(-140.0, -40.0), post_edge=(150.0, 700.0), post_degree=1))
    e0 = done.record["e0"]
    relative = goethite.energy - e0

    def line(low: float, high: float) -> float:
        inside = (relative >= low) & (relative <= high)
        return float(np.polyval(np.polyfit(relative[inside], goethite.mu[inside], 1), 0.0))

    # larch takes the nearest points to the ends of a range, so one point more or less.
    assert done.record["edge_step"] == pytest.approx(line(150.0, 700.0) - line(-140.0, -40.0), rel=2e-3)
    assert done.record["edge_step"] != pytest.approx(process(goethite).record["edge_step"], rel=1e-3)


def test_over_absorption_raises_the_white_line(goethite: Spectrum) -> None:
    fluorescence = replace(goethite, settings={**goethite.settings, "formula": "if/i0"})
    plain = process(fluorescence)
    assert "over-absorption" in plain.record["remarks"][0]
    thick = process(fluorescence, ProcessingParameters(composition="FeO2H"))
    dilute = process(fluorescence, ProcessingParameters(composition="FeC2000"))
    assert thick.record["over_absorption"]["white_line_raised_by"] > 1.1
    assert dilute.record["over_absorption"]["white_line_raised_by"] == pytest.approx(1.0, abs=0.03)
    assert np.abs(thick.chi).max() > 1.1 * np.abs(plain.chi).max()
    assert not any("over-absorption" in remark for remark in thick.record["remarks"])


def test_a_short_scan_has_no_fine_structure(goethite: Spectrum) -> None:
    short = goethite.energy < 7112.0 + 80.0
    done = process(replace(goethite, energy=goethite.energy[short], mu=goethite.mu[short], kind="XANES"))
    assert not len(done.k)
    assert not len(done.r)
    assert "too early for chi(k)" in done.record["remarks"][0]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"pre_egde": [-100, -20]}, "did you mean 'pre_edge'"),
        ({"pre_edge": [-20, -100]}, "pre_edge is .* two increasing numbers"),
        ({"pre_edge": [-1000, -50]}, "the data of this edge reach from"),
        ({"post_edge": [100, 4000]}, "the data of this edge reach from"),
        ({"post_edge": [100, 100.1]}, "fewer than 4 points"),
        ({"k_range": [2, 40]}, "k_range ends at 40"),
        ({"e0": 9000}, "lies outside the data"),
        ({"e0": float("nan")}, "e0 is nan"),
        ({"window": "boxcar"}, "use one of hanning"),
        ({"glitches": [9000]}, "no point lies within 1 eV"),
        ({"composition": "FeO2H"}, "matter of fluorescence"),
        ({"reference_energy": 7112}, "no reference was given"),
        ({"post_degree": 9}, "post_degree is 9"),
    ],
)
def test_what_cannot_be_done_says_why(goethite: Spectrum, parameters: dict[str, object], words: str) -> None:
    with pytest.raises(SpectrumError, match=words):
        process(goethite, ProcessingParameters.from_dict(parameters))


def test_the_composition_is_checked(goethite: Spectrum) -> None:
    fluorescence = replace(goethite, settings={**goethite.settings, "formula": "if/i0"})
    with pytest.raises(SpectrumError, match="no chemical formula"):
        process(fluorescence, ProcessingParameters(composition="rust!"))
    with pytest.raises(SpectrumError, match="does not hold the absorber Fe"):
        process(fluorescence, ProcessingParameters(composition="ZnO"))


def test_only_raw_measurements(goethite: Spectrum) -> None:
    with pytest.raises(SpectrumError, match="only raw measurements"):
        process(flatten(goethite))
    with pytest.raises(SpectrumError, match="miscalibration"):
        process(goethite, ProcessingParameters(reference_energy=7000.0), reference=goethite)

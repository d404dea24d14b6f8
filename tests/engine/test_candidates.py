"""Candidates beside a measurement: aligned within bounds, ranked, and not told apart where the models cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.candidates import Candidate, Settings, describe, rank
from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.spectrum import EXAFS_GRID, XANES_GRID, Spectrum, k_to_energy

SCAN = Path(__file__).parents[2] / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"

#: Minerals of iron in the AMCSD, by name.
MINERALS = {
    "goethite": "10471",
    "lepidocrocite": "11833",
    "hematite": "143",
    "magnetite": "2088",
    "siderite": "101",
    "pyrite": "6",
    "troilite": "4158",
    "fayalite": "480",
    "iron": "670",
}


def xanes(white_line: float, width: float = 1.5, e0: float = 7140.0, method: str = "ml") -> Spectrum:
    mu = 0.5 + np.arctan(XANES_GRID / width) / np.pi + white_line * np.exp(-(((XANES_GRID - 6.0) / 4.0) ** 2))
    return Spectrum(e0 + XANES_GRID, mu, "Fe", "K", "XANES", method, "feff", "flat", None, e0)


def exafs(length: float, method: str = "ml") -> Spectrum:
    mu = 1.0 + np.sin(2 * EXAFS_GRID * length) * 6 * np.exp(-0.02 * EXAFS_GRID) / (EXAFS_GRID * length**2)
    return Spectrum(7140.0 + k_to_energy(EXAFS_GRID), mu, "Fe", "K", "EXAFS", method, "feff", "flat", None, 7140.0)


def test_the_shift_is_found_bounded_and_reported() -> None:
    target = xanes(0.6, e0=7112.0)
    moved = replace(xanes(0.6), e0=7143.0)  # its E0 is 3 eV off
    (found,) = rank(target, {"one": Candidate(moved)}, Settings("XANES", broadest=0.0)).candidates
    assert found.shift == pytest.approx(7112.0 - 7140.0, abs=0.05)
    assert found.from_e0 == pytest.approx(3.0, abs=0.05)
    assert not found.at_limit
    assert found.r2 > 0.999
    (bounded,) = rank(target, {"one": Candidate(moved)}, Settings("XANES", largest_shift=1.0, broadest=0.0)).candidates
    assert bounded.from_e0 == pytest.approx(1.0)
    assert bounded.at_limit
    assert bounded.distance > 10 * found.distance
    (fixed,) = rank(target, {"one": Candidate(moved)}, Settings("XANES", largest_shift=0.0, broadest=0.0)).candidates
    assert (fixed.from_e0, fixed.at_limit) == (0.0, False)


def test_a_blurred_target_is_met_by_broadening() -> None:
    from scipy.ndimage import gaussian_filter1d

    sharp = xanes(0.6, width=0.3)
    target = replace(sharp, mu=gaussian_filter1d(sharp.mu, 1.5 / 0.5, mode="nearest"))
    candidates = {"sharp": Candidate(sharp)}
    (free,) = rank(target, candidates, Settings("XANES", broadest=3.0)).candidates
    (none,) = rank(target, candidates, Settings("XANES", broadest=0.0)).candidates
    assert free.width == pytest.approx(1.5)
    assert free.distance < 1e-6 < 0.01 < none.distance


def test_differences_inside_both_uncertainties_are_a_tie() -> None:
    target = exafs(2.0)
    near, far, farthest = exafs(2.01), exafs(2.03), exafs(2.3)

    def ranks(**bounds: float) -> dict[str, int]:
        given = {"near": near, "far": far, "farthest": farthest}
        candidates = {name: Candidate(spectrum, error_bound=bounds.get(name, 0.0)) for name, spectrum in given.items()}
        return {one.name: one.rank for one in rank(target, candidates, Settings("EXAFS")).candidates}

    assert ranks() == {"near": 1, "far": 2, "farthest": 3}
    assert ranks(near=3.0, far=3.0) == {"near": 1, "far": 1, "farthest": 3}
    # A wide uncertainty makes a candidate no better than one that is closer and needs none.
    assert ranks(far=3.0) == {"near": 1, "far": 2, "farthest": 3}


def test_the_band_stands_in_for_an_error_bound() -> None:
    spectrum = exafs(2.05)
    band = np.column_stack([spectrum.mu - 0.02, spectrum.mu + 0.02])
    (found,) = rank(exafs(2.0), {"one": Candidate(spectrum, band)}, Settings("EXAFS")).candidates
    k = EXAFS_GRID[(EXAFS_GRID >= 3.0) & (EXAFS_GRID <= 12.0)]
    assert found.error_bound == pytest.approx(np.sqrt(np.mean((0.02 * k**2) ** 2)), rel=1e-3)
    assert found.low == max(0.0, found.distance - found.error_bound)
    assert found.inside == (found.distance <= found.error_bound)
    target = xanes(0.6)
    flat = Candidate(target, np.column_stack([target.mu - 0.1, target.mu + 0.05]))
    (found,) = rank(target, {"one": flat}, Settings("XANES")).candidates
    assert found.error_bound == pytest.approx(0.1)


def test_what_cannot_be_compared_is_said_so() -> None:
    target = xanes(0.6)
    given = {"good": Candidate(target), "copper": Candidate(replace(target, absorber="Cu")), "exafs": Candidate(exafs(2.0))}
    found = rank(target, given, Settings("XANES"))
    assert [one.name for one in found.candidates] == ["good"]
    assert "Cu K and the target of Fe K" in found.refused["copper"]
    assert "computed as EXAFS" in found.refused["exafs"]
    assert describe(found, Settings("XANES"))["refused"] == found.refused
    with pytest.raises(SpectrumError, match="no candidate can be compared with the target; copper: it is of Cu K"):
        rank(target, {"copper": given["copper"]}, Settings("XANES"))
    with pytest.raises(SpectrumError, match="the target is of no use: it was computed as XANES"):
        rank(target, {"good": Candidate(exafs(2.0))}, Settings("EXAFS"))
    with pytest.raises(SpectrumError, match="there is none"):
        rank(target, {}, Settings("XANES"))
    for wrong, words in [({"kind": "XES"}, "use XANES or EXAFS"), ({"largest_shift": 11.0}, "0 to 10"), ({"broadest": "wide"}, "0 to 5")]:
        with pytest.raises(SpectrumError, match=words):
            Settings(**{"kind": "XANES", **wrong})  # type: ignore[arg-type]


@pytest.mark.slow
def test_measured_goethite_is_told_from_other_minerals_of_iron() -> None:
    from aiida_xastruct.engine.averaging import average
    from aiida_xastruct.engine.bundle import FamilyBundle
    from aiida_xastruct.engine.reference.sources import AmcsdSource
    from aiida_xastruct.engine.scans import ScanParameters
    from aiida_xastruct.engine.spectrum_file import read_spectrum
    from aiida_xastruct.engine.structure import inequivalent_absorbers

    family, source = FamilyBundle.load("default"), AmcsdSource()
    candidates = {}
    for name, code in MINERALS.items():
        crystal, _ = source.structure(code)
        sites = inequivalent_absorbers(crystal, "Fe")
        answers = family.predict(crystal, [site.site for site in sites], "EXAFS")
        weights = [site.multiplicity for site in sites]
        mean, band = average([answer.spectrum for answer in answers], weights, [answer.band for answer in answers])
        bound = float(np.average([answer.error_bound for answer in answers], weights=weights))
        candidates[name] = Candidate(mean, band, bound)
    found = rank(read_spectrum(SCAN.read_bytes(), SCAN.name, ScanParameters(absorber="Fe")), candidates, Settings("EXAFS")).candidates
    assert found[0].name == "goethite"
    assert found[0].inside
    assert found[0].r2 > 0.85
    assert not any(one.inside for one in found[1:])
    assert 2 * found[0].distance < found[1].distance

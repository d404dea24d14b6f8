"""The spectrum of one site from what pw.x and xspectra.x say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..adoption import AdoptionParameters, adopt_curve
from ..errors import SpectrumError
from ..spectrum import FloatArray, Spectrum, smooth_background, tabulated_edge


def fermi_level(bands: FloatArray, electrons: float, fermi: float) -> float | None:
    """The Fermi level of a metal, None where there is a gap.

    XSpectra is told it: of itself it counts from the highest level that it takes for full, as if there were a gap, and cuts off what lies
    below. In a metal that is another energy, and which one depends on its version.

    Args:
        bands: (k, bands) eigenvalues of paired spins, eV.
        electrons: in the cell.
        fermi: Fermi level of pw.x, eV.
    """
    full = round(electrons) // 2
    gap = round(electrons) % 2 == 0 and full < bands.shape[1] and bands[:, full - 1].max() < bands[:, full].min()
    return None if gap else fermi


def lowest_empty(facts: dict[str, Any]) -> float:
    """Energy in eV of the lowest empty level, on the scale of pw.x's eigenvalues: where absorption begins; the Fermi level of a metal."""
    zero = float(facts["zero_ev"])
    return max(zero, float(facts.get("lowest_empty_ev", zero)))


def threshold(total_energy: float, facts: dict[str, Any]) -> float:
    """Total energy with the core hole plus that of the lowest empty level, eV: differences of it between sites shift their edges.

    Args:
        total_energy: of the charged supercell, eV.
        facts: of `output.judge`, for one polarisation.
    """
    return total_energy + lowest_empty(facts)


def site_spectrum(
    curves: Sequence[tuple[FloatArray, FloatArray]], facts: dict[str, Any], absorber: str, shift: float, settings: dict[str, Any]
) -> Spectrum:
    """The mean over polarisations, with the lowest empty level at the tabulated edge plus a shift.

    Args:
        curves: energies (n,) from the zero in eV and cross sections (n,), one a polarisation.
        facts: of `output.judge`, for one of them.
        absorber: symbol.
        shift: eV, of this site against the one that absorbs first.
        settings: how it was made.

    Returns:
        Method xspectra, kind XANES, edge K, flat: divided by the trend of the atom's cross section and by its mean over the last 10 eV.

    Raises:
        SpectrumError: if the curves are not on one grid, or are no absorption.
    """
    energy = curves[0][0]
    if any(other.shape != energy.shape or not np.allclose(other, energy) for other, _ in curves):
        raise SpectrumError("the polarisations are on different energies; run them again with one energy range.")
    mean = np.mean([sigma for _, sigma in curves], axis=0)
    onset = lowest_empty(facts) - float(facts["zero_ev"])
    edge = tabulated_edge(absorber, "K")
    options = AdoptionParameters(absorber=absorber, edge="K", kind="XANES", method="xspectra", e0=edge)
    absolute = energy + edge - onset + shift
    spectrum = adopt_curve(absolute, mean / smooth_background(absolute, edge + shift), options)
    return replace(spectrum, settings={**spectrum.settings, **settings, "polarisations": len(curves), "shift_ev": shift})

"""The spectrum of an element in a crystal: the mean over its inequivalent sites, each counted as often as it occurs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import SpectrumError
from .spectrum import FloatArray, Spectrum, chi_k, find_e0, flatten, k_to_energy

#: eV between points of an averaged XANES, 1/angstrom between those of an averaged EXAFS.
ENERGY_STEP, K_STEP = 0.5, 0.05


def average(
    spectra: Sequence[Spectrum], weights: Sequence[float], bands: Sequence[FloatArray | None] | None = None
) -> tuple[Spectrum, FloatArray | None]:
    """Mean of the spectra of several sites on a common grid, flat.

    XANES is averaged in energy. Spectra of one method keep the shifts that they have among each other; where FEFF and a model answer
    together, their edges have different zeros, and all are aligned on the mean E0. EXAFS is averaged as chi(k) and given as 1 + chi.

    Args:
        spectra: of one absorber, edge and kind.
        weights: how many sites each stands for.
        bands: (n, 2) limits of mu of each flat spectrum, None where it has none (FEFF).

    Returns:
        The mean; its method is `ml` if any site's is, else the common one. And its band (m, 2), None if no site has one: the mean of the
        half-widths, as if all sites erred together, which is on the safe side.

    Raises:
        SpectrumError: if there is none, they are of different absorbers, edges or kinds, or their ranges do not overlap.
    """
    if not spectra:
        raise SpectrumError("there is no spectrum to average; give at least one.")
    kinds = {(item.absorber, item.edge, item.kind) for item in spectra}
    if len(kinds) > 1:
        raise SpectrumError(f"the spectra are of {len(kinds)} different absorbers, edges or kinds; average those of one.")
    share = np.asarray(weights, dtype=np.float64)
    if share.shape != (len(spectra),) or not (share > 0).all():
        raise SpectrumError(f"{len(spectra)} spectra need {len(spectra)} positive weights; give the multiplicity of each site.")
    share = share / share.sum()
    methods = sorted({item.method for item in spectra})
    edges = np.array([find_e0(item) for item in spectra])
    e0 = float(share @ edges)
    aligned = len(methods) > 1
    pairs = [_curve(item, e0, edge, aligned) for item, edge in zip(spectra, edges, strict=True)]
    low, high = max(x[0] for x, _ in pairs), min(x[-1] for x, _ in pairs)
    step = K_STEP if spectra[0].kind == "EXAFS" else ENERGY_STEP
    grid = low + step * np.arange(int((high - low) / step + 1e-6) + 1)
    if len(grid) < 10:
        raise SpectrumError("the spectra do not overlap; average spectra of one energy range.")
    mean = share @ np.array([np.interp(grid, x, y) for x, y in pairs])
    band = _band(spectra, pairs, bands, share, grid, mean)
    settings: dict[str, Any] = {
        "averaged": len(spectra),
        "weights": [float(value) for value in share],
        "methods": [item.method for item in spectra],
        "aligned_on": "k" if spectra[0].kind == "EXAFS" else "E0" if aligned else "energy",
    }
    first = spectra[0]
    result = Spectrum(
        energy=e0 + k_to_energy(grid) if first.kind == "EXAFS" else grid,
        mu=mean,
        absorber=first.absorber,
        edge=first.edge,
        kind=first.kind,
        method="ml" if "ml" in methods else first.method,
        energy_reference=first.energy_reference,
        normalisation="flat",
        e0=e0,
        settings=settings,
    )
    return result, band


def _curve(spectrum: Spectrum, e0: float, own_e0: float, aligned: bool) -> tuple[FloatArray, FloatArray]:
    """Abscissa (k or energy) and ordinate (1 + chi or flat mu) to average."""
    if spectrum.kind == "EXAFS":
        k, chi = chi_k(spectrum)
        return k, 1.0 + chi
    flat = flatten(spectrum)
    return (flat.energy + (e0 - own_e0) if aligned else flat.energy), flat.mu


def _band(
    spectra: Sequence[Spectrum],
    pairs: Sequence[tuple[FloatArray, FloatArray]],
    bands: Sequence[FloatArray | None] | None,
    share: FloatArray,
    grid: FloatArray,
    mean: FloatArray,
) -> FloatArray | None:
    """(m, 2) limits around the mean."""
    if bands is None or all(band is None for band in bands):
        return None
    lower, upper = np.zeros_like(grid), np.zeros_like(grid)
    for spectrum, (x, _), band, weight in zip(spectra, pairs, bands, share, strict=True):
        if band is None:
            continue
        # chi_k leaves points below the edge out, so the band loses them too.
        below, above = (spectrum.mu - band[:, 0])[-len(x) :], (band[:, 1] - spectrum.mu)[-len(x) :]
        lower += weight * np.interp(grid, x, below)
        upper += weight * np.interp(grid, x, above)
    return np.column_stack([mean - lower, mean + upper])

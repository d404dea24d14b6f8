"""The spectrum of an element in a crystal: the mean over its inequivalent sites, each counted as often as it occurs; and L3 + L2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .errors import SpectrumError
from .point_band import common_share
from .spectrum import CROSS_SECTION_EXPONENT, FloatArray, Spectrum, chi_k, find_e0, flatten, k_to_energy, multiplets

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
    settings |= common_share([item.settings for item, own in zip(spectra, bands or (), strict=bool(bands)) if own is not None])
    if warned := sorted({line for item in spectra for line in item.settings.get("warnings", [])}):
        settings["warnings"] = warned
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


def sum_edges(l3: Spectrum, l2: Spectrum) -> Spectrum:
    """What a scan over the L3 and the L2 edge of one site shows, from FEFF's XANES of each.

    FEFF divides the cross section of an edge i by x_i, that of its atomic background 50 eV above the edge (`edge_cross_section` in the
    settings: `xsedge` in the header of xmu.dat), so x_i mu_i is in one unit for both, and x_3 / x_2 is near 2, the ratio of the electrons.
    With e_i the two E0 and t = -2.6 the trend of `spectrum.smooth_background`,

        mu(E) = (x_3 mu_3(E) + x_2 mu_2(E)) / N,    N = x_3 + x_2 ((e_3 + 50) / (e_2 + 50))^t,

    and mu0 alike: the trend of the whole is one at e_3 + 50, so that `flatten` gives what oscillates about x_3 / N (`share` of L3) between
    the edges and about one beyond both, as a measured scan does that is normalised beyond L2. Energies stay FEFF's own, absolute. Below its
    first point L2 goes on as the tail of its Lorentzian, mu_2 (e_2 - E_first) / (e_2 - E); the sum ends where either ends.

    Args:
        l3: method feff, kind XANES, normalisation feff_xsedge50, with `edge_cross_section` and `edge_energy_ev` in the settings.
        l2: alike.

    Returns:
        Edge `L2,3`, E0 that of L3, on the points of both. Its settings are those of L3, with `summed` in them: for each edge
        `edge_energy_ev`, `edge_cross_section`, `e0_ev` and `share` of the step.

    Raises:
        SpectrumError: if the two are not such spectra of one absorber, or L3 ends before the L2 edge.
    """
    for spectrum, edge in ((l3, "L3"), (l2, "L2")):
        if (spectrum.edge, spectrum.kind, spectrum.method, spectrum.normalisation) != (edge, "XANES", "feff", "feff_xsedge50"):
            raise SpectrumError(f"a sum over edges is made of FEFF's own XANES of L3 and of L2; the one given for {edge} is not that.")
        if spectrum.mu0 is None or not {"edge_cross_section", "edge_energy_ev"} <= set(spectrum.settings):
            raise SpectrumError(f"the {edge} spectrum lacks mu0 or FEFF's edge and cross section; compute it again with this version.")
    if l3.absorber != l2.absorber:
        raise SpectrumError(f"the spectra are of {l3.absorber} and {l2.absorber}; sum the edges of one absorber.")
    e3, e2 = find_e0(l3), find_e0(l2)
    start, end = l3.energy[0], min(l3.energy[-1], l2.energy[-1])
    if end < e2 + 10.0 or e2 <= e3:
        raise SpectrumError(f"the L3 spectrum ends at {end:.0f} eV and the L2 edge is at {e2:.0f}; compute L3 further (energy_range).")
    points = np.union1d(l3.energy, l2.energy)
    points = points[(points >= start) & (points <= end)]
    energy = points[np.concatenate([[True], np.diff(points) > 1e-3])]
    x3, x2 = (float(spectrum.settings["edge_cross_section"]) for spectrum in (l3, l2))
    total = x3 + x2 * ((e3 + 50.0) / (e2 + 50.0)) ** CROSS_SECTION_EXPONENT
    share = {"L3": x3 / total, "L2": 1.0 - x3 / total}
    tail = np.ones_like(energy)
    below = energy < l2.energy[0]
    tail[below] = (e2 - l2.energy[0]) / (e2 - energy[below])

    def combined(third: FloatArray, second: FloatArray) -> FloatArray:
        on_l3, on_l2 = np.interp(energy, l3.energy, third), np.interp(energy, l2.energy, second) * tail
        return np.asarray((x3 * on_l3 + x2 * on_l2) / total, dtype=np.float64)

    assert l3.mu0 is not None  # checked above
    assert l2.mu0 is not None
    settings = {name: value for name, value in l3.settings.items() if name not in ("edge_energy_ev", "edge_cross_section", "warnings")}
    settings["edge"] = "L2,3"
    settings["summed"] = {
        name: {
            "edge_energy_ev": float(spectrum.settings["edge_energy_ev"]),
            "edge_cross_section": x,
            "e0_ev": e0,
            "share": share[name],
        }
        for name, spectrum, x, e0 in (("L3", l3, x3, e3), ("L2", l2, x2, e2))
    }
    if words := multiplets(l3.absorber, "L2,3"):
        settings["warnings"] = [words]
    return replace(l3, energy=energy, mu=combined(l3.mu, l2.mu), mu0=combined(l3.mu0, l2.mu0), edge="L2,3", e0=e3, settings=settings)

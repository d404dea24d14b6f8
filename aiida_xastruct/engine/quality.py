"""How good a measured spectrum is: its edge, its step, its noise, how far it reaches, and which single points are wrong."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .edge_check import left_out
from .errors import SpectrumError
from .merging import disagreements
from .spectrum import FloatArray, Spectrum, chi_k, energy_to_k, find_e0, flatten, own_end, tabulated_edge

#: eV above E0 from where on mu is smooth enough for neighbouring points to tell noise from structure.
AFTER_EDGE = 40.0

#: A point this many times the usual distance from what its neighbours say is a glitch, if that is also this share of the edge step.
GLITCH, LEAST_GLITCH = 8.0, 0.005

#: From what on a quality is worth a word: eV between E0 and the table (a high oxidation state moves it by up to 16), edge step of a
#: transmission, noise in edge steps.
FAR_FROM_TABLE, THIN, NOISY = 18.0, 0.1, 0.01

#: Above this edge step a transmission is bent by what leaks through or around the sample.
THICK = 3.0


@dataclass(frozen=True)
class Quality:
    """What is known of a measured spectrum.

    Attributes:
        e0: edge energy, eV.
        e0_minus_table: E0 minus the tabulated edge, eV.
        edge_step: of mu as it came, in its unit; None where the scan is too short to be normalised.
        noise: standard deviation of a point of mu, in edge steps; None where too few points lie beside the edge.
        reach: how far the scan reaches above E0, eV, at most to the element's next edge.
        k_max: the same as a wavenumber, 1/angstrom.
        k_useful: up to where chi(k) stands above its noise, 1/angstrom, by larch; None for XANES.
        glitches: energies of points that their neighbours contradict, eV.
        remarks: what a reader should know, a sentence each; empty for a good scan.
    """

    e0: float
    e0_minus_table: float
    edge_step: float | None
    noise: float | None
    reach: float
    k_max: float
    k_useful: float | None
    glitches: tuple[float, ...]
    remarks: tuple[str, ...]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Quality:
        """A quality as `with_quality` stored it."""
        return cls(**{**values, "glitches": tuple(values["glitches"]), "remarks": tuple(values["remarks"])})

    def rows(self) -> dict[str, str]:
        """Names and values as a person reads them."""
        k_useful = "" if self.k_useful is None else f", chi above its noise to {self.k_useful:.1f}"
        glitches = ", ".join(f"{energy:.1f}" for energy in self.glitches[:5]) + (" ..." if len(self.glitches) > 5 else "")
        return {
            "E0": f"{self.e0:.1f} eV, {self.e0_minus_table:+.1f} from the table",
            "edge step": "unknown" if self.edge_step is None else f"{self.edge_step:.3g}",
            "noise": "unknown" if self.noise is None else f"{100 * self.noise:.2g} % of the edge step a point",
            "reach": f"{self.reach:.0f} eV above E0, k of {self.k_max:.1f} 1/angstrom{k_useful}",
            "glitches": f"{len(self.glitches)} (eV: {glitches})" if self.glitches else "none",
            "verdict": " ".join(self.remarks) or "good",
        }


def quality(spectrum: Spectrum) -> Quality:
    """The quality of a measured spectrum.

    Raises:
        SpectrumError: if it does not cover its edge.
    """
    e0 = find_e0(spectrum)
    end = own_end(spectrum)
    offset = e0 - tabulated_edge(spectrum.absorber, spectrum.edge)
    step, remarks = _step(spectrum, e0)
    noise, glitches = _noise(spectrum, e0, end, step)
    if abs(offset) > FAR_FROM_TABLE:
        remarks.append(f"E0 lies {offset:+.0f} eV from the table, so the energies are nominal: calibrate them against a foil.")
    orders = spectrum.settings.get("orders", ())
    if "repeated" in orders:
        remarks.append("The file holds several scans one after the other, which were averaged: give each its own file, and glitches show.")
    elif any(order != "increasing" for order in orders):
        remarks.append("The energies of the file do not increase: it was sorted.")
    remarks += disagreements(spectrum)
    if gap := left_out(spectrum):
        remarks.append(f"{gap}: cut the scan before, or measure that part again.")
    if noise is not None and noise > NOISY:
        remarks.append(f"The noise is {100 * noise:.1f} % of the edge step: merge more scans.")
    if len(glitches):
        remarks.append(f"There are glitches ({len(glitches)}), the first at {glitches[0]:.1f} eV: take them out.")
    return Quality(
        e0=e0,
        e0_minus_table=offset,
        edge_step=step,
        noise=noise,
        reach=end - e0,
        k_max=float(energy_to_k(np.array([end - e0]))[0]),
        k_useful=_k_useful(spectrum) if spectrum.kind == "EXAFS" and step is not None else None,
        glitches=tuple(round(float(value), 3) for value in glitches),
        remarks=tuple(remarks),
    )


def with_quality(spectrum: Spectrum) -> Spectrum:
    """A measured spectrum with its quality in `settings["quality"]`; a computed one, or chi(k) alone, as it is."""
    if spectrum.method != "measured" or spectrum.mu0 is not None:
        return spectrum
    found = asdict(quality(spectrum))
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
    return replace(spectrum, settings={**spectrum.settings, "quality": plain})


def _step(spectrum: Spectrum, e0: float) -> tuple[float | None, list[str]]:
    """Edge step, and what there is to say of it."""
    if spectrum.normalisation != "raw":
        return 1.0, []
    try:
        step = float(flatten(replace(spectrum, e0=e0)).settings["edge_step"])
    except SpectrumError as error:
        return None, [f"It cannot be normalised: {error}"]
    if not str(spectrum.settings.get("formula", "")).startswith("ln("):
        return step, []
    if step < THIN:
        return step, [f"The edge step is {step:.3f}: the sample is thin or dilute, and background weighs more."]
    if step > THICK:
        return step, [f"The edge step is {step:.1f}: the sample is thick, and what leaks past it flattens the peaks."]
    return step, []


def residual(energy: FloatArray, mu: FloatArray) -> FloatArray:
    """What each point differs from the cubic through its four neighbours, in units of one point's noise; zero for two points at each end.

    Args:
        energy: (n,) eV, increasing.
        mu: (n,).

    Returns:
        (n,) in the unit of mu: white noise of standard deviation s gives a residual of standard deviation s.
    """
    found = np.zeros(len(energy))
    if len(energy) < 5:
        return found
    centre = energy[2:-2]
    nodes = np.stack([energy[:-4], energy[1:-3], energy[3:-1], energy[4:]])
    values = np.stack([mu[:-4], mu[1:-3], mu[3:-1], mu[4:]])
    weights = np.ones_like(nodes)
    for i in range(4):
        for j in range(4):
            if i != j:
                weights[i] *= (centre - nodes[j]) / (nodes[i] - nodes[j])
    found[2:-2] = (mu[2:-2] - (weights * values).sum(axis=0)) / np.sqrt(1.0 + (weights**2).sum(axis=0))
    return found


def _noise(spectrum: Spectrum, e0: float, end: float, step: float | None) -> tuple[float | None, NDArray[np.float64]]:
    """Noise in edge steps, and energies of glitches. The median does not see the glitches, nor what structure there is."""
    difference = np.abs(residual(spectrum.energy, spectrum.mu))
    inner = (np.abs(spectrum.energy - e0) > AFTER_EDGE) & (spectrum.energy <= end)
    inner[:2] = inner[-2:] = False
    if inner.sum() < 10 or step is None:
        return None, np.empty(0)
    above = inner & (spectrum.energy > e0)
    usual = 1.4826 * float(np.median(difference[above if above.sum() >= 10 else inner]))
    index = np.flatnonzero(inner)
    # What is usual here: the counts, and so the noise, change along a scan.
    local = np.array([1.4826 * np.median(difference[index[max(0, i - 15) : i + 16]]) for i in range(len(index))])
    wrong = difference[index] > np.maximum(GLITCH * np.maximum(local, usual), LEAST_GLITCH * step)
    # A wrong point spoils the residuals of its neighbours: of adjacent ones the worst is the glitch.
    worst = [i for i in index[wrong] if difference[i] >= max(difference[max(0, i - 2) : i + 3])]
    return usual / step, spectrum.energy[np.array(worst, dtype=int)]


def _k_useful(spectrum: Spectrum) -> float | None:
    """Up to which k chi stands above the noise that its Fourier transform has at 15 to 30 angstrom, where nothing scatters."""
    from larch import Group
    from larch.xafs import estimate_noise

    try:
        k, chi = chi_k(spectrum)
    except SpectrumError:
        return None
    group = Group()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            estimate_noise(k, chi, group=group, kmin=0.0, kmax=float(k[-1]))
        except IndexError:  # larch finds no k at which the noise wins
            return float(k[-1])
    return min(float(group.kmax_suggest), float(k[-1]))

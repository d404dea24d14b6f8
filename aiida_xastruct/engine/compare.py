"""How alike two spectra of one edge are, whatever their energy zeros."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import SpectrumError
from .spectrum import XANES_GRID, FloatArray, Kind, Spectrum, chi_k, energy_to_k, find_e0, flatten, k_to_energy, on_grid

#: Energies around the alignment of the two E0 in which the best shift is looked for, eV.
SHIFTS: FloatArray = np.arange(-80, 81) / 10.0

#: Where a comparison of XANES begins, eV from E0: spectra of FEFF begin anywhere below.
LOW = -10.0

#: k range in which EXAFS is compared, 1/angstrom: below it multiple scattering rules, above it noise.
K_RANGE = (3.0, 12.0)

#: Step in k and least length of a range, 1/angstrom.
K_STEP, MINIMUM_K_RANGE = 0.05, 3.0


@dataclass(frozen=True)
class Comparison:
    """One spectrum against a reference, after the shift in energy that brings them closest.

    Compared are flat mu for XANES and k^2 chi(k) for EXAFS.

    Attributes:
        kind: XANES or EXAFS.
        shift: eV added to the spectrum's energies.
        mse: mean square difference over the common range.
        r2: 1 - squared differences / squares about the reference's mean.
        spearman: rank correlation of the derivatives, which no edge step dominates.
        low, high: ends of the common range: eV from E0 of the reference for XANES, 1/angstrom for EXAFS.
        points: of the grid that both cover.
    """

    kind: Kind
    shift: float
    mse: float
    r2: float
    spearman: float
    low: float
    high: float
    points: int

    def rows(self) -> dict[str, str]:
        """Names and values as a person reads them."""
        compared, unit = ("flat mu", "eV from E0") if self.kind == "XANES" else ("k^2 chi(k)", "1/angstrom")
        return {
            "compared": f"{compared}, {self.low:g} to {self.high:g} {unit}, {self.points} points",
            "shift": f"{self.shift:+.1f} eV",
            "mean square error": f"{self.mse:.3g}",
            "R2": f"{self.r2:.4f}",
            "Spearman of derivatives": f"{self.spearman:.4f}",
        }


def compare(spectrum: Spectrum, reference: Spectrum, kind: Kind | None = None, k_range: tuple[float, float] = K_RANGE) -> Comparison:
    """Compare two spectra of one absorber and edge.

    XANES: flat mu on E - E0 of the reference, -10 to 50 eV as far as both reach. EXAFS: k^2 chi(k) over `k_range` as far as both reach.

    Args:
        spectrum: what is judged.
        reference: what it is judged by.
        kind: XANES or EXAFS; EXAFS if both spectra are, else XANES.
        k_range: of an EXAFS, 1/angstrom.

    Raises:
        SpectrumError: if they are of different absorbers or edges, hold no spectrum of that kind, or share less than 25 eV or 3 1/angstrom.
    """
    if (spectrum.absorber, spectrum.edge) != (reference.absorber, reference.edge):
        raise SpectrumError(
            f"{spectrum.absorber} {spectrum.edge} and {reference.absorber} {reference.edge} are different edges; compare two of one."
        )
    kind = kind or ("EXAFS" if spectrum.kind == reference.kind == "EXAFS" else "XANES")
    grid, curves, target = _exafs(spectrum, reference, k_range) if kind == "EXAFS" else _xanes(spectrum, reference)
    # One set of points for all shifts: otherwise the shift that loses the white line off the end would win.
    common = np.isfinite(target) & np.isfinite(curves[np.abs(SHIFTS) <= 3.0]).all(axis=0)
    least = MINIMUM_K_RANGE / K_STEP if kind == "EXAFS" else 50
    if common.sum() < least:
        step = grid[1] - grid[0]
        unit, needed = ("1/angstrom of the k range", f"{MINIMUM_K_RANGE:g}") if kind == "EXAFS" else ("eV around the edge", "25")
        raise SpectrumError(f"the two spectra share {step * common.sum():.3g} {unit}; {needed} are needed.")
    usable = np.isfinite(curves[:, common]).all(axis=1)
    errors = np.full(len(SHIFTS), np.inf)
    errors[usable] = ((curves[usable][:, common] - target[common]) ** 2).mean(axis=1)
    best = int(np.argmin(errors))
    found, wanted = curves[best, common], target[common]
    if not wanted.var() > 0.0:
        raise SpectrumError("the reference is constant over the range compared; check that it is a spectrum.")
    return Comparison(
        kind=kind,
        shift=round(find_e0(reference) - find_e0(spectrum) + float(SHIFTS[best]), 6),
        mse=float(errors[best]),
        r2=float(1.0 - errors[best] / wanted.var()),
        spearman=_spearman(np.diff(found), np.diff(wanted)),
        low=round(float(grid[common][0]), 6),
        high=round(float(grid[common][-1]), 6),
        points=int(common.sum()),
    )


def _xanes(spectrum: Spectrum, reference: Spectrum) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Grid (m,), the spectrum's flat mu under each of `SHIFTS` (shifts, m) and the reference's (m,); NaN where they do not reach."""
    for each in (spectrum, reference):
        if each.kind == "EXAFS" and each.method != "measured":
            raise SpectrumError("a computed EXAFS says nothing of the edge itself; compare it as EXAFS, with another that reaches as far.")
    flat, truth = flatten(spectrum), flatten(reference)
    energy, true_energy = flat.energy - find_e0(flat), truth.energy - find_e0(truth)
    grid = XANES_GRID[XANES_GRID >= LOW]
    curves = [on_grid(energy + shift, flat.mu, grid) for shift in SHIFTS]
    return grid, np.array(curves), on_grid(true_energy, truth.mu, grid)


def _exafs(spectrum: Spectrum, reference: Spectrum, k_range: tuple[float, float]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Grid (m,), the spectrum's k^2 chi under each of `SHIFTS` (shifts, m) and the reference's (m,); NaN where they do not reach."""
    low, high = k_range
    if not 0.0 <= low < high <= 50.0:
        raise SpectrumError(f"the k range {low:g} to {high:g} is none; give two wavenumbers in 1/angstrom, the smaller first.")
    grid: FloatArray = low + K_STEP * np.arange(round((high - low) / K_STEP) + 1, dtype=np.float64)
    (k, chi), (true_k, true_chi) = chi_k(spectrum), chi_k(reference)
    # Moving E0 relabels k; the background is left as it is, as in a fit of E0.
    moved = [energy_to_k(k_to_energy(k) + shift) for shift in SHIFTS]
    curves = [grid**2 * on_grid(x, chi, grid) for x in moved]
    return grid, np.array(curves), grid**2 * on_grid(true_k, true_chi, grid)


def _spearman(first: FloatArray, second: FloatArray) -> float:
    ranks = [np.argsort(np.argsort(values)).astype(np.float64) for values in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])

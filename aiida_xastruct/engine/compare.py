"""How alike two spectra of one edge are, whatever their energy zeros."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import SpectrumError
from .spectrum import XANES_GRID, FloatArray, Spectrum, find_e0, flatten

#: Energies around the alignment of the two E0 in which the best shift is looked for, eV.
SHIFTS: FloatArray = np.arange(-8.0, 8.05, 0.1)


@dataclass(frozen=True)
class Comparison:
    """One spectrum against a reference, both flat, after the shift that brings them closest.

    Attributes:
        shift: eV added to the spectrum's energies.
        mse: mean square difference of mu over the common range of `XANES_GRID`.
        r2: 1 - squared differences / squares about the reference's mean.
        spearman: rank correlation of the derivatives, which no edge step dominates.
        points: of the grid that both cover.
    """

    shift: float
    mse: float
    r2: float
    spearman: float
    points: int


def compare(spectrum: Spectrum, reference: Spectrum) -> Comparison:
    """Compare two XANES of one absorber and edge on E - E0 of the reference, -10 to 50 eV as far as both reach.

    Raises:
        SpectrumError: if they are of different absorbers or edges, or share less than 25 eV.
    """
    if (spectrum.absorber, spectrum.edge) != (reference.absorber, reference.edge):
        raise SpectrumError(
            f"{spectrum.absorber} {spectrum.edge} and {reference.absorber} {reference.edge} are different edges; compare two of one."
        )
    flat, truth = flatten(spectrum), flatten(reference)
    own_e0, true_e0 = find_e0(flat), find_e0(truth)
    target = np.interp(XANES_GRID, truth.energy - true_e0, truth.mu, left=np.nan, right=np.nan)
    curves = np.array([np.interp(XANES_GRID, flat.energy - own_e0 + shift, flat.mu, left=np.nan, right=np.nan) for shift in SHIFTS])
    # One set of points for all shifts: otherwise the shift that loses the white line off the end would win.
    common = np.isfinite(target) & np.isfinite(curves[np.abs(SHIFTS) <= 3.0]).all(axis=0)
    if common.sum() < 50:
        raise SpectrumError(f"the two spectra share {0.5 * common.sum():.0f} eV around the edge; 25 are needed.")
    usable = np.isfinite(curves[:, common]).all(axis=1)
    errors = np.full(len(SHIFTS), np.inf)
    errors[usable] = ((curves[usable][:, common] - target[common]) ** 2).mean(axis=1)
    best = int(np.argmin(errors))
    found, wanted = curves[best, common], target[common]
    return Comparison(
        shift=float(true_e0 - own_e0 + SHIFTS[best]),
        mse=float(errors[best]),
        r2=float(1.0 - errors[best] / wanted.var()),
        spearman=_spearman(np.diff(found), np.diff(wanted)),
        points=int(common.sum()),
    )


def _spearman(first: FloatArray, second: FloatArray) -> float:
    ranks = [np.argsort(np.argsort(values)).astype(np.float64) for values in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])

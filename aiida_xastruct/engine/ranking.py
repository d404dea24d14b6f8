"""Which of many crystals has a spectrum like this one? Distances between one spectrum and many curves on a model's grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compare import K_RANGE, LOW
from .errors import SpectrumError
from .spectrum import EXAFS_GRID, XANES_GRID, Kind, Spectrum, chi_k, energy_to_k, find_e0, flatten, k_to_energy, on_grid

#: Raised by a change that alters any distance; a stored input of every ranking.
RANKING_VERSION = "1"

#: How far the two E0 may truly lie apart, and the step of a search for it, eV: both are found by one algorithm, which noise and thermal
#: disorder move.
LARGEST_SHIFT, SHIFT_STEP = 3.0, 0.1

#: Mean square displacements of scattering paths, angstrom^2, and amplitudes that a measured EXAFS may have beside a computed one,
#: which is of atoms at rest.
DISORDER: NDArray[np.float64] = np.linspace(0.0, 0.015, 7)
AMPLITUDE = (0.6, 1.1)

#: Widths that are tried of a broadening of XANES.
BROADENINGS = 7

#: Share of the points of the target that a curve must reach to be compared.
COVERED = 0.8


@dataclass(frozen=True, eq=False)
class Distances:
    """How far n curves are from a target.

    Attributes:
        distance: (n,) root mean square difference, of flat mu over -10 to 50 eV, or of k^2 chi(k) (1/angstrom^2) over 3 to 12 1/angstrom,
            as far as the target reaches; NaN of curves that do not.
        shift: (n,) eV added to the target's energies after both E0 were put together, that brings them closest.
        width: (n,) what the curve was broadened by: standard deviation of a Gaussian, eV, for XANES; mean square displacement of the
            scattering paths, angstrom^2, for EXAFS.
        amplitude: (n,) what the curve was multiplied by.
        r2: (n,) 1 - squared differences / squares about the target's mean.
    """

    distance: NDArray[np.float64]
    shift: NDArray[np.float64]
    width: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    r2: NDArray[np.float64]


def distances(target: Spectrum, curves: NDArray[Any], kind: Kind, largest_shift: float = LARGEST_SHIFT, broadest: float = 0.0) -> Distances:
    """Distances from a spectrum at absolute energies to curves on a model's grid; energies are compared from E0.

    Where an EXAFS is measured, each curve is first damped, as by thermal disorder, and scaled, as it fits best.

    Args:
        target: a spectrum.
        curves: (n, m) flat mu as batches give it, of the target's edge; NaN where a curve does not reach.
        kind: XANES or EXAFS, of the curves.
        largest_shift: eV that the two E0 may lie apart.
        broadest: standard deviation in eV of the widest Gaussian that a XANES may be broadened by.

    Raises:
        SpectrumError: if the target covers too little of the range to compare.
    """
    steps = round(largest_shift / SHIFT_STEP)
    shifts: NDArray[np.float64] = np.arange(-steps, steps + 1, dtype=np.float64) * SHIFT_STEP
    targets = _targets(target, kind, shifts)
    values = np.asarray(curves, dtype=np.float64)
    best = np.full(len(values), np.inf)
    shift, width, amplitude, r2 = (np.full(len(values), np.nan) for _ in range(4))
    scales = AMPLITUDE if kind == "EXAFS" and target.method == "measured" else (1.0, 1.0)
    for own_width, curve in _views(values, kind, target.method == "measured", broadest):
        errors, scale, variance = _errors(curve, targets, scales)
        rows = np.arange(len(errors))
        index = errors.argmin(axis=1)
        found = errors[rows, index]
        closer = found < best
        best[closer], shift[closer], width[closer] = found[closer], shifts[index[closer]], own_width
        amplitude[closer] = scale[rows, index][closer]
        r2[closer] = (1.0 - found / np.maximum(variance[rows, index], 1e-12))[closer]
    best[~np.isfinite(best)] = np.nan
    return Distances(np.sqrt(best), shift, width, amplitude, r2)


def compared(kind: Kind) -> NDArray[np.bool_]:
    """(m,) points of the model's grid that are compared."""
    grid, (low, high) = (XANES_GRID, (LOW, np.inf)) if kind == "XANES" else (EXAFS_GRID, K_RANGE)
    return np.asarray((grid >= low) & (grid <= high))


def _targets(target: Spectrum, kind: Kind, shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(shifts, m) the target under each shift on the compared points; NaN where it does not reach under any of them."""
    use = compared(kind)
    if kind == "XANES":
        flat = flatten(target)
        energy = flat.energy - find_e0(flat)
        found = np.array([on_grid(energy + shift, flat.mu, XANES_GRID[use]) for shift in shifts])
    else:
        k, chi = chi_k(target)
        grid = EXAFS_GRID[use]
        found = np.array([grid**2 * on_grid(energy_to_k(k_to_energy(k) + shift), chi, grid) for shift in shifts])
    common = np.isfinite(found).all(axis=0)
    if common.mean() < 0.5:
        raise SpectrumError(f"the target covers {common.mean():.0%} of the range of {kind} that is compared; half of it is needed.")
    found[:, ~common] = np.nan
    return found


def _views(values: NDArray[np.float64], kind: Kind, is_measured: bool, broadest: float) -> Iterator[tuple[float, NDArray[np.float64]]]:
    """The curves on the compared points, as often as they are to be tried, each with the width that they were broadened by."""
    use = compared(kind)
    if kind == "XANES":
        yield 0.0, values[:, use]
        for width in np.linspace(0.0, broadest, BROADENINGS)[1:] if broadest > 0.0 else ():
            yield float(width), _broadened(values, float(width))[:, use]
        return
    k = EXAFS_GRID[use]
    for disorder in DISORDER if is_measured else DISORDER[:1]:
        yield float(disorder), (values[:, use] - 1.0) * k**2 * np.exp(-2.0 * disorder * k**2)


def _broadened(values: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Curves on the grid of XANES under a Gaussian; a curve counts as constant beyond its ends, and stays NaN there."""
    from scipy.ndimage import gaussian_filter1d

    out = np.full_like(values, np.nan)
    for row, curve in enumerate(values):
        known = np.isfinite(curve)
        if known.any():
            out[row, known] = gaussian_filter1d(curve[known], width / float(XANES_GRID[1] - XANES_GRID[0]), mode="nearest")
    return out


def _errors(
    curves: NDArray[np.float64], targets: NDArray[np.float64], amplitude: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean square differences after the best scaling in a range, that scaling, and the target's variance on the points of the curve.

    Each is (n, shifts). Differences are infinite where a curve covers too little.
    """
    reach = np.isfinite(targets[0])
    weight = (np.isfinite(curves) & reach).astype(np.float64)
    curve, truth = np.where(weight > 0, curves, 0.0), np.where(reach, targets, 0.0)
    points = np.maximum(weight.sum(axis=1, keepdims=True), 1.0)
    size, overlap, power = (curve**2).sum(axis=1, keepdims=True), curve @ truth.T, weight @ (truth**2).T
    scale = np.clip(overlap / np.maximum(size, 1e-12), *amplitude)
    errors = np.maximum(scale**2 * size - 2.0 * scale * overlap + power, 0.0) / points
    variance = power / points - (weight @ truth.T / points) ** 2
    return np.where(points >= COVERED * reach.sum(), errors, np.inf), scale, variance


def structure_means(structure: NDArray[np.integer], multiplicity: NDArray[Any], curves: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The curve of an element in each crystal: the mean of its sites weighted by multiplicity, on energies from each site's own E0.

    Args:
        structure: (n,) which crystal a site is of.
        multiplicity: (n,) sites of the cell that it stands for.
        curves: (n, m) of the sites.

    Returns:
        the (c,) crystals in increasing order, and (c, m) their curves.
    """
    found, index = np.unique(structure, return_inverse=True)
    weights = np.asarray(multiplicity, dtype=np.float64)
    total = np.zeros((len(found), curves.shape[1]))
    np.add.at(total, index, weights[:, None] * curves)
    return found, total / np.bincount(index, weights=weights, minlength=len(found))[:, None]

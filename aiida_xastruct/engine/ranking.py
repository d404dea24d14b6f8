"""Which of many crystals has a spectrum like this one? Distances between one spectrum and many curves on a model's grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compare import K_RANGE, LOW
from .errors import SpectrumError
from .spectrum import EXAFS_GRID, XANES_GRID, Kind, Spectrum, chi_k, energy_to_k, find_e0, flatten, k_to_energy, on_grid

#: Raised by a change that alters any distance; a stored input of every ranking.
RANKING_VERSION = "1"

#: Where the two E0 may truly lie apart, eV: both are found by one algorithm, which noise and thermal disorder move.
SHIFTS: NDArray[np.float64] = np.arange(-30, 31) / 10.0

#: Mean square displacements of scattering paths, angstrom^2, and amplitudes that a measured EXAFS may have beside a computed one,
#: which is of atoms at rest.
DISORDER: NDArray[np.float64] = np.linspace(0.0, 0.015, 7)
AMPLITUDE = (0.6, 1.1)

#: Share of the points of the target that a curve must reach to be compared.
COVERED = 0.8


@dataclass(frozen=True, eq=False)
class Distances:
    """How far n curves are from a target.

    Attributes:
        distance: (n,) root mean square difference, of flat mu over -10 to 50 eV, or of k^2 chi(k) (1/angstrom^2) over 3 to 12 1/angstrom,
            as far as the target reaches; NaN of curves that do not.
        shift: (n,) eV added to the target's energies after both E0 were put together, -3 to 3, that brings them closest.
    """

    distance: NDArray[np.float64]
    shift: NDArray[np.float64]


def distances(target: Spectrum, curves: NDArray[Any], kind: Kind) -> Distances:
    """Distances from a spectrum at absolute energies to curves on a model's grid; energies are compared from E0.

    Where an EXAFS is measured, each curve is first damped, as by thermal disorder, and scaled, as it fits best.

    Args:
        target: a spectrum.
        curves: (n, m) flat mu as batches give it, of the target's edge; NaN where a curve does not reach.
        kind: XANES or EXAFS, of the curves.

    Raises:
        SpectrumError: if the target covers too little of the range to compare.
    """
    targets = _targets(target, kind)
    values = np.asarray(curves, dtype=np.float64)
    best = np.full(len(values), np.inf)
    shift = np.zeros(len(values))
    for curve in _views(values, kind, target.method == "measured"):
        errors = _errors(curve, targets, AMPLITUDE if kind == "EXAFS" and target.method == "measured" else (1.0, 1.0))
        index = errors.argmin(axis=1)
        found = errors[np.arange(len(errors)), index]
        closer = found < best
        best[closer], shift[closer] = found[closer], SHIFTS[index[closer]]
    lost = ~np.isfinite(best)
    best[lost], shift[lost] = np.nan, np.nan
    return Distances(np.sqrt(best), shift)


def _range(kind: Kind) -> NDArray[np.bool_]:
    """Points of the model's grid that are compared."""
    grid, (low, high) = (XANES_GRID, (LOW, np.inf)) if kind == "XANES" else (EXAFS_GRID, K_RANGE)
    return np.asarray((grid >= low) & (grid <= high))


def _targets(target: Spectrum, kind: Kind) -> NDArray[np.float64]:
    """(shifts, m) the target under each of `SHIFTS` on the compared points; NaN where it does not reach under any of them."""
    use = _range(kind)
    if kind == "XANES":
        flat = flatten(target)
        energy = flat.energy - find_e0(flat)
        found = np.array([on_grid(energy + shift, flat.mu, XANES_GRID[use]) for shift in SHIFTS])
    else:
        k, chi = chi_k(target)
        grid = EXAFS_GRID[use]
        found = np.array([grid**2 * on_grid(energy_to_k(k_to_energy(k) + shift), chi, grid) for shift in SHIFTS])
    common = np.isfinite(found).all(axis=0)
    if common.mean() < 0.5:
        raise SpectrumError(f"the target covers {common.mean():.0%} of the range of {kind} that is compared; half of it is needed.")
    found[:, ~common] = np.nan
    return found


def _views(values: NDArray[np.float64], kind: Kind, is_measured: bool) -> Any:
    """The curves on the compared points, as often as they are to be tried."""
    use = _range(kind)
    if kind == "XANES":
        yield values[:, use]
        return
    k = EXAFS_GRID[use]
    for disorder in DISORDER if is_measured else DISORDER[:1]:
        yield (values[:, use] - 1.0) * k**2 * np.exp(-2.0 * disorder * k**2)


def _errors(curves: NDArray[np.float64], targets: NDArray[np.float64], amplitude: tuple[float, float]) -> NDArray[np.float64]:
    """(n, shifts) mean square differences after the best scaling in a range; infinite where a curve covers too little."""
    reach = np.isfinite(targets[0])
    weight = (np.isfinite(curves) & reach).astype(np.float64)
    curve, truth = np.where(weight > 0, curves, 0.0), np.where(reach, targets, 0.0)
    points = weight.sum(axis=1, keepdims=True)
    size, overlap, power = (curve**2).sum(axis=1, keepdims=True), curve @ truth.T, weight @ (truth**2).T
    scale = np.clip(overlap / np.maximum(size, 1e-12), *amplitude)
    errors = np.maximum(scale**2 * size - 2.0 * scale * overlap + power, 0.0) / np.maximum(points, 1.0)
    return np.where(points >= COVERED * reach.sum(), errors, np.inf)


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

"""The supercell that keeps a core hole away from its images, and what its symmetry spares. Lengths are in angstrom."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

from ..errors import StructureError
from ..spectrum import FloatArray
from ..structure import SYMMETRY_TOLERANCE, symbol, symmetry_dataset

IntArray = NDArray[np.int64]

#: More atoms than this are no job for a plane-wave code on the machines that this package is for.
MAX_ATOMS = 1000

#: Polarisations whose mean is that of a powder, whatever the symmetry; where that is cubic, one of them is enough.
POLARISATIONS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Supercell:
    """A crystal repeated around one of its sites.

    Attributes:
        structure: the repeated crystal.
        multiples: repetitions along the three vectors of the crystal's cell.
        site: index of the absorber in `structure`.
        image_distance: of the absorber from its nearest image, angstrom.
    """

    structure: Structure
    multiples: tuple[int, int, int]
    site: int
    image_distance: float


def image_distance(lattice: Lattice) -> float:
    """Length of the shortest vector of a lattice."""
    return float(min(lattice.get_lll_reduced_lattice().abc))


def supercell(structure: Structure, site: int, distance: float) -> Supercell:
    """The repetition with the fewest atoms that keeps images of a site at least this far apart.

    Raises:
        StructureError: if the site does not exist, or it would take more than `MAX_ATOMS` atoms.
    """
    symbol(structure, site)
    largest = MAX_ATOMS // len(structure)
    matrix = np.asarray(structure.lattice.matrix)
    # Height of the cell above the plane of two vectors: that many repetitions are enough along the third.
    heights = structure.volume / np.linalg.norm(np.cross(np.roll(matrix, -1, axis=0), np.roll(matrix, -2, axis=0)), axis=1)
    ranges = [range(1, min(max(largest, 1), math.ceil(distance / height)) + 1) for height in heights]
    # As even as can be among those of one size: the last key keeps 2 2 2 before 1 2 4.
    for multiples in sorted(itertools.product(*ranges), key=lambda n: (math.prod(n), max(n), n)):
        if math.prod(multiples) > largest:
            break
        found = image_distance(Lattice(matrix * np.array(multiples)[:, None]))
        if found >= distance - 1e-6:
            repeated = structure.copy()
            repeated.make_supercell(np.diag(multiples), in_place=True)
            position = repeated.lattice.get_fractional_coords(structure[site].coords)
            apart = repeated.lattice.get_all_distances(position, repeated.frac_coords)[0]
            return Supercell(repeated, (multiples[0], multiples[1], multiples[2]), int(np.argmin(apart)), found)
    raise StructureError(
        f"to keep core holes {distance:g} angstrom apart takes more than {MAX_ATOMS} atoms; give a smaller image_distance or cell."
    )


def site_rotations(structure: Structure, site: int, multiples: Sequence[int] = (1, 1, 1)) -> IntArray:
    """Rotations that leave a site where it is, and the lattice of its images too.

    Args:
        structure: the crystal.
        site: index of the absorber.
        multiples: repetitions along its vectors. Uneven ones, such as those of a skewed cell, keep fewer of its rotations.

    Returns:
        (n, 3, 3) matrices for fractional coordinates of the repeated cell.
    """
    dataset = symmetry_dataset(structure)
    if dataset is None:
        return np.eye(3, dtype=np.int64)[None]
    place, counts, kept = structure.frac_coords[site], np.array(multiples, dtype=np.float64), []
    for rotation, shift in zip(dataset.rotations, dataset.translations, strict=True):
        moved = rotation @ place + shift - place
        if np.linalg.norm(structure.lattice.get_cartesian_coords(moved - np.round(moved))) >= SYMMETRY_TOLERANCE:
            continue
        repeated = rotation * counts[None, :] / counts[:, None]
        if np.allclose(repeated, np.round(repeated)):
            kept.append(np.round(repeated).astype(np.int64))
    return np.array(kept)


def polarisations(rotations: IntArray) -> list[tuple[float, float, float]]:
    """Directions of the electric field whose mean is the spectrum of a powder: one where the sum that XSpectra makes is cubic, else three.

    XSpectra sums over its mesh of k as it is, without the crystal's symmetry, and the mesh is shifted by half a step along each vector.
    Of a face-centred cell such a mesh has one threefold axis, not four, so that a single polarisation of a cubic site is not that of a
    powder. The mean of three is, on any mesh.

    Args:
        rotations: of `site_rotations`.
    """
    # Reciprocal coordinates turn by the transposed inverse, and the inverse is one of the rotations.
    shifted = np.ones(3, dtype=np.int64)
    kept = [one for one in rotations if not ((one.T @ shifted - shifted) % 2).any()]
    threefold = sum(bool(np.trace(one) == 0 and round(float(np.linalg.det(one))) == 1) for one in kept)
    # Four threefold axes, each turning two ways, make a point group cubic.
    return list(POLARISATIONS[:1] if threefold >= 8 else POLARISATIONS)


def mesh(lattice: Lattice, spacing: float) -> list[int]:
    """Points along each reciprocal vector that are at most so far apart, 1/angstrom."""
    lengths: FloatArray = np.linalg.norm(lattice.reciprocal_lattice.matrix, axis=1)
    return [max(1, math.ceil(round(float(length) / spacing, 6))) for length in lengths]

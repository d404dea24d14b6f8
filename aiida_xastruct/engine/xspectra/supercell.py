"""The supercell that keeps a core hole away from its images, and what its symmetry spares. Lengths are in angstrom."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from pymatgen.core import Lattice, Structure

from ..errors import StructureError
from ..spectrum import FloatArray
from ..structure import SYMMETRY_TOLERANCE, symbol, symmetry_dataset

#: More atoms than this are no job for a plane-wave code on the machines that this package is for.
MAX_ATOMS = 1000

#: Polarisations whose mean is that of a powder, whatever the symmetry of the site; where that is cubic, one of them is enough.
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


def polarisations(structure: Structure, site: int) -> list[tuple[float, float, float]]:
    """Directions of the electric field whose mean is the spectrum of a powder: one for a site of cubic symmetry, else three."""
    dataset = symmetry_dataset(structure)
    if dataset is None:
        return list(POLARISATIONS)
    place = structure.frac_coords[site]
    threefold = 0
    for rotation, shift in zip(dataset.rotations, dataset.translations, strict=True):
        moved = rotation @ place + shift - place
        stays = np.linalg.norm(structure.lattice.get_cartesian_coords(moved - np.round(moved))) < SYMMETRY_TOLERANCE
        threefold += bool(stays and np.trace(rotation) == 0 and round(float(np.linalg.det(rotation))) == 1)
    # Four threefold axes, each turning two ways, make a point group cubic.
    return list(POLARISATIONS[:1] if threefold >= 8 else POLARISATIONS)


def mesh(lattice: Lattice, spacing: float) -> list[int]:
    """Points along each reciprocal vector that are at most so far apart, 1/angstrom."""
    lengths: FloatArray = np.linalg.norm(lattice.reciprocal_lattice.matrix, axis=1)
    return [max(1, math.ceil(round(float(length) / spacing, 6))) for length in lengths]

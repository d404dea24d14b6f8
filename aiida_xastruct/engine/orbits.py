"""Atoms of a cell that a rotation of the crystal carries into each other.

What a network gives for one of them it gives for the others, turned: only one of each orbit has to be computed. Rotations alone count
(of determinant +1): a network that is equivariant under SO(3), as SevenNet-0 is, does not know that a mirror image is alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from .structure import atomic_numbers

#: Within which an atom and an image must agree, angstrom. Coordinates as files write them agree far better.
TOLERANCE = 1e-4

#: Cells with fewer atoms gain less than the search for their symmetry costs.
FEWEST = 5


@dataclass(frozen=True)
class Orbits:
    """Which atoms of a cell are alike.

    Attributes:
        first: (n,) index of the atom that stands for each atom.
        rotation: (n, 3, 3) the rotation in Cartesian axes that carries the surroundings of `first` into those of the atom.
    """

    first: NDArray[np.int64]
    rotation: NDArray[np.float64]

    @classmethod
    def each_for_itself(cls, count: int) -> Orbits:
        """Those of atoms of which no two are alike."""
        return cls(np.arange(count), np.tile(np.eye(3), (count, 1, 1)))


def orbits(structure: Structure) -> Orbits:
    """The orbits of a crystal's atoms under its rotations and screw axes, by spglib within `TOLERANCE`.

    Args:
        structure: an ordered crystal. Where spglib finds no symmetry, or there are fewer than `FEWEST` atoms, each stands for itself.
    """
    count = len(structure)
    known = Orbits.each_for_itself(count)
    found = _operations(structure) if count >= FEWEST else None
    if found is None:
        return known
    first, rotation = known.first, known.rotation
    turns, shifts, cartesian = found
    numbers, places, matrix = np.asarray(atomic_numbers(structure)), structure.frac_coords, structure.lattice.matrix
    free = np.ones(count, dtype=bool)
    for atom in range(count):
        if not free[atom]:
            continue
        images = turns @ places[atom] + shifts
        others = np.flatnonzero(free & (numbers == numbers[atom]))
        apart = images[:, None, :] - places[others][None, :, :]
        apart -= np.round(apart)
        near = np.linalg.norm(apart @ matrix, axis=2) < TOLERANCE  # (operations, others)
        for other, by in zip(others, near.T, strict=True):
            if by.any() and other != atom:
                first[other], rotation[other], free[other] = atom, cartesian[int(np.argmax(by))], False
        free[atom] = False
    return known


def _operations(structure: Structure) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Proper operations: (m, 3, 3) on fractional coordinates, (m, 3) their shifts, (m, 3, 3) the same turns in Cartesian axes."""
    import spglib

    cell = (structure.lattice.matrix.tolist(), structure.frac_coords.tolist(), atomic_numbers(structure))
    try:
        found = spglib.get_symmetry(cell, symprec=TOLERANCE)
    except Exception:  # spglib >= 2.7 raises where it used to return None
        return None
    if found is None:
        return None
    turns = np.asarray(found["rotations"], dtype=np.float64)
    proper = np.linalg.det(turns) > 0.0
    if proper.sum() < 2:
        return None
    turns, shifts = turns[proper], np.asarray(found["translations"], dtype=np.float64)[proper]
    columns = structure.lattice.matrix.T
    left, _, right = np.linalg.svd(columns @ turns @ np.linalg.inv(columns))  # a cell symmetric within the tolerance turns almost rigidly
    return turns, shifts, left @ right

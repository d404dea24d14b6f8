"""A site as forward models see it: SevenNet features of the absorber, its neighbours one by one, their angles, and its scattering paths.

Row layout, (SITE_SIZE,): `SevenNetFeatures.size` learned features; `MAX_NEIGHBOURS` distances in angstrom, increasing, zero where there are
fewer neighbours; their atomic numbers in the same order; `ANGLES_SIZE` numbers of `engine.angles.angular_rows`; `PATHS_SIZE` numbers of
`engine.paths.path_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from .angles import ANGLES_SIZE, angular_rows
from .paths import PATHS_SIZE, atoms_around, path_rows
from .sevennet import SevenNetFeatures, shared_features

#: Distance up to which neighbours are listed, angstrom.
NEIGHBOUR_RADIUS = 6.0

#: The nearest neighbours kept; the densest crystals have more within the radius.
MAX_NEIGHBOURS = 128

SITE_SIZE = SevenNetFeatures.size + 2 * MAX_NEIGHBOURS + ANGLES_SIZE + PATHS_SIZE


def neighbour_rows(structure: Structure, sites: Sequence[int]) -> NDArray[np.float32]:
    """(len(sites), 2 MAX_NEIGHBOURS) distances and atomic numbers of the atoms around each site."""
    rows = np.zeros((len(sites), 2, MAX_NEIGHBOURS), dtype=np.float32)
    if len(sites) == 0:
        return rows.reshape(0, 2 * MAX_NEIGHBOURS)
    for row, (_, numbers, distances) in enumerate(atoms_around(structure, sites, NEIGHBOUR_RADIUS)):
        count = min(len(numbers), MAX_NEIGHBOURS)
        rows[row, 0, :count] = distances[:count]
        rows[row, 1, :count] = numbers[:count]
    return rows.reshape(len(sites), -1)


def neighbour_columns(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Distances in angstrom (n, MAX_NEIGHBOURS), zero where there are fewer, and atomic numbers, of features (n, SITE_SIZE)."""
    start = SevenNetFeatures.size
    distances, numbers = np.split(features[:, start : start + 2 * MAX_NEIGHBOURS], 2, axis=1)
    return distances, numbers.astype(np.int64)


def site_rows(structure: Structure, sites: Sequence[int], learned: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """(len(sites), SITE_SIZE) features of sites; `learned` (len(sites), SevenNetFeatures.size) where they are known already."""
    if learned is None:
        learned = shared_features()([structure], [sites])[0]
    known = (learned, neighbour_rows(structure, sites), angular_rows(structure, sites), path_rows(structure, sites))
    return np.concatenate(known, axis=1).astype(np.float32)

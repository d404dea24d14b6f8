"""Scattering paths of an absorbing site: the ways of a photoelectron from the absorber over one or two atoms and back.

Where atoms stand in a line, the one in front focuses the wave onto the one behind, and the paths over both are as loud as the single
scattering (Rehr and Albers, Rev. Mod. Phys. 72, 621 (2000)). Four kinds of path make up almost all of FEFF 8.5L's chi(k):

| kind | path | half length |
| --- | --- | --- |
| SINGLE | absorber - j - absorber | r_j |
| TRIANGLE | absorber - i - j - absorber | (r_i + r_ij + r_j) / 2 |
| FOCUS | absorber - i - j - i - absorber | r_i + r_ij |
| STAR | absorber - i - absorber - j - absorber | r_i + r_j |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

#: Longest path followed, as half its length in angstrom: as in FEFF's EXAFS runs (`FeffParameters.path_radius`).
PATH_RADIUS = 6.0

#: Distinct paths kept of a site, the loudest by geometry.
MAX_PATHS = 128

#: What describes a path. `first` is the nearer atom, `second` the farther one (the same one in single scattering); lengths in angstrom.
PATH_COLUMNS = ("kind", "z_first", "z_second", "degeneracy", "half_length", "r_first", "r_second", "r_between")

#: Length of a site's paths as one row of numbers.
PATHS_SIZE = MAX_PATHS * len(PATH_COLUMNS)

#: Wavenumbers in 1/angstrom at which the amplitude of a path is stored and learned, shape (40,).
PATH_K: NDArray[np.float64] = np.linspace(2.0, 15.0, 40)

#: Nearest atoms that paths are made of; the densest crystals have more within the radius.
_MAX_ATOMS = 160

#: Cosine of the scattering angle at the nearer atom from which the wave counts as focused, and its opposite at the absorber.
_FORWARD, _OPPOSITE = 0.80, -0.86

#: Other paths over two atoms are kept up to this half length, angstrom; longer ones are faint.
_BENT_RADIUS = 4.6


class PathKind(IntEnum):
    """See the module's table."""

    SINGLE = 0
    TRIANGLE = 1
    FOCUS = 2
    STAR = 3


@dataclass(frozen=True, eq=False)
class PathTable:
    """Amplitudes of single paths as FEFF computed them, to learn from.

    Attributes:
        site: (n,) row of the path's site in the table of EXAFS sites.
        geometry: (n, 8) `PATH_COLUMNS`.
        amplitude: (n, 2, 40) real and imaginary part on `PATH_K` of A(k), where a path of half length R adds
            degeneracy / (k R^2) Im[A exp(2 i k R)] to chi(k): A holds both atoms' scattering, the absorber's phase and the losses.
    """

    site: NDArray[np.int64]
    geometry: NDArray[np.float32]
    amplitude: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.site)

    def of_sites(self, mask: NDArray[np.bool_]) -> PathTable:
        """The paths of the chosen sites, with `site` counted among those."""
        chosen = mask[self.site]
        renumbered = np.cumsum(mask) - 1
        return PathTable(renumbered[self.site[chosen]], self.geometry[chosen], self.amplitude[chosen])


def paths_around(positions: NDArray[np.float64], numbers: NDArray[np.integer]) -> NDArray[np.float64]:
    """Distinct paths among atoms around an absorber at the origin.

    Args:
        positions: (n, 3) of the other atoms, angstrom.
        numbers: (n,) their atomic numbers.

    Returns:
        (m, 8) `PATH_COLUMNS`, loudest first, at most `MAX_PATHS`.
    """
    r = np.linalg.norm(positions, axis=1)
    order = np.argsort(r, kind="stable")
    r, positions, z = r[order], positions[order], np.asarray(numbers)[order].astype(np.float64)
    i, j = np.triu_indices(len(r), 1)
    between = np.linalg.norm(positions[j] - positions[i], axis=1)
    keep = (between > 0.1) & (r[j] <= PATH_RADIUS)
    i, j, between = i[keep], j[keep], between[keep]
    at_absorber = (positions[i] * positions[j]).sum(axis=1) / (r[i] * r[j])
    at_first = ((positions[j] - positions[i]) * positions[i]).sum(axis=1) / (between * r[i])
    forward, opposite = at_first > _FORWARD, at_absorber < _OPPOSITE
    triangle, focus, star = (r[i] + between + r[j]) / 2, r[i] + between, r[i] + r[j]

    def pairs(kind: PathKind, chosen: NDArray[np.bool_], degeneracy: float, half_length: NDArray[np.float64]) -> NDArray[np.float64]:
        a, b = i[chosen], j[chosen]
        fixed = np.full((2, len(a)), [[kind], [degeneracy]])
        return np.stack([fixed[0], z[a], z[b], fixed[1], half_length[chosen], r[a], r[b], between[chosen]], axis=1)

    def own(kind: PathKind, chosen: NDArray[np.bool_], half_length: NDArray[np.float64]) -> NDArray[np.float64]:
        fixed = np.full((3, int(chosen.sum())), [[kind], [1.0], [0.0]])
        a, b = z[chosen], r[chosen]
        return np.stack([fixed[0], a, a, fixed[1], half_length[chosen], b, b, fixed[2]], axis=1)

    everything = np.concatenate(
        [
            own(PathKind.SINGLE, r <= PATH_RADIUS, r),
            own(PathKind.STAR, 2 * r <= PATH_RADIUS, 2 * r),
            # Time reversal gives triangles and stars of two atoms a twin.
            pairs(PathKind.TRIANGLE, (triangle <= PATH_RADIUS) & (forward | opposite | (triangle < _BENT_RADIUS)), 2.0, triangle),
            pairs(PathKind.FOCUS, (focus <= PATH_RADIUS) & forward, 1.0, focus),
            pairs(PathKind.STAR, (star <= PATH_RADIUS) & (opposite | (at_absorber > -_OPPOSITE) | (star < _BENT_RADIUS)), 2.0, star),
        ]
    )
    return _loudest(_merged(everything))


def _merged(paths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Paths alike to 0.001 angstrom as one, their degeneracies added."""
    alike = np.round(np.delete(paths, 3, axis=1), 3)
    _, first, inverse = np.unique(alike, axis=0, return_index=True, return_inverse=True)
    merged = paths[first]
    merged[:, 3] = np.bincount(inverse.ravel(), weights=paths[:, 3])
    return merged


def _loudest(paths: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most `MAX_PATHS`, by degeneracy exp(-2 R / 9 angstrom) / R^2, bent paths as a twelfth of straight ones."""
    kind, degeneracy, half_length, near, far, between = (paths[:, column] for column in (0, 3, 4, 5, 6, 7))
    with np.errstate(divide="ignore", invalid="ignore"):
        at_first = (far**2 - near**2 - between**2) / (2 * near * between)
        at_absorber = (near**2 + far**2 - between**2) / (2 * near * far)
    straight = (at_first > 0.9) | (at_absorber < -0.9) | (between == 0)
    weight = np.where(kind == PathKind.SINGLE, 1.0, np.where(straight, 0.5, 0.08))
    loudness = weight * degeneracy * np.exp(-2 * half_length / 9.0) / half_length**2
    return np.asarray(paths[np.argsort(-loudness, kind="stable")[:MAX_PATHS]])


def loudest_chi(row: NDArray[np.floating], k: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the size of chi(k) around a site cannot exceed: all its paths in phase, each scattering with an amplitude of 1 angstrom.

    Amplitudes stay below 1 angstrom from k = 8 on.

    Args:
        row: (PATHS_SIZE,) of one site, as `path_rows` gives it.
        k: (n,) 1/angstrom.
    """
    paths = np.asarray(row, dtype=np.float64).reshape(MAX_PATHS, len(PATH_COLUMNS))
    paths = paths[paths[:, 3] > 0]
    half_length = paths[:, 4:5]
    mean_free_path = np.interp(k, [2.0, 5.0, 10.0, 15.0], [3.5, 7.0, 17.0, 30.0])
    size = np.where(paths[:, :1] == PathKind.SINGLE, 1.0, 0.5) * np.where(paths[:, 2:3] == 1, 0.2, 1.0)  # hydrogen scatters little
    return np.asarray((size * paths[:, 3:4] / (k * half_length**2) * np.exp(-2 * half_length / mean_free_path)).sum(axis=0))


def path_rows(structure: Structure, sites: Sequence[int]) -> NDArray[np.float32]:
    """(len(sites), PATHS_SIZE) paths of each site one after the other, zero (degeneracy 0) where there are fewer than `MAX_PATHS`."""
    rows = np.zeros((len(sites), MAX_PATHS, len(PATH_COLUMNS)), dtype=np.float32)
    if len(sites) == 0:
        return rows.reshape(0, PATHS_SIZE)
    for row, (positions, numbers, _) in enumerate(atoms_around(structure, sites, PATH_RADIUS)):
        paths = paths_around(positions[:_MAX_ATOMS], numbers[:_MAX_ATOMS])
        rows[row, : len(paths)] = paths
    return rows.reshape(len(sites), PATHS_SIZE)


def atoms_around(
    structure: Structure, sites: Sequence[int], radius: float
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]]:
    """For each site the other atoms within `radius` (angstrom), nearest first: positions from it (n, 3), atomic numbers, distances (n,)."""
    numbers = np.array([site.specie.Z for site in structure])
    centres = [structure[site] for site in sites]
    centre, neighbour, image, distance = structure.get_neighbor_list(radius, centres)
    for row, site in enumerate(centres):
        own = np.flatnonzero((centre == row) & (distance > 1e-3))  # the list holds the site itself
        own = own[np.argsort(distance[own], kind="stable")]
        positions = structure.lattice.get_cartesian_coords(structure.frac_coords[neighbour[own]] + image[own]) - site.coords
        yield positions, numbers[neighbour[own]], distance[own]

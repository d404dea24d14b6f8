"""The cluster of atoms that FEFF sees around an absorber: which atoms, which potentials, which radii. Lengths in angstrom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from ..errors import FeffError
from ..structure import symbol
from .parameters import FeffParameters, Sphere

#: Two atoms nearer than this in distance belong to one shell.
SHELL_WIDTH = 0.05

#: Overlapped atomic densities reach about so far: every atom that stands for its potential needs its surroundings.
DENSITY_RANGE = 4.0

#: Potentials beside the absorber's that FEFF has room for.
MAX_POTENTIALS = 11


@dataclass(frozen=True)
class Cluster:
    """Atoms around an absorber, nearest first, the absorber at the origin as number 0.

    Attributes:
        positions: (n, 3) relative to the absorber.
        distances: (n,) from the absorber, increasing.
        potentials: (n,) index of each atom's potential, 0 for the absorber alone.
        elements: symbol of each potential, in order.
        stoichiometry: atoms of each potential in the formula, 0.01 for the absorber: what FEFF weighs charges with.
        scf_radius, fms_radius: XANES radii; zero for EXAFS.
    """

    positions: NDArray[np.float64]
    distances: NDArray[np.float64]
    potentials: NDArray[np.int64]
    elements: tuple[str, ...]
    stoichiometry: tuple[float, ...]
    scf_radius: float
    fms_radius: float

    @property
    def radius(self) -> float:
        """Distance of the outermost atom."""
        return float(self.distances[-1])

    def count(self, radius: float) -> int:
        """Atoms within `radius` of the absorber, the absorber included."""
        return int((self.distances <= radius).sum())


def sphere_radius(distances: NDArray[np.float64], sphere: Sphere) -> float:
    """Radius of a protocol's sphere among atoms at `distances` (n,), increasing from 0.

    The floor or the distance of the n-th atom, whichever is larger; where that holds more atoms than the limit,
    the last whole shell below it.
    """
    radius = sphere.floor
    if sphere.atoms <= len(distances):
        radius = max(radius, float(distances[sphere.atoms - 1]) + SHELL_WIDTH)
    inside = int((distances <= radius).sum())
    if inside <= sphere.limit:
        return round(radius, 3)
    ends = np.flatnonzero(np.diff(distances) > SHELL_WIDTH) + 1  # number of atoms inside each whole shell
    # The first coordination shell stays whole whatever the limit says.
    fitting = ends[(ends <= sphere.limit) & (ends > 1)]
    whole = int(fitting[-1]) if len(fitting) else int(ends[1] if len(ends) > 1 else ends[0])
    return round(float(distances[whole - 1]) + SHELL_WIDTH, 3)


def build_cluster(structure: Structure, site: int, parameters: FeffParameters) -> Cluster:
    """The cluster around `site` of an ordered structure.

    Raises:
        FeffError: if the atoms that FEFF needs are more than `max_atoms`, or the elements more than FEFF has potentials.
        StructureError: if the site does not exist.
    """
    absorber = symbol(structure, site)
    positions, distances, numbers = _neighbours(structure, site, 16.0)
    scf = fms = 0.0
    if parameters.kind == "XANES":
        scf = parameters.scf_radius or sphere_radius(distances, parameters.sphere("scf"))
        fms = max(parameters.fms_radius or sphere_radius(distances, parameters.sphere("fms")), scf)
        least = fms + 1.0
        reach = max(scf, DENSITY_RANGE)
    else:
        least = parameters.path_radius + 0.5
        reach = DENSITY_RANGE
    # An atom that stands for its potential must itself be surrounded; an element beyond `least` gets no potential, for it has no atom.
    inside = distances <= least
    first = [float(distances[1:][inside[1:] & (numbers[1:] == z)][0]) for z in np.unique(numbers[1:][inside[1:]])]
    radius = max([least, *(distance + reach for distance in first)])
    keep = distances <= radius
    if keep.sum() > parameters.max_atoms:
        radius = float(distances[parameters.max_atoms - 1]) - 1e-6
        keep = distances <= radius
        if radius < least:
            raise FeffError(
                f"a sphere of {least:.1f} angstrom around site {site} holds {int((distances <= least).sum())} atoms, "
                f"more than {parameters.max_atoms}; "
                "use a faster protocol or a smaller radius."
            )
    if keep.sum() < 2:
        raise FeffError(f"site {site} ({absorber}) has no other atom within {radius:.1f} angstrom; FEFF needs a condensed phase.")
    return _with_potentials(structure, site, positions[keep], distances[keep], numbers[keep], (scf, fms))


def _neighbours(structure: Structure, site: int, radius: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Positions relative to the site, distances and atomic numbers of all atoms within `radius`, nearest first, always in one order."""
    # The lattice's own search: `get_sites_in_sphere` makes an object of each atom, which takes 20 times as long.
    lattice, centre = structure.lattice, structure[site].coords
    found: Any = lattice.get_points_in_sphere(structure.frac_coords, centre, radius, zip_results=False)
    fractional, distances, index, _ = found
    positions = lattice.get_cartesian_coords(fractional) - centre
    numbers = np.array([atom.specie.Z for atom in structure], dtype=np.int64)[index]
    # Rounding first: ties in a shell are broken by coordinates, not by the last bit of a distance.
    order = np.lexsort((*np.round(positions, 4).T, numbers, np.round(distances, 4)))
    return positions[order], distances[order], numbers[order]


def _with_potentials(
    structure: Structure,
    site: int,
    positions: NDArray[np.float64],
    distances: NDArray[np.float64],
    numbers: NDArray[np.int64],
    radii: tuple[float, float],
) -> Cluster:
    from pymatgen.core import Element

    present = [int(z) for z in np.unique(numbers[1:])]
    if len(present) > MAX_POTENTIALS:
        raise FeffError(f"the cluster holds {len(present)} elements and FEFF has room for {MAX_POTENTIALS}; use a smaller radius.")
    index = {z: i + 1 for i, z in enumerate(present)}
    potentials = np.array([0, *(index[int(z)] for z in numbers[1:])], dtype=np.int64)
    formula = structure.composition.element_composition
    reduced = formula.reduced_composition
    amounts = tuple(float(reduced[Element.from_Z(z)]) for z in present)
    elements = (symbol(structure, site), *(str(Element.from_Z(z).symbol) for z in present))
    return Cluster(positions, distances, potentials, elements, (0.01, *amounts), *radii)

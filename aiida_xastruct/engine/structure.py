"""Absorbing sites of a crystal and the first shell around each. Lengths are in angstrom."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import DummySpecies, Element, Lattice, Structure
from pymatgen.core.structure import StructureError as _PymatgenError

from .errors import StructureError

#: Shorter contacts than this are no chemical bond; the H-H bond is 0.74 angstrom.
MINIMUM_DISTANCE = 0.6

#: No crystal has a longer cell vector, angstrom, nor an atom farther from its cell, in cells: numbers beyond would take any memory.
LONGEST_CELL, MOST_CELLS = 1000.0, 10.0

#: Boxes of the search for atoms that are too near: it takes 24 bytes for each in the whole cell, atoms or not.
_MOST_BOXES = 300_000

SYMMETRY_TOLERANCE = 0.01


@dataclass(frozen=True)
class Absorber:
    """A symmetry-inequivalent absorbing site: its index in the structure and how many sites it stands for."""

    site: int
    element: str
    multiplicity: int


@dataclass(frozen=True)
class FirstShell:
    """The nearest neighbours of a site, by CrystalNN (Pan et al., Inorg. Chem. 60, 1590 (2021)).

    Attributes:
        elements: (coordination,) neighbour symbols, nearest first.
        distances: (coordination,) distances in angstrom, increasing.
    """

    elements: tuple[str, ...]
    distances: tuple[float, ...]

    @property
    def coordination(self) -> int:
        """Number of neighbours."""
        return len(self.elements)

    @property
    def neighbour_set(self) -> frozenset[str]:
        """The elements in the shell, each once."""
        return frozenset(self.elements)

    @property
    def mean_distance(self) -> float:
        """Mean distance over the shell in angstrom."""
        return float(np.mean(self.distances))

    @property
    def nearest_distance(self) -> float:
        """Distance of the nearest neighbour in angstrom."""
        return self.distances[0]


def check_structure(structure: Structure) -> None:
    """Refuse what no model and no FEFF run can answer.

    Raises:
        StructureError: if the structure is empty, disordered, holds dummy species, or has overlapping atoms.
    """
    if len(structure) == 0:
        raise StructureError("the structure has no atoms; give a crystal structure.")
    if not structure.is_ordered:
        site = next(site for site in structure if not site.is_ordered)
        raise StructureError(
            f"the structure is disordered (a site holds {site.species_string}); give an ordered supercell or pick one occupation."
        )
    for specie in {next(iter(site.species)) for site in structure}:
        if isinstance(specie, DummySpecies):  # its Z is the hash of its name, of either sign
            raise StructureError(f"{str(specie)!r} is not an element; replace dummy species first.")
    matrix = structure.lattice.matrix
    if not np.isfinite(matrix).all() or not 1.0 <= structure.volume < np.inf:
        raise StructureError("the cell has no volume; check the lattice vectors (angstrom).")
    if np.abs(matrix).max() > LONGEST_CELL or 1.0 / np.linalg.norm(np.linalg.inv(matrix), axis=0).max() < MINIMUM_DISTANCE:
        raise StructureError(f"the cell is longer than {LONGEST_CELL:.0f} angstrom, or so oblique that it is flat; give the reduced cell.")
    if not np.abs(structure.frac_coords).max() < MOST_CELLS:
        raise StructureError(f"a coordinate is no number, or lies more than {MOST_CELLS:.0f} cells away; check the coordinates.")
    i, j, _, distance = _in_cell(structure).get_neighbor_list(_search_radius(matrix), exclude_self=True)
    if len(distance) and distance.min() < MINIMUM_DISTANCE:
        worst = int(np.argmin(distance))
        raise StructureError(
            f"sites {i[worst]} and {j[worst]} are {distance[worst]:.2f} angstrom apart; the structure is damaged or still disordered."
        )


def of_elements(structure: Structure) -> Structure:
    """The same crystal of plain elements: without charges, spins and properties of sites; a site of one element in two charges is one atom.

    Dummy species stay, for `check_structure` to refuse.
    """
    if any(isinstance(specie, DummySpecies) for site in structure for specie in site.species):
        return structure
    species = []
    for site in structure:
        amounts: dict[str, float] = {}
        for specie, amount in site.species.items():
            amounts[symbol_of(specie.Z)] = amounts.get(symbol_of(specie.Z), 0.0) + amount
        species.append(amounts)
    return Structure(structure.lattice, species, structure.frac_coords)


def _in_cell(structure: Structure) -> Structure:
    """The structure with its atoms in the cell: a search takes memory for all that lies between them."""
    if np.abs(structure.frac_coords - 0.5).max() < 1.5:
        return structure
    return Structure(structure.lattice, structure.species_and_occu, structure.frac_coords, to_unit_cell=True)


def _search_radius(matrix: NDArray[np.float64]) -> float:
    """Radius within which atoms that are too near are looked for, so that a cell (3, 3) that is mostly empty takes no more memory."""
    extent = np.abs(matrix).sum(axis=0) + MINIMUM_DISTANCE
    return max(MINIMUM_DISTANCE, float((extent.prod() / _MOST_BOXES) ** (1.0 / 3.0)))


def make_structure(lattice: Any, species: Any, coordinates: Any, cartesian: bool = False) -> Structure:
    """A structure from plain values of a file.

    Args:
        lattice: (3, 3) vectors, angstrom.
        species: (n,) symbols.
        coordinates: (n, 3) fractional, or angstrom if `cartesian`.
        cartesian: see there.

    Raises:
        StructureError: if they are of another shape, no numbers, or no elements.
    """
    try:
        matrix, places = (np.array(values, dtype=np.float64) for values in (lattice, coordinates))
        if matrix.shape != (3, 3) or places.shape != (len(species), 3):
            raise ValueError(f"{len(species)} species, coordinates of shape {places.shape}, a lattice of shape {matrix.shape}")
        if not (np.isfinite(matrix).all() and np.isfinite(places).all()):
            raise ValueError("a value is not finite")
        return Structure(Lattice(matrix), list(species), places, coords_are_cartesian=cartesian)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, ArithmeticError, np.linalg.LinAlgError, _PymatgenError) as error:
        raise StructureError(f"lattice, species and coordinates make no structure ({_first_line(error)}); check them.") from error


def structure_of(given: Mapping[str, Any]) -> Structure:
    """The structure of the dictionary that pymatgen makes of one: its own loader imports classes that the dictionary names.

    Raises:
        StructureError: if it is no such dictionary.
    """
    try:
        lattice, sites = given["lattice"], given["sites"]
        species = [{str(part["element"]): float(part.get("occu", 1.0)) for part in site["species"]} for site in sites]
        matrix, places = lattice["matrix"], [site["abc"] for site in sites]
        periodic = tuple(bool(one) for one in lattice.get("pbc", (True, True, True)))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise StructureError(f"it is no structure ({type(error).__name__}: {error}); get it again.") from error
    found = make_structure(matrix, species, places)
    if periodic == (True, True, True):
        return found
    if len(periodic) != 3:
        raise StructureError("it is no structure (pbc are not three); get it again.")
    return Structure(Lattice(found.lattice.matrix, pbc=periodic), found.species_and_occu, found.frac_coords)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


def symbol(structure: Structure, site: int) -> str:
    """Element symbol of a site, without its charge.

    Raises:
        StructureError: if there is no such site.
    """
    if not 0 <= site < len(structure):
        raise StructureError(f"site {site} does not exist; the structure has sites 0 to {len(structure) - 1}.")
    return symbol_of(structure[site].specie.Z)


@cache
def symbol_of(number: int) -> str:
    """Element symbol of an atomic number."""
    return str(Element.from_Z(number).symbol)


def atomic_numbers(structure: Structure) -> list[int]:
    """(n,) of the sites of an ordered structure; `site.specie` would ask each site again whether it is ordered."""
    return [next(iter(site.species)).Z for site in structure]


def inequivalent_absorbers(structure: Structure, absorber: str | None = None) -> list[Absorber]:
    """Symmetry-inequivalent sites by spglib, in order of site index.

    Args:
        structure: an ordered crystal.
        absorber: element to keep; all elements if None.

    Raises:
        StructureError: if the absorber is not in the structure.
    """
    present = {symbol_of(number) for number in set(atomic_numbers(structure))}
    if absorber is not None and absorber not in present:
        formula = structure.composition.reduced_formula
        raise StructureError(f"{absorber} is not in the structure ({formula}); choose one of {', '.join(sorted(present))}.")
    first, count = np.unique(_equivalent_atoms(structure), return_counts=True)
    sites = [Absorber(int(i), symbol(structure, int(i)), int(n)) for i, n in zip(first, count, strict=True)]
    return [site for site in sites if absorber in (None, site.element)]


def multiplicities(structure: Structure, sites: Sequence[int]) -> list[int]:
    """How many sites of the cell each of `sites` stands for, by symmetry.

    Raises:
        StructureError: if a site does not exist, or two of them are equivalent, so that one would count twice.
    """
    for site in sites:
        symbol(structure, site)
    equivalent = _equivalent_atoms(structure)
    seen: dict[int, int] = {}
    for site in sites:
        other = seen.setdefault(int(equivalent[site]), site)
        if other != site or list(sites).count(site) > 1:
            raise StructureError(f"sites {other} and {site} are equivalent by symmetry; give one of them.")
    return [int((equivalent == equivalent[site]).sum()) for site in sites]


def symmetry_dataset(structure: Structure) -> Any:
    """What spglib says of a crystal's symmetry within `SYMMETRY_TOLERANCE`; None where it finds none."""
    import spglib

    cell = (structure.lattice.matrix.tolist(), structure.frac_coords.tolist(), atomic_numbers(structure))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return spglib.get_symmetry_dataset(cell, symprec=SYMMETRY_TOLERANCE)
        except Exception:  # spglib >= 2.7 raises where it used to return None
            return None


def _equivalent_atoms(structure: Structure) -> NDArray[np.int64]:
    """(n,) index of the first site each site is equivalent to. Where spglib finds no symmetry, every site stands for itself."""
    dataset = symmetry_dataset(structure)
    if dataset is None:
        return np.arange(len(structure), dtype=np.int64)
    equivalent = np.asarray(dataset.equivalent_atoms, dtype=np.int64)
    return np.array([np.flatnonzero(equivalent == label)[0] for label in equivalent], dtype=np.int64)


def prototype(structure: Structure, group: int | None = None) -> str:
    """Anonymised formula and space-group number, e.g. `AB-225` for rock salt: what two compounds of one type share.

    `group` is the number where it is known already; spglib need not look for it again.
    """
    return f"{structure.composition.anonymized_formula}-{space_group(structure) if group is None else group}"


def space_group(structure: Structure) -> int:
    """Space-group number by spglib at 0.01 angstrom; 1 where it finds none."""
    try:
        return int(structure.get_space_group_info(symprec=SYMMETRY_TOLERANCE)[1])
    except Exception:  # spglib fails on a few distorted cells; no symmetry is the answer then
        return 1


@cache
def _finder() -> Any:
    from pymatgen.analysis.local_env import CrystalNN

    return CrystalNN(weighted_cn=False)


def first_shell(structure: Structure, site: int) -> FirstShell:
    """First shell of a site by CrystalNN with unit weights; distances from the image coordinates.

    `site.distance` would give the nearest image instead, which is wrong for neighbours on the site's own sublattice.

    Raises:
        StructureError: if the site does not exist or CrystalNN finds no neighbour.
    """
    symbol(structure, site)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CrystalNN warns that oxidation states are absent; radii are used, as intended
        try:
            found = _finder().get_nn_info(structure, site)
        except Exception as error:
            raise StructureError(f"CrystalNN failed on site {site} ({symbol(structure, site)}): {error}.") from error
    if not found:
        raise StructureError(f"site {site} ({symbol(structure, site)}) has no neighbours within CrystalNN's range; is the cell too large?")
    centre = structure[site].frac_coords
    lattice = structure.lattice
    pairs = []
    for neighbour in found:
        image = structure[neighbour["site_index"]].frac_coords + np.array(neighbour["image"])
        distance = float(np.linalg.norm(lattice.get_cartesian_coords(image - centre)))
        pairs.append((distance, symbol(structure, neighbour["site_index"])))
    pairs.sort()
    return FirstShell(tuple(element for _, element in pairs), tuple(distance for distance, _ in pairs))

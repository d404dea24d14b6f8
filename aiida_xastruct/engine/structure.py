"""Absorbing sites of a crystal and the first shell around each. Lengths are in angstrom."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import DummySpecies, Element, Structure

from .errors import StructureError

#: Shorter contacts than this are no chemical bond; the H-H bond is 0.74 angstrom.
MINIMUM_DISTANCE = 0.6

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
    if not np.isfinite(structure.lattice.matrix).all() or structure.volume < 1.0:
        raise StructureError("the cell has no volume; check the lattice vectors (angstrom).")
    i, j, _, distance = structure.get_neighbor_list(MINIMUM_DISTANCE, exclude_self=True)
    if len(distance):
        worst = int(np.argmin(distance))
        raise StructureError(
            f"sites {i[worst]} and {j[worst]} are {distance[worst]:.2f} angstrom apart; the structure is damaged or still disordered."
        )


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


def _equivalent_atoms(structure: Structure) -> NDArray[np.int64]:
    """(n,) index of the first site each site is equivalent to. Where spglib finds no symmetry, every site stands for itself."""
    import spglib

    numbers = atomic_numbers(structure)
    cell = (structure.lattice.matrix.tolist(), structure.frac_coords.tolist(), numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            dataset = spglib.get_symmetry_dataset(cell, symprec=SYMMETRY_TOLERANCE)
        except Exception:  # spglib >= 2.7 raises where it used to return None
            dataset = None
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

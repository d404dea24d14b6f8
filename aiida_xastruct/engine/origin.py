"""Of which crystal a spectrum is, and what surrounds its absorber there: what spectra are searched by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypedDict

from .errors import StructureError

if TYPE_CHECKING:  # nodes of AiiDA know of origins, and pymatgen takes a second to import
    from pymatgen.core import Structure

#: Digits of a hash that a node with many spectra lists of each crystal: of a million crystals one in four thousand shares them with
#: another.
PREFIX = 8


class Origin(TypedDict):
    """A site of a known crystal.

    Attributes:
        structure_hash: SHA-256 of the crystal's content, `engine.sitecache.structure_hash`.
        neighbours: elements of the first shell, sorted; None where CrystalNN finds none.
        mean_distance: of the first shell, angstrom; None where CrystalNN finds none.
    """

    structure_hash: str
    neighbours: list[str] | None
    mean_distance: float | None


def origin_of(structure: Structure, site: int) -> Origin:
    """What is known of a spectrum of a site of a crystal.

    Raises:
        StructureError: if the site does not exist.
    """
    from .sitecache import structure_hash
    from .structure import first_shell, symbol

    symbol(structure, site)
    try:
        shell = first_shell(structure, site)
    except StructureError:
        return Origin(structure_hash=structure_hash(structure), neighbours=None, mean_distance=None)
    return Origin(
        structure_hash=structure_hash(structure), neighbours=sorted(shell.neighbour_set), mean_distance=round(shell.mean_distance, 6)
    )


def prefixes(hashes: Iterable[str | None]) -> list[str]:
    """The first digits of some crystals' hashes, each once, sorted; what has no hash is left out."""
    return sorted({value[:PREFIX] for value in hashes if value})

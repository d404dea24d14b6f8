"""Where the library's structures come from: the AMCSD inside larixite, or what a user brings.

The American Mineralogist Crystal Structure Database (Downs and Hall-Wallace, Am. Mineral. 88, 247 (2003)) is free to use when cited. Its
coordinates are never copied: a record holds the AMCSD code and a fingerprint, and `read_structure` reads the crystal again and
compares.
"""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from pymatgen.core import Structure

from ..cif import check_formula, parse_cif
from ..errors import StructureError
from .crystal import MAX_ATOMS, check_crystal, fingerprint
from .files import CifSource, MemberSource, NpzSource


class Source(Protocol):
    """A collection of crystals.

    Attributes:
        name: of the source in records: `amcsd`, `npz`, `cif` or `aiida`.
        version: what an id must be read with to mean the same crystal.
    """

    name: str
    version: str

    def ids_by_element(self) -> dict[str, list[str]]:
        """Ids of the entries that hold each element; of those whose elements cannot be told under `UNREADABLE`."""
        ...

    def structure(self, source_id: str) -> tuple[Structure, dict[str, Any]]:
        """The crystal of an id and notes about it; raises StructureError with the reason if it cannot be used."""
        ...


class AmcsdSource:
    """The AMCSD as larixite ships it (9,275 entries, 5,800 of them ordered, clean and of at most 60 atoms)."""

    name = "amcsd"

    def __init__(self) -> None:
        try:
            from larixite.amcsd import AMCSD

            self.version = f"larixite {version('larixite')} trim"
        except (ImportError, PackageNotFoundError) as error:
            raise StructureError("the AMCSD comes with larixite, which is not installed; pip install larixite.") from error
        # Read only: larixite would otherwise add a column to the file in site-packages. Never the full database that it can
        # download: the same code could then mean another entry on another machine.
        self._database = AMCSD(read_only=True)

    def ids_by_element(self) -> dict[str, list[str]]:
        """AMCSD codes by element symbol, in increasing order."""
        found: dict[str, list[str]] = defaultdict(list)
        # The element table is that of the full database; half of its codes are not in the trimmed one.
        present = {str(row.id) for row in self._database.execall(self._database.tables["cif"].select())}
        for row in self._database.get_all("cif_elements"):
            if str(row.cif_id) in present:
                found["H" if row.element == "D" else str(row.element)].append(str(row.cif_id))
        return {element: sorted(set(ids), key=int) for element, ids in sorted(found.items())}

    def structure(self, source_id: str) -> tuple[Structure, dict[str, Any]]:
        """The conventional cell of an AMCSD code, sites in the order pymatgen's CIF parser gives.

        Notes: `missing_hydrogen` is true where the formula has H and the coordinates have not (X-rays hardly see it).

        Raises:
            StructureError: if the entry has no coordinates, is disordered, damaged or larger than `MAX_ATOMS`, or its atoms do not
                make up its formula.
        """
        text, formula = self._entry(source_id)
        structure = parse_cif(text)
        check_crystal(structure)
        return structure, {"missing_hydrogen": check_formula(structure, formula)}

    def text(self, source_id: str) -> str:
        """The CIF of an AMCSD code as larixite holds it, whose title states at what temperature and pressure it was measured, if at all.

        Raises:
            StructureError: as `structure`.
        """
        return self._entry(source_id)[0]

    def titles(self) -> list[tuple[str, str, str, str]]:
        """Code, mineral, formula and title (the compound and the paper's) of each entry."""
        minerals = {row.id: str(row.name) for row in self._database.get_all("minerals")}
        columns = self._database.tables["cif"].c
        wanted = (columns.id, columns.mineral_id, columns.formula, columns.compound, columns.pub_title, columns.formula_title)
        rows = self._database.execall(self._database.tables["cif"].select().with_only_columns(*wanted))  # not the coordinates
        words = [" ".join(str(text) for text in (row.compound, row.pub_title, row.formula_title)) for row in rows]
        return [(str(row.id), minerals.get(row.mineral_id, ""), str(row.formula), text) for row, text in zip(rows, words, strict=True)]

    def _entry(self, source_id: str) -> tuple[str, str]:
        with contextlib.redirect_stdout(io.StringIO()):  # larixite prints what it cannot parse
            try:
                entry = self._database.get_cif(int(source_id))
                if entry is None:
                    raise StructureError(f"the AMCSD in larixite has no code {source_id}.")
                if entry.natoms == 0 or entry.natoms > 2 * MAX_ATOMS:
                    raise StructureError(f"AMCSD {source_id} lists {entry.natoms} atoms.")
                return str(entry.ciftext), str(entry.formula)
            except (ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
                if isinstance(error, StructureError):
                    raise
                raise StructureError(f"larixite cannot read AMCSD {source_id}: {error}.") from error


@lru_cache(maxsize=4)
def open_source(name: str, path: str = "") -> Source:
    """The source of a name; `path` is the table of `npz`, the folder of `cif`, the file that `write_members` wrote for `aiida`.

    Raises:
        StructureError: if there is no such source, or it cannot be read.
    """
    if name == "amcsd":
        return AmcsdSource()
    readers: dict[str, type[NpzSource | CifSource | MemberSource]] = {"npz": NpzSource, "cif": CifSource, "aiida": MemberSource}
    if name not in readers:
        raise StructureError(f"there is no source {name!r}; use amcsd, npz or cif.")
    if not path:
        raise StructureError(f"the source {name!r} needs a path: the table of npz, the folder of cif.")
    return readers[name](path)


@lru_cache(maxsize=256)
def read_structure(source: str, source_id: str, expected: str = "") -> Structure:
    """The crystal that a record was computed from.

    Args:
        source: `amcsd`; records of other sources carry their coordinates.
        source_id: the AMCSD code.
        expected: fingerprint that the record holds; not compared if empty.

    Raises:
        StructureError: if it cannot be read, or larixite now gives other coordinates than those computed.
    """
    structure, _ = open_source(source).structure(source_id)
    if expected and fingerprint(structure) != expected:
        raise StructureError(
            f"{source} {source_id} now reads differently than when its spectrum was computed; install the larixite of its record."
        )
    return structure

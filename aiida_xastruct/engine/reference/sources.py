"""Where the library's structures come from: the AMCSD inside larixite, or a table of structures in an npz file.

The American Mineralogist Crystal Structure Database (Downs and Hall-Wallace, Am. Mineral. 88, 247 (2003)) is free to use when cited. Its
coordinates are never copied: a record holds the AMCSD code and a fingerprint, and `read_structure` reads the crystal again and
compares.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import warnings
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pymatgen.core import Composition, Element, Lattice, Structure

from ..errors import StructureError
from ..structure import check_structure

#: Structures with more atoms in their conventional cell cost more symmetry and feature work than they add.
MAX_ATOMS = 60


class Source(Protocol):
    """A collection of crystals.

    Attributes:
        name: `amcsd` or `npz`.
        version: what an id must be read with to mean the same crystal.
    """

    name: str
    version: str

    def ids_by_element(self) -> dict[str, list[str]]:
        """Ids of the entries that hold each element."""
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
        structure = _parse_cif(text)
        if len(structure) > MAX_ATOMS:
            raise StructureError(f"the cell has {len(structure)} atoms; the library takes at most {MAX_ATOMS}.")
        check_structure(structure)
        return structure, {"missing_hydrogen": _check_formula(structure, formula)}

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


def _parse_cif(text: str) -> Structure:
    from pymatgen.io.cif import CifParser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about rounded coordinates and missing hydrogen, which is checked below
        try:
            return CifParser.from_str(text, occupancy_tolerance=1.01, site_tolerance=5e-3).parse_structures(primitive=False)[0]
        except Exception as error:  # pymatgen raises many kinds for what 1960s refinements can hold
            raise StructureError(
                f"pymatgen cannot read the crystal: {str(error).splitlines()[0] if str(error) else type(error).__name__}."
            ) from error


def _check_formula(structure: Structure, formula: str) -> bool:
    """Whether hydrogen is missing from the coordinates.

    Raises:
        StructureError: if the other elements do not make up the formula to 3 %: an unread label, a missing or a doubled atom.
    """
    try:
        stated = Composition(formula.replace("D", "H") if "D" in formula.split() else formula).element_composition
    except Exception as error:
        raise StructureError(f"the formula {formula!r} cannot be read.") from error
    present = structure.composition.element_composition
    hydrogen = Element("H")
    heavy = sorted(set(stated) - {hydrogen})
    if set(heavy) != set(present) - {hydrogen}:
        raise StructureError(f"the coordinates give {present.reduced_formula}, the formula says {formula}.")
    if heavy:
        ratios = [present[element] / stated[element] for element in heavy]
        if max(ratios) / min(ratios) > 1.03:
            raise StructureError(f"the coordinates give {present.reduced_formula}, the formula says {formula}.")
    return hydrogen in stated and hydrogen not in present


class NpzSource:
    """Structures of an npz table: `ids`, `cells` (a b c alpha beta gamma; angstrom, degrees), `natoms`, `Z` and `frac` concatenated."""

    name = "npz"

    def __init__(self, path: Path | str) -> None:
        data = np.load(Path(path), allow_pickle=False)
        self.version = Path(path).name
        self._ids = [str(value) for value in data["ids"]]
        self._cells, self._numbers, self._frac = data["cells"], data["Z"], data["frac"]
        self._ends = np.cumsum(data["natoms"])
        self._index = {value: i for i, value in enumerate(self._ids)}

    def ids_by_element(self) -> dict[str, list[str]]:
        """Ids by element symbol, in the order of the table."""
        found: dict[str, list[str]] = defaultdict(list)
        start = 0
        for source_id, end in zip(self._ids, self._ends, strict=True):
            for z in np.unique(self._numbers[start:end]):
                found[str(Element.from_Z(int(z)).symbol)].append(source_id)
            start = int(end)
        return dict(sorted(found.items()))

    def structure(self, source_id: str) -> tuple[Structure, dict[str, Any]]:
        """The cell of an id, sites in the table's order.

        Raises:
            StructureError: if there is no such id or the cell is damaged or too large.
        """
        if source_id not in self._index:
            raise StructureError(f"there is no structure {source_id!r} in {self.version}.")
        i = self._index[source_id]
        begin, end = int(self._ends[i - 1]) if i else 0, int(self._ends[i])
        if end - begin > MAX_ATOMS:
            raise StructureError(f"the cell has {end - begin} atoms; the library takes at most {MAX_ATOMS}.")
        structure = Structure(
            Lattice.from_parameters(*self._cells[i]), [Element.from_Z(int(z)) for z in self._numbers[begin:end]], self._frac[begin:end]
        )
        check_structure(structure)
        return structure, {}


@lru_cache(maxsize=4)
def open_source(name: str, path: str = "") -> Source:
    """The source of a name; `path` is the table of an `npz` source.

    Raises:
        StructureError: if there is no such source.
    """
    if name == "amcsd":
        return AmcsdSource()
    if name == "npz" and path:
        return NpzSource(path)
    raise StructureError(f"there is no source {name!r}; use 'amcsd', or 'npz' with the path of a table.")


def fingerprint(structure: Structure) -> str:
    """16 hex digits of the cell, species and coordinates to 1e-3 angstrom, in site order: does a site index still mean the same atom."""
    numbers = ",".join(str(site.specie.Z) for site in structure)
    cell = ",".join(f"{value:.3f}" for value in structure.lattice.parameters)
    # Fractional coordinates modulo one, rounded so that 0.99999 and 0 agree.
    frac = np.round(np.mod(structure.frac_coords, 1.0), 4) % 1.0
    text = f"{cell}|{numbers}|" + ",".join(f"{value:.4f}" for value in frac.ravel())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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


def structure_to_dict(structure: Structure) -> dict[str, Any]:
    """Lattice (3, 3), species and fractional coordinates (n, 3), plain JSON."""
    return {
        "lattice": np.round(structure.lattice.matrix, 6).tolist(),
        "species": [str(Element.from_Z(site.specie.Z).symbol) for site in structure],
        "frac": np.round(structure.frac_coords, 6).tolist(),
    }


def structure_from_dict(values: Mapping[str, Any]) -> Structure:
    """The inverse of `structure_to_dict`."""
    return Structure(Lattice(values["lattice"]), values["species"], values["frac"])

"""Sources that a user brings: a table of structures, a folder of CIF files, the members of an AiiDA group."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Element, Lattice, Structure

from ..arrays import DAMAGED, read_npz
from ..cif import check_formula, parse_cif, stated_formula
from ..errors import StructureError
from ..structure import make_structure, structure_of
from .crystal import MAX_ATOMS, check_crystal

#: Stands for the elements of what cannot be read at all; see `Source.ids_by_element`.
UNREADABLE = ""

#: Bytes of a table's arrays at most: some ten million atoms.
_MOST_BYTES = 500_000_000


def _by_element(elements: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Ids by element symbol, from the symbols of each id."""
    found: dict[str, list[str]] = defaultdict(list)
    for source_id, symbols in elements.items():
        for symbol in symbols:
            found[symbol].append(source_id)
    return dict(sorted(found.items()))


def _symbols(structure: Structure) -> list[str]:
    """Symbols of the elements in a structure, sorted; disordered ones too. Dummy species are no elements."""
    return sorted(str(element.symbol) for element in structure.composition.element_composition if isinstance(element, Element))


class NpzSource:
    """Structures of an npz table: `ids`, `cells` (a b c alpha beta gamma; angstrom, degrees), `natoms`, `Z` and `frac` concatenated.

    Raises:
        StructureError: if the file is no such table.
    """

    name = "npz"

    def __init__(self, path: Path | str) -> None:
        try:
            data = read_npz(Path(path), ("ids", "cells", "natoms", "Z", "frac"), _MOST_BYTES)
        except DAMAGED as error:
            raise StructureError(f"{path} is no npz table of structures; it must hold ids, cells, natoms, Z and frac.") from error
        self._cells, self._numbers, self._frac, counts = data["cells"], data["Z"], data["frac"], data["natoms"]
        n, atoms = len(data["ids"]) if data["ids"].ndim == 1 else -1, self._numbers.size
        shapes = {"cells": (n, 6), "natoms": (n,), "Z": (atoms,), "frac": (atoms, 3)}
        if any(data[name].shape != shape or data[name].dtype.kind not in "fiu" for name, shape in shapes.items()):
            raise StructureError(f"{path} is damaged: ids, cells, natoms, Z and frac are not of one table; make it again.")
        whole = all(
            np.isfinite(array).all() and (array >= 0).all() and (array == np.floor(array)).all() for array in (counts, self._numbers)
        )
        if not whole or int(counts.astype(np.int64).sum()) != atoms or not np.isin(self._numbers, range(1, 119)).all():
            raise StructureError(f"{path} is damaged: natoms and Z are not numbers of atoms and of elements; make it again.")
        self._ids = [str(value) for value in data["ids"]]
        self._ends = np.cumsum(counts.astype(np.int64))
        self.version = Path(path).name
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
        with np.errstate(all="ignore"):
            lattice = Lattice.from_parameters(*self._cells[i]).matrix
        structure = make_structure(lattice, [Element.from_Z(int(z)) for z in self._numbers[begin:end]], self._frac[begin:end])
        check_crystal(structure)
        return structure, {}


class CifSource:
    """The CIF files in a folder and those below it; of each, the first crystal.

    An id is the file's path below the folder and 12 digits of the SHA-256 of its content: a file that is mended is another crystal, and
    two folders may hold files of one name.

    Raises:
        StructureError: if the folder holds no file `*.cif`.
    """

    name = "cif"

    def __init__(self, folder: Path | str) -> None:
        self.version = f"pymatgen {version('pymatgen')}"  # whose parser gives the order of the sites
        self._folder = Path(folder)
        paths = sorted(path for path in self._folder.rglob("*") if path.suffix.lower() == ".cif" and path.is_file())
        if not paths:
            raise StructureError(f"there is no file *.cif in {folder}; give the folder that holds them.")
        self._paths = {f"{path.relative_to(self._folder).as_posix()}:{_digest(path.read_bytes())}": path for path in paths}

    def ids_by_element(self) -> dict[str, list[str]]:
        """Ids by element symbol; those of unreadable files under `UNREADABLE`. Reads every file."""
        return _by_element(self._elements)

    @cached_property
    def _elements(self) -> dict[str, list[str]]:
        found = {}
        for source_id, path in self._paths.items():
            try:
                found[source_id] = _symbols(parse_cif(path.read_text(errors="replace")))
            except StructureError:
                found[source_id] = [UNREADABLE]
        return found

    def structure(self, source_id: str) -> tuple[Structure, dict[str, Any]]:
        """The conventional cell, sites in the order pymatgen's CIF parser gives.

        Notes: `missing_hydrogen` as for the AMCSD, where the file states its formula.

        Raises:
            StructureError: if there is no such file any more, or its crystal is disordered, damaged, larger than `MAX_ATOMS` or not what
                its `_chemical_formula_sum` says.
        """
        path = self._paths.get(source_id)
        content = path.read_bytes() if path is not None and path.is_file() else b""
        if _digest(content) != source_id.rpartition(":")[2]:
            raise StructureError(f"{source_id} is not in {self._folder} any more, or has changed.")
        text = content.decode(errors="replace")
        structure = parse_cif(text)
        check_crystal(structure)
        formula = stated_formula(text)
        notes = {"missing_hydrogen": check_formula(structure, formula)} if formula else {}
        return structure, notes


@dataclass(frozen=True)
class Member:
    """A structure of another program's collection: its id, its crystal, or the reason why it has none."""

    source_id: str
    structure: Structure | None
    reason: str = ""


def write_members(path: Path, members: Iterable[Member]) -> None:
    """Write what `MemberSource` reads: JSON lines."""
    partial = path.with_suffix(".partial")
    with partial.open("w") as stream:
        for member in members:
            crystal = None if member.structure is None else member.structure.as_dict()
            stream.write(json.dumps({"id": member.source_id, "structure": crystal, "reason": member.reason}) + "\n")
    partial.replace(path)


class MemberSource:
    """The members of an AiiDA group, which the command line has written to a file (`write_members`); ids are their UUIDs.

    Raises:
        StructureError: if the file is missing or has no members.
    """

    name = "aiida"

    def __init__(self, path: Path | str) -> None:
        self.version = ""  # a UUID means one structure for good
        try:
            rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
            self._rows = {str(row["id"]): (row["structure"], str(row["reason"])) for row in rows}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StructureError(f"{path} cannot be read as structures ({error}); start the build from the group again.") from error
        if not self._rows:
            raise StructureError("the group holds no structure; give one of StructureData nodes.")

    def ids_by_element(self) -> dict[str, list[str]]:
        """UUIDs by element symbol; those of members that are no crystal under `UNREADABLE`."""
        elements = {}
        for source_id, (given, _) in self._rows.items():
            try:
                elements[source_id] = [UNREADABLE] if given is None else _symbols(structure_of(given))
            except StructureError:
                elements[source_id] = [UNREADABLE]
        return _by_element(elements)

    def structure(self, source_id: str) -> tuple[Structure, dict[str, Any]]:
        """The crystal of a UUID, sites in the node's order.

        Raises:
            StructureError: if it is not in the group, is no crystal, disordered, damaged or larger than `MAX_ATOMS`.
        """
        if source_id not in self._rows:
            raise StructureError(f"there is no member {source_id} in the group.")
        given, reason = self._rows[source_id]
        if given is None:
            raise StructureError(reason)
        structure = structure_of(given)
        if not all(structure.pbc):
            raise StructureError("the structure is not periodic in three directions; FEFF runs of the library are of crystals.")
        check_crystal(structure)
        return structure, {}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]

"""One crystal from a file of a stranger's: CIF, POSCAR, extended xyz, or another format that pymatgen reads."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import StructureError

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: Bytes of a file of one crystal at most.
MAX_BYTES = 50_000_000

#: Files that ASE reads, because their format has no cell or has it in a comment.
XYZ = (".xyz", ".extxyz")

POSCAR = (".poscar", ".vasp")

#: Files of the crystallographers.
CIF = (".cif", ".mcif")

#: Endings of files that hold a crystal, and the names that VASP gives them.
ENDINGS = (*CIF, ".cssr", ".xsf", *XYZ, *POSCAR)
VASP = ("POSCAR", "CONTCAR")


def is_crystal_name(name: str) -> bool:
    """Whether a file of this name holds a crystal."""
    return Path(name).suffix.lower() in ENDINGS or Path(name).name.startswith(VASP)


def read_crystal(path: Path, say: Callable[[str], None] | None = None) -> Structure:
    """The crystal in a file, checked, of plain elements.

    Args:
        path: the file; of a CIF with several crystals the first is taken.
        say: called with a sentence about what the file lacks and the crystal can do without, such as hydrogen.

    Raises:
        StructureError: if it does not exist, cannot be read, has no cell, is not what its formula says, or holds what cannot be answered
            for.
    """
    from .structure import check_structure, of_elements

    if not path.is_file():
        raise StructureError(f"{path} does not exist; give the path of a CIF or POSCAR.")
    if path.stat().st_size > MAX_BYTES:
        raise StructureError(f"{path.name} has {path.stat().st_size / 1e6:.0f} MB, more than a file of one crystal; cut it down.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about rounded coordinates
        try:
            structure = _read(path)
        except StructureError:
            raise
        except Exception as error:  # pymatgen and ASE raise many kinds for what files can hold
            words = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
            raise StructureError(f"{path.name} cannot be read as a crystal structure ({words}); give a CIF.") from error
    structure = of_elements(structure)
    check_structure(structure)
    if path.suffix.lower() in CIF:
        for words in _remarks(path.name, _text(path), structure):
            if say is not None:
                say(words)
    return structure


def _remarks(name: str, text: str, structure: Structure) -> Iterator[str]:
    """What the text of a CIF says that is not in the crystal, a sentence each.

    Raises:
        StructureError: if the crystal is not what its formula says.
    """
    from .cif import check_formula, count_crystals, stated_formula

    if (count := count_crystals(text)) > 1:
        yield f"{name} holds {count} crystals; the first is taken."
    if formula := stated_formula(text):
        try:
            lacks_hydrogen = check_formula(structure, formula)
        except StructureError as error:
            raise StructureError(f"{name}: {str(error).rstrip('.')}; mend the atoms, or its _chemical_formula_sum.") from error
        if lacks_hydrogen:
            yield f"{name} has hydrogen in its formula and none among its atoms; answers are for the crystal without."


def _read(path: Path) -> Structure:
    from pymatgen.core import Structure
    from pymatgen.io.vasp import Poscar

    from .cif import parse_cif

    if path.suffix.lower() in CIF:
        try:
            return parse_cif(_text(path))
        except StructureError as error:
            words = str(error).rstrip(".")
            raise StructureError(f"{path.name} cannot be read as a crystal structure ({words}); give another CIF.") from error
    if path.suffix.lower() in POSCAR or path.name.startswith(VASP):
        poscar = Poscar.from_str(_text(path))
        if not poscar.true_names:
            raise StructureError(f"{path.name} names no elements; add the line of symbols above that of the counts.")
        return poscar.structure
    if path.suffix.lower() not in XYZ:
        return Structure.from_file(path)
    from ase.io import read
    from pymatgen.io.ase import AseAtomsAdaptor

    atoms: Any = read(_first_frame(path), format="extxyz", index=0)
    if atoms.cell.rank < 3 or not atoms.pbc.all():
        raise StructureError(
            f'{path.name} has no cell that is periodic in three dimensions; add Lattice="..." and pbc="T T T", or give a CIF.'
        )
    return AseAtomsAdaptor.get_structure(atoms)


def _text(path: Path) -> str:
    return path.read_text(errors="replace")


def _first_frame(path: Path) -> StringIO:
    """The lines of the first crystal in a file of xyz: ASE looks at the second too, and believes whatever number of atoms a line names.

    Raises:
        StructureError: if it names more atoms than there are lines, or none.
    """
    lines = path.read_text().splitlines(keepends=True)
    first, rest = lines[0].strip() if lines else "", max(len(lines) - 2, 0)
    if not first.isdecimal() or len(first) > len(str(MAX_BYTES)) or int(first) > rest:
        words = f"its first line names {first[:20]!r} atoms, and {rest} lines of atoms follow"
        raise StructureError(f"{path.name} cannot be read as a crystal structure ({words}); copy it again.")
    end = int(first) + 2
    while end < len(lines) and lines[end].lstrip().startswith("VEC"):  # a lattice that some programs write below the atoms
        end += 1
    return StringIO("".join(lines[:end]))

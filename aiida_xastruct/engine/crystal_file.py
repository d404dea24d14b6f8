"""One crystal from a file of a stranger's: CIF, POSCAR, extended xyz, or another format that pymatgen reads."""

from __future__ import annotations

import warnings
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

#: Endings of files that hold a crystal, and the names that VASP gives them.
ENDINGS = (".cif", ".mcif", ".cssr", ".xsf", *XYZ, *POSCAR)
VASP = ("POSCAR", "CONTCAR")


def is_crystal_name(name: str) -> bool:
    """Whether a file of this name holds a crystal."""
    return Path(name).suffix.lower() in ENDINGS or Path(name).name.startswith(VASP)


def read_crystal(path: Path) -> Structure:
    """The crystal in a file, checked.

    Raises:
        StructureError: if it does not exist, cannot be read, has no cell, or holds what cannot be answered for.
    """
    from .structure import check_structure

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
    check_structure(structure)
    return structure


def _read(path: Path) -> Structure:
    from pymatgen.core import Structure

    if path.suffix.lower() in POSCAR:
        return Structure.from_str(path.read_text(), fmt="poscar")
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

"""Crystals on the command line: a file, a node, or the name that a database has for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.params import types

from ..engine.errors import StructureError, XastructError

if TYPE_CHECKING:
    from aiida.orm import StructureData

#: Bytes of a file of one crystal at most.
MAX_BYTES = 50_000_000

ENTRY_POINT = "aiida.data:core.structure"

#: Files that ASE reads, because their format has no cell or has it in a comment.
_XYZ = (".xyz", ".extxyz")

_POSCAR = (".poscar", ".vasp")

#: Endings of files that hold a crystal, and the names that VASP gives them.
_CRYSTALS = (".cif", ".mcif", ".cssr", ".xsf", *_XYZ, *_POSCAR)
_VASP = ("POSCAR", "CONTCAR")


def is_crystal(text: str) -> bool:
    """Whether an argument names a file that holds a crystal, by its ending."""
    path = Path(text)
    return path.is_file() and (path.suffix.lower() in _CRYSTALS or path.name.startswith(_VASP))


def structure_node(text: str) -> StructureData:
    """The crystal that an argument names: a node, stored or new.

    Args:
        text: a file (CIF, POSCAR, extended xyz, or another that pymatgen reads), a pk, UUID or label, or an id, mineral or formula as
            `engine.crystal_sources` takes them. A file wins over a node, a node over a mineral.

    Raises:
        XastructError: if there is none, or it cannot be used.
    """
    from ..engine.crystal_sources import is_address, is_mineral

    if Path(text).is_file():
        return read_structure(Path(text))
    if is_address(text):
        return _found(text)
    node = stored_structure(text)
    if node is not None:
        return node
    if is_mineral(text):
        return _found(text)
    raise XastructError(
        f"{text} is neither a file nor a stored structure, nor a mineral or formula of the AMCSD; "
        "check the name, or give amcsd:ID, mp-ID or an OPTIMADE id."
    )


def is_structure(text: str) -> bool:
    """Whether an argument that is no file names a crystal: an id of a database, a stored crystal, or else a mineral of the AMCSD."""
    from ..engine.crystal_sources import is_address, is_mineral

    return is_address(text) or stored_structure(text) is not None or (not _is_node(text) and is_mineral(text))


def stored_structure(text: str) -> StructureData | None:
    """The stored crystal of a pk, UUID or label; None if there is none."""
    try:
        node: StructureData = types.DataParamType(sub_classes=(ENTRY_POINT,)).convert(text, None, click.get_current_context(silent=True))
    except click.BadParameter:
        return None
    return node


def _is_node(text: str) -> bool:
    try:
        types.DataParamType().convert(text, None, click.get_current_context(silent=True))
    except click.BadParameter:
        return False
    return True


def _found(text: str) -> StructureData:
    """Unstored node of a crystal of a database, which its `source` names."""
    from aiida.orm import StructureData

    from ..engine.crystal_sources import find

    found = find(text)
    node = StructureData(pymatgen=found.structure, label=found.name)
    node.source = dict(found.source)
    if found.name != text:
        click.echo(f"{text} is {found.name}.", err=True)
    return node


def read_structure(path: Path) -> StructureData:
    """Unstored node of a file of a crystal.

    Raises:
        StructureError: if it cannot be read, has no cell, or holds what cannot be answered for.
    """
    import warnings

    from aiida.orm import StructureData

    from ..engine.structure import check_structure

    if path.stat().st_size > MAX_BYTES:
        raise StructureError(f"{path.name} has {path.stat().st_size / 1e6:.0f} MB, more than a file of one crystal; cut it down.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about rounded coordinates
        try:
            structure = _read(path)
        except StructureError:
            raise
        except Exception as error:  # pymatgen and ASE raise many kinds for what files can hold
            words = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
            raise StructureError(f"{path.name} cannot be read as a crystal structure ({words}); give a CIF.") from error
    check_structure(structure)
    return StructureData(pymatgen=structure, label=path.name)


def _read(path: Path) -> Any:
    from pymatgen.core import Structure

    if path.suffix.lower() in _POSCAR:
        return Structure.from_str(path.read_text(), fmt="poscar")
    if path.suffix.lower() not in _XYZ:
        return Structure.from_file(path)
    from ase.io import read
    from pymatgen.io.ase import AseAtomsAdaptor

    atoms: Any = read(path, format="extxyz", index=0)
    if atoms.cell.rank < 3 or not atoms.pbc.all():
        raise StructureError(
            f'{path.name} has no cell that is periodic in three dimensions; add Lattice="..." and pbc="T T T", or give a CIF.'
        )
    return AseAtomsAdaptor.get_structure(atoms)

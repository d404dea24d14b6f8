"""Crystals on the command line: a file, a node, or the name that a database has for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from aiida.cmdline.params import types

from ..engine.errors import XastructError

if TYPE_CHECKING:
    from aiida.orm import StructureData

ENTRY_POINT = "aiida.data:core.structure"


def is_crystal(text: str) -> bool:
    """Whether an argument names a file that holds a crystal, by its ending."""
    from ..engine.crystal_file import is_crystal_name

    return Path(text).is_file() and is_crystal_name(text)


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
    from aiida.orm import StructureData

    from ..engine.crystal_file import read_crystal

    return StructureData(pymatgen=read_crystal(path, say=lambda words: click.echo(words, err=True)), label=path.name)

"""Candidates on the command line: crystals and spectra, stored or in files, each under a name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from aiida.orm import Data, StructureData

    from ..data.spectrum import SpectrumData


def spectrum_node(text: str, parameters: Mapping[str, Any]) -> SpectrumData:
    """The stored spectrum of a pk, UUID or label, or that of a file, which is imported.

    Args:
        text: what names it. A file wins over a node.
        parameters: fields of `engine.scans.ScanParameters`, for a file.

    Raises:
        XastructError: if there is neither.
    """
    from .imports import import_files
    from .launch import stored_or_file

    def read(path: Path) -> SpectrumData:
        return import_files([str(path)], {name: value for name, value in parameters.items() if value})

    node: SpectrumData = stored_or_file(text, "aiida.data:xastruct.spectrum", read)
    return node


def candidates_of(names: Sequence[str], parameters: Mapping[str, Any]) -> tuple[dict[str, StructureData], dict[str, SpectrumData]]:
    """Crystals and spectra that arguments name, each by a name that a link of the provenance can bear.

    Args:
        names: files, pks, UUIDs or labels.
        parameters: for files of spectra: fields of `engine.scans.ScanParameters`.

    Raises:
        XastructError: if one is neither.
    """
    from aiida.orm import StructureData

    structures: dict[str, StructureData] = {}
    spectra: dict[str, SpectrumData] = {}
    for text in names:
        node = _node(text, parameters)
        name = _name(text, node, {*structures, *spectra})
        if isinstance(node, StructureData):
            structures[name] = node
        else:
            spectra[name] = node
    return structures, spectra


def _node(text: str, parameters: Mapping[str, Any]) -> Any:
    from aiida.cmdline.params import types

    from ..engine.errors import XastructError
    from .structures import is_crystal, is_structure, read_structure, structure_node

    if is_crystal(text):
        return read_structure(Path(text))
    if Path(text).is_file():
        return spectrum_node(text, parameters)
    if is_structure(text):
        return structure_node(text)
    try:
        return types.DataParamType(sub_classes=("aiida.data:xastruct.spectrum",)).convert(text, None, click.get_current_context())
    except click.BadParameter as error:
        raise XastructError(
            f"{text} is neither a file nor a stored crystal or spectrum, nor a mineral of the AMCSD; check the name."
        ) from error


def _name(text: str, node: Data, taken: set[str]) -> str:
    """A name for a candidate: of letters, digits and single underscores, and no other's."""
    words = Path(text).stem if Path(text).is_file() else node.label or f"{type(node).__name__.removesuffix('Data')} {node.pk}"
    plain = re.sub(r"[^A-Za-z0-9]+", "_", words).strip("_") or "candidate"
    name, count = plain, 1
    while name in taken:
        count += 1
        name = f"{plain}_{count}"
    return name


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Something that moves on the standard error of a terminal while this takes its time."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield

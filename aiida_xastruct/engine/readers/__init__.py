"""Readers of the files that spectra come in: one module a format, the format recognised by what is in the file.

To add a format, write a module with these two functions and name it in `FORMATS`:

    recognise(content: bytes, name: str) -> bool
    read(content: bytes, name: str, parameters: ScanParameters) -> list[Scan | Spectrum]

A `Scan` is mu as measured, which may be merged with others of its sample; a `Spectrum` is complete in itself. Files come from strangers: a
reader evaluates nothing, unpickles nothing, and looks at sizes before it takes memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..errors import SpectrumError
from ..merging import merge
from ..scans import Reading, Scan, ScanParameters
from ..spectrum import Spectrum
from . import athena, columns, document, exports, feff, materials_project, nexus
from .text import MAX_BYTES


class Format(NamedTuple):
    """One format: its name for messages, and the functions that recognise and read it."""

    name: str
    recognise: Callable[[bytes, str], bool]
    read: Callable[[bytes, str, ScanParameters], list[Reading]]


#: In the order in which they are asked; columns of text are what is left.
FORMATS: tuple[Format, ...] = (
    Format("export of this package", exports.recognise, exports.read),
    Format("JSON of this package", document.recognise, document.read),
    Format("NeXus", nexus.recognise, nexus.read),
    Format("Athena project", athena.recognise, athena.read),
    Format("Materials Project document", materials_project.recognise, materials_project.read),
    Format("FEFF output", feff.recognise, feff.read),
    Format("columns of text", columns.recognise, columns.read),
)


def format_of(content: bytes, name: str) -> Format:
    """The format of a file.

    Raises:
        SpectrumError: if it is empty, too large or of no known format.
    """
    if not content.strip():
        raise SpectrumError(f"{name} is empty, it holds 0 lines of numbers; check the file.")
    if len(content) > MAX_BYTES:
        raise SpectrumError(f"{name} has {len(content) / 1e6:.0f} MB, more than the {MAX_BYTES / 1e6:.0f} MB of any file of spectra.")
    for each in FORMATS:
        if each.recognise(content, name):
            return each
    raise SpectrumError(f"{name} is a binary file of no known format; known are: {', '.join(each.name for each in FORMATS)}.")


def read(content: bytes, name: str, parameters: ScanParameters | None = None) -> list[Reading]:
    """What a file holds, of any format.

    Args:
        content: of the file.
        name: of the file, for messages.
        parameters: absorber, edge, columns and groups, where the file does not say.

    Raises:
        SpectrumError: if it cannot be used, with the reason.
        FeffError: if an output of FEFF is damaged.
    """
    return format_of(content, name).read(content, name, parameters or ScanParameters())


def read_measurement(files: Sequence[tuple[str, bytes]], parameters: ScanParameters | None = None) -> Spectrum:
    """One spectrum of the files of one measurement; scans are merged, what is complete in itself comes alone.

    Args:
        files: name and content of each.
        parameters: as for `read`; groups must be named where a file holds several.

    Raises:
        SpectrumError: if a file cannot be used, holds several spectra of which none is named, or holds one that cannot be merged.
        FeffError: if an output of FEFF is damaged.
    """
    parameters = parameters or ScanParameters()
    items: list[Reading] = []
    for name, content in files:
        found = read(content, name, parameters)
        if len(found) > 1 and not parameters.groups:
            labels = ", ".join(label_of(item) for item in found)
            raise SpectrumError(f"{name} holds {len(found)} spectra ({labels}); name those of one sample in groups.")
        items += found
    scans = [item for item in items if isinstance(item, Scan)]
    if len(scans) == len(items):
        return merge(scans, parameters)
    alone = items[0]
    if len(items) > 1 or isinstance(alone, Scan):
        raise SpectrumError("one of these is a finished spectrum (computed, normalised or chi(k)), which is not merged; import it alone.")
    return alone


def labels_in(content: bytes, name: str, parameters: ScanParameters | None = None) -> list[str]:
    """What the spectra of a file are called, as `parameters.groups` names them; errors are those of `read`."""
    return [label_of(item) for item in read(content, name, parameters)]


def label_of(item: Reading) -> str:
    """What a reading is called among others of its file."""
    return (
        item.group or item.name if isinstance(item, Scan) else str(item.settings.get("group", f"{item.absorber} {item.edge} {item.kind}"))
    )

"""Writers of the files that a spectrum goes out in: one module a format.

To add a format, write a module with this function and name it in `WRITERS`:

    write(spectrum: Spectrum, extent: Mapping[str, Any], comments: bool = True) -> bytes

`extent` is what the spectrum's node knows besides: the names of `engine.exchange.CRYSTAL`, `band` (n, 2) and `uuid`. What a format has no
place for goes into its head, so that `engine.readers` gives the same spectrum again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import SpectrumError
from ..spectrum import Spectrum
from . import csv, document, nexus, xdi, xmu

WRITERS: dict[str, Callable[[Spectrum, Mapping[str, Any], bool], bytes]] = {
    "csv": csv.write,
    "json": document.write,
    "nexus": nexus.write,
    "xdi": xdi.write,
    "xmu": xmu.write,
}

#: Formats by the ending of a file, and by all of the name that FEFF gives its own.
ENDINGS = {
    ".csv": "csv", ".json": "json", ".nxs": "nexus", ".nx": "nexus", ".h5": "nexus", ".hdf5": "nexus", ".xdi": "xdi", ".xmu": "xmu",
    "xmu.dat": "xmu",
}  # fmt: skip

#: Formats that are no text, and so go to no screen.
BINARY = frozenset({"nexus"})


def write(file_format: str, spectrum: Spectrum, extent: Mapping[str, Any] | None = None, comments: bool = True) -> bytes:
    """The content of a file.

    Args:
        file_format: one of `WRITERS`.
        spectrum: what is exported.
        extent: what its node knows besides.
        comments: put a head above the columns of a csv; without it the file no longer says what it is of.

    Raises:
        SpectrumError: if there is no such format, or it cannot hold this spectrum.
    """
    if file_format not in WRITERS:
        raise SpectrumError(f"{file_format!r} is no format of spectra; use one of {', '.join(WRITERS)}.")
    return WRITERS[file_format](spectrum, extent or {}, comments)


def format_of_name(name: str) -> str | None:
    """The format that the name of a file tells; None if it does not."""
    return next((found for ending, found in ENDINGS.items() if name.lower().endswith(ending)), None)

"""Versions of the files that this package writes: one of another version is refused in a sentence that says which way to go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import DatasetError, ModelError, XastructError

#: Name and version of what lies in folders; what was written before it said so is of version 1.
FAMILY, MODEL, BATCH = "xastruct-family-1", "xastruct-model-1", "xastruct-batch-1"


def check_stated(path: Path | str, content: Mapping[str, Any], known: str, made_by: str) -> None:
    """Refuse what says of itself that it is of another version than `known`; what says nothing is of version 1.

    Raises:
        ModelError: if it is.
    """
    check_format(path, str(content.get("format", f"{known.rpartition('-')[0]}-1")), known, made_by, ModelError)


def check_format(path: Path | str, found: str, known: str, made_by: str, error: type[XastructError] = DatasetError) -> None:
    """Refuse a file of another format, or of another version of it.

    Args:
        path: of the file, for the message.
        found: what the file says of itself.
        known: name and version that this package reads, such as `xastruct-dataset-4`.
        made_by: the command that makes such a file.
        error: kind of the message.

    Raises:
        XastructError: if it is another one; of a newer version it says that the package is to be updated.
    """
    if found == known:
        return
    name, _, version = known.rpartition("-")
    own, _, number = found.rpartition("-")
    if own == name and number.isdecimal() and int(number[:9]) > int(version):
        raise error(f"{path} has the format {found}, and this version of aiida-xastruct reads {known!r}; update aiida-xastruct.")
    if own == name and number.isdecimal():
        raise error(f"{path} has the format {found}, and this version of aiida-xastruct reads {known}; make it again with {made_by}.")
    raise error(f"{path} is not a {known} file; make one with {made_by}.")

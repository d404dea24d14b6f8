"""The JSON that `engine.writers` writes."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import SpectrumError
from ..exchange import COLUMNS, from_json, restore
from ..scans import Reading, ScanParameters
from ..writers.document import FORMAT
from .text import as_text


def recognise(content: bytes, name: str) -> bool:
    """Whether this is such a JSON object."""
    return content.lstrip()[:1] == b"{" and f'"{FORMAT}"'.encode() in content[:200]


def read(content: bytes, name: str, parameters: ScanParameters) -> list[Reading]:
    """The spectrum that was exported.

    Raises:
        SpectrumError: if it is of another absorber, edge or kind than asked for, or no longer complete.
    """
    values = from_json(name, as_text(content, name))
    columns = values.get("columns")
    if not isinstance(columns, Mapping):
        raise SpectrumError(f"{name} is no complete export of a spectrum (it has no columns); export it again.")
    return [restore(name, values, {label: columns[label] for label in COLUMNS if label in columns}, parameters)]

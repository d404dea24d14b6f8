"""Text that `engine.writers` wrote: csv, XDI and xmu.dat, known by the `Xastruct` fields in the head."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import numpy as np

from ..errors import SpectrumError
from ..exchange import NAMES, NAMESPACE, WORDS, from_json, restore
from ..scans import Reading, ScanParameters
from .text import as_text

_LINE = re.compile(rf"(?m)^# {NAMESPACE}\.({'|'.join(NAMES)}): ([^\r\n]*)")

#: What FEFF calls the energy.
_NAMES = {"omega": "energy"}


def recognise(content: bytes, name: str) -> bool:
    """Whether the head says who absorbs and by what method, as an export does."""
    return {"absorber", "method"} <= _head(content[:20_000].decode("utf-8", errors="replace")).keys()


def stated_edge(text: str) -> tuple[str, str]:
    """Absorber and edge in the head of an export; empty for any other file."""
    head = _head(text[:20_000])
    return head.get("absorber", ""), head.get("edge", "")


def read(content: bytes, name: str, parameters: ScanParameters) -> list[Reading]:
    """The spectrum that was exported.

    Raises:
        SpectrumError: if it is of another absorber, edge or kind than asked for, or no longer complete.
    """
    text = as_text(content, name)
    if not text.endswith("\n"):  # a number that has lost digits is still a number
        raise SpectrumError(f"{name} is no complete export of a spectrum (its last line has no end); export it again.")
    values: dict[str, Any] = {field: value if field in WORDS else from_json(name, value) for field, value in _head(text).items()}
    lines = [line for line in text.splitlines() if line.strip()]
    rows = [line.replace(",", " ").split() for line in lines if not line.startswith("#")]
    labels = [line for line in lines if line.startswith("#")][-1].lstrip("# ").split()
    if rows and rows[0][0] == "energy":  # csv names its columns in a line of their own
        labels = rows.pop(0)
    try:
        table = np.array(rows, dtype=np.float64)
        columns = {_NAMES.get(label, label): table[:, index] for index, label in enumerate(labels)}
    except (ValueError, IndexError) as error:
        raise SpectrumError(f"{name} is no complete export of a spectrum ({error}); export it again.") from error
    return [restore(name, values, columns, parameters)]


def _head(text: str) -> dict[str, str]:
    """Names and values in the head of an export, those in several lines put together; empty for any other file."""
    found: dict[str, str] = defaultdict(str)
    for name, piece in _LINE.findall(text):
        found[name] += piece
    return dict(found)

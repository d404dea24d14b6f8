"""What `spectrum export` writes as xmu or csv: columns under `# name: value` lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import SpectrumError
from ..scans import Reading, ScanParameters
from ..spectrum import Spectrum
from .text import as_text

_FIELDS = ("absorber", "edge", "kind", "method", "energy_reference", "normalisation", "e0")


def recognise(content: bytes, name: str) -> bool:
    """Whether the head says who absorbs and by what method, as an export does."""
    return {"absorber", "method"} <= _head(content[:20_000].decode("utf-8", errors="replace")).keys()


def stated_edge(text: str) -> tuple[str, str]:
    """Absorber and edge in the head of an export; empty for any other file."""
    head = _head(text)
    return head.get("absorber", ""), head.get("edge", "")


def read(content: bytes, name: str, parameters: ScanParameters) -> list[Reading]:
    """The spectrum that was exported.

    Raises:
        SpectrumError: if it is of another absorber or edge than asked for, or no longer complete.
    """
    text = as_text(content, name)
    head: dict[str, Any] = dict(_head(text))
    stated = stated_edge(text)
    asked = (parameters.absorber or stated[0], parameters.edge or stated[1])
    if asked != stated:
        raise SpectrumError(f"{name} is of {stated[0]} {stated[1]}, not of {asked[0]} {asked[1]}; leave out what it says itself.")
    lines = [line for line in text.splitlines() if line.strip()]
    rows = [line.replace(",", " ").split() for line in lines if not line.startswith("#")]
    names = [line for line in lines if line.startswith("#")][-1].lstrip("# ").split()
    if rows and rows[0][0] == "energy":  # csv names its columns in a line of their own
        names = rows.pop(0)
    try:
        table = np.array(rows, dtype=np.float64)
        columns = {label: table[:, index] for index, label in enumerate(names)}
        energy, mu = columns["energy"], columns["mu"]
        head["e0"] = float(head["e0"]) if "e0" in head else None
        return [Spectrum(energy=energy, mu=mu, mu0=columns.get("mu0"), **head)]
    except (TypeError, ValueError, KeyError, IndexError) as error:
        if isinstance(error, SpectrumError):
            raise
        raise SpectrumError(f"{name} is no complete export of a spectrum ({error}); export it again.") from error


def _head(text: str) -> Mapping[str, str]:
    """Names and values in the head of an export; empty for any other file."""
    return dict(re.findall(rf"(?m)^# ({'|'.join(_FIELDS)}): (\S+)\s*$", text))

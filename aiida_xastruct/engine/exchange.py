"""What every exported file says of a spectrum, whatever its format: named values and named columns, and a spectrum of them again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import SpectrumError
from .scans import ScanParameters
from .spectrum import FloatArray, Spectrum

#: Values of a spectrum itself, each a word.
WORDS = ("absorber", "edge", "kind", "method", "energy_reference", "normalisation")

#: What a node knows of the crystal that its spectrum is of, beside the spectrum; null where unknown.
CRYSTAL = ("site", "multiplicity", "structure_hash", "neighbours", "mean_distance")

#: Values in the order in which files hold them; `points` is the number of rows, so that a file that was cut off is noticed.
NAMES = (*WORDS, "e0", "points", *CRYSTAL, "settings")

#: Columns in the order in which files hold them; `lower` and `upper` are the limits of a learned spectrum.
COLUMNS = ("energy", "mu", "mu0", "lower", "upper")

#: First part of a name in the head of a text file, as XDI calls the namespace of an extension.
NAMESPACE = "Xastruct"


def values_of(spectrum: Spectrum, extent: Mapping[str, Any]) -> dict[str, Any]:
    """Named values of a spectrum, plain JSON.

    Args:
        spectrum: what is exported.
        extent: what its node knows besides: values of `CRYSTAL`, `band` (n, 2).
    """
    own = {name: getattr(spectrum, name) for name in (*WORDS, "e0")} | {"points": len(spectrum)}
    return own | {name: extent.get(name) for name in CRYSTAL} | {"settings": dict(spectrum.settings)}


def columns_of(spectrum: Spectrum, extent: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Named columns of a spectrum, each (n,); arguments as for `values_of`."""
    columns = {"energy": spectrum.energy, "mu": spectrum.mu}
    if spectrum.mu0 is not None:
        columns["mu0"] = spectrum.mu0
    band = extent.get("band")
    if band is not None:
        columns["lower"], columns["upper"] = np.asarray(band, dtype=np.float64).T
    return columns


def restore(name: str, values: Mapping[str, Any], columns: Mapping[str, Any], parameters: ScanParameters) -> Spectrum:
    """The spectrum of named values and columns; what a node knows besides is in `settings["crystal"]`, as `SpectrumData` takes it.

    Args:
        name: of the file, for messages.
        values: those of `NAMES`.
        columns: those of `COLUMNS`.
        parameters: absorber, edge and kind, if given, must be those of the file.

    Raises:
        SpectrumError: if they are of another spectrum than asked for, or not complete.
    """
    for field in ("absorber", "edge", "kind"):
        asked, stated = getattr(parameters, field), values.get(field)
        if asked and asked != stated:
            raise SpectrumError(f"{name} says {field} {stated}, not {asked}; leave out what it says itself.")
    try:
        words: dict[str, Any] = {field: str(values[field]) for field in WORDS}
        settings, e0 = values.get("settings") or {}, values.get("e0")
        arrays = {field: np.asarray(column, dtype=np.float64) for field, column in columns.items()}
        if not isinstance(settings, Mapping) or any(array.ndim != 1 for array in arrays.values()):
            raise TypeError("settings are no names and values, or a column is none")
        points = values.get("points", len(arrays["energy"]))
        if points != len(arrays["energy"]):
            raise ValueError(f"{len(arrays['energy'])} of {points} points")
        crystal = {field: values[field] for field in CRYSTAL if values.get(field) is not None}
        if "lower" in arrays:
            crystal["band"] = np.column_stack([arrays["lower"], arrays["upper"]])
        return Spectrum(
            energy=arrays["energy"],
            mu=arrays["mu"],
            mu0=arrays.get("mu0"),
            e0=None if e0 is None else float(e0),
            settings={**settings, "crystal": crystal} if crystal else settings,
            **words,
        )
    except (TypeError, ValueError, KeyError) as error:
        if isinstance(error, SpectrumError):
            raise
        raise SpectrumError(f"{name} is no complete export of a spectrum ({error}); export it again.") from error


def from_json(name: str, text: str) -> Any:
    """What a JSON text of an export holds.

    Raises:
        SpectrumError: if it is damaged.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpectrumError(f"{name} is no complete export of a spectrum ({error}); export it again.") from error


def to_json(content: Any, indent: int | None = None) -> str:
    """JSON text of an export, floats in full.

    Raises:
        SpectrumError: if a value is none that JSON can express.
    """
    try:
        return json.dumps(content, indent=indent, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SpectrumError(f"the spectrum holds a value that JSON cannot express ({error}); check e0 and settings.") from error

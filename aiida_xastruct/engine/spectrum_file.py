"""A spectrum in a text file of any kind that people compare: FEFF's xmu.dat, an export of this package, a scan, two columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .errors import SpectrumError
from .scans import COLUMN_NAMES, ScanParameters, merge, read_scan
from .spectrum import Spectrum, edge_of, element_symbol

#: What `spectrum export` writes above the columns, one `# name: value` a line.
_EXPORTED = ("absorber", "edge", "kind", "method", "energy_reference", "normalisation", "e0")


def stated_edge(text: str) -> tuple[str, str]:
    """Absorber and edge that the head of a file names; empty where it does not."""
    if match := re.search(r"Abs\s+Z=\s*(\d+)\s.*?\b([KLM]\d?)\s+shell", text):
        return element_symbol(int(match[1])), match[2]
    names = _exported(text)
    if "absorber" in names:
        return str(names["absorber"]), str(names.get("edge", ""))
    found = [re.search(rf"(?mi)^[#%].*\bElement\.{tag}\s*:\s*(\w+)", text) for tag in ("symbol", "edge")]
    absorber, edge = (match[1] if match else "" for match in found)
    return absorber.capitalize(), edge.upper()


def read_spectrum(text: str, name: str, parameters: ScanParameters | None = None, flat: bool = False) -> Spectrum:
    """The spectrum in a file.

    FEFF's xmu.dat is known by its column names, and is an EXAFS run if it starts at k = 0. A file of two columns without names is taken as
    energy and mu.

    Args:
        text: of the file.
        name: of the file, for messages.
        parameters: absorber, edge, kind and columns, where the file does not say.
        flat: mu is normalised already, in files that do not say.

    Raises:
        SpectrumError: if it is no spectrum, or does not say which element absorbs.
        FeffError: if an xmu.dat is damaged.
    """
    parameters = parameters or ScanParameters()
    stated = stated_edge(text)
    absorber, edge = parameters.absorber or stated[0], parameters.edge or stated[1]
    computed = re.search(r"omega\s+e\s+k\s+mu\s+mu0\s+chi", text)
    if computed or {"absorber", "method"} <= _exported(text).keys():
        if (stated[0] or absorber, stated[1] or edge) != (absorber, edge):
            raise SpectrumError(f"{name} is of {stated[0]} {stated[1]}, not of {absorber} {edge}; leave out what it says itself.")
        return _xmu(text, name, absorber, edge) if computed else _export(text, name)
    parameters = replace(parameters, absorber=absorber, edge=edge)
    spectrum = merge([read_scan(_with_column_names(text), name, parameters)], parameters)
    return replace(spectrum, normalisation="flat") if flat else spectrum


def read_pair(
    given: Sequence[Spectrum | tuple[str, str]], parameters: ScanParameters | None = None, flat: bool = False
) -> tuple[Spectrum, Spectrum]:
    """Two spectra that are to be compared: where one file does not say its absorber and edge, they are the other's.

    Args:
        given: two spectra, each as it is or as the text and name of a file.
        parameters: as for `read_spectrum`.
        flat: as for `read_spectrum`.

    Raises:
        SpectrumError: if one cannot be read.
    """
    parameters = parameters or ScanParameters()
    edges = [(item.absorber, item.edge) if isinstance(item, Spectrum) else stated_edge(item[0]) for item in given]
    spectra = []
    for item, own, other in zip(given, edges, reversed(edges), strict=True):
        if isinstance(item, Spectrum):
            spectra.append(item)
            continue
        asked = (parameters.absorber, parameters.edge)
        absorber, edge = (first or second or third for first, second, third in zip(asked, own, other, strict=True))
        spectra.append(read_spectrum(*item, replace(parameters, absorber=absorber, edge=edge), flat))
    first, second = spectra
    return first, second


def _xmu(text: str, name: str, absorber: str, edge: str) -> Spectrum:
    from .feff.output import read_table, read_xmu

    if not absorber:
        raise SpectrumError(f"{name} does not say which element absorbs; give it, e.g. absorber 'Fe'.")
    exafs = read_table(text, 6)[0, 2] >= 0.0
    return read_xmu(text, absorber, edge or edge_of(absorber), "EXAFS" if exafs else "XANES")


def _exported(text: str) -> Mapping[str, str]:
    """Names and values in the head of an export; empty for any other file."""
    return dict(re.findall(rf"(?m)^# ({'|'.join(_EXPORTED)}): (\S+)\s*$", text))


def _export(text: str, name: str) -> Spectrum:
    """The spectrum that `spectrum export` wrote as xmu or csv."""
    head: dict[str, Any] = dict(_exported(text))
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
    except (ValueError, KeyError, IndexError) as error:
        raise SpectrumError(f"{name} is no complete export of a spectrum ({error}); export it again.") from error
    return Spectrum(energy=energy, mu=mu, mu0=columns.get("mu0"), **head)


def _with_column_names(text: str) -> str:
    """The text of a scan with its column names in a comment: a first line of words has them, and two columns without are energy and mu."""
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith(("#", "%"))), len(lines))
    if first == len(lines):
        return text
    row = lines[first].replace(",", " ").split()
    if re.match(r"[A-Za-z_]", row[0]):
        return "\n".join([*lines[:first], "# " + " ".join(row), *lines[first + 1 :]])
    comments = [line.lstrip("#% ").lower().split() for line in lines[:first] if line.strip("#%-/= \t")]
    names = set(comments[-1]) if comments and len(comments[-1]) == 2 else set()
    if len(row) != 2 or names & {*COLUMN_NAMES["energy"], *COLUMN_NAMES["angle"]}:
        return text
    return "\n".join([*lines[:first], "# energy mu", *lines[first:]])

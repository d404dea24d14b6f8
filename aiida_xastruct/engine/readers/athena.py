"""Athena projects (`.prj`): Perl assignments, as Athena and Demeter write them, or the JSON that newer versions and Larch read.

Ravel and Newville, J. Synchrotron Rad. 12, 537 (2005). The Perl is read as a list of quoted words and never run; larch's own reader
evaluates it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import SpectrumError
from ..merging import merge
from ..scans import Reading, Scan, ScanParameters, chosen, increasing, order_of
from ..spectrum import EDGES, FloatArray, edge_of, element_symbol, tabulated_edge
from .feff import of_chi
from .text import as_text, unzipped

_MAGIC = b"Athena project file"

#: Bytes at the start of a project among which its name stands.
_HEAD = 500

#: A word in quotes, in which a backslash protects the next character, a bare word, or a bracket.
_WORD = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"|([^\s,()\[\]'\"]+)|([\[\]])")

#: Groups that hold no mu(E) nor chi(k): what Athena calls them.
_OTHER = {"is_pixel": "a pixel scan", "is_rsp": "chi(R)", "is_qsp": "chi(q)", "is_diff": "a difference", "is_bkg": "a background"}


@dataclass
class _Group:
    """One group of a project: Athena's key for it, its parameters by name, and its arrays."""

    key: str = ""
    values: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, FloatArray] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.values.get("label", "").strip() or self.key

    def is_set(self, name: str) -> bool:
        """Whether a flag of Athena's is up."""
        return self.values.get(name, "0") == "1"

    def number(self, name: str) -> float:
        """A parameter as a finite number, 0 where it is none."""
        try:
            value = float(self.values.get(name) or 0.0)
        except ValueError:
            return 0.0
        return value if np.isfinite(value) else 0.0


def recognise(content: bytes, name: str) -> bool:
    """Whether this is an Athena project, compressed or not."""
    try:
        return _MAGIC in unzipped(content, name, _HEAD)[:_HEAD]
    except SpectrumError:
        return name.lower().endswith(".prj")  # it says so, and reading it tells what is wrong


def read(content: bytes, name: str, parameters: ScanParameters) -> list[Reading]:
    """The groups of a project that `parameters.groups` names by label or Athena's own key, or all.

    mu(E) becomes a scan, with Athena's shift of the energies applied; groups that are normalised already, or chi(k), become spectra of
    normalisation flat. Absorber and edge are those that Athena has for the group.

    Raises:
        SpectrumError: if the project is damaged, holds no groups, or lacks one that is asked for.
    """
    text = as_text(unzipped(content, name), name)
    groups = list(_json_groups(text, name) if text.lstrip().startswith("{") else _perl_groups(text, name))
    if not groups:
        raise SpectrumError(f"{name} is an Athena project without groups; save it again from Athena.")
    wanted = chosen([(group.label, group.key) for group in groups], parameters.groups, name)
    return [_reading(groups[index], name, parameters) for index in wanted]


def _perl_groups(text: str, name: str) -> Iterator[_Group]:
    group = _Group()
    for line in text.splitlines():
        if line.startswith("[record]"):
            if group.arrays:
                yield group
            group = _Group()
        elif match := re.match(r"[@$%](\w+)\s*=", line):
            key, words = match[1], _words(line[match.end() :])
            if key == "old_group":
                group.key = "".join(words)
            elif key == "args":
                group.values = dict(zip(words[::2], words[1::2], strict=False))
            elif key in ("x", "y"):
                group.arrays[key] = _numbers(words, name)
    if group.arrays:  # the mark of its end is missing
        raise SpectrumError(f"{name} ends in the middle of a group; save it again from Athena.")


def _words(text: str) -> list[str]:
    """Words of a Perl list; a list within it, such as the titles, counts as one word."""
    found: list[str] = []
    depth, inner = 0, list[str]()
    for single, double, bare, bracket in _WORD.findall(text.rstrip().removesuffix(";")):
        if bracket == "[":
            depth += 1
        elif bracket == "]":
            depth -= 1
            if depth == 0:
                found.append("; ".join(inner))
                inner = []
        else:
            (inner if depth > 0 else found).append(bare or re.sub(r"\\(.)", r"\1", single or double))
    return found


def _json_groups(text: str, name: str) -> Iterator[_Group]:
    try:
        project = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpectrumError(f"{name} is a damaged Athena project ({error}); save it again.") from error
    for key, entry in project.items():
        if not isinstance(entry, Mapping) or "x" not in entry or "y" not in entry:
            continue  # header, journal and the order of the groups
        args = entry.get("args", {})
        if isinstance(args, list):
            args = dict(zip(map(str, args[::2]), args[1::2], strict=False))
        if not isinstance(args, Mapping):
            raise SpectrumError(f"{name} is a damaged Athena project (group {key} has no parameters); save it again.")
        arrays = {array: _numbers(entry[array], name) for array in ("x", "y")}
        yield _Group(key, {str(word): str(value) for word, value in args.items()}, arrays)


def _numbers(words: Any, name: str) -> FloatArray:
    try:
        return np.array([float(word) for word in words], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SpectrumError(f"{name} is a damaged Athena project ({error}); save it again.") from error


def _reading(group: _Group, name: str, parameters: ScanParameters) -> Reading:
    called = f"{name}: {group.label}"
    for flag, what in _OTHER.items():
        if group.is_set(flag):
            raise SpectrumError(f"{called} is {what}, not mu(E) or chi(k); name another group.")
    x, y = (group.arrays.get(key) for key in ("x", "y"))
    if x is None or y is None or x.shape != y.shape or x.size < 10:
        raise SpectrumError(f"{called} has no two columns of one length with at least 10 points; save the project again.")
    absorber, edge = _edge(group)
    if group.is_set("is_chi") or group.values.get("datatype") == "chi":
        return _chi(called, group, x, y, parameters.absorber or absorber, parameters.edge or edge)
    energy = (1000.0 * x if group.is_set("is_kev") else x) + group.number("bkg_eshift")
    usable = np.isfinite(energy) & np.isfinite(y)
    energy, mu = increasing(energy[usable], y[usable])
    scan = Scan(called, energy, mu, absorber, edge, "mu of Athena", _header(group), group.label, order_of(x))
    if not (group.is_set("is_nor") or group.values.get("datatype") == "norm"):
        return scan
    spectrum = merge([scan], parameters)
    return replace(spectrum, normalisation="flat", settings={**spectrum.settings, "group": group.label})


def _header(group: _Group) -> dict[str, dict[str, str]]:
    """What Athena has set for the group and a reader of the spectrum may want to know."""
    names = ("bkg_eshift", "bkg_e0", "source", "beamline", "titles")
    kept = {name: re.sub(r"[^ -~\u00a0-\uffff]+", " ", group.values.get(name, "")) for name in names}
    return {"athena": {name: value for name, value in kept.items() if value and "^^null^^" not in value}}


def _edge(group: _Group) -> tuple[str, str]:
    """Absorber and edge of a group; hydrogen is what Athena has where it knows nothing."""
    z = group.values.get("bkg_z") or group.values.get("atsym") or ""
    if z.isdigit() and 0 < int(z) < 119:
        z = element_symbol(int(z))
    absorber = z.capitalize() if z.isalpha() and z.lower() != "h" else ""
    edge = (group.values.get("fft_edge") or group.values.get("edge") or "").upper()
    return absorber, edge if absorber and edge in EDGES else ""


def _chi(name: str, group: _Group, k: FloatArray, chi: FloatArray, absorber: str, edge: str) -> Reading:
    if not absorber:
        raise SpectrumError(f"{name} is chi(k) and does not say which element absorbs; give it, e.g. absorber 'Fe'.")
    edge = edge or edge_of(absorber)
    tabulated, e0 = tabulated_edge(absorber, edge), group.number("bkg_e0")
    # Athena keeps an E0 of zero, or of the group before, where nobody set it.
    spectrum = of_chi(name, k, chi, absorber, edge, e0 if abs(e0 - tabulated) < 100.0 else tabulated, "measured")
    return replace(spectrum, settings={**spectrum.settings, "group": group.label})

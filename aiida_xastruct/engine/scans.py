"""Measured scans: from the text files of a beamline to one merged spectrum. Energies are in eV.

Read are whitespace-separated columns whose names stand in an XDI header (Ravel et al., J. Phys. Conf. Ser. 712, 012148 (2016))
or in the last comment line above the numbers, which is what Athena, Larch and most beamlines write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from .edge_check import rise
from .errors import SpectrumError
from .options import from_plain
from .spectrum import EDGES, FloatArray, Kind, Spectrum

Mode = Literal["transmission", "fluorescence", "reference"]
Order = Literal["increasing", "reversed", "unsorted", "repeated"]

#: Names that beamlines give to a column, most trusted first. An encoder's energy is where the monochromator was, not where it should
#: have been; VFC01 to VFC04 are the counters of P65 (PETRA III): before the sample, behind it, behind the reference foil, fluorescence.
COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "energy": ("enc_energy", "energy", "energy_ev", "energie", "energy_attenuated", "e", "mono_energy", "ev"),
    "angle": ("angle", "bragg_angle", "theta"),
    "i0": ("i0", "io", "vfc01", "monitor"),
    "i1": ("i1", "itrans", "it", "vfc02", "itransmission"),
    "i2": ("i2", "irefer", "iref", "ir", "vfc03", "ireference"),
    "if": ("if", "ifluor", "fluor", "vfc04", "ifluorescence"),
    "mu": ("mu", "xmu", "mutrans", "mu_trans", "mu_e", "mufluor", "mu_fluor"),
}

#: A number whose decimals follow a comma, or a whole one.
_DECIMAL_COMMA = re.compile(r"[-+]?\d+(,\d+)?([eE][-+]?\d+)?")

#: hc in eV angstrom: E = HC / (2 d sin(theta)).
HC = 12398.41984

#: Points closer than this are one reading: a monochromator that stands still goes on counting.
SAME_ENERGY = 0.02


@dataclass(frozen=True)
class ScanParameters:
    """How to read the files of one measurement; what is left empty comes from the files themselves.

    Attributes:
        absorber: symbol of the absorbing element; the XDI header's if empty.
        edge: absorption edge; the XDI header's if empty, and if that says nothing, the one people measure for the absorber.
        kind: XANES or EXAFS; if empty, EXAFS for data that reach 250 eV above the edge.
        mode: transmission (ln I0/I1), fluorescence (If/I0) or reference (ln I1/I2, the foil behind the sample); if empty, a column of mu,
            else transmission, else fluorescence.
        columns: names of columns where they are not the usual ones, e.g. `{"i0": "mon"}`; keys are those of `COLUMN_NAMES`. All may be
            numbers instead, from 1 on.
        groups: of a file that holds several spectra (an Athena project), the labels of those to read; all if empty.

    Raises:
        SpectrumError: for a value that is none of these.
    """

    absorber: str = ""
    edge: str = ""
    kind: str = ""
    mode: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    groups: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, choices in (("edge", EDGES), ("kind", get_args(Kind)), ("mode", get_args(Mode))):
            value = getattr(self, name)
            if value and value not in choices:
                raise SpectrumError(f"{name} is {value!r}; use one of {', '.join(choices)}.")
        for name in ("absorber", "edge", "kind", "mode"):
            if not isinstance(getattr(self, name), str):
                raise SpectrumError(f"{name} is {getattr(self, name)!r}; give a word.")
        if not isinstance(self.columns, Mapping) or not all(isinstance(label, str) for label in self.columns.values()):
            raise SpectrumError(f"columns is {self.columns!r}; give names by role, such as {{'i0': 'mon'}}.")
        for role in self.columns:
            if role not in COLUMN_NAMES:
                raise SpectrumError(f"columns names {role!r}; the columns that can be named are {', '.join(COLUMN_NAMES)}.")
        if not isinstance(self.groups, list | tuple) or not all(isinstance(label, str) for label in self.groups):
            raise SpectrumError(f"groups is {self.groups!r}; give a list of labels.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ScanParameters:
        """Parameters from plain values.

        Raises:
            SpectrumError: for an unknown name, with the nearest known one.
        """
        return from_plain(cls, values, "parameter of a scan")


@dataclass(frozen=True)
class Scan:
    """One scan as read: no two readings at one energy, energies increasing.

    Attributes:
        name: of the file, without its folder.
        energy: (n,) eV.
        mu: (n,) absorption in the unit of the detectors.
        absorber, edge: what the header says, empty where it does not.
        formula: how mu came about, e.g. `ln(VFC01/VFC02)`.
        header: fields of the file's head by namespace and name, as XDI has them, lower case: `{"mono": {"d_spacing": "3.13"}}`.
        group: label of the scan in a file of several.
        order: how the energies of the file ran: increasing, reversed, unsorted, or repeated, where several scans follow each other.
    """

    name: str
    energy: FloatArray
    mu: FloatArray
    absorber: str
    edge: str
    formula: str
    header: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    group: str = ""
    order: Order = "increasing"


#: What a reader finds in a file.
Reading = Scan | Spectrum


def read_scan(text: str, name: str, parameters: ScanParameters | None = None) -> Scan:
    """One scan from the text of its file.

    Args:
        text: comment lines start with `#`, then one line a point.
        name: of the file, for messages.
        parameters: columns and mode, where the file alone does not say.

    Raises:
        SpectrumError: if the file holds no numbers, lacks a column, or a detector reads what gives no absorption.
    """
    parameters = parameters or ScanParameters()
    header, labels, table = _read_table(text, name, parameters)
    values: dict[str, FloatArray] = {}
    for index, label in enumerate(labels):
        values.setdefault(label, table[:, index])
    energy = _energy(values, header, parameters, name)
    mu, formula = _absorption(values, energy, parameters, name)
    usable = np.isfinite(energy) & np.isfinite(mu)
    if usable.sum() < max(10, 0.9 * len(energy)):
        raise SpectrumError(
            f"{name}: {formula} is no number in {int((~usable).sum())} of {len(energy)} points; check which columns are the detectors."
        )
    order = order_of(energy[usable])
    energy, mu = increasing(energy[usable], mu[usable])
    absorber = header.get("element.symbol", "").capitalize()
    edge = header.get("element.edge", "").upper()
    return Scan(name, energy, mu, absorber, edge, formula, _namespaces(header), order=order)


def _namespaces(header: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """`{"mono.d_spacing": ...}` as `{"mono": {"d_spacing": ...}}`, without the names of the columns, which mean nothing once mu is made."""
    nested: dict[str, dict[str, str]] = {}
    for key, value in header.items():
        namespace, _, tag = key.partition(".")
        plain = "".join(letter for letter in value if letter.isprintable())  # a database takes no control characters
        if namespace != "column" and plain:
            nested.setdefault(namespace, {})[tag] = plain
    return nested


def chosen(names: Sequence[tuple[str, str]], wanted: Sequence[str], file: str) -> list[int]:
    """Positions of the groups of a file that are wanted, in the order of the file; all if none is named.

    Args:
        names: label and key of each group.
        wanted: labels or keys.
        file: for the message.

    Raises:
        SpectrumError: if there is no such group.
    """
    for name in wanted:
        if not any(name in pair for pair in names):
            raise SpectrumError(f"{file} has no group {name!r}; it has {', '.join(label for label, _ in names)}.")
    return [index for index, pair in enumerate(names) if not wanted or set(pair) & set(wanted)]


def _read_table(text: str, name: str, parameters: ScanParameters) -> tuple[dict[str, str], list[str], FloatArray]:
    """Header fields (lower-case `namespace.tag`), column labels (lower case) and numbers (n, columns)."""
    header: dict[str, str] = {}
    lines: list[str] = []
    last_comment = ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith(("#", "%")):
            comment = stripped.lstrip("#%").strip()
            if match := re.match(r"([A-Za-z]\w*\.\w+)\s*:\s*(.*)", comment):
                header[match[1].lower()] = match[2].strip()
            if not lines and comment.strip("-/= "):
                last_comment = comment
        elif stripped:
            lines.append(stripped)
    rows = split_values(lines)
    width = max((len(row) for row in rows), default=0)
    if rows and len(rows[-1]) < width:
        rows.pop()  # the line that was being written when the scan was stopped
    try:
        table = np.array([[float(value) for value in row] for row in rows], dtype=np.float64)
    except ValueError as error:
        raise SpectrumError(f"{name} is no table of numbers ({error}); give columns, and comments that start with #.") from error
    if table.ndim != 2 or len(table) < 10 or width < 2:
        raise SpectrumError(f"{name} holds {len(rows)} lines of numbers; a scan has at least 10 points and 2 columns.")
    labels = [header.get(f"column.{index + 1}", "").split(" ")[0].lower() for index in range(width)]
    if not all(labels):
        labels = [label.lower() for label in last_comment.split()]
    if parameters.columns and all(label.isdigit() for label in parameters.columns.values()):
        labels = [f"column{index + 1}" for index in range(width)]
    if len(labels) != width:
        raise SpectrumError(
            f"{name} has {width} columns but names {len(labels)} in the comment above them; name each there, or give columns by number, "
            "e.g. {'energy': '1', 'i0': '2', 'i1': '3'}."
        )
    return header, labels, table


def split_values(lines: list[str]) -> list[list[str]]:
    """The values of each line: between blanks, tabs, semicolons or commas, unless these are decimal commas."""
    words = [line.replace(";", " ").split() for line in lines]
    if not any("," in line for line in lines):
        return words
    if all(len(row) > 1 for row in words) and all(_DECIMAL_COMMA.fullmatch(word) for row in words for word in row):
        return [[word.replace(",", ".") for word in row] for row in words]
    return [" ".join(row).replace(",", " ").split() for row in words]


def _find(values: Mapping[str, FloatArray], role: str, parameters: ScanParameters, name: str) -> str | None:
    """Label of the column for a role, or None where the file has none.

    Raises:
        SpectrumError: if the parameters name a column that is not there.
    """
    wanted = parameters.columns.get(role, "").lower()
    if wanted.isdigit() and wanted not in values:
        wanted = f"column{wanted}"
    if wanted and wanted not in values:
        raise SpectrumError(f"{name} has no column {wanted!r}; it has {', '.join(values)}.")
    return wanted or next((label for label in COLUMN_NAMES[role] if label in values), None)


def _energy(values: Mapping[str, FloatArray], header: Mapping[str, str], parameters: ScanParameters, name: str) -> FloatArray:
    """(n,) energies in eV, from a column in eV or keV, or from the Bragg angle."""
    label = _find(values, "energy", parameters, name)
    if label is not None:
        energy = values[label]
        # No edge lies between 0.2 and 200 eV that anyone scans in a file of eV, and none above 200 keV.
        return np.asarray(energy * 1000.0 if np.nanmax(energy) < 200.0 else energy)
    angle = _find(values, "angle", parameters, name)
    if angle is None:
        raise SpectrumError(f"{name} has no column of energies; it has {', '.join(values)}: name one in columns, e.g. {{'energy': '...'}}.")
    try:
        spacing = float(header["mono.d_spacing"].split()[0])
    except (KeyError, ValueError, IndexError) as error:
        raise SpectrumError(f"{name} gives angles but no Mono.d_spacing; give a column of energies.") from error
    return np.asarray(HC / (2.0 * spacing * np.sin(np.radians(values[angle]))))


def _absorption(values: Mapping[str, FloatArray], energy: FloatArray, parameters: ScanParameters, name: str) -> tuple[FloatArray, str]:
    """(n,) absorption and its formula.

    Where the file has transmission and fluorescence, and no mode is asked for, fluorescence is taken if transmission shows no step.
    """
    found = {role: _find(values, role, parameters, name) for role in ("mu", "i0", "i1", "i2", "if")}
    ratios = {"transmission": ("i0", "i1"), "fluorescence": ("if", "i0"), "reference": ("i1", "i2")}
    if not parameters.mode and found["mu"]:
        return values[found["mu"]], found["mu"]
    possible = [mode for mode, roles in ratios.items() if all(found[role] for role in roles)]
    mode = parameters.mode or next(iter(possible), "")
    if mode not in possible:
        needed = " and ".join(ratios[mode]) if mode else "mu, or i0 and i1, or if and i0"
        raise SpectrumError(f"{name} has no columns for {needed}; it has {', '.join(values)}: name them in columns, e.g. {{'i0': '...'}}.")
    made = {one: _ratio(values, one, *(str(found[role]) for role in ratios[one])) for one in possible}
    both = not parameters.mode and mode == "transmission" and "fluorescence" in made
    if both and not _has_step(energy, made["transmission"][0]) and _has_step(energy, made["fluorescence"][0]):
        return made["fluorescence"]
    return made[mode]


def _ratio(values: Mapping[str, FloatArray], mode: str, top: str, bottom: str) -> tuple[FloatArray, str]:
    """(n,) absorption of two detectors and its formula."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = values[top] / values[bottom]
        return (ratio, f"{top}/{bottom}") if mode == "fluorescence" else (np.log(ratio), f"ln({top}/{bottom})")


def _has_step(energy: FloatArray, mu: FloatArray) -> bool:
    """Whether mu rises somewhere as at an edge."""
    usable = np.isfinite(energy) & np.isfinite(mu)
    return usable.sum() > 20 and rise(*increasing(energy[usable], mu[usable])) is not None


def order_of(energy: FloatArray) -> Order:
    """How the energies of a file run; the monochromator's noise and points that repeat do not count."""
    steps = np.diff(energy)
    backwards = steps < -SAME_ENERGY
    if not backwards.any():
        return "increasing"
    if not (steps > SAME_ENERGY).any():
        return "reversed"
    # Where a scan ends and the next one begins, the energy goes back over most of the range.
    return "repeated" if steps.min() < -0.5 * float(np.ptp(energy)) else "unsorted"


def increasing(energy: FloatArray, mu: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sorted by energy; readings within `SAME_ENERGY` of the first of them become their mean."""
    order = np.argsort(energy, kind="stable")
    energy, mu = energy[order], mu[order]
    starts = [0]
    for index in range(1, len(energy)):
        if energy[index] - energy[starts[-1]] >= SAME_ENERGY:
            starts.append(index)
    counts = np.diff([*starts, len(energy)])
    each = np.repeat(counts, counts)  # shared out first: the sum of two large readings overflows
    return np.add.reduceat(energy / each, starts), np.add.reduceat(mu / each, starts)

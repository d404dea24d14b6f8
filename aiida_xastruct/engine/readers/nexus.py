"""NeXus files whose entry follows NXxas: those of `engine.writers`, and those of beamlines.

Nothing outside the file is opened: links to other files, virtual and external data are refused, and sizes are looked at before data are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..arrays import open_hdf5
from ..errors import SpectrumError
from ..exchange import COLUMNS, from_json, restore
from ..scans import Reading, Scan, ScanParameters, increasing, order_of
from ..spectrum import FloatArray

_SIGNATURE = b"\x89HDF\r\n\x1a\n"

#: Points of a scan, and letters of a text, at most.
_MOST = 2_000_000

#: Groups within groups that entries are looked for in.
_DEPTH = 3

_TO_EV = {"": 1.0, "ev": 1.0, "kev": 1e3, "j": 1.0 / 1.602176634e-19}


def recognise(content: bytes, name: str) -> bool:
    """Whether this is HDF5."""
    return content.startswith(_SIGNATURE)


def read(content: bytes, name: str, parameters: ScanParameters) -> list[Reading]:
    """The spectra of all entries that follow NXxas, or of those whose names `groups` gives.

    mu is the signal of the entry's plot where its name says so; else the logarithm of incoming over absorbed beam, or, where the entry's
    mode is a yield, absorbed over incoming.

    Raises:
        SpectrumError: if there is no such entry, or one lacks energy or absorption.
    """
    try:
        with open_hdf5(content) as file:
            entries = dict(_entries(file))
            for wanted in parameters.groups:
                if wanted not in entries:
                    raise SpectrumError(f"{name} has no entry {wanted!r} of NXxas; it has {', '.join(entries) or 'none'}.")
            if not entries:
                raise SpectrumError(f"{name} has no entry whose definition is NXxas; export it as NXxas, or as columns of text.")
            chosen = {label: group for label, group in entries.items() if not parameters.groups or label in parameters.groups}
            return [_reading(name, label if len(entries) > 1 else "", group, parameters) for label, group in chosen.items()]
    except SpectrumError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise SpectrumError(f"{name} is damaged or no NeXus file ({error}); copy it again.") from error


def _entries(parent: Any, path: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, Any]]:
    """Groups that follow NXxas, by their paths."""
    for label, group in _groups(parent):
        if "NXxas" in (_text(group, "definition"), _class(group)):
            yield path + label, group
        elif depth > 1:
            yield from _entries(group, f"{path}{label}/", depth - 1)


def _groups(parent: Any) -> Iterator[tuple[str, Any]]:
    import h5py

    for label in parent:
        if parent.get(label, getclass=True, getlink=True) is h5py.HardLink and parent.get(label, getclass=True) is h5py.Group:
            yield label, parent[label]


def _class(group: Any) -> str:
    return _string(group.attrs.get("NX_class", ""))


def _string(value: Any) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""


def _dataset(group: Any, path: str) -> Any:
    """A dataset that lies in the file itself, or None."""
    import h5py

    parent = group
    for part in path.split("/"):
        link = parent.get(part, getlink=True) if isinstance(parent, h5py.Group) else None
        if link is None:
            return None
        if isinstance(link, h5py.ExternalLink):
            raise SpectrumError(f"{part} is a link to another file; copy the data into one file.")
        parent = parent.get(part)
    if not isinstance(parent, h5py.Dataset):
        return None
    if parent.is_virtual or parent.external:
        raise SpectrumError(f"{path} lies in another file; copy the data into one file.")
    return parent


def _text(group: Any, path: str) -> str:
    """A text in the file; empty where there is none."""
    found = _dataset(group, path)
    if found is None or found.shape not in ((), (1,)) or found.dtype.kind not in "OS" or found.dtype.itemsize > _MOST:
        return ""
    value = found[()] if found.shape == () else found[0]
    return _string(value)


def _column(group: Any, path: str) -> FloatArray | None:
    """(n,) numbers in the file; None where there are none."""
    found = _dataset(group, path)
    if found is None or found.ndim != 1 or found.dtype.kind not in "fiu":
        return None
    if found.size > _MOST:
        raise SpectrumError(f"{path} has {found.size} points, more than any scan; give one scan an entry.")
    return np.asarray(found[()], dtype=np.float64)


def _reading(name: str, label: str, entry: Any, parameters: ScanParameters) -> Reading:
    values = _text(entry, "xastruct/values")
    if values:
        columns = {column: _column(entry, f"data/{column}") for column in COLUMNS}
        return restore(name, from_json(name, values), {key: column for key, column in columns.items() if column is not None}, parameters)
    plots = [key for key, group in _groups(entry) if _class(group) == "NXdata"]
    places = [key for key, group in _groups(entry) if _class(group) == "NXinstrument"]
    energy = _energy(name, entry, [*(f"{key}/energy" for key in plots), *(f"{key}/monochromator/energy" for key in places), "energy"])
    mu, formula = _absorption(name, entry, plots, places)
    if mu.shape != energy.shape:
        raise SpectrumError(f"{name}: energy has {energy.size} points and {formula} {mu.size}; they must be of one scan.")
    usable = np.isfinite(energy) & np.isfinite(mu)
    if usable.sum() < max(10, 0.9 * len(energy)):
        raise SpectrumError(f"{name}: {formula} is no number in {int((~usable).sum())} of {len(energy)} points; check the detectors.")
    order = order_of(energy[usable])
    energy, mu = increasing(energy[usable], mu[usable])
    absorber = _text(entry, "element/symbol") or _text(entry, "element")
    edge = _text(entry, "edge/name") or _text(entry, "absorption_edge/name") or _text(entry, "edge") or _text(entry, "absorbed_edge")
    header = {"sample": {"name": _text(entry, "sample/name")}, "scan": {"start_time": _text(entry, "start_time")}}
    known = {space: {tag: text for tag, text in tags.items() if text} for space, tags in header.items()}
    fields = {space: tags for space, tags in known.items() if tags}
    return Scan(name, energy, mu, absorber.capitalize(), edge.upper(), formula, fields, group=label, order=order)


def _energy(name: str, entry: Any, paths: list[str]) -> FloatArray:
    """The first column of energies, in eV."""
    for path in paths:
        column = _column(entry, path)
        if column is None:
            continue
        unit = _string(_dataset(entry, path).attrs.get("units", ""))
        if unit.lower() not in _TO_EV:
            raise SpectrumError(f"{name}: the energy is in {unit!r}; give it in eV or keV.")
        return column * _TO_EV[unit.lower()]
    raise SpectrumError(f"{name} has no column of energies where NXxas has it (NXdata/energy or monochromator/energy).")


def _absorption(name: str, entry: Any, plots: list[str], places: list[str]) -> tuple[FloatArray, str]:
    """Absorption, and how it came about."""
    for key in plots:
        for label in dict.fromkeys([_string(entry[key].attrs.get("signal", "")), "mu", "intensity"]):
            if (
                label in ("mu", "xmu", "intensity", "mutrans", "mufluor", "absorption")
                and (mu := _column(entry, f"{key}/{label}")) is not None
            ):
                return mu, f"{key}/{label}"
    for key in places:
        incoming, absorbed = _column(entry, f"{key}/incoming_beam/data"), _column(entry, f"{key}/absorbed_beam/data")
        if incoming is None or absorbed is None or incoming.shape != absorbed.shape:
            continue
        mode = next((text for plot in plots if (text := _text(entry, f"{plot}/mode"))), "") or _text(entry, "mode")
        with np.errstate(divide="ignore", invalid="ignore"):
            if "yield" in mode.lower() or "fluorescence" in mode.lower():
                return absorbed / incoming, "absorbed_beam/incoming_beam"
            return np.log(incoming / absorbed), "ln(incoming_beam/absorbed_beam)"
    raise SpectrumError(f"{name} has no absorption where NXxas has it (a signal called mu or intensity, or incoming and absorbed beam).")

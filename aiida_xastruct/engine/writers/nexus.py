"""NeXus: HDF5 with an entry that follows NXxas, and a collection of what NXxas has no place for. Exact."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from ... import __version__
from ..exchange import columns_of, to_json, values_of
from ..spectrum import Spectrum, atomic_number


def write(spectrum: Spectrum, extent: Mapping[str, Any], comments: bool = True) -> bytes:
    """The content of the file: the same spectrum makes the same bytes; arguments as for `writers.write`.

    Raises:
        SpectrumError: if a value is none that JSON can express.
    """
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w", track_order=True) as file:
        file.attrs["NX_class"], file.attrs["default"] = "NXroot", "entry"
        entry = _group(file, "entry", "NXentry")
        entry.attrs["default"] = "data"
        entry["definition"] = "NXxas"
        entry["title"] = f"{spectrum.absorber} {spectrum.edge} {spectrum.kind}"
        entry["program_name"] = f"aiida-xastruct {__version__}"
        element = _group(entry, "element", "NXelement")
        element["symbol"], element["atomic_number"] = spectrum.absorber, atomic_number(spectrum.absorber)
        edge = _group(entry, "edge", "NXedge")
        edge["name"] = spectrum.edge
        data = _group(entry, "data", "NXdata")
        data.attrs["signal"], data.attrs["axes"] = "mu", np.array(["energy"], dtype=h5py.string_dtype())
        for name, column in columns_of(spectrum, extent).items():
            data.create_dataset(name, data=column, track_times=False)
        data["energy"].attrs["units"] = "eV"
        data["mu"].attrs["long_name"] = f"mu ({spectrum.normalisation})"
        # Links as NXxas asks for them, so that its own readers find energy and absorption.
        instrument = _group(entry, "instrument", "NXinstrument")
        _group(instrument, "monochromator", "NXmonochromator")["energy"] = data["energy"]
        collection = _group(entry, "xastruct", "NXcollection")
        collection["values"] = to_json({**values_of(spectrum, extent), "uuid": extent.get("uuid")})
    return stream.getvalue()


def _group(parent: Any, name: str, nexus_class: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nexus_class
    return group

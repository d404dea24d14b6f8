"""One JSON object: the values of a spectrum and its columns. Exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..exchange import columns_of, to_json, values_of
from ..spectrum import Spectrum

#: What `engine.readers.document` knows such a file by.
FORMAT = "xastruct-spectrum-1"


def write(spectrum: Spectrum, extent: Mapping[str, Any], comments: bool = True) -> bytes:
    """The content of the file; arguments as for `writers.write`.

    Raises:
        SpectrumError: if a value is none that JSON can express.
    """
    content = {"format": FORMAT, **values_of(spectrum, extent), "uuid": extent.get("uuid")}
    content["columns"] = {name: column.tolist() for name, column in columns_of(spectrum, extent).items()}
    return (to_json(content, indent=1) + "\n").encode()

"""Comma-separated columns under their names, below a head of `#` lines. Exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..exchange import columns_of
from ..spectrum import Spectrum
from .head import head_lines, rows


def write(spectrum: Spectrum, extent: Mapping[str, Any], comments: bool = True) -> bytes:
    """The content of the file; arguments as for `writers.write`."""
    columns = columns_of(spectrum, extent)
    head = [f"# {line}" for line in head_lines(spectrum, extent)] if comments else []
    return ("\n".join([*head, ",".join(columns), *rows(list(columns.values()), ",")]) + "\n").encode()

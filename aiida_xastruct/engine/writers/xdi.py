"""XDI, which Athena and Larch read: Ravel et al., J. Phys. Conf. Ser. 712, 012148 (2016). Exact.

Fields of a measured file's head come back under their own names; what XDI has no field for stands in the extension `Xastruct`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ... import __version__
from ..exchange import columns_of
from ..spectrum import Spectrum
from .head import head_lines, rows

#: What XDI calls edges.
_EDGES = {"L2,3": "L", "M1": "M", "M2": "M", "M3": "M", "M4": "M", "M5": "M"}

#: Namespaces that this writer fills itself.
_OWN = frozenset({"element", "column", "xastruct"})


def write(spectrum: Spectrum, extent: Mapping[str, Any], comments: bool = True) -> bytes:
    """The content of the file; arguments as for `writers.write`."""
    columns = columns_of(spectrum, extent)
    lines = [f"XDI/1.0 aiida-xastruct/{__version__}"]
    lines += [f"Column.{number}: {name}{' eV' if name == 'energy' else ''}" for number, name in enumerate(columns, 1)]
    lines += [f"Element.symbol: {spectrum.absorber}", f"Element.edge: {_EDGES.get(spectrum.edge, spectrum.edge)}"]
    if spectrum.e0 is not None:
        lines.append(f"Scan.edge_energy: {spectrum.e0!r} eV")
    lines += [*_measured(spectrum), *head_lines(spectrum, extent), "///", "-" * 40, "  ".join(columns)]
    return ("\n".join([*(f"# {line}" for line in lines), *rows(list(columns.values()), "  ")]) + "\n").encode()


def _measured(spectrum: Spectrum) -> list[str]:
    """Fields of the measured file's own head."""
    fields = spectrum.settings.get("xdi")
    found = []
    for namespace, values in fields.items() if isinstance(fields, Mapping) else ():
        for tag, value in values.items() if isinstance(values, Mapping) and namespace not in _OWN else ():
            name, text = f"{namespace.capitalize()}.{tag}", " ".join(str(value).split())
            if re.fullmatch(r"[A-Za-z]\w*\.\w+", name) and name != "Scan.edge_energy":
                found.append(f"{name}: {text}")
    return found

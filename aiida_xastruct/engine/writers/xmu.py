"""FEFF's xmu.dat: omega, e, k, mu, mu0 and chi, and behind them the limits of a learned spectrum.

Energies have six decimals, all else nine digits after the point: more than FEFF writes, and what reads FEFF reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import SpectrumError
from ..exchange import columns_of
from ..spectrum import Spectrum, atomic_number, energy_to_k, find_e0
from .head import head_lines


def write(spectrum: Spectrum, extent: Mapping[str, Any], comments: bool = True) -> bytes:
    """The content of the file; arguments as for `writers.write`.

    Raises:
        SpectrumError: if the spectrum has no mu0, of which FEFF's file has a column, or points that would print alike.
    """
    if spectrum.mu0 is None:
        raise SpectrumError("FEFF's xmu.dat has a column of the atomic background mu0, which this spectrum has not; export it as xdi.")
    columns = columns_of(spectrum, extent)
    if (np.diff(np.round(spectrum.energy, 6)) <= 0).any():
        raise SpectrumError("points lie closer than the 1e-6 eV that an xmu.dat can tell apart; export the spectrum as xdi.")
    e0 = find_e0(spectrum)
    with np.errstate(divide="ignore", invalid="ignore"):
        chi = np.where(spectrum.mu0 > 0, spectrum.mu / spectrum.mu0 - 1.0, 0.0)
    energies = (spectrum.energy, spectrum.energy - e0)
    others = [
        energy_to_k(spectrum.energy - e0),
        spectrum.mu,
        spectrum.mu0,
        chi,
        *(columns[name] for name in ("lower", "upper") if name in columns),
    ]
    names = ["omega", "e", "k", "mu", "mu0", "chi", *(name for name in ("lower", "upper") if name in columns)]
    head = [
        f"# {spectrum.absorber} {spectrum.edge} {spectrum.kind} by {spectrum.method}, written by aiida-xastruct",
        f"# Abs   Z={atomic_number(spectrum.absorber):2d} {spectrum.edge} shell",
        *(f"# {line}" for line in head_lines(spectrum, extent)),
        "# " + "-" * 70,
        f"# {'    '.join(names)}",
    ]
    table = zip(*energies, *others, strict=True)
    lines = [f"{omega:16.6f} {above:14.6f}" + "".join(f" {value:16.9E}" for value in rest) for omega, above, *rest in table]
    return ("\n".join([*head, *lines]) + "\n").encode()

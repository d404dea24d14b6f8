"""FEFF's output: xmu.dat and chi.dat, known by their column names."""

from __future__ import annotations

import re

import numpy as np

from ..errors import SpectrumError
from ..feff.output import read_chi, read_table, read_xmu
from ..scans import Reading, ScanParameters
from ..spectrum import FloatArray, Method, Spectrum, edge_of, element_symbol, k_to_energy, tabulated_edge
from .text import as_text

_XMU = re.compile(r"omega\s+e\s+k\s+mu\s+mu0\s+chi")
_CHI = re.compile(r"(?m)^[ \t#]*k\s+chi\s+mag\s+phase")
_HEAD = re.compile(r"Abs\s+Z=\s*(\d+)\s.*?\b([KLM]\d?)\s+shell")


def recognise(content: bytes, name: str) -> bool:
    """Whether this is an xmu.dat or chi.dat."""
    text = content[:50_000].decode("utf-8", errors="replace")
    return bool(_XMU.search(text) or _CHI.search(text))


def stated_edge(text: str) -> tuple[str, str]:
    """Absorber and edge that FEFF's head names; empty where there is none."""
    match = _HEAD.search(text)
    return (element_symbol(int(match[1])), match[2]) if match and 0 < int(match[1]) < 99 else ("", "")


def read(content: bytes, name: str, parameters: ScanParameters) -> list[Reading]:
    """The spectrum of a run: EXAFS if an xmu.dat starts at k = 0, and for a chi.dat, which is put at the tabulated edge.

    Raises:
        SpectrumError: if neither the file nor the parameters say which element absorbs, or they disagree.
        FeffError: if the file is damaged.
    """
    text = as_text(content, name)
    stated = stated_edge(text)
    absorber = parameters.absorber or stated[0]
    if not absorber:
        raise SpectrumError(f"{name} does not say which element absorbs; give it, e.g. absorber 'Fe'.")
    edge = parameters.edge or stated[1] or edge_of(absorber)
    if (stated[0] or absorber, stated[1] or edge) != (absorber, edge):
        raise SpectrumError(f"{name} is of {stated[0]} {stated[1]}, not of {absorber} {edge}; leave out what it says itself.")
    if not _XMU.search(text):
        k, chi = read_chi(text)
        return [of_chi(name, k, chi, absorber, edge, tabulated_edge(absorber, edge), "feff")]
    exafs = read_table(text, 6)[0, 2] >= 0.0
    return [read_xmu(text, absorber, edge, "EXAFS" if exafs else "XANES", {"files": [name]})]


def of_chi(name: str, k: FloatArray, chi: FloatArray, absorber: str, edge: str, e0: float, method: Method) -> Spectrum:
    """An EXAFS of which only chi(k) is known: flat, mu = 1 + chi over mu0 = 1, at the energies that k has above `e0`.

    Args:
        name: of the file, for messages.
        k: (n,) 1/angstrom.
        chi: (n,).
        absorber: symbol.
        edge: absorption edge.
        e0: eV.
        method: feff or measured.

    Raises:
        SpectrumError: if k does not increase from 0 on or a value is not finite.
    """
    if not (np.isfinite(k).all() and np.isfinite(chi).all()) or k[0] < 0.0 or (np.diff(k) <= 0).any() or k[-1] > 60.0:
        raise SpectrumError(f"{name} is no chi(k): k must increase from 0 to at most 60 per angstrom, and all values be finite.")
    return Spectrum(
        energy=e0 + k_to_energy(k),
        mu=1.0 + chi,
        mu0=np.ones_like(chi),
        absorber=absorber,
        edge=edge,
        kind="EXAFS",
        method=method,
        energy_reference="nominal",
        normalisation="flat",
        e0=e0,
        settings={"files": [name], "formula": "1 + chi"},
    )

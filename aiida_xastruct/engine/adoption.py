"""Spectra as other programs' plugins store them, brought to absolute energies and one edge step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from .errors import SpectrumError
from .options import from_plain
from .readers.feff import of_chi
from .spectrum import EDGES, FloatArray, Kind, Method, Spectrum, edge_of, tabulated_edge

#: eV at the end of a spectrum over which its mean becomes one edge step, where no program says what a step is.
LAST = 10.0

#: Energies below this are relative to an edge: no edge of interest lies there, and no scan begins at zero.
RELATIVE = 40.0


@dataclass(frozen=True)
class AdoptionParameters:
    """What a foreign node does not say.

    Attributes:
        absorber: symbol of the absorbing element.
        edge: absorption edge; the one people measure for the absorber if empty.
        kind: XANES or EXAFS; if empty, EXAFS for chi(k) and for data that reach 250 eV above the edge.
        method: feff, xspectra or measured.
        e0: absolute energy in eV of what relative energies count from; the tabulated edge if None.

    Raises:
        SpectrumError: for a value that is none of these.
    """

    absorber: str = ""
    edge: str = ""
    kind: str = ""
    method: str = "measured"
    e0: float | None = None

    def __post_init__(self) -> None:
        for name, choices in (("edge", EDGES), ("kind", get_args(Kind)), ("method", get_args(Method))):
            value = getattr(self, name)
            if not isinstance(value, str) or (value and value not in choices):
                raise SpectrumError(f"{name} is {value!r}; use one of {', '.join(choices)}.")
        if not isinstance(self.absorber, str) or not self.absorber:
            raise SpectrumError("the node does not say which element absorbs; give it, e.g. absorber 'Fe'.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AdoptionParameters:
        """Parameters from plain values.

        Raises:
            SpectrumError: for an unknown name, with the nearest known one, or a wrong value.
        """
        return from_plain(cls, values, "parameter of an adoption")


def adopt_curve(energy: FloatArray, mu: FloatArray, parameters: AdoptionParameters) -> Spectrum:
    """A spectrum mu(E) of another program.

    Args:
        energy: (n,) eV, absolute or relative to the edge or the Fermi level.
        mu: (n,) in any unit.
        parameters: see there.

    Returns:
        A measured spectrum stays raw. A computed one is divided by its mean over the last `LAST` eV, gets normalisation
        flat, and says so in its settings.

    Raises:
        SpectrumError: if energies do not increase, values are not finite, or mu does not rise.
    """
    edge = parameters.edge or edge_of(parameters.absorber)
    zero = parameters.e0 if parameters.e0 is not None else tabulated_edge(parameters.absorber, edge)
    if energy.shape != mu.shape or energy.ndim != 1 or not len(energy) or not (np.isfinite(energy).all() and np.isfinite(mu).all()):
        raise SpectrumError("the node's energies and absorption are no two columns of finite numbers of one length; compute it again.")
    relative = bool(energy[0] < RELATIVE)
    absolute = energy + zero if relative else energy
    kind = parameters.kind or ("EXAFS" if absolute[-1] - zero >= 250.0 else "XANES")
    settings: dict[str, Any] = {"energies": f"relative to {zero:.3f} eV" if relative else "absolute"}
    measured = parameters.method == "measured"
    if not measured:
        step = float(mu[absolute >= absolute[-1] - LAST].mean())
        if not step > 0.0:
            raise SpectrumError(f"mu is {step:.3g} at the end of the spectrum, which is no absorption; check which array it is.")
        mu = mu / step
        settings["normalised_by"] = f"its mean over the last {LAST:g} eV, {step:.6g}"
    return Spectrum(
        energy=absolute,
        mu=mu,
        absorber=parameters.absorber,
        edge=edge,
        kind=kind,  # type: ignore[arg-type]
        method=parameters.method,  # type: ignore[arg-type]
        energy_reference="nominal",
        normalisation="raw" if measured else "flat",
        settings=settings,
    )


def adopt_chi(k: FloatArray, chi: FloatArray, parameters: AdoptionParameters, name: str) -> Spectrum:
    """An EXAFS of which another program gave chi(k), (n,) each, k in 1/angstrom; points where chi is not known (NaN) are left out.

    Raises:
        SpectrumError: if k does not increase or fewer than 10 points are known.
    """
    known = np.isfinite(chi)
    if known.sum() < 10:
        raise SpectrumError(f"chi(k) of {name} is known at {int(known.sum())} points; at least 10 are needed.")
    edge = parameters.edge or edge_of(parameters.absorber)
    e0 = parameters.e0 if parameters.e0 is not None else tabulated_edge(parameters.absorber, edge)
    return of_chi(name, k[known], chi[known], parameters.absorber, edge, e0, parameters.method)  # type: ignore[arg-type]

"""Where a program puts the edge of an element: a table of offsets from the tabulated energies, and what lies between its entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .spectrum import XANES_GRID, atomic_number, edge_of, element_symbol

#: Offsets are whole steps of the XANES grid, so that a curve above a shifted edge is a slice of the one above the tabulated edge.
STEP = float(XANES_GRID[1] - XANES_GRID[0])


@dataclass(frozen=True)
class EdgeShifts:
    """Offsets of edges from the tabulated energies, eV.

    Attributes:
        by_engine: for each program, the offset of each element (symbol) that it has spectra of.
        usual: for each element the offset in the program that most of its spectra come from.
    """

    by_engine: Mapping[str, Mapping[str, float]]
    usual: Mapping[str, float]

    @classmethod
    def fit(cls, shift: NDArray[Any], engine: NDArray[Any], absorber: NDArray[Any], engines: Sequence[str]) -> EdgeShifts:
        """Medians over spectra, in whole grid steps.

        Args:
            shift: (n,) E0 minus the tabulated edge, eV.
            engine: (n,) index into `engines`.
            absorber: (n,) atomic numbers.
            engines: names of the programs.
        """
        by_engine: dict[str, dict[str, float]] = {}
        usual: dict[str, float] = {}
        for z in np.unique(absorber):
            element, own = element_symbol(int(z)), absorber == z
            for index in np.unique(engine[own]):
                median = float(np.median(shift[own & (engine == index)]))
                by_engine.setdefault(engines[int(index)], {})[element] = round(median / STEP) * STEP
            usual[element] = by_engine[engines[int(np.bincount(engine[own]).argmax())]][element]
        return cls(by_engine, usual)

    def of(self, element: str, engine: str = "") -> float:
        """Offset of an element's edge in a program, or without one in the program that the element is best known by.

        Between elements that have spectra it is a straight line in Z, for K and L3 edges apart, as offsets are smooth in Z: among the
        program's own elements where they lie on both sides, else among those of all programs; 0 where no element of the edge has any.
        """
        own = self.by_engine.get(engine, {})
        if element in own or (not own and element in self.usual):
            return float((own or self.usual)[element])
        z, edge = atomic_number(element), edge_of(element)
        for known in (own, self.usual):
            points = sorted((atomic_number(name), value) for name, value in known.items() if edge_of(name) == edge)
            if points and (known is self.usual or points[0][0] < z < points[-1][0]):
                numbers, values = zip(*points, strict=True)
                return round(float(np.interp(z, numbers, values)) / STEP) * STEP
        return 0.0

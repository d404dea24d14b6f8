"""What a figure shows, apart from who draws it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...engine.spectrum import element_symbol

Array = NDArray[np.float64]

#: Colours that people with any colour vision tell apart (Okabe and Ito, 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


@dataclass(frozen=True, eq=False)
class Line:
    """A curve: x and y, (n,) each; `style` is solid, dashed or points."""

    label: str
    x: Array
    y: Array
    style: Literal["solid", "dashed", "points"] = "solid"


@dataclass(frozen=True, eq=False)
class Band:
    """The room between two curves around the line of that position: x, low and high, (n,) each; `opacity` from 0 to 1."""

    label: str
    x: Array
    low: Array
    high: Array
    line: int = 0
    opacity: float = 0.2


@dataclass(frozen=True)
class Interval:
    """A value with its limits, on a line of its own."""

    label: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Figure:
    """Curves over one pair of axes, a row of intervals, or values on the periodic table.

    Attributes:
        title: above it.
        description: what it shows in one sentence, for those who cannot see it.
        x_label: with the unit.
        y_label: with the unit.
        bands: behind the lines.
        lines: in the order of the legend.
        intervals: instead of lines.
        elements: instead of both: a value from 0 to 1 by element symbol.
    """

    title: str
    description: str
    x_label: str = ""
    y_label: str = ""
    bands: tuple[Band, ...] = ()
    lines: tuple[Line, ...] = ()
    intervals: tuple[Interval, ...] = ()
    elements: dict[str, float] = field(default_factory=dict)


def place(element: str) -> tuple[int, int]:
    """Row (0 to 8) and column (0 to 17) of an element on the periodic table; lanthanides and actinides below it in rows 7 and 8."""
    from pymatgen.core import Element

    own = Element(element)
    if own.is_lanthanoid or own.is_actinoid:
        return (7 if own.is_lanthanoid else 8), own.Z - (57 if own.is_lanthanoid else 89) + 2
    return own.row - 1, own.group - 1


def all_elements() -> list[str]:
    """Symbols of the elements on the table, H to Lr."""
    return [element_symbol(z) for z in range(1, 104)]

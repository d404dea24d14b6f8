"""Crystals of a stored screening ranked beside a measurement; every function here runs in AiiDA's thread."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.errors import XastructError
from ..engine.spectrum import find_e0
from ..tools.plotting.contents import Curve
from .screenings import parts, table_of

if TYPE_CHECKING:
    from ..engine.spectrum import Spectrum

#: Screenings that are offered, the newest first.
MOST_OFFERED = 50

_COLUMNS = ("id", "formula", "row", "method", "structure", "multiplicity", "chunk")


@dataclass(frozen=True)
class Ranked:
    """A crystal beside a measurement: its place, name and formula, how far its curve is, and the first row that is of it."""

    rank: int
    id: str
    formula: str
    distance: float
    shift: float
    row: int


def offered(absorber: str, kind: str) -> dict[int, str]:
    """Tables whose crystals may be ranked beside a spectrum of this absorber and kind: what they are called, by pk."""
    from aiida.orm import QueryBuilder

    from ..data.table import TableData

    builder = QueryBuilder().append(TableData, filters={"attributes.kind": kind, "id": {"!in": parts()}}, tag="table")
    builder.add_projection("table", ["id", "label", "ctime", "attributes.absorbers", "attributes.n_structures"])
    builder.order_by({"table": {"ctime": "desc"}})
    found = {}
    for pk, label, made, absorbers, count in builder.iterall():
        if absorber in (absorbers or ()):
            found[pk] = f"{label or 'screening'} <{pk}>, {count:,} crystals, {made:%Y-%m-%d %H:%M}"
        if len(found) == MOST_OFFERED:
            break
    return found


def rank(pk: int, target: Spectrum, kind: str, most: int) -> list[Ranked]:
    """The crystals of a table that are most like a spectrum.

    Args:
        pk: of the table.
        target: normalised.
        kind: XANES or EXAFS.
        most: crystals to give.

    Raises:
        XastructError: if the target covers too little, or the table lost its spectra.
    """
    from ..engine.ranking import distances, structure_means
    from ..tools.query_rows import Opened

    table, opened = table_of(pk), Opened()
    asked = [("absorber", "=", target.absorber), ("edge", "=", target.edge)]
    found = table.find(asked, [name for name in _COLUMNS if name in table.column_names()]).to_pylist()
    rows = [row for row in found if row["row"] is not None]
    if not rows:
        raise XastructError(f"the table <{pk}> has no spectrum of {target.absorber} {target.edge}; choose another.")
    crystals: dict[Any, int] = {}
    first: list[dict[str, Any]] = []
    for row in rows:
        row["crystal"] = crystals.setdefault((row.get("chunk"), row["structure"]), len(crystals))
        if row["crystal"] == len(first):
            first.append(row)
    curves = np.array([opened.arrays(table, row).get_array("mu")[row["row"]] for row in rows], dtype=np.float64)
    weights = np.array([row["multiplicity"] for row in rows])
    _, means = structure_means(np.array([row["crystal"] for row in rows]), weights, curves)
    far = distances(target, means, kind)  # type: ignore[arg-type]
    order = [int(index) for index in np.argsort(far.distance, kind="stable")[:most] if np.isfinite(far.distance[index])]
    return [
        Ranked(
            place, str(first[index]["id"]), str(first[index].get("formula") or ""), float(far.distance[index]),
            float(far.shift[index]), first[index]["number"],
        )
        for place, index in enumerate(order, start=1)
    ]  # fmt: skip


def row_curve(pk: int, number: int, label: str, like: Spectrum) -> Curve:
    """The spectrum of a row to lay over a measurement, at energies from the measurement's E0."""
    from ..tools.query_rows import Place

    own = Place(pk, number).load()
    shift = find_e0(like) - find_e0(own)
    return Curve(label, replace(own, energy=own.energy + shift, e0=find_e0(like)))

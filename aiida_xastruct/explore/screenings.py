"""Tables of screenings as the page shows them: filtered, sorted, a page at a time; every function here runs in AiiDA's thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..engine.errors import XastructError
from ..engine.spectrum import Spectrum
from ..tools.plotting.contents import Curve

if TYPE_CHECKING:
    import pyarrow as pa

    from ..data.table import TableData

#: Tables that are offered, the newest first; rows of a page; spectra that are laid over each other.
MOST_OFFERED, PAGE, MOST_DRAWN = 100, 50, 10

#: Columns that a page shows, where the table has them, and by which it can be sorted.
SHOWN = ("id", "formula", "absorber", "site", "multiplicity", "method", "uncertainty", "in_domain", "distance", "rank", "reason")
SORTED = ("uncertainty", "rank", "distance", "id", "formula", "absorber")


@dataclass(frozen=True)
class Choices:
    """What a table can be filtered by: its kind, absorbers, methods, and the columns that it can be sorted by."""

    kind: str
    absorbers: tuple[str, ...]
    methods: tuple[str, ...]
    sorts: tuple[str, ...]


@dataclass(frozen=True)
class Filter:
    """Which rows are asked for.

    Attributes:
        absorber: symbol; any if empty.
        text: that the id or the formula holds, small or capital; any if empty.
        method: ml, feff or xspectra; any if empty.
        in_domain: only rows that the model knows the like of.
        most_error: largest expected error; any if None.
        sort: one of `SORTED`; the table's own order if empty.
        descending: the largest first.
    """

    absorber: str = ""
    text: str = ""
    method: str = ""
    in_domain: bool = False
    most_error: float | None = None
    sort: str = ""
    descending: bool = False


@dataclass(frozen=True)
class Found:
    """A page of rows, each with its `number` in the table, and how many rows there are in all."""

    total: int
    rows: tuple[dict[str, Any], ...]


def offered() -> dict[int, str]:
    """Tables of the profile, by pk: what they are called."""
    from aiida.orm import QueryBuilder

    from ..data.table import TableData

    builder = QueryBuilder().append(TableData, tag="table")
    builder.add_projection("table", ["id", "label", "ctime", "attributes.kind", "attributes.n_rows", "attributes.n_structures"])
    builder.order_by({"table": {"ctime": "desc"}}).limit(MOST_OFFERED)
    return {
        pk: f"{label or 'table'} <{pk}>: {kind}, {crystals:,} crystals, {rows:,} rows, {made:%Y-%m-%d %H:%M}"
        for pk, label, made, kind, rows, crystals in builder.iterall()
    }


def choices(pk: int) -> Choices:
    """What a table can be filtered by.

    Raises:
        XastructError: if the node is no table.
    """
    attributes = table_of(pk).base.attributes
    names = _read(pk).column_names
    return Choices(
        str(attributes.get("kind")), tuple(attributes.get("absorbers")), tuple(attributes.get("methods")),
        tuple(name for name in SORTED if name in names),
    )  # fmt: skip


def select(pk: int, wanted: Filter, page: int = 1) -> Found:
    """A page of the rows that a filter leaves.

    Args:
        pk: of the table.
        wanted: see there.
        page: from 1.

    Raises:
        XastructError: if the node is no table.
    """
    import pyarrow.compute as pc

    table = _read(pk)
    where: Any = pc.scalar(True)
    for name, value in (("absorber", wanted.absorber), ("method", wanted.method)):
        if value:
            where &= pc.field(name) == value
    if wanted.text:
        own = [
            pc.match_substring(pc.field(name), wanted.text, ignore_case=True) for name in ("id", "formula") if name in table.column_names
        ]
        where &= own[0] if len(own) == 1 else own[0] | own[1]
    if wanted.in_domain:
        where &= pc.field("in_domain")
    if wanted.most_error is not None:
        where &= pc.field("uncertainty") <= wanted.most_error
    found = table.filter(where)
    total, start = int(found.num_rows), (page - 1) * PAGE
    if wanted.sort in SORTED and wanted.sort in table.column_names:
        order = pc.sort_indices(found, sort_keys=[(wanted.sort, "descending" if wanted.descending else "ascending")])
        found = found.take(order.slice(start, PAGE))
    else:
        found = found.slice(start, PAGE)
    return Found(total, tuple(found.to_pylist()))


def curves(pk: int, numbers: Sequence[int]) -> list[Curve]:
    """Spectra of rows to lay over each other.

    Raises:
        XastructError: if a row has none, or the table lost its arrays.
    """
    table = table_of(pk)
    found = []
    for number in numbers[:MOST_DRAWN]:
        row = table.get_row(number)
        found.append(
            Curve(f"{row.get('formula') or row['id']} ({row['id']}), {row['absorber']} {row['site']}", row_spectrum(table, number))
        )
    return found


def row_spectrum(table: TableData, number: int) -> Spectrum:
    """The spectrum of a row, flat, at absolute energies.

    Raises:
        XastructError: if it has none, or the table lost its arrays.
    """
    from ..tools.rows import curve

    energy, mu = curve(table, number)
    row = table.get_row(number)
    kind = table.base.attributes.get("kind")
    return Spectrum(energy, mu, row["absorber"], row["edge"], kind, row["method"], "feff", "flat", None, float(row["e0"]))


def table_of(pk: int) -> TableData:
    """The table of a pk.

    Raises:
        XastructError: if the node is none.
    """
    from aiida.orm import load_node

    from ..data.table import TableData

    node = load_node(pk)
    if not isinstance(node, TableData):
        raise XastructError(f"<{pk}> is no table of spectra; choose another.")
    return node


@lru_cache(maxsize=2)
def _read(pk: int) -> pa.Table:
    """The columns of a table that are shown, and each row's number; kept for the next page, since a stored table never changes."""
    import numpy as np
    import pyarrow as pa

    node = table_of(pk)
    table = node.read([name for name in SHOWN if name in node.column_names()])
    plain = [column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column for column in table.columns]
    table = pa.table(plain, names=table.column_names)
    return table.append_column("number", pa.array(np.arange(table.num_rows)))

"""Tables of screenings as the page shows them: filtered, sorted, a page at a time; every function here runs in AiiDA's thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..engine.errors import XastructError
from ..tools.plotting.contents import Curve

if TYPE_CHECKING:
    import pyarrow as pa

    from ..data.table import TableData

#: Tables that are offered, the newest first; rows of a page; spectra that are laid over each other.
MOST_OFFERED, PAGE, MOST_DRAWN = 100, 50, 10

#: Columns that a page shows, where the table has them, and by which it can be sorted.
SHOWN = ("id", "formula", "absorber", "site", "multiplicity", "method", "uncertainty", "in_domain", "distance", "rank", "reason")
SORTED = ("uncertainty", "rank", "distance", "id", "formula", "absorber")

#: What makes one table of a screening's parts.
_MERGE = "aiida.calculations:xastruct.functions.merge_batches"


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
        most_rank: last place of those most like the target; any if None.
        sort: one of `SORTED`; the table's own order if empty.
        descending: the largest first.
    """

    absorber: str = ""
    text: str = ""
    method: str = ""
    in_domain: bool = False
    most_error: float | None = None
    most_rank: int | None = None
    sort: str = ""
    descending: bool = False


@dataclass(frozen=True)
class Found:
    """A page of rows, each with its `number` in the table, and how many rows there are in all."""

    total: int
    rows: tuple[dict[str, Any], ...]


def offered() -> dict[int, str]:
    """Tables of the profile, by pk: what they are called; parts of a screening are left out, which its own table holds."""
    from aiida.orm import QueryBuilder

    from ..data.table import TableData

    builder = QueryBuilder().append(TableData, filters={"id": {"!in": parts()}}, tag="table")
    builder.add_projection("table", ["id", "label", "ctime", "attributes.kind", "attributes.n_rows", "attributes.n_structures"])
    builder.order_by({"table": {"ctime": "desc"}}).limit(MOST_OFFERED)
    return {
        pk: f"{label or 'table'} <{pk}>: {kind}, {crystals:,} crystals, {rows:,} rows, {made:%Y-%m-%d %H:%M}"
        for pk, label, made, kind, rows, crystals in builder.iterall()
    }


def parts() -> list[int]:
    """The pks of tables that were merged into one of a whole screening."""
    from aiida.orm import CalcFunctionNode, QueryBuilder

    from ..data.table import TableData

    builder = QueryBuilder().append(TableData, project="id", tag="table")
    builder.append(CalcFunctionNode, with_incoming="table", filters={"process_type": _MERGE})
    return [*builder.distinct().all(flat=True), 0]  # pks begin at 1, and an empty list is refused


def choices(pk: int) -> Choices:
    """What a table can be filtered by.

    Raises:
        XastructError: if the node is no table.
    """
    table = table_of(pk)
    attributes, names = table.base.attributes, table.column_names()
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
        XastructError: if the node is no table, or has no column that is asked about.
    """
    import pyarrow.compute as pc

    table = _read(table_of(pk).uuid)
    if lacking := [name for name in _asked(wanted) if name not in table.column_names]:
        raise XastructError(f"the table <{pk}> says nothing of {', '.join(lacking)}; take that filter back.")
    where: Any = pc.scalar(True)
    for name, value in (("absorber", wanted.absorber), ("method", wanted.method)):
        if value:
            where &= pc.field(name) == value
    if wanted.text:
        by_id, by_formula = (pc.match_substring(pc.field(name), wanted.text, ignore_case=True) for name in ("id", "formula"))
        where &= by_id | by_formula  # one that holds the text is enough where the other is missing
    if wanted.in_domain:
        where &= pc.field("in_domain")
    for name, most in (("uncertainty", wanted.most_error), ("rank", wanted.most_rank)):
        if most is not None:
            where &= pc.field(name) <= most
    found = table.filter(where)
    start = (max(page, 1) - 1) * PAGE
    if wanted.sort:
        # By the number next, so that equal rows have one order on all pages.
        keys = [(wanted.sort, "descending" if wanted.descending else "ascending"), ("number", "ascending")]
        rows = found.take(pc.sort_indices(found, sort_keys=keys).slice(start, PAGE))
    else:
        rows = found.slice(start, PAGE)
    return Found(int(found.num_rows), tuple(rows.to_pylist()))


def _asked(wanted: Filter) -> list[str]:
    """Columns that a filter is about."""
    named = (
        ("absorber", wanted.absorber), ("method", wanted.method), ("id", wanted.text), ("formula", wanted.text),
        ("in_domain", wanted.in_domain), ("uncertainty", wanted.most_error is not None), ("rank", wanted.most_rank is not None),
        (wanted.sort, wanted.sort),
    )  # fmt: skip
    return [name for name, asked in named if asked]


def curves(pk: int, numbers: Sequence[int]) -> list[Curve]:
    """Spectra of rows to lay over each other.

    Raises:
        XastructError: if a row has none, or the table lost its arrays.
    """
    from ..tools.query_rows import Opened, Place

    table, opened, found = table_of(pk), Opened(), []
    for number in numbers[:MOST_DRAWN]:
        row = table.get_row(number)
        label = f"{row.get('formula') or row['id']} ({row['id']}), {row['absorber']} {row['site']}"
        found.append(Curve(label, Place(pk, number).load(opened)))
    return found


def table_of(pk: int) -> TableData:
    """The table of a pk.

    Raises:
        XastructError: if the node is none.
    """
    from aiida.common.exceptions import NotExistent
    from aiida.orm import load_node

    from ..data.table import TableData

    try:
        node = load_node(pk)
    except NotExistent as error:
        raise XastructError(f"there is no node <{pk}> in this profile any more; choose another.") from error
    if not isinstance(node, TableData):
        raise XastructError(f"<{pk}> is no table of spectra; choose another.")
    return node


@lru_cache(maxsize=2)
def _read(uuid: str) -> pa.Table:
    """The columns of a table that are shown, and each row's number; kept for the next page, since a stored table never changes."""
    import pyarrow as pa
    from aiida.orm import load_node

    node: Any = load_node(uuid=uuid)
    table = node.find(columns=[name for name in SHOWN if name in node.column_names()])
    plain = [column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column for column in table.columns]
    return pa.table(plain, names=table.column_names)

"""Answers as tables: what a screening, a batch, a prediction, an inference or a ranking says, as rows that any program reads."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aiida.orm import Dict, Node, ProcessNode

from ..data.table import TableData
from ..engine.errors import XastructError

if TYPE_CHECKING:
    import pyarrow as pa

#: Formats of tables.
FORMATS = ("csv", "parquet")

#: Outputs of processes that hold an answer, the fullest first.
OUTPUTS = ("table", "ranking", "fit", "answer", "summary", "output_parameters")

#: Keys of an answer under which its rows stand, if it has several.
_ROWS = ("candidates", "best", "components", "rounds")


def table_of(nodes: Iterable[Node]) -> pa.Table:
    """The rows of nodes, one below the other, each with the `pk` and `uuid` of the node that says so.

    Args:
        nodes: tables of screenings and batches, answers (`Dict`), or processes, of which the answer is taken.

    Raises:
        XastructError: if a node holds no rows, or a process has no answer.
    """
    import pyarrow as pa

    tables = [_table(answer_of(node)) for node in nodes]
    if not tables:
        raise XastructError("there is nothing to export; name at least one table, answer or process.")
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise XastructError("these answers are of different kinds; export each kind into a file of its own.") from error


def answer_of(node: Node) -> TableData | Dict:
    """The answer that a node is, or that a process gave.

    Raises:
        XastructError: if it is none.
    """
    if isinstance(node, (TableData, Dict)):
        return node
    if not isinstance(node, ProcessNode):
        raise XastructError(f"{type(node).__name__} <{node.pk}> is no table and no answer; name one, or the process that gave it.")
    outputs = {link.link_label: link.node for link in node.base.links.get_outgoing()}
    for name in OUTPUTS:
        if isinstance(outputs.get(name), (TableData, Dict)):
            return outputs[name]
    raise XastructError(f"{node.process_label} <{node.pk}> has no answer; `verdi process status {node.pk}` shows how it ended.")


def _table(node: TableData | Dict) -> pa.Table:
    import pyarrow as pa

    if isinstance(node, TableData):
        table = node.read()
    else:
        rows = list(_rows(node.get_dict()))
        names = list(dict.fromkeys(name for row in rows for name in row))
        if not names:
            raise XastructError(f"the answer <{node.pk}> is empty; there is nothing to export.")
        table = pa.table({name: _array([row.get(name) for row in rows]) for name in names})
    for index, (name, value) in enumerate((("node_pk", node.pk), ("node_uuid", node.uuid))):
        table = table.add_column(index, name, pa.array([value] * len(table)))
    return table


def _array(values: list[Any]) -> pa.Array:
    """A column; of values that have no type in common, as JSON."""
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError):
        return pa.array([None if value is None else json.dumps(value) for value in values])


def _rows(content: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Rows of an answer: one a candidate or site where it has several, else one."""
    for name in _ROWS:
        if isinstance(content.get(name), list) and all(isinstance(row, Mapping) for row in content[name]):
            shared = {key: value for key, value in content.items() if not isinstance(value, (Mapping, list))}
            for row in content[name]:
                yield {**shared, **_flat(row)}
            return
    if content and all(isinstance(value, Mapping) and "absorber" in value for value in content.values()):
        for name, row in content.items():
            yield {"name": name, **_flat(row)}
        return
    yield _flat(content)


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values within values under names with dots; lists stay."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def written(table: pa.Table, file_format: str) -> bytes:
    """A table as the content of a file.

    Args:
        table: of `table_of`.
        file_format: one of `FORMATS`. A CSV has no lists: their items are put one after the other with blanks, anything deeper as JSON.
    """
    import pyarrow as pa
    import pyarrow.csv as pacsv
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    if file_format == "parquet":
        pq.write_table(table, stream)
        return stream.getvalue()
    columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_nested(column.type):
            column = pa.array([None if value is None else _words(value) for value in column.to_pylist()], pa.string())
        columns[name] = column
    pacsv.write_csv(pa.table(columns), stream)
    return stream.getvalue()


def _words(value: Any) -> str:
    plain = isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value)
    return " ".join(str(item) for item in value) if plain else json.dumps(value)

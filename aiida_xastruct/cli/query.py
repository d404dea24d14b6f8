"""`aiida-xastruct query`: what is in the database, and rows of batches as nodes of their own."""

from __future__ import annotations

import click

from .group import XastructGroup, with_profile
from .launch import stored_or_file
from .output import echo_rows, json_option


@click.group("query", cls=XastructGroup)
def query() -> None:
    """Find answers, and what stands behind them."""


@query.command("materialise")
@click.argument("table")
@click.argument("rows", type=int, nargs=-1, required=True, metavar="ROW...")
@json_option
@with_profile
def materialise(table: str, rows: tuple[int, ...], as_json: bool) -> None:
    """Turn rows of TABLE (pk, UUID or label) into a structure and a spectrum each, by their numbers from 0.

    The nodes are made by a calcfunction from the batch, so that their provenance leads to it.
    """
    from ..tools.rows import materialise as make

    node = stored_or_file(table, "aiida.data:xastruct.table", None)
    found = []
    for number in rows:
        row, nodes = node.get_row(number), make(node, number)
        found.append((number, row["id"], row["site"], row["absorber"], row["method"], nodes["structure"].pk, nodes["spectrum"].pk))
    echo_rows(("row", "id", "site", "absorber", "method", "structure", "spectrum"), found, as_json)

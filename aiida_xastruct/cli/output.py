"""Tables for people, JSON for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

#: Width of a table that goes to a file or a pipe, where nothing wraps lines.
WIDE = 200


def json_option(command: Command) -> Command:
    """Add `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(command)


def echo_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], as_json: bool) -> None:
    """Print rows as a table, or as a JSON list of objects.

    Args:
        columns: names, one a column.
        rows: values, one a column each.
        as_json: print JSON.
    """
    if as_json:
        click.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=1, default=str))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE)
    for row in rows:
        table.add_row(*map(_cell, row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)


def _cell(value: Any) -> str:
    """A value as a table shows it: nothing for None, eight digits of a SHA-256."""
    text = "" if value is None else str(value)
    return text[:8] if re.fullmatch(r"[0-9a-f]{64}", text) else text


def echo_mapping(content: Mapping[str, Any], as_json: bool) -> None:
    """Print names and values, one a line, or one JSON object."""
    if as_json:
        click.echo(json.dumps(content, indent=1, default=str))
        return
    width = max(map(len, content), default=0)
    for name, value in content.items():
        shown = "" if value is None else f"{value:.7g}" if isinstance(value, float) else value
        click.echo(f"{name:<{width}}  {shown}")


def write_file(path: Path, content: bytes, overwrite: bool) -> None:
    """Write a file that somebody asked for.

    Raises:
        click.ClickException: if there is one already that is not to be replaced, or it cannot be written.
    """
    try:
        with path.open("wb" if overwrite else "xb") as stream:
            stream.write(content)
    except FileExistsError as error:
        raise click.ClickException(f"{path} exists already; choose another name or give --overwrite.") from error
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written ({error.strerror or error}).") from error

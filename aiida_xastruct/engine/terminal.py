"""What the commands of `xastruct` print and write."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Progress = Callable[[int, int], None]


@contextmanager
def progress_bar(text: str) -> Iterator[Progress]:
    """A progress bar on standard error, for things that take more than two seconds."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    # In a log file a bar would be a stray empty line before the error.
    with Bar(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(text, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Write a JSON file, where one is asked for."""
    if path is not None:
        path.write_text(json.dumps(content, indent=1) + "\n")

"""What the command lines of the benchmarks share: measure and keep the result as JSON, or print the page of a result that was kept."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def parse(parser: argparse.ArgumentParser, page: Callable[[dict[str, Any]], str], *needed: str) -> argparse.Namespace:
    """The options of a command line; with `--table` the page of a result is printed and the program ends.

    Args:
        parser: with the benchmark's own options.
        page: Markdown of a result.
        needed: names of the options without which nothing can be measured, beside `--json`.
    """
    parser.add_argument("--json", type=Path, help="file of the result")
    parser.add_argument("--table", type=Path, help="print the page of a result, and run nothing")
    options = parser.parse_args()
    if options.table:
        print(page(json.loads(options.table.read_text())).rstrip("\n"))
        sys.exit(0)
    if not all(getattr(options, name) for name in (*needed, "json")):
        parser.error(f"give {', '.join(f'--{name}' for name in needed)} and --json, or --table")
    return options


def described(doc: str | None) -> argparse.ArgumentParser:
    """A parser that shows the head of a script as its help."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)

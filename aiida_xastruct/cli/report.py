"""`aiida-xastruct report`: one page that tells what a result is and what it rests on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from aiida.cmdline.params import types

from .group import with_profile
from .output import echo_mapping, json_option, write_file

if TYPE_CHECKING:
    from aiida.orm import Node


@click.command("report")
@click.argument("node", type=types.NodeParamType())
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write.  [default: report-PK.html]")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@json_option
@with_profile
def report(node: Node, output: Path | None, overwrite: bool, as_json: bool) -> None:
    """Write a page about NODE: a prediction, an inference, a screening, a training, a comparison, a spectrum or a model.

    The file holds all that it shows and asks no network for anything.
    """
    from ..tools.report.gather import gather
    from ..tools.report.page import render

    path = output or Path(f"report-{node.pk}.html")
    found = gather(node)
    write_file(path, render(found).encode(), overwrite)
    if as_json:
        echo_mapping({"file": str(path), "title": found.title, "figures": [figure.title for figure in found.figures]}, as_json)
        return
    click.echo(str(path))

"""`aiida-xastruct plot`: a figure of spectra, of an inference or of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from aiida.cmdline.params import types

from .group import with_profile
from .output import echo_mapping, json_option

if TYPE_CHECKING:
    from aiida.orm import Node

#: Endings of files, and whether plotly draws them.
FORMATS = {".png": False, ".pdf": False, ".svg": False, ".html": True}


@click.command("plot")
@click.argument("nodes", type=types.NodeParamType(), nargs=-1, required=True, metavar="NODE...")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File: .png, .pdf, .svg or .html.")
@click.option(
    "-k", "--kind", type=click.Choice(["mu", "chi", "transform", "neighbours", "distance", "risk"]),
    help="What to draw.  [default: what there is first]",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@json_option
@with_profile
def plot(nodes: tuple[Node, ...], output: Path, kind: str | None, overwrite: bool, as_json: bool) -> None:
    """Draw NODE: spectra of one edge, in one figure, or one prediction, inference, model or process of this package.

    .html is interactive and works without a network; the others are for papers.
    """
    from ..engine.errors import XastructError
    from ..tools.plotting import paper, screen
    from ..tools.report.gather import figures_of

    if output.suffix not in FORMATS:
        raise XastructError(f"{output.name} ends in no known format; use one of {', '.join(FORMATS)}.")
    if output.exists() and not overwrite:
        raise XastructError(f"{output} exists already; choose another name or give --overwrite.")
    found = figures_of(nodes, kind or "")
    try:
        (screen if FORMATS[output.suffix] else paper).save(found[0], output)
    except OSError as error:
        raise XastructError(f"{output} cannot be written ({error.strerror or error}).") from error
    if as_json:
        echo_mapping({"file": str(output), "title": found[0].title, "description": found[0].description}, as_json)
        return
    click.echo(str(output))

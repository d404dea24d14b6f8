"""`aiida-xastruct cite`: what to cite with a result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from aiida.cmdline.params import types

from .group import with_profile
from .output import json_option, write_file

if TYPE_CHECKING:
    from aiida.orm import Node


@click.command("cite")
@click.argument("node", type=types.NodeParamType())
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to this file.  [default: the screen]")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@json_option
@with_profile
def cite(node: Node, output: Path | None, overwrite: bool, as_json: bool) -> None:
    """Say what NODE (pk, UUID, label) rests on, as BibTeX or, with --json, as JSON with the fields of a CITATION.cff.

    Named are the models with their hashes and training data, FEFF's version, the sources of crystals and measurements, and the software, as
    the provenance of the node has them.
    """
    from ..engine.citation import bibtex, citation
    from ..tools.citation import works_of

    works = works_of(node)
    title = f"{type(node).__name__} {node.uuid}"
    text = json.dumps(citation(works, title), indent=1) + "\n" if as_json else f"% {title}\n\n{bibtex(works)}"
    if output is None:
        click.echo(text, nl=False)
        return
    write_file(output, text.encode(), overwrite)
    click.echo(str(output))

"""`aiida-xastruct reference`: make, count and write the library of FEFF spectra. Only `--group` needs an AiiDA profile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .group import XastructGroup, with_profile
from .output import echo_mapping, json_option

if TYPE_CHECKING:
    from aiida.orm import Node

    from ..engine.reference.command import Said
    from ..engine.reference.files import Member

_STATE = click.Path(path_type=Path, file_okay=False)
_DEFAULT_LIBRARY = "[default: `reference` in the working folder, else in the clone that this runs from]"


@click.group("reference", cls=XastructGroup)
def reference() -> None:
    """Make FEFF spectra of experimental structures on idle cores, and write them as a library."""


@reference.command("build")
@click.option("--state", type=_STATE, required=True, help="Folder that records go to; an interrupted build goes on from it.")
@click.option(
    "--source", type=click.Choice(["amcsd", "npz", "cif"]), default="amcsd", show_default=True, help="Where the structures come from."
)  # fmt: skip
@click.option("--path", type=click.Path(exists=True), help="The table of an npz source, the folder of CIF files.")
@click.option("--group", help="Take the structures of this AiiDA group instead (label, pk or UUID).")
@click.option("--kinds", default="EXAFS,XANES", show_default=True, help="EXAFS, XANES or both.")
@click.option("--mix", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Share of the computing time for XANES.")
@click.option("--exafs-first", type=float, default=0.0, metavar="MINUTES", help="Minutes of EXAFS alone at the start.")
@click.option("--cores", type=click.IntRange(1), default=1, show_default=True, help="Sites computed at a time, all at the lowest priority.")
@click.option(
    "--exclude", type=click.Path(path_type=Path, exists=True, dir_okay=False), multiple=True,
    help="File of ids, or of reduced formulas with space-group numbers, one a line, to leave out.",
)  # fmt: skip
@click.option("--without", multiple=True, metavar="ELEMENT", help="Pass over structures that hold this element; may be repeated.")
@click.option("--most-elements", type=click.IntRange(1), help="Pass over structures of more elements: 1 takes the elements themselves.")
@click.option("--seed", type=int, default=None, help="Order of elements and structures; random by default, so that two builds seldom meet.")
@click.option("--limit", type=click.IntRange(1), default=None, help="Stop after so many sites.")
@click.option("--library", type=_STATE, help=f"Library whose sites are skipped.  {_DEFAULT_LIBRARY}")
@json_option
def build(
    state: Path, source: str, path: str | None, group: str | None, kinds: str, exclude: tuple[Path, ...], library: Path | None,
    as_json: bool, **values: Any,
) -> None:  # fmt: skip
    """Compute spectra until stopped, one element after the other; start it again to go on.

    What the library or the state folder holds already is skipped. Structures that are disordered, damaged or larger than 60 atoms are
    refused, once, and kept with the reason in the state folder.
    """
    from ..engine.reference.build import BuildOptions
    from ..engine.reference.command import build_command
    from ..engine.reference.library import default_library

    if group is not None:
        if source != "amcsd" or path is not None:
            raise click.UsageError("give either --group, or --source with its --path.")
        source, path = "aiida", str(_write_group(group, state))
    options = BuildOptions(
        source=source, path=path or "", kinds=tuple(kinds.split(",")), exclude=exclude, library=library or default_library(), **values
    )  # fmt: skip
    _echo(build_command(state, options, sys.stderr if as_json else None), as_json)


def _echo(said: Said, as_json: bool) -> None:
    """Print what a command says, as words or as one JSON object."""
    if as_json:
        echo_mapping(said.facts, as_json)
    else:
        click.echo(said.words)


@with_profile
def _write_group(identifier: str, state: Path) -> Path:
    """Write the structures of a group where the engine, which knows no AiiDA, reads them: a file in the state folder."""
    from aiida.orm import load_group

    from ..engine.reference.files import write_members

    group = load_group(identifier)
    state.mkdir(parents=True, exist_ok=True)
    path = state / "group.jsonl"
    write_members(path, map(_member, group.nodes))
    return path


def _member(node: Node) -> Member:
    """A node of the group as the engine takes it, under its UUID."""
    from aiida.orm import StructureData

    from ..engine.reference.files import Member

    if not isinstance(node, StructureData):
        return Member(node.uuid, None, f"the node is a {type(node).__name__}, not a StructureData.")
    try:
        return Member(node.uuid, node.get_pymatgen_structure())
    except ValueError as error:
        return Member(node.uuid, None, f"AiiDA cannot give its crystal: {error}")


@reference.command("status")
@click.option("--state", type=_STATE, default=None, help="State folder of a build.")
@click.option("--library", type=_STATE, default=None, help="The library, `reference` in the repository.")
@json_option
def status(state: Path | None, library: Path | None, as_json: bool) -> None:
    """Count unique sites by element, and failures by reason."""
    from ..engine.reference.command import status_command

    if state is None and library is None:
        raise click.UsageError("give --state, --library or both.")
    _echo(status_command(state, library), as_json)


@reference.command("export")
@click.option("--state", type=_STATE, required=True, help="State folder of a build.")
@click.option("--library", type=_STATE, required=True, help="The library that new shards are added to.")
@json_option
def export(state: Path, library: Path, as_json: bool) -> None:
    """Write the records that the library lacks as new shards; those that exist are never rewritten."""
    from ..engine.reference.command import export_command

    _echo(export_command(state, library), as_json)


@reference.command("paths")
@click.option("--library", type=_STATE, required=True, help="The library that shards of paths are added to.")
@click.option("--sites", type=click.IntRange(1), default=10, show_default=True, help="Sites of each absorber.")
@click.option("--cores", type=click.IntRange(1), default=1, show_default=True, help="FEFF runs at a time.")
@json_option
def paths(library: Path, sites: int, cores: int, as_json: bool) -> None:
    """Compute the scattering paths of sites of the library, which the model of EXAFS learns from beside spectra."""
    from ..engine.reference.command import paths_command

    _echo(paths_command(library, sites, cores, progress=sys.stderr if as_json else None), as_json)


@reference.command("import")
@click.option("--library", type=_STATE, help=f"The library to read.  {_DEFAULT_LIBRARY}")
@click.option("-L", "--label", default="", help="Label of the node.")
@click.option("--holdout", type=_STATE, help="Folder with holdout_ids.txt and holdout_formulas.txt: materials to leave out.")
@click.option(
    "--cache", type=click.Path(path_type=Path, dir_okay=False), help="SQLite file of first shells and features, kept for the next import."
)
@click.option("--cores", type=click.IntRange(1), default=1, show_default=True, help="Structures at a time.")
@json_option
@with_profile
def import_library(library: Path | None, label: str, holdout: Path | None, cache: Path | None, cores: int, as_json: bool) -> None:
    """Store the library as a training set, a DatasetData node.

    First shells and features take 0.2 s a structure; with --cache only what is new is computed.
    """
    from ..data.dataset import DatasetData
    from ..engine.reference.library import default_library

    library = library or default_library()
    if library is None:
        raise click.UsageError("there is no library here; name one with --library.")
    with click.progressbar(length=1, label="structures", file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        node = DatasetData.from_library(library, holdout, cache, cores, progress, label=label).store()
    left_out = (node.source or {})["extras"]["left_out"]
    if as_json:
        names = ("content_hash", "n_records", "n_materials", "elements")
        echo_mapping({"pk": node.pk, **{name: getattr(node, name) for name in names}, "left_out": left_out}, as_json)
        return
    click.echo(f"{node.pk}: {node.get_description()}")
    for reason, count in left_out.items():
        click.echo(f"left out {count}: {reason}")

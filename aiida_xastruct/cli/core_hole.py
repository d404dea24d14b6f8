"""`aiida-xastruct core-hole`: families of core-hole pseudopotentials in the profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from aiida.cmdline.params import types

from .group import XastructGroup, with_profile
from .output import echo_mapping, echo_rows, json_option

if TYPE_CHECKING:
    from ..groups.core_hole import CoreHolePseudoFamily

family_argument = click.argument("family", type=types.GroupParamType(sub_classes=("aiida.groups:xastruct.core_hole",)))


@click.group("core-hole", cls=XastructGroup)
def core_hole() -> None:
    """Install, list, show and export core-hole pseudopotentials, which XSpectra needs."""


@core_hole.command("install")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("-L", "--label", help="Name of the family in the profile.  [default: the name of PATH]")
@click.option("-D", "--description", default="", help="A sentence about it.")
@click.option("--core-level", help="Where the hole is.  [default: what the family says, else 1s]")
@json_option
@with_profile
def install(path: Path, label: str | None, description: str, core_level: str | None, as_json: bool) -> None:
    """Install the pseudopotentials in PATH, all of them or none: a folder, or a tar or zip archive of it.

    It holds ground_state/*.UPF, core_hole/*.UPF and, if cutoffs are to be recommended, family.json. Installing the same again under the
    same label changes nothing. No network is needed.
    """
    name = label or path.resolve().name.partition(".")[0]
    _show(_family_class().install(path, name, description, core_level), as_json)


@core_hole.command("list")
@json_option
@with_profile
def list_families(as_json: bool) -> None:
    """List the families in the profile."""
    from aiida.orm import QueryBuilder

    family_class = _family_class()
    found = QueryBuilder().append(family_class).order_by({family_class: "time"}).all(flat=True)
    rows = [(group.label, group.core_level, group.functional, " ".join(sorted(group.core_holes)), group.content_hash) for group in found]
    if not rows and not as_json:
        click.echo("No core-hole family is installed yet; `aiida-xastruct core-hole install PATH` installs one.")
        return
    echo_rows(("label", "hole", "functional", "absorbers", "hash"), rows, as_json)


@core_hole.command("show")
@family_argument
@json_option
@with_profile
def show(family: CoreHolePseudoFamily, as_json: bool) -> None:
    """Show the pairs of FAMILY (a label, pk or UUID)."""
    _show(family, as_json)


@core_hole.command("export")
@family_argument
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
@with_profile
def export(family: CoreHolePseudoFamily, folder: Path, as_json: bool) -> None:
    """Write FAMILY (a label, pk or UUID) to the new FOLDER, which `install` reads."""
    echo_mapping({"folder": str(family.export(folder))}, as_json)


def _family_class() -> type[CoreHolePseudoFamily]:
    """The class of the families, which needs an optional package.

    Raises:
        PseudoError: where that is lacking.
    """
    from ..engine.errors import PseudoError

    try:
        from ..groups.core_hole import CoreHolePseudoFamily
    except ModuleNotFoundError as error:
        raise PseudoError(f"{error.name} is not installed; pip install 'aiida-xastruct[xspectra]'.") from error
    return CoreHolePseudoFamily


def _show(family: CoreHolePseudoFamily, as_json: bool) -> None:
    """Print a family and its pairs."""
    said = {"label": family.label, "core level": family.core_level, "functional": family.functional}
    said |= {"description": family.description, "content hash": family.content_hash}
    holes, stringencies = family.core_holes, family.get_cutoff_stringencies()
    cutoffs, unit = (family.get_cutoffs(), family.get_cutoffs_unit()) if stringencies else ({}, "")
    columns = ("element", "ground state", "core hole", "amplitudes", "cutoff", "unit")
    rows = [
        (
            element,
            node.pk,
            holes[element].pk if element in holes else None,
            " ".join(f"{value:.2f}" for value in family.amplitudes(element)) if element in holes else None,
            cutoffs.get(element, {}).get("cutoff_wfc"),
            unit,
        )
        for element, node in sorted(family.pseudos.items())
    ]
    if as_json:
        echo_mapping(said | {"pseudos": [dict(zip(columns, row, strict=True)) for row in rows]}, as_json)
        return
    echo_mapping(said, as_json)
    echo_rows(columns, rows, as_json)

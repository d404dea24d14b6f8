"""`aiida-xastruct family`: families of models in the profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from aiida.cmdline.params import types

from .group import XastructGroup, with_profile
from .output import echo_mapping, echo_rows, json_option

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

    from ..groups.family import ModelFamily

family_argument = click.argument("family", type=types.GroupParamType(sub_classes=("aiida.groups:xastruct.family",)))


@click.group("family", cls=XastructGroup)
def family() -> None:
    """Install, list, show and export families of models."""


@family.command("install")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-L", "--label", help="Name of the family in the profile.  [default: the folder's name, or that of the configuration]")
@click.option("-D", "--description", default="", help="A sentence about it.")
@json_option
@with_profile
def install(folder: Path, label: str | None, description: str, as_json: bool) -> None:
    """Install the family in FOLDER, all of it or nothing; `default` is the one that ships with this package.

    FOLDER may be a finished training (pk, UUID), whose models then are the family's.

    Installing the same family under the same label again changes nothing. No network is needed.
    """
    from ..engine.errors import ModelError
    from ..groups.family import ModelFamily, install_models, load_default_family

    if str(folder) == "default" and not folder.exists():
        if label is not None:
            raise click.UsageError("the shipped family has a label of its own; leave --label out.")
        group = load_default_family()
    elif not folder.exists() and (training := _training(str(folder))) is not None:
        said = training.outputs.report.get_dict()
        if said["family"] is None:
            raise ModelError(f"the training <{training.pk}> did not finish; let it go on, or install the family of another.")
        group = install_models(training.outputs.models, said["family"], label or said["family"]["name"], description)
    else:
        group = ModelFamily.install(folder, label or folder.resolve().name, description)
    models = sorted(model.name for model in group.nodes)
    if as_json:
        echo_mapping({"label": group.label, "pk": group.pk, "models": models}, as_json)
        return
    click.echo(f"{group.label}: {', '.join(models)}")


def _training(identifier: str) -> ProcessNode | None:
    """The training of a pk or UUID; None where there is none."""
    from aiida.common.exceptions import MultipleObjectsError, NotExistent
    from aiida.orm import ProcessNode, load_node

    try:
        node = load_node(identifier)
    except (MultipleObjectsError, NotExistent, ValueError):
        return None
    return node if isinstance(node, ProcessNode) and {"models", "report"} <= set(node.outputs) else None


@family.command("list")
@json_option
@with_profile
def list_families(as_json: bool) -> None:
    """List the families in the profile."""
    from aiida.orm import QueryBuilder

    from ..groups.family import ModelFamily

    found = QueryBuilder().append(ModelFamily).order_by({ModelFamily: "time"}).all(flat=True)
    rows = [(group.label, len(group.nodes), group.content_hash[:8], f"{group.time:%Y-%m-%d %H:%M}", group.description) for group in found]
    if not rows and not as_json:
        click.echo("No family is installed yet; `aiida-xastruct family install default` installs the one that ships with the package.")
        return
    echo_rows(("label", "models", "hash", "installed", "description"), rows, as_json)


@family.command("show")
@family_argument
@json_option
@with_profile
def show(family: ModelFamily, as_json: bool) -> None:
    """Show the models of FAMILY (a label, pk or UUID), what each is fit for, and its scores."""
    columns = ("model", "pk", "absorbers", "edges", "hash", "metrics")
    rows = [
        (node.name, node.pk, len(node.elements), " ".join(node.edges), node.content_hash[:8], node.metrics)
        for node in sorted(family.nodes, key=lambda node: str(node.name))
    ]
    if as_json:
        models = [dict(zip(columns, row, strict=True)) for row in rows]
        content = {"label": family.label, "description": family.description, "content_hash": family.content_hash}
        echo_mapping(content | {"manifest": family.manifest, "models": models}, as_json=True)
        return
    echo_mapping({"label": family.label, "description": family.description, "content hash": family.content_hash}, as_json=False)
    echo_rows(columns[:-1], [row[:-1] for row in rows], as_json=False)
    for row in rows:
        click.echo(f"{row[0]}: " + ", ".join(f"{name} {_brief(value)}" for name, value in row[-1].items()))


def _brief(value: object) -> str:
    """A score as a person reads it."""
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_brief(inner)}" for name, inner in value.items()) + ")"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@family.command("export")
@family_argument
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
@with_profile
def export(family: ModelFamily, folder: Path, as_json: bool) -> None:
    """Write FAMILY (a label, pk or UUID) to the new FOLDER, which `install` and the command `xastruct` read."""
    written = family.export(folder)
    if as_json:
        echo_mapping({"folder": str(written), "label": family.label}, as_json)
        return
    click.echo(str(written))

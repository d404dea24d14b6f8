"""`verdi data xastruct`: spectra, training sets and models in the profile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from aiida.cmdline.params import types

from .export import SPECTRUM_FORMATS, export_spectrum
from .group import XastructGroup, with_profile
from .output import echo_mapping, echo_rows, json_option

if TYPE_CHECKING:
    from aiida.orm import Data

    from ..data.dataset import DatasetData
    from ..data.model import ModelData
    from ..data.spectrum import SpectrumData

Command = TypeVar("Command", bound=Callable[..., Any])

limit_option = click.option("-n", "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="List this many.")


def datum_argument(name: str) -> Callable[[Command], Command]:
    """Argument NODE: a pk, UUID or label of a node of one of this package's types."""
    return click.argument("node", type=types.DataParamType(sub_classes=(f"aiida.data:xastruct.{name}",)))


@click.group("xastruct", cls=XastructGroup)
def data() -> None:
    """Spectra, training sets and models of aiida-xastruct."""


@click.group("spectrum", cls=XastructGroup)
def spectrum() -> None:
    """X-ray absorption spectra."""


data.add_command(spectrum)


@spectrum.command("list")
@click.option("-a", "--absorber", help="Only this absorbing element.")
@click.option("-e", "--edge", help="Only this absorption edge.")
@click.option("-k", "--kind", type=click.Choice(["XANES", "EXAFS"]), help="Only this kind.")
@click.option("-m", "--method", type=click.Choice(["feff", "xspectra", "ml", "measured"]), help="Only spectra of this method.")
@limit_option
@json_option
@with_profile
def spectrum_list(absorber: str | None, edge: str | None, kind: str | None, method: str | None, limit: int, as_json: bool) -> None:
    """List spectra, the newest first."""
    from ..data.spectrum import SpectrumData

    wanted = {"absorber": absorber, "edge": edge, "kind": kind, "method": method}
    filters = {f"attributes.{name}": value for name, value in wanted.items() if value is not None}
    names = ("absorber", "edge", "kind", "method", "site", "multiplicity", "normalisation")
    rows = _query(SpectrumData, [f"attributes.{name}" for name in names], limit, filters)
    echo_rows(("pk", "created", "label", *names), rows, as_json)


@spectrum.command("show")
@datum_argument("spectrum")
@json_option
@with_profile
def spectrum_show(node: SpectrumData, as_json: bool) -> None:
    """Show what is known of the spectrum NODE."""
    energy = node.energy
    names = ("absorber", "edge", "kind", "method", "energy_reference", "normalisation", "e0", "site", "multiplicity")
    content: dict[str, Any] = {"pk": node.pk, "uuid": node.uuid, "label": node.label}
    content |= {name: node.base.attributes.get(name, None) for name in names}
    content |= {"points": len(energy), "energy_from": float(energy[0]), "energy_to": float(energy[-1])}
    content |= {"arrays": sorted(node.get_arraynames()), "settings": node.settings}
    echo_mapping(content, as_json)


@spectrum.command("export")
@datum_argument("spectrum")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to this file.  [default: the screen]")
@click.option(
    "-f", "--format", "file_format", type=click.Choice(SPECTRUM_FORMATS), help="File format.  [default: the file's ending, or csv]"
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@json_option
@with_profile
def spectrum_export(node: SpectrumData, output: Path | None, file_format: str | None, overwrite: bool, as_json: bool) -> None:
    """Write the spectrum NODE as xdi (which Athena and Larch read), csv, nexus (NXxas), json, or as FEFF's xmu.dat."""
    export_spectrum(node, output, file_format, overwrite, as_json)


@click.group("dataset", cls=XastructGroup)
def dataset() -> None:
    """Training sets."""


data.add_command(dataset)


@dataset.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-L", "--label", default="", help="Label of the node.")
@with_profile
def dataset_import(file: Path, label: str) -> None:
    """Store the training set in FILE, which `xastruct` wrote, as a node."""
    from ..data.dataset import DatasetData

    node = DatasetData.from_file(file, label=label).store()
    click.echo(f"{node.pk}: {node.get_description()}")


@dataset.command("list")
@limit_option
@json_option
@with_profile
def dataset_list(limit: int, as_json: bool) -> None:
    """List training sets, the newest first."""
    from ..data.dataset import DatasetData

    names = ("n_materials", "n_records", "content_hash")
    echo_rows(("pk", "created", "label", *names), _query(DatasetData, [f"attributes.{name}" for name in names], limit), as_json)


@dataset.command("show")
@datum_argument("dataset")
@json_option
@with_profile
def dataset_show(node: DatasetData, as_json: bool) -> None:
    """Show what is known of the training set NODE."""
    names = ("content_hash", "n_materials", "n_records", "kinds", "elements", "engines", "split")
    _show(node, names, as_json)


@click.group("model", cls=XastructGroup)
def model() -> None:
    """Learned models; `aiida-xastruct family` installs them."""


data.add_command(model)


@model.command("list")
@limit_option
@json_option
@with_profile
def model_list(limit: int, as_json: bool) -> None:
    """List models, the newest first."""
    from ..data.model import ModelData

    names = ("task", "kind", "algorithm_version", "training_data_hash", "content_hash")
    rows = _query(ModelData, [f"attributes.{name}" for name in names], limit)
    echo_rows(("pk", "created", "label", *names), rows, as_json)


@model.command("show")
@datum_argument("model")
@json_option
@with_profile
def model_show(node: ModelData, as_json: bool) -> None:
    """Show the card of the model NODE."""
    names = ("task", "kind", "edges", "elements", "metrics", "training_data_hash", "engine_version", "algorithm_version", "content_hash")
    _show(node, names, as_json)


def _show(node: Data, names: tuple[str, ...], as_json: bool) -> None:
    """Print a node's identity and some of its attributes."""
    content: dict[str, Any] = {"pk": node.pk, "uuid": node.uuid, "label": node.label}
    echo_mapping(content | {name: node.base.attributes.get(name, None) for name in names}, as_json)


def _query(cls: type[Data], projections: list[str], limit: int, filters: dict[str, Any] | None = None) -> list[list[Any]]:
    """Rows of pk, time of creation, label and the projections; the newest first."""
    from aiida.orm import QueryBuilder

    builder = QueryBuilder()
    builder.append(cls, filters=filters or {}, project=["id", "ctime", "label", *projections], tag="node")
    builder.order_by({"node": {"id": "desc"}}).limit(limit)
    return [[pk, f"{created:%Y-%m-%d %H:%M}", *rest] for pk, created, *rest in builder.all()]

"""`aiida-xastruct train`: a training set in, a family of models out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.params import types

from .group import with_profile
from .launch import launch, report, stored_or_file
from .output import echo_mapping, json_option

if TYPE_CHECKING:
    from aiida.orm import AbstractCode, Data


@click.command("train")
@click.argument("dataset")
@click.option("-c", "--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="YAML that wins over the protocol's.")
@click.option("-t", "--task", "tasks", multiple=True, help="Such as forward-XANES, once for each.  [default: all there are spectra for]")
@click.option("--crystals", help="File of `xastruct crystals` or its node, which inverse EXAFS learns from too.")
@click.option("--protocol", type=click.Choice(["fast", "balanced", "stringent"]), help="How many networks and epochs.  [default: balanced]")
@click.option("--seed", type=click.IntRange(min=0), help="Of the first network.  [default: 0]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="What to train on.  [default: auto]")
@click.option("-X", "--code", type=types.CodeParamType(), help="xastruct on any computer.  [default: the one of this environment]")
@click.option("--max-seconds", type=click.IntRange(min=60), help="Wall time of a job; the next goes on.  [default: the protocol's]")
@click.option("-L", "--label", help="Install the models as a family of this label.")
@click.option("--daemon", is_flag=True, help="Submit to the daemon and return at once.")
@json_option
@with_profile
def train(
    dataset: str,
    config: Path | None,
    tasks: tuple[str, ...],
    crystals: str | None,
    protocol: str | None,
    seed: int | None,
    device: str | None,
    code: AbstractCode | None,
    max_seconds: int | None,
    label: str | None,
    daemon: bool,
    as_json: bool,
) -> None:
    """Train a family of models on DATASET: a file that `xastruct dataset` made, or a node (pk, UUID, label).

    It says how far it is on the way. A job that is stopped or killed is followed by one that goes on.
    """
    from ..data.dataset import DatasetData
    from ..workflows.train import TrainWorkChain

    if daemon and label is not None:
        raise click.UsageError("a submitted training has no models yet; leave --label out, and use `family install` when it is done.")
    node = stored_or_file(dataset, "aiida.data:xastruct.dataset", DatasetData.from_file)
    sites = stored_or_file(crystals, "aiida.data:core.singlefile", _singlefile) if crystals is not None else None
    if code is None:
        from ..tools.codes import bundled_xastruct_code

        code = bundled_xastruct_code()
    overrides: dict[str, Any] = {"config": _read(config)} if config is not None else {}
    if max_seconds is not None:
        overrides["options"] = {"max_wallclock_seconds": max_seconds}
    outputs, process = launch(
        lambda: TrainWorkChain.get_builder_from_protocol(code, node, protocol, list(tasks) or None, sites, seed, device, overrides), daemon
    )
    if outputs is None:
        return
    report(process)
    from ..engine.errors import XastructError

    if "report" not in outputs:
        raise XastructError(f"the training <{process.pk}> ended without models; `verdi process report {process.pk}` says why.")
    said = outputs["report"].get_dict()
    content: dict[str, Any] = {name: said[name] for name in ("finished", "device", "processes", "seconds")}
    content |= {"report": outputs["report"].pk, "process": process.pk}
    if label is not None:
        from ..groups.family import install_models

        try:
            content["family"] = install_models(outputs["models"], said["family"], label).label
        except XastructError as error:
            again = f"`aiida-xastruct family install {process.pk} --label NAME`"
            raise XastructError(f"{error} The training is kept: {again} makes a family of it.") from error
    if as_json:
        echo_mapping(content | {"metrics": said["metrics"]}, as_json)
        return
    echo_mapping(content | {"finished": " ".join(said["finished"])}, as_json)
    if label is None:
        click.echo(f"`aiida-xastruct family install {process.pk} --label NAME` makes them a family.")


def _read(path: Path) -> dict[str, Any]:
    """Content of a configuration; the dataset that it may name is the argument here."""
    from ..engine.configuration import read_content

    content = read_content(path)
    content.pop("dataset", None)
    return content


def _singlefile(path: Path) -> Data:
    from aiida.orm import SinglefileData

    return SinglefileData(path.resolve())

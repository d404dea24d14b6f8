"""`aiida-xastruct improve`: FEFF on the sites that a model would learn most from, and a new version of its family if it did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from aiida.cmdline.params import types
from click.core import ParameterSource

from ..engine.errors import XastructError
from .group import with_profile
from .launch import launch, report, stored_or_file
from .output import echo_mapping, echo_rows, json_option
from .screen import bar, chunks_of

if TYPE_CHECKING:
    from aiida.orm import AbstractCode


@click.command("improve")
@click.argument("sources", nargs=-1)
@click.option(
    "-d", "--dataset", help="What to learn from beside the new spectra: a file of `xastruct dataset`, or a node (pk, UUID, label)."
)
@click.option("-F", "--family", help="Label of the family whose forward model is to get better.  [default: the one that ships]")
@click.option("-k", "--kind", type=click.Choice(["XANES", "EXAFS"]), help="Part of the spectrum.  [default: XANES]")
@click.option("-a", "--absorber", help="Element whose sites may be chosen.  [default: all]")
@click.option("-r", "--rounds", type=click.IntRange(1), help="How often to choose, compute and train.  [default: 1]")
@click.option("-s", "--sites-per-round", type=click.IntRange(1), help="Sites that FEFF computes in a round.  [default: 50]")
@click.option("--sites-per-group", type=click.IntRange(1), help="Of these, of one formula and prototype at most.  [default: 1]")
@click.option("--margin", type=click.FloatRange(0.0, 1.0, max_open=True), help="Least share by which the error must fall.  [default: 0]")
@click.option(
    "--holdout",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with holdout_ids.txt and holdout_formulas.txt: materials that nothing is trained on.",
)
@click.option("-L", "--label", help="New families are LABEL/1 and so on.  [default: FAMILY/2 and so on]")
@click.option("-X", "--code", type=types.CodeParamType(), help="FEFF.  [default: the one that comes with this package, on this machine]")
@click.option("--protocol", type=click.Choice(["fast", "balanced", "stringent"]), help="Of FEFF.  [default: fast]")
@click.option("--max-concurrent", type=click.IntRange(1), help="Jobs at a time.  [default: 2]")
@click.option("--train-code", type=types.CodeParamType(), help="xastruct on any computer.  [default: the one of this environment]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="What to train on.  [default: auto]")
@click.option("--max-seconds", type=click.IntRange(min=60), help="Wall time of a job that trains; the next goes on.  [default: 12 h]")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YAML with `architecture` and `training`, where they are not to be the old model's own.",
)
@click.option("-n", "--limit", type=click.IntRange(1), help="Crystals to take of the sources.")
@click.option("--chunk-size", type=click.IntRange(1), help="Crystals in a chunk.  [default: 1000]")
@click.option("--cache", type=click.Path(path_type=Path), help="File that keeps features, so that they are computed once.")
@click.option("--cores", type=click.IntRange(1), default=1, show_default=True, help="Processes that compute features.")
@click.option("--resume", type=int, metavar="PK", help="Go on with a run that `kill -9` or a crash ended, and that nobody runs; alone.")
@click.option("--daemon", is_flag=True, help="Submit to the daemon and return at once.")
@json_option
@with_profile
def improve(
    sources: tuple[str, ...],
    dataset: str | None,
    family: str | None,
    kind: str | None,
    absorber: str | None,
    rounds: int | None,
    sites_per_round: int | None,
    sites_per_group: int | None,
    margin: float | None,
    holdout: Path | None,
    label: str | None,
    code: AbstractCode | None,
    protocol: str | None,
    max_concurrent: int | None,
    train_code: AbstractCode | None,
    device: str | None,
    max_seconds: int | None,
    config: Path | None,
    limit: int | None,
    chunk_size: int | None,
    cache: Path | None,
    cores: int,
    resume: int | None,
    daemon: bool,
    as_json: bool,
) -> None:
    """Make a forward model better by FEFF spectra of the crystals in SOURCES.

    SOURCES are a folder of CIF files, an npz table, the label of a group, or structures (pk, UUID). In each round the model says of which
    sites it is unsure; FEFF computes those from which it would learn most, the model is trained anew with them, and the better of the two
    on sites that neither has learned from stands. If that is the new one, it becomes a family of its own; the old one stays too.
    """
    if (resume is None) == (not sources):
        raise XastructError("give sources of crystals, or --resume PK of a run that was killed.")
    if resume is not None:
        _resume(resume, as_json)
        return
    if dataset is None:
        raise XastructError("there is nothing to learn from beside the new spectra; give --dataset, what the family was trained on.")
    inputs = _inputs(dataset, code, train_code, holdout, config, device, max_seconds) | {
        "family": family, "kind": kind, "absorber": absorber, "rounds": rounds, "sites_per_round": sites_per_round,
        "sites_per_group": sites_per_group, "margin": margin, "label": label, "protocol": protocol, "max_concurrent": max_concurrent,
        "cache": str(cache.absolute()) if cache else None, "cores": cores,
    }  # fmt: skip
    from ..workflows.improve import ImproveWorkChain
    from ..workflows.screen import CHUNK

    chunks = chunks_of(sources, absorber or "", chunk_size or CHUNK, limit)
    total = sum(chunk.base.attributes.get("n_structures") for chunk in chunks)
    with bar(total * (rounds or 1)):
        _, node = launch(lambda: ImproveWorkChain.get_builder_from_chunks(chunks, **inputs), daemon)
    if not daemon:
        _show(node, as_json)


def _inputs(
    dataset: str,
    code: AbstractCode | None,
    train_code: AbstractCode | None,
    holdout: Path | None,
    config: Path | None,
    device: str | None,
    max_seconds: int | None,
) -> dict[str, Any]:
    """Inputs of the work chain that are nodes."""
    from ..calculations.functions.pick_sites import holdout_node
    from ..data.dataset import DatasetData
    from ..engine.configuration import read_content
    from ..tools.codes import bundled_feff_code, bundled_xastruct_code

    training: dict[str, Any] = {"config": read_content(config)} if config is not None else {}
    if device is not None:
        training["device"] = device
    if max_seconds is not None:
        training["options"] = {"max_wallclock_seconds": max_seconds}
    return {
        "dataset": stored_or_file(dataset, "aiida.data:xastruct.dataset", DatasetData.from_file),
        "code": code or bundled_feff_code(),
        "train_code": train_code or bundled_xastruct_code(),
        "holdout": holdout_node(holdout) if holdout is not None else None,
        "training": training or None,
    }


def _resume(pk: int, as_json: bool) -> None:
    """Go on with a run, and show what came of it."""
    from aiida.orm import QueryBuilder, WorkChainNode

    from ..tools.resume import resume
    from ..workflows.improve import ImproveWorkChain

    context = click.get_current_context()
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if given - {"sources", "resume", "as_json", "verbosity"}:  # an argument counts as given, if with nothing
        raise XastructError("a run goes on as it was begun; give --resume PK without other options.")
    filters = {"id": pk, "attributes.process_label": ImproveWorkChain.__name__}
    found = QueryBuilder().append(WorkChainNode, filters=filters).first(flat=True)
    if found is None:
        raise XastructError(f"<{pk}> is none of these runs; `verdi process list -a -L ImproveWorkChain` shows those there are.")
    with bar(None):
        _, node = resume(cast(WorkChainNode, found))
    _show(node, as_json)


def _show(node: Any, as_json: bool) -> None:
    """The rounds of a finished run, and which family stands."""
    report(node)
    summary = node.outputs.summary.get_dict()
    pks = {name: getattr(node.outputs, name).pk for name in ("dataset", "model", "summary")} | {"process": node.pk}
    if as_json:
        echo_mapping(summary | {"pk": pks}, as_json)
        return
    columns = ("round", "asked", "added", "failed", "old_error", "new_error", "decrease", "standard_error", "better", "family")
    echo_rows(columns, [[_short(row[name]) for name in columns] for row in summary["rounds"]], as_json)
    stands = f"{summary['family']}, made here" if summary["improved"] else f"{summary['family']}, as before: no new model was better"
    echo_mapping({"kind": summary["kind"], "family": stands, **pks}, as_json)


def _short(value: Any) -> Any:
    """A value of a table as a person reads it."""
    return (
        f"{value:.4g}" if isinstance(value, float) else {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
    )

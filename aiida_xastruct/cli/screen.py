"""`aiida-xastruct screen`: the spectra of thousands of crystals, and which of them looks like a measurement."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from aiida.cmdline.params import types

from ..engine.errors import XastructError
from .candidates import spectrum_node
from .group import with_profile
from .launch import answering_code, launch, report
from .output import echo_mapping, echo_rows, json_option
from .structures import structure_node

if TYPE_CHECKING:
    from aiida.orm import AbstractCode, SinglefileData

#: Crystals that the table of the best shows.
SHOWN = 20


@click.command("screen")
@click.argument("sources", nargs=-1)
@click.option("-a", "--absorber", help="Element whose inequivalent sites are answered.  [default: the target's, or all]")
@click.option("-k", "--kind", type=click.Choice(["XANES", "EXAFS"]), help="Part of the spectrum.  [default: XANES]")
@click.option("-t", "--target", help="Spectrum to rank the crystals by: a stored one (pk, UUID, label), or a file as for `compare`.")
@click.option("-F", "--family", help="Label of the models.  [default: the family that ships with this package]")
@click.option("-X", "--code", type=types.CodeParamType(), help="FEFF.  [default: the one that comes with this package, on this machine]")
@click.option("-R", "--max-reference-runs", type=click.IntRange(0), default=0, show_default=True, help="Sites that FEFF may compute.")
@click.option("--max-concurrent", type=click.IntRange(1), help="Jobs at a time.  [default: 2]")
@click.option("--protocol", type=click.Choice(["fast", "balanced", "stringent"]), help="Of FEFF.  [default: fast]")
@click.option("--predict-code", type=types.CodeParamType(), help="`xastruct` on the machine that is to predict.  [default: here, no job]")
@click.option("-n", "--limit", type=click.IntRange(1), help="Crystals to take of the source.")
@click.option("--chunk-size", type=click.IntRange(1), help="Crystals in a chunk.  [default: 1000]")
@click.option("--cache", type=click.Path(path_type=Path), help="File that keeps features, so that they are computed once.")
@click.option("--cores", type=click.IntRange(1), default=1, show_default=True, help="Processes that compute features.")
@click.option(
    "--resume", type=int, metavar="PK", help="Go on with a screening that `kill -9` or a crash ended, and that nobody runs; alone."
)
@click.option("--daemon", is_flag=True, help="Submit to the daemon and return at once.")
@json_option
@with_profile
def screen(
    sources: tuple[str, ...],
    absorber: str | None,
    kind: str | None,
    target: str | None,
    family: str | None,
    code: AbstractCode | None,
    max_reference_runs: int,
    max_concurrent: int | None,
    protocol: str | None,
    predict_code: AbstractCode | None,
    limit: int | None,
    chunk_size: int | None,
    cache: Path | None,
    cores: int,
    resume: int | None,
    daemon: bool,
    as_json: bool,
) -> None:
    """Predict the spectra of the crystals in SOURCES.

    A source is a folder of CIF files, an npz table, the label of a group, or a crystal as `predict` takes it (file, node, id, mineral).

    With a target, the crystals are ranked by how much their spectra look like it. A screening that is killed goes on with `--resume PK`.
    """
    from ..workflows.screen import CHUNK, ScreenWorkChain

    if (resume is None) == (not sources):
        raise XastructError("give sources of crystals, or --resume PK of a screening that was killed.")
    if resume is not None:
        from aiida.orm import QueryBuilder, WorkChainNode

        from ..tools.resume import resume as go_on

        given = (absorber, kind, target, family, code, max_concurrent, protocol, predict_code, limit, chunk_size, cache, daemon)
        if any(given) or max_reference_runs:
            raise XastructError("a screening goes on as it was begun; give --resume PK without other options.")
        filters = {"id": resume, "attributes.process_label": ScreenWorkChain.__name__}
        found = QueryBuilder().append(WorkChainNode, filters=filters).first(flat=True)
        if found is None:
            raise XastructError(f"<{resume}> is no screening; `verdi process list -a -L ScreenWorkChain` shows those there are.")
        with bar(None):
            _, node = go_on(cast(WorkChainNode, found))
        _show(node, as_json)
        return
    goal = spectrum_node(target, {"absorber": absorber}) if target else None
    element = absorber or (goal.absorber if goal is not None else "")
    chunks = chunks_of(sources, element, chunk_size or CHUNK, limit)
    code = answering_code(code, bool(max_reference_runs))
    total = sum(chunk.base.attributes.get("n_structures") for chunk in chunks)
    inputs: dict[str, Any] = {
        "absorber": element or None, "kind": kind, "target": goal, "family": family, "code": code, "max_concurrent": max_concurrent,
        "max_reference_runs": max_reference_runs or None, "protocol": protocol, "predict_code": predict_code, "cores": cores,
        "cache": str(cache.absolute()) if cache else None,
    }  # fmt: skip
    with bar(total):
        _, node = launch(lambda: ScreenWorkChain.get_builder_from_chunks(chunks, **inputs), daemon)
    if not daemon:
        _show(node, as_json)


def chunks_of(sources: tuple[str, ...], absorber: str, size: int, limit: int | None) -> list[SinglefileData]:
    """Stored chunks of the crystals of all sources.

    Raises:
        XastructError: if a source is none.
    """
    from itertools import chain

    from aiida.orm import Group, QueryBuilder

    from ..tools.structures import entries_of_group, entries_of_nodes, entries_of_path, structure_chunks

    def entries(text: str) -> Any:
        path = Path(text)
        if path.is_dir() or (path.suffix.lower() == ".npz" and path.is_file()):
            return entries_of_path(Path(text), absorber)
        group = QueryBuilder().append(Group, filters={"label": text}).first(flat=True)
        if group is not None:
            return entries_of_group(group, absorber)
        return entries_of_nodes([structure_node(text).store()], absorber)

    return list(structure_chunks(chain.from_iterable(map(entries, sources)), size, limit))


@contextmanager
def bar(total: int | None) -> Iterator[None]:
    """A bar on the standard error that shows each crystal, while batches are predicted here."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ..calculations.functions.predict_batch import using

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[sites]} spectra"))
    with Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as progress:
        task, spectra = progress.add_task("crystals", total=total, sites=0), 0

        def step(structures: int, sites: int) -> None:
            nonlocal spectra
            spectra += sites
            progress.update(task, advance=structures, sites=spectra)

        with using(progress=step):
            yield


def _show(node: Any, as_json: bool) -> None:
    """Counts and the best crystals of a finished screening."""
    report(node)
    summary = node.outputs.summary.get_dict()
    pks = {name: getattr(node.outputs, name).pk for name in ("table", "summary")} | {"process": node.pk}
    if as_json:
        echo_mapping(summary | {"pk": pks}, as_json)
        return
    names = ("n_structures", "n_spectra", "n_refused", "needs_reference")
    methods = ", ".join(f"{count} by {method}" for method, count in summary["methods"].items())
    echo_mapping({"kind": summary["kind"], **{name: summary[name] for name in names}, "methods": methods, **pks}, as_json)
    if summary["best"]:
        columns = ("rank", "id", "formula", "distance", "shift", "method", "flagged", "row")
        rows = [[_short(row[name]) for name in columns] for row in summary["best"][:SHOWN]]
        echo_rows(columns, rows, as_json)


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else "yes" if value is True else "" if value is False else value

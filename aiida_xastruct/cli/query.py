"""`aiida-xastruct query`: what is in the database, what stands behind it, and rows of batches as nodes of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from .group import XastructGroup, with_profile
from .launch import stored_or_file
from .output import echo_rows, json_option

if TYPE_CHECKING:
    from aiida.orm import QueryBuilder, StructureData

    from ..tools.shells import Described

limit_option = click.option("-n", "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Show at most this many.")
absorber_option = click.option("-a", "--absorber", help="Only of this absorbing element.")
kind_option = click.option("-k", "--kind", type=click.Choice(["XANES", "EXAFS"]), help="Only of this kind.")

#: What is shown of a spectrum, be it a node or a row.
SPECTRUM = ("absorber", "edge", "kind", "method", "site")

#: What may be there twice: name and entry point, none of rows.
DOUBLES = {"spectra": "spectrum", "structures": "core.structure", "models": "model", "datasets": "dataset", "tables": "table", "rows": ""}


@click.group("query", cls=XastructGroup)
def query() -> None:
    """Find answers, and what stands behind them."""


@query.command("materialise")
@click.argument("table")
@click.argument("rows", type=int, nargs=-1, required=True, metavar="ROW...")
@json_option
@with_profile
def materialise(table: str, rows: tuple[int, ...], as_json: bool) -> None:
    """Turn rows of TABLE (pk, UUID or label) into a structure and a spectrum each, by their numbers from 0.

    The nodes are made by a calcfunction from the batch, so that their provenance leads to it.
    """
    from ..tools.rows import materialise as make

    node = stored_or_file(table, "aiida.data:xastruct.table", None)
    found = []
    for number in rows:
        row, nodes = node.get_row(number), make(node, number)
        found.append((number, row["id"], row["site"], row["absorber"], row["method"], nodes["structure"].pk, nodes["spectrum"].pk))
    echo_rows(("row", "id", "site", "absorber", "method", "structure", "spectrum"), found, as_json)


@query.command("predicted")
@click.argument("model")
@absorber_option
@kind_option
@limit_option
@json_option
@with_profile
def predicted(model: str, absorber: str | None, kind: str | None, limit: int, as_json: bool) -> None:
    """Spectra that MODEL has predicted: a family's label, or a model's pk, UUID, label or first digits of its content hash.

    Nodes come first, then rows of batches, which `materialise` makes nodes of.
    """
    from ..data.table import TableData
    from ..tools.queries import find_models, predicted_spectra

    models = find_models(model)
    (element,) = _symbols([absorber]) if absorber else (None,)
    builder, tables = predicted_spectra(models), predicted_spectra(models, TableData)
    builder.add_filter("spectrum", _wanted(element, kind))
    if kind is not None:
        tables.add_filter("table", {"attributes.kind": kind})
    _echo(("pk", "row", *SPECTRUM), [*_nodes(builder, limit), *islice(_rows(tables, element), limit + 1)], limit, as_json)


@query.command("feff-runs")
@click.argument("model")
@limit_option
@json_option
@with_profile
def feff_runs(model: str, limit: int, as_json: bool) -> None:
    """Every FEFF job whose spectra MODEL, or the models of a family, learned from; MODEL as in `predicted`."""
    from ..tools import queries

    models = queries.find_models(model)
    builder = queries.feff_runs(models)
    builder.add_projection("dataset", "id")
    builder.add_projection("spectra", "id")
    builder.add_projection("run", ["id", "process_type", "attributes.exit_status"])
    found = [
        (run, process.rpartition(":")[2], status, spectra, dataset)
        for dataset, spectra, run, process, status in builder.distinct().order_by({"run": "id"}).iterall()
    ]
    if not found:
        sets = queries.training_sets(models)
        where = f"was imported as <{sets[0].pk}>, whose source names the files" if sets else "is not in this profile"
        click.echo(f"There are no jobs: what it was trained on {where}.", err=True)
    _echo(("run", "process_type", "exit_status", "spectra", "dataset"), found, limit, as_json)


@query.command("neighbours")
@click.argument("absorber")
@click.argument("neighbours", nargs=-1, metavar="[NEIGHBOUR]...")
@click.option("--from", "least", type=click.FloatRange(min=0.0), help="Least mean distance of the first shell, angstrom.")
@click.option("--to", "most", type=click.FloatRange(min=0.0), help="Greatest mean distance, angstrom.")
@click.option("--by", type=click.Choice(["both", "crystal", "answer"]), default="both", show_default=True, help="Who says so.")
@click.option("--tables", is_flag=True, help="By crystal, search rows of all tables; the first time this takes longer.")
@limit_option
@json_option
@with_profile
def neighbours(
    absorber: str, neighbours: tuple[str, ...], least: float | None, most: float | None, by: str, tables: bool, limit: int, as_json: bool
) -> None:
    """Spectra of ABSORBER whose first shell holds every NEIGHBOUR, at a mean distance in a range.

    By `crystal`: as it is in the structure that the spectrum was computed from. By `answer`: as models read it out of the spectrum.

    A batch or a screening looks for no neighbours. With `--tables` they are computed of the crystals that nobody has asked about before,
    until --limit is reached, and stored: from then on their rows are found at once, with `--tables` or without.
    """
    from ..tools import queries, query_rows, shells

    absorber, *others = _symbols((absorber, *neighbours))
    distance = None if least is None and most is None else (least or 0.0, most if most is not None else 1e3)
    if distance is not None and distance[0] > distance[1]:
        raise click.UsageError(f"the range of distances is empty: {distance[0]:g} to {distance[1]:g} angstrom.")
    if tables and by == "answer":
        raise click.UsageError("--tables is about crystals; leave it out, or --by answer.")
    names = ("absorber", "edge", "kind", "method", "site")
    found: list[tuple[Any, ...]] = []
    if by != "answer":
        builder = queries.known_neighbours(absorber, others, distance)
        builder.add_projection("spectrum", ["id", *_attributes(names), *_attributes(("neighbours", "mean_distance"))])
        found += [(pk, None, "crystal", *rest) for pk, *rest in builder.iterall()]
        rows = query_rows.collection_rows(absorber, others, distance)
        found += [(row["pk"], row["number"], "crystal", *(row[name] for name in (*names, "neighbours", "mean_distance"))) for row in rows]
    if by != "crystal":
        builder = queries.inferred_neighbours(absorber, others, distance)
        builder.add_projection("spectrum", ["id", *_attributes(names)])
        builder.add_projection("answer", _attributes(("neighbour_set", "mean_distance")))
        found += [(pk, None, "answer", *rest, elements, mean) for elements, mean, pk, *rest in builder.iterall()]
    if by != "answer":
        known = shells.described(absorber)
        if len(found) <= limit:
            asked = (absorber, others, distance)
            found += _of_tables(known, asked, tables, (*names, "neighbours", "mean_distance"), limit + 1 - len(found))
        if not tables and (count := len(known.missing())):
            click.echo(f"Rows of {count} batches with {absorber} were not searched; --tables looks for their neighbours, once.", err=True)
    shown = [(*row[:-2], " ".join(row[-2] or ()), row[-1]) for row in found] if not as_json else found
    _echo(("pk", "row", "by", *names, "neighbours", "mean_distance"), shown, limit, as_json)


def _of_tables(
    known: Described, asked: tuple[str, Sequence[str], tuple[float, float] | None], describe: bool, names: Sequence[str], most: int
) -> list[tuple[Any, ...]]:
    """Rows of tables with neighbours, at most so many."""
    from rich.console import Console
    from rich.progress import Progress

    from ..tools.shells import table_rows

    console, missing = Console(stderr=True), known.missing() if describe else []
    with Progress(console=console, transient=True, disable=not (missing and console.is_terminal)) as bar:
        task = bar.add_task("neighbours of crystals", total=len(missing))
        # Where not all was to be searched, what cannot be is not named each time.
        skipped = (lambda words: click.echo(f"Left out: {words}", err=True)) if describe else (lambda words: None)
        rows = table_rows(*asked, known=known, describe=describe, skipped=skipped, progress=lambda: bar.advance(task))
        return [(row["pk"], row["number"], "crystal", *(row[name] for name in names)) for row in islice(rows, most)]


@query.command("downstream")
@click.argument("structure")
@limit_option
@json_option
@with_profile
def downstream(structure: str, limit: int, as_json: bool) -> None:
    """Everything that was made of STRUCTURE (pk, UUID or label): rows of batches first, then nodes.

    Structures that say the same count as the one, and so does the crystal in a batch. A model that learned from one of its spectra, and
    what that model predicts, are downstream too.
    """
    from ..tools import queries, query_rows

    node: StructureData = stored_or_file(structure, "aiida.data:core.structure", None)
    digest = queries.crystal_hash(node)
    rows = query_rows.rows_of_crystal(digest).to_pylist() if digest is not None else []
    found: list[tuple[Any, ...]] = [
        (row["pk"], row["number"], "row", f"{row['absorber']} site {row['site']}, {row['method']}") for row in rows
    ]
    builder = queries.downstream(node)
    builder.add_projection("node", ["id", "node_type", "process_type", "label"])
    for pk, kind, process, label in builder.order_by({"node": "id"}).iterall():
        found.append((pk, None, kind.rstrip(".").rpartition(".")[2], (process or "").rpartition(":")[2] or label))
    _echo(("pk", "row", "type", "what"), found, limit, as_json)


@query.command("disagreements")
@click.argument("model")
@absorber_option
@kind_option
@limit_option
@json_option
@with_profile
def disagreements(model: str, absorber: str | None, kind: str | None, limit: int, as_json: bool) -> None:
    """Sites that both MODEL (as in `predicted`) and FEFF have answered, those that differ most first.

    All pairs are compared, and as many of them are shown as `--limit` says: the mean square difference of flat mu (XANES) or k^2 chi
    (EXAFS), as `compare` gives it, which stands in no database. Pairs that cannot be compared come last, with the reason.
    """
    from rich.console import Console
    from rich.progress import track

    from ..tools.queries import find_models
    from ..tools.query_rows import differences, pairs

    models = find_models(model)
    (element,) = _symbols([absorber]) if absorber else (None,)
    found, console = pairs(models, element, kind), Console(stderr=True)
    compared = track(differences(found), "pairs", len(found), console=console, transient=True, disable=not console.is_terminal)
    rows = []
    for pair, difference, reason in compared:
        of = pair.question
        rows.append((difference, *pair.predicted, *pair.feff, of.absorber, of.edge, of.kind, of.site, of.structure_hash, reason))
    rows.sort(key=lambda row: -1.0 if row[0] is None else row[0], reverse=True)
    names = ("difference", "predicted", "row", "feff", "feff_row", "absorber", "edge", "kind", "site", "crystal", "reason")
    _echo(names, rows, limit, as_json)


@query.command("duplicates")
@click.argument("what", type=click.Choice(sorted(DOUBLES)), default="spectra")
@limit_option
@json_option
@with_profile
def duplicates(what: str, limit: int, as_json: bool) -> None:
    """What is there more than once: nodes that say the same under several pks, or rows of one site in several batches."""
    from aiida.plugins import DataFactory

    from ..tools import query_rows

    if what == "rows":
        rows = query_rows.repeated_rows().to_pylist()
        names = ("hash", "absorber", "edge", "kind", "site")
        found = [(*(row[name] for name in names), len(row["pk"]), _places(row["pk"], row["number"])) for row in rows]
        _echo(("crystal", *names[1:], "count", "rows"), found, limit, as_json)
        return
    cls = DataFactory(DOUBLES[what] if "." in DOUBLES[what] else f"xastruct.{DOUBLES[what]}")
    same = query_rows.groups(cls)
    _echo(("hash", "count", "pks"), [(digest, len(pks), pks) for digest, pks in same.items()], limit, as_json)


def _places(pks: Sequence[int], numbers: Sequence[int]) -> list[str]:
    return [f"{pk}:{number}" for pk, number in zip(pks, numbers, strict=True)]


def _attributes(names: Sequence[str]) -> list[str]:
    return [f"attributes.{name}" for name in names]


def _wanted(absorber: str | None, kind: str | None) -> dict[str, str]:
    return {f"attributes.{name}": value for name, value in (("absorber", absorber), ("kind", kind)) if value is not None}


def _symbols(given: Sequence[str]) -> list[str]:
    """Symbols of elements as the database has them.

    Raises:
        XastructError: if one is no element: a query would find nothing and not say why.
    """
    from ..engine.spectrum import atomic_number

    for symbol in given:
        atomic_number(symbol)  # which takes fe and FE for Fe
    return [symbol.capitalize() for symbol in given]


def _nodes(builder: QueryBuilder, limit: int) -> list[tuple[Any, ...]]:
    """Pk and what is shown of the spectra that a builder finds, and how many there are."""
    builder.add_projection("spectrum", ["id", *_attributes(SPECTRUM)])
    return [(pk, None, *rest) for pk, *rest in builder.order_by({"spectrum": "id"}).limit(limit + 1).iterall()]


def _rows(builder: QueryBuilder, absorber: str | None) -> Iterator[tuple[Any, ...]]:
    """The same of the predicted rows of tables, which are opened one after the other."""
    filters = [("method", "=", "ml"), *([("absorber", "=", absorber)] if absorber else [])]
    for (node,) in builder.iterall(batch_size=10):
        kind = node.base.attributes.get("kind")
        for row in node.find(filters, [name for name in SPECTRUM if name != "kind"]).to_pylist():
            yield node.pk, row["number"], *(row.get(name, kind) for name in SPECTRUM)


def _echo(columns: Sequence[str], rows: Sequence[Sequence[Any]], limit: int, as_json: bool) -> None:
    """Print as many rows as are asked for, and say on the standard error where there are more."""
    echo_rows(columns, rows[:limit], as_json)
    if len(rows) > limit:
        click.echo(f"There are more than {limit}; raise --limit to see them.", err=True)

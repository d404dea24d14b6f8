"""Latency of each named query on 100,000 spectra that are nodes and 100,000 that are rows of 100 batches.

    python benchmarks/queries.py --backend sqlite --json queries.json
    python benchmarks/queries.py --backend postgresql --json queries.json
    python benchmarks/queries.py --table queries.json > docs/reference/queries.md

The graph is made once, on SQLite (`benchmarks/query_graph.py`), in `--folder`; PostgreSQL gets the same rows by COPY, in a cluster of its
own that is stopped at the end. The bar (issue 5): each named query at most 1 s.

Queries are asked in a process that has just opened the profile: the first call of each pays for imports and for what the database has to
read, the best of five later ones does not. Processor seconds, which neighbours on the machine hardly change, are those of this process and
of PostgreSQL's, its parallel workers included. PostgreSQL runs as it is installed but for 1 GB of `shared_buffers`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pages import described, parse
from profiles import copy_profile, profile

Ask = Callable[[], int]

#: Rows of each batch, and models that predict in turn.
ROWS, MODELS = 1000, 5

#: Absorber, neighbour, and range of the mean distance, angstrom, that are asked for.
SHELL: tuple[str, list[str], tuple[float, float]] = ("Fe", ["O"], (2.0, 2.1))

#: Calls after the first.
CALLS = 5


def make(folder: Path, spectra: int, batches: int) -> None:
    """The graph, in the loaded profile, unless it is there; `made.json` in the folder says that it is whole."""
    from aiida.orm import QueryBuilder
    from query_graph import Originals, make_batches, make_models, make_nodes

    if (folder / "made.json").exists():
        return
    originals = Originals()
    models = make_models(originals, MODELS)
    for done in make_nodes(originals, spectra, models):
        print(f"{done} spectra", file=sys.stderr, flush=True)
    from aiida_xastruct.tools.queries import feff_spectra

    builder = feff_spectra()
    builder.add_projection("spectrum", ["attributes.structure_hash", "attributes.absorber"])
    make_batches(batches, ROWS, models, [tuple(row) for row in builder.limit(2000).all()])
    facts = {"spectra": spectra, "batches": batches, "rows": ROWS, "nodes": QueryBuilder().append(_node()).count()}
    (folder / "made.json").write_text(json.dumps(facts))


def describe(folder: Path) -> None:
    """Neighbours in the crystals of all batches, looked for as the first search does; `made.json` says how long that took."""
    from aiida_xastruct.tools.shells import described, table_rows

    made = folder / "made.json"
    facts = json.loads(made.read_text())
    if "shells" in facts:
        return
    files, start = len(described(SHELL[0]).missing()), time.process_time()
    for _ in table_rows(*SHELL, progress=lambda: print("described", file=sys.stderr, flush=True)):
        pass
    seconds = time.process_time() - start
    sites = sum(said["n_sites"] for _, said in described(SHELL[0]).shells.values())
    made.write_text(json.dumps(facts | {"shells": {"files": files, "sites": sites, "cpu": seconds}}))


def _node() -> Any:
    from aiida.orm import Node

    return Node


def named_queries() -> Iterator[tuple[str, str, Ask]]:
    """Name, question, and a function that asks it to the end and says how much was found."""
    from aiida.orm import QueryBuilder, StructureData

    from aiida_xastruct.data.model import ModelData
    from aiida_xastruct.data.spectrum import SpectrumData
    from aiida_xastruct.data.table import TableData
    from aiida_xastruct.tools import queries, query_rows, shells

    def pks(builder: QueryBuilder, tag: str) -> int:
        builder.add_projection(tag, "id")
        return len(builder.all())

    model = QueryBuilder().append(ModelData, tag="model").order_by({"model": {"id": "desc"}}).first(flat=True)
    structure = QueryBuilder().append(StructureData, tag="node").order_by({"node": {"id": "desc"}}).first(flat=True)
    first = queries.tables().order_by({"table": "id"}).first(flat=True)
    crystal = first.get_row(500)["hash"]
    iron = [("method", "=", "ml"), ("absorber", "=", "Fe")]

    yield "predicted", "pks of all nodes that a model predicted", lambda: pks(queries.predicted_spectra(model), "spectrum")
    yield "predicted", "their first 100, loaded", lambda: len(queries.predicted_spectra(model).limit(100).all())
    yield (
        "predicted", "rows of Fe in its batches",
        lambda: query_rows.find_rows(queries.predicted_spectra(model, TableData), iron).num_rows,
    )  # fmt: skip
    yield "feff-runs", "FEFF jobs behind a model whose set grew five times", lambda: pks(queries.feff_runs(model), "run")
    yield "neighbours", "nodes of Fe with O at 2.0 to 2.1 Å in the crystal", lambda: pks(queries.known_neighbours(*SHELL), "spectrum")
    yield "neighbours", "rows of batches of FEFF, the same", lambda: len(query_rows.collection_rows(*SHELL))
    yield "neighbours", "rows of batches of models, the same", lambda: len(list(shells.table_rows(*SHELL)))
    yield "neighbours", "nodes, the same by the answers of models", lambda: pks(queries.inferred_neighbours(*SHELL), "spectrum")
    yield "downstream", "nodes made of a structure that is there twice", lambda: pks(queries.downstream(structure), "node")
    yield "downstream", "rows of a crystal in all batches", lambda: query_rows.rows_of_crystal(crystal).num_rows
    yield "disagreements", "pairs of a model and FEFF, of Fe", lambda: len(query_rows.pairs(model, "Fe"))
    yield "disagreements", "pairs of a model and FEFF", lambda: len(query_rows.pairs(model))
    yield "duplicates", "groups of spectra", lambda: len(query_rows.groups(SpectrumData))
    yield "duplicates", "groups of structures", lambda: len(query_rows.groups(StructureData))
    yield "duplicates", "sites that are rows of two batches", lambda: query_rows.repeated_rows().num_rows


def _server_seconds(backend: str) -> Callable[[], float]:
    """Function that gives the processor seconds that the database's server has used, with the workers that it started and that ended."""
    if backend == "sqlite":
        return lambda: 0.0
    from aiida.manage import get_manager
    from sqlalchemy import text

    pid = get_manager().get_profile_storage().get_session().execute(text("SELECT pg_backend_pid()")).scalar_one()
    tick, server = os.sysconf("SC_CLK_TCK"), _stat(pid)[1]

    def seconds() -> float:
        # Own times of the connection's process, and of the server's children that have ended.
        return (sum(map(int, _stat(pid)[11:13])) + sum(map(int, _stat(server)[13:15]))) / tick

    return seconds


def _stat(pid: int | str) -> list[str]:
    """Fields of `/proc/<pid>/stat` after the name: state, parent, ...; from the twelfth on user and system time, own and of children."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def measure(backend: str) -> list[dict[str, Any]]:
    """A row for each named query."""
    server = _server_seconds(backend)
    rows = []
    for name, question, ask in named_queries():
        calls = []
        for _ in range(1 + CALLS):
            wall, here, there = time.monotonic(), time.process_time(), server()
            found = ask()
            calls.append((time.monotonic() - wall, time.process_time() - here + server() - there))
        best = min(calls[1:])
        row = {"query": name, "question": question, "found": found, "first": calls[0][0], "wall": best[0]}
        rows.append(row | {"first_cpu": calls[0][1], "cpu": min(cpu for _, cpu in calls[1:])})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def run(options: argparse.Namespace) -> None:
    """Make what is missing, measure, and add the result to the file."""
    folder = options.folder / "sqlite"
    load = [os.getloadavg()[0]]
    with ExitStack() as stack:
        if options.backend == "sqlite":
            stack.enter_context(profile(folder, "sqlite"))
            make(folder, options.spectra, options.batches)
            describe(folder)
        else:
            if not (folder / "made.json").exists():
                sys.exit("PostgreSQL gets the rows of SQLite; run --backend sqlite with the same --folder first.")
            own = options.folder / "postgresql"
            stack.enter_context(profile(own, "postgresql"))
            if not (own / "made.json").exists():
                copy_profile(folder, own)
                (own / "made.json").write_text((folder / "made.json").read_text())
        rows = measure(options.backend)
    result = json.loads(options.json.read_text()) if options.json.exists() else {"backends": {}}
    result |= {"cores": os.cpu_count(), **json.loads((folder / "made.json").read_text())}
    result["backends"][options.backend] = {"rows": rows, "load": [*load, os.getloadavg()[0]], "priority": _priority()}
    options.json.write_text(json.dumps(result, indent=1) + "\n")


def _priority() -> int:
    """Nice value of this process among others, that of its session where Linux shares the processor out among sessions."""
    group = Path("/proc/self/autogroup")
    return int(group.read_text().split()[-1]) if group.exists() else os.nice(0)


def page(result: dict[str, Any]) -> str:
    """Markdown of a result."""
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
    backends = [name for name in names if name in result["backends"]]
    head = ["query", "what", "found", *(f"{names[one]}: first, later, processor (s)" for one in backends)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for index, row in enumerate(result["backends"][backends[0]]["rows"]):
        cells = [f"`{row['query']}`", row["question"], f"{row['found']:,}"]
        for one in backends:
            own = result["backends"][one]["rows"][index]
            cells.append(f"{own['first']:.2f}, {own['wall']:.2f}, {own['cpu']:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    over = [
        f"{names[one]}, {row['question']} ({row['wall']:.2f} s, of the processor {row['cpu']:.2f} s)"
        for one in backends for row in result["backends"][one]["rows"] if row["wall"] > 1.0
    ]  # fmt: skip
    loads = ", ".join(f"{names[one]} {' to '.join(f'{value:.0f}' for value in result['backends'][one]['load'])}" for one in backends)
    verdict = f"Over it: {'; '.join(over)}." if over else "All are within it."
    sizes = {key: f"{result[key]:,}" for key in ("cores", "batches", "spectra", "nodes")} | {
        "rows": f"{result['batches'] * result['rows']:,}"
    }
    files, sites, cpu = (result["shells"][name] for name in ("files", "sites", "cpu"))
    looked = f"{files} batches with {sites:,} sites of {SHELL[0]} took {cpu:.0f} s of the processor, {1000 * cpu / sites:.0f} ms a site"
    priority = ", ".join(sorted({str(result["backends"][one]["priority"]) for one in backends}))
    return PAGE.format(table="\n".join(lines), verdict=verdict, load=loads, priority=priority, models=MODELS, looked=looked, **sizes)


PAGE = """# Latency of queries

How long the questions of [](../howto/queries.md) take in a database of {nodes} nodes, among them {spectra} `SpectrumData`, and {batches}
batches with {rows} rows together. One in five of these spectra is by FEFF, the others are by {models} models in turn. `found` is how many
nodes, rows, pairs or groups came back: the share of a model is a fifth, that of an element a twentieth.

{table}

The first call in a new process pays for imports; "later" is the best of five calls after it. The bar is 1 s, later. {verdict}
Measured on a machine with {cores} cores that others used too (load: {load}), with a nice value of {priority}. Processor seconds, of this
process and of the server with its workers, depend on that less. PostgreSQL runs as it is installed, but with 1 GB of `shared_buffers`
in place of 128 MB.

## What makes it so

Links
: `predicted`, `feff-runs`, `downstream`, answers of models and both sides of `disagreements` begin at a few nodes, or at processes of one
  type, of which both databases have an index, and follow links, which have one too. The links' labels leave out outputs that are no
  spectra before the nodes are looked at. Attributes are read of what is left.

Types
: Where attributes alone decide, the type is asked for without its subclasses. That is an equality, for which there is an index; with
  subclasses it is a pattern, for which SQLite looks at every node.

No paths
: `feff-runs` and `downstream` visit each node once. `with_ancestors` of the `QueryBuilder` follows every path, and a training set that
  grew by a screening of 100 chunks has a hundred times more of them with each round.

Summaries
: A batch lists its absorbers, kind and the first eight digits of its crystals' hashes. A crystal is looked for in the batches that list it,
  the others are not opened. Of a file only the columns needed are read, and the groups of rows that can hold what is asked for.

Kept once
: Neighbours in the crystals of batches are looked for when they are first asked for, by CrystalNN, and kept beside the crystals: here
  {looked}. The table above is of searches after that. What was kept is
  not opened if its node says that no shell in it can be meant, and a table only where a shell was found.

One opening
: Files of many tables are read by one opening of the repository. `node.open` opens it twice for each.

Few cells
: The `QueryBuilder` takes some microseconds for each cell that it returns; 100,000 rows of two cells are most of a second. `duplicates`
  therefore asks for the hash alone, and then for the pks of those that are there twice; `disagreements` asks for the crystals that the
  model has predicted, for FEFF's spectra of these, and for the predictions of those and their sites: what only one of the two has
  answered is not read.

## How the database was made

Each kind of process ran once for real (prediction, FEFF, a batch of FEFF, inference). The rows of the database that this left were then
copied by the bulk insert of AiiDA's storage backend, with links of the same types and labels; structure, absorber, surroundings, hash
and UUID differ from copy to copy, arrays are those of the original. Running every process would be too slow. The tables of the batches
are stored as any node is; their answers are drawn at random. PostgreSQL has the rows of SQLite, by COPY.

Made by `python benchmarks/queries.py`."""


def main() -> None:
    """Command line."""
    parser = described(__doc__)
    parser.add_argument("--backend", choices=["sqlite", "postgresql"])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/xastruct-queries"), help="where the databases are made and kept")
    parser.add_argument("--spectra", type=int, default=100_000)
    parser.add_argument("--batches", type=int, default=100)
    run(parse(parser, page, "backend"))


if __name__ == "__main__":
    main()

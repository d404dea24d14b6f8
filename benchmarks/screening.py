"""What a screening costs, end to end: from a table of structures to one table of answers, in AiiDA.

    python benchmarks/screening.py --n 1000 10000 --absorber Mg --cache features.sqlite --json screening.json
    python benchmarks/screening.py --n 1000 10000 100000 --crystals 10000 --absorber Mg --cache features.sqlite --json screening.json
    python benchmarks/screening.py --table screening.json > docs/reference/screening.md

Structures are drawn with seed 0 from `../shared/data/mp_structures.npz`, of those with the absorber; nothing is excluded, as nothing is
learned or judged: it only predicts. The profile is a temporary one: SQLite, no broker, no daemon. Each size is a process of its own, with a
peak memory of its own, and a row that is added to `--json`.

AiiDA's overhead is the CPU time of all but the engine: the nodes of the chunks, the work chain, its calcfunctions, storing arrays and
tables, and the merge. The engine is `predict_batch` between its call and its return, in the same run on the same chunks; reading the table
of structures is counted apart. CPU time, as neighbours change it less than wall time.

With `--cache`, features that the file has are not computed: AiiDA's part, memory and linearity can then be measured at sizes that SevenNet
would need hours for. `--crystals M` draws M crystals and takes them again and again under further names until there are `--n`: every row
is a true answer, and AiiDA cannot tell. The end-to-end time of a size that was only measured so is extrapolated on the page: the engine's
time a structure of the largest size that was computed from structures, and AiiDA's own. Bars (issue 5): at most 1 ms a structure; memory
flat from 10,000 on; a structure at 100,000 costs at most 1.2 times one at 1,000.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from pages import described, parse

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "mp_structures.npz"


def load_profile(folder: Path) -> None:
    """Make and load a profile in the folder; nothing of the user's own is touched."""
    os.environ["AIIDA_PATH"] = str(folder)
    from aiida import load_profile as load
    from aiida.manage.configuration import create_profile, get_config

    config = get_config(create=True)
    storage = {"filepath": str(folder / "storage")}
    create_profile(config, name="screening", email="screening@localhost", storage_backend="core.sqlite_dos", storage_config=storage)
    config.set_default_profile("screening")
    config.set_option("logging.aiida_loglevel", "ERROR")
    config.store()
    load("screening")


def entries(options: argparse.Namespace, count: int, counted: dict[str, float]) -> Iterator[tuple[str, Any]]:
    """Structures drawn with seed 0, read as they are asked for; the CPU time of reading them is not AiiDA's and goes to `counted`."""
    from aiida_xastruct.engine.errors import XastructError
    from aiida_xastruct.engine.reference.sources import open_source

    began = time.process_time()
    source = open_source("npz", str(options.structures))
    by_element = source.ids_by_element()
    ids = sorted({one for element, own in by_element.items() for one in own if options.absorber in (None, element)})
    chosen = random.Random(0).sample(ids, min(options.crystals or count, len(ids)))
    counted["reading"] += time.process_time() - began
    for number, name in enumerate(islice(cycle(chosen), count) if options.crystals else chosen):
        began = time.process_time()
        try:
            entry: Any = source.structure(name)[0]
        except XastructError as error:
            entry = str(error)
        counted["reading"] += time.process_time() - began
        yield (name if number < len(chosen) else f"{name}-{number // len(chosen)}"), entry


def measure(options: argparse.Namespace, count: int) -> dict[str, Any]:
    """One screening in this process."""
    with tempfile.TemporaryDirectory(prefix="xastruct-screening-") as name:
        folder = Path(name)
        load_profile(folder)
        from aiida.engine import run_get_node

        from aiida_xastruct.engine import batch
        from aiida_xastruct.tools.structures import structure_chunks
        from aiida_xastruct.workflows.screen import CHUNK, ScreenWorkChain

        counted = {"reading": 0.0, "engine": 0.0, "engine_wall": 0.0}
        predict = batch.predict_batch

        def timed(*args: Any, **kwargs: Any) -> Any:
            began, wall = time.process_time(), time.perf_counter()
            try:
                return predict(*args, **kwargs)
            finally:
                counted["engine"] += time.process_time() - began
                counted["engine_wall"] += time.perf_counter() - wall

        batch.predict_batch = timed  # type: ignore[assignment]
        # What a process loads once is not what a structure costs: models, libraries and SevenNet.
        warm = list(structure_chunks(entries(options, 2, counted), 2))
        run_get_node(ScreenWorkChain.get_builder_from_chunks(warm, kind=options.kind))
        counted = dict.fromkeys(counted, 0.0)
        cache = str(options.cache.absolute()) if options.cache else None
        known = _kept(options.cache)
        size, cpu, wall = _size(folder), time.process_time(), time.perf_counter()
        chunks = structure_chunks(entries(options, count, counted), options.chunk_size or CHUNK)
        builder = ScreenWorkChain.get_builder_from_chunks(chunks, kind=options.kind, absorber=options.absorber, cache=cache)
        outputs, node = run_get_node(builder)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        if not node.is_finished_ok:
            raise SystemExit(f"the screening failed: {node.exit_status} {node.exit_message}")
        summary = outputs["summary"].get_dict()
        aiida = cpu - counted["engine"] - counted["reading"]
        structures = summary["n_structures"]
        return {
            "structures": structures, "crystals": options.crystals or structures, "sites": summary["n_spectra"],
            "refused": summary["n_refused"], "absorber": options.absorber or "all", "kind": options.kind, "load": os.getloadavg()[0],
            "computed": _kept(options.cache) - known if options.cache else structures, "wall_s": wall, "cpu_s": cpu,
            "engine_cpu_s": counted["engine"], "engine_wall_s": counted["engine_wall"], "reading_cpu_s": counted["reading"],
            "aiida_cpu_s": aiida, "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
            "database_mb": (_size(folder) - size) / 1e6,
        }  # fmt: skip


def _kept(cache: Path | None) -> int:
    """Crystals' elements whose features a file has."""
    if cache is None or not cache.exists():
        return 0
    with sqlite3.connect(cache) as database:
        return int(database.execute("SELECT COUNT(*) FROM absorber").fetchone()[0])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def page(found: dict[str, Any]) -> str:
    """The page of the documentation."""
    rows = sorted(found["rows"], key=lambda row: (row["computed"] == 0, row["structures"]))
    fresh, stored = ([row for row in rows if (row["computed"] > 0) is wanted] for wanted in (True, False))
    lines = [
        "# Screening",
        "",
        "Printed by `python benchmarks/screening.py --table screening.json` from what the same script measured; its head says how.",
        f"{rows[0]['kind']} of {rows[0]['absorber']} in Materials Project structures of at most 40 atoms that have it, by one process with "
        f"one thread, on {found['cores']} cores that other jobs kept busy: CPU time is what to go by, wall time what it took. Features are "
        "computed from the structures in the first rows; in the others a file has them.",
        "",
        "| structures | features | sites | CPU ms a structure | of it engine | of it AiiDA | CPU time | wall time | load "
        "| structures / sites a second of CPU | peak memory, MB | database, MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        n, cpu = row["structures"], row["cpu_s"]
        parts = " | ".join(f"{1000.0 * row[name] / n:.2f}" for name in ("cpu_s", "engine_cpu_s", "aiida_cpu_s"))
        lines.append(
            f"| {n:,} | {'computed' if row['computed'] else 'stored'} | {row['sites']:,} | {parts} | {cpu:,.0f} s | "
            f"{row['wall_s']:,.0f} s | {row['load']:.1f} | "
            f"{n / cpu:,.0f} / {row['sites'] / cpu:,.0f} | {row['peak_memory_mb']:,.0f} | {row['database_mb']:,.1f} |"
        )
    lines.append("")
    if any(row["crystals"] < row["structures"] for row in rows):
        many = max(rows, key=lambda row: row["structures"])
        lines += [
            f"The {many['structures']:,} are {many['crystals']:,} crystals, each by several names: every answer is a true one. Arrays of "
            "theirs that are the same are files that the repository keeps once, so the size of this database is not that of as many "
            "different ones.",
            "",
        ]
    if len(stored) > 1:
        first, last = stored[0], stored[-1]
        for name, title in (("cpu_s", "all"), ("aiida_cpu_s", "AiiDA's part")):
            ratio = last[name] / last["structures"] / (first[name] / first["structures"])
            lines += [f"A structure at {last['structures']:,} costs {ratio:.2f} times one at {first['structures']:,} ({title}).", ""]
        middle = stored[-2]
        ratio = last["peak_memory_mb"] / middle["peak_memory_mb"]
        lines += [f"Peak memory at {last['structures']:,} is {ratio:.2f} times that at {middle['structures']:,}.", ""]
    if fresh and stored and stored[-1]["structures"] > fresh[-1]["structures"]:
        own, most = fresh[-1], stored[-1]
        seconds = (own["engine_cpu_s"] + own["reading_cpu_s"]) / own["structures"] * most["structures"] + most["aiida_cpu_s"]
        lines += [
            f"Extrapolated, not measured: {most['structures']:,} from structures take {seconds / 3600.0:.1f} hours of CPU: what engine and "
            f"reading took a structure at {own['structures']:,}, and AiiDA's part as measured at {most['structures']:,}.",
        ]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = described(__doc__)
    parser.add_argument("--n", type=int, nargs="+", help="structures; several sizes are measured one after the other")
    parser.add_argument("--structures", type=Path, default=SHARED, help="npz table")
    parser.add_argument("--kind", choices=("XANES", "EXAFS"), default="EXAFS")
    parser.add_argument("--absorber", help="element; all if left out")
    parser.add_argument("--crystals", type=int, help="different ones among the structures; all if left out")
    parser.add_argument("--cache", type=Path, help="SQLite file of features, read and filled")
    parser.add_argument("--chunk-size", type=int, help="crystals in a chunk (1000)")
    options = parse(parser, page, "n")
    for count in options.n:
        if len(options.n) > 1:
            subprocess.run([sys.executable, __file__, *_arguments(options), "--n", str(count)], check=True)
            continue
        row = measure(options, count)
        print(json.dumps(row, indent=1))
        rows = json.loads(options.json.read_text())["rows"] if options.json.exists() else []
        options.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": [*rows, row]}, indent=1) + "\n")


def _arguments(options: argparse.Namespace) -> list[str]:
    """The options of a part, but for its size."""
    names = ("structures", "kind", "absorber", "crystals", "cache", "chunk_size", "json")
    given = {name.replace("_", "-"): value for name in names if (value := getattr(options, name)) is not None}
    return [text for name, value in given.items() for text in (f"--{name}", str(value))]


if __name__ == "__main__":
    main()

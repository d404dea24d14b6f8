"""What a screening costs, end to end: from a table of structures to one table of answers, in AiiDA.

    python benchmarks/screening.py --n 1000 --json screening.json
    python benchmarks/screening.py --n 10000 --cache features.sqlite --json screening.json

Structures are drawn with seed 0 from `../shared/data/mp_structures.npz`; nothing is excluded, as nothing is learned or judged: it only
predicts. The profile is a temporary one: SQLite, no broker, no daemon. Each size is a process of its own, with a peak memory of its own.

AiiDA's overhead is the CPU time of all but the engine: the nodes of the chunks, the work chain, its calcfunctions, storing arrays and
tables, and the merge; the engine is `predict_batch` between its call and its return. CPU time, as neighbours hardly change it. With
`--cache`, features that the file has are not computed: AiiDA's part, memory and linearity can then be measured at sizes that SevenNet would
need days for; the file is filled by a first run, whose end-to-end times are the true ones. Bars (issue 5): at most 1 ms a structure; memory
flat from 10,000 on; a structure at 100,000 costs at most 1.2 times one at 1,000.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def entries(path: Path, count: int, counted: dict[str, float]) -> Iterator[tuple[str, Any]]:
    """Structures drawn with seed 0, read as they are asked for; the CPU time of reading them is not AiiDA's and goes to `counted`."""
    import random

    from aiida_xastruct.engine.errors import XastructError
    from aiida_xastruct.engine.reference.sources import open_source

    began = time.process_time()
    source = open_source("npz", str(path))
    ids = sorted({one for ids in source.ids_by_element().values() for one in ids})
    chosen = random.Random(0).sample(ids, min(count, len(ids)))
    counted["reading"] += time.process_time() - began
    for name in chosen:
        began = time.process_time()
        try:
            entry: Any = source.structure(name)[0]
        except XastructError as error:
            entry = str(error)
        counted["reading"] += time.process_time() - began
        yield name, entry


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
        warm = list(structure_chunks(entries(options.structures, 2, counted), 2))
        run_get_node(ScreenWorkChain.get_builder_from_chunks(warm, kind=options.kind))
        counted = dict.fromkeys(counted, 0.0)
        size, cpu, wall = _size(folder), time.process_time(), time.perf_counter()
        chunks = structure_chunks(entries(options.structures, count, counted), options.chunk_size or CHUNK)
        cache = str(options.cache.absolute()) if options.cache else None
        builder = ScreenWorkChain.get_builder_from_chunks(chunks, kind=options.kind, absorber=options.absorber, cache=cache)
        outputs, node = run_get_node(builder)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        if not node.is_finished_ok:
            raise SystemExit(f"the screening failed: {node.exit_status} {node.exit_message}")
        summary = outputs["summary"].get_dict()
        aiida = cpu - counted["engine"] - counted["reading"]
        return {
            "structures": summary["n_structures"], "sites": summary["n_spectra"], "refused": summary["n_refused"], "wall_s": wall,
            "cpu_s": cpu, "engine_cpu_s": counted["engine"], "engine_wall_s": counted["engine_wall"], "reading_cpu_s": counted["reading"],
            "structures_a_second": summary["n_structures"] / wall, "sites_a_second": summary["n_spectra"] / wall,
            "aiida_ms_a_structure": 1000.0 * aiida / max(summary["n_structures"], 1),
            "cpu_ms_a_structure": 1000.0 * cpu / max(summary["n_structures"], 1),
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0, "database_mb": (_size(folder) - size) / 1e6,
        }  # fmt: skip


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", required=True, help="structures; several sizes are measured one after the other")
    parser.add_argument("--structures", type=Path, default=SHARED, help="npz table")
    parser.add_argument("--kind", choices=("XANES", "EXAFS"), default="XANES")
    parser.add_argument("--absorber", help="element; all if left out")
    parser.add_argument("--cache", type=Path, help="SQLite file of features, read and filled")
    parser.add_argument("--chunk-size", type=int, help="crystals in a chunk (1000)")
    parser.add_argument("--json", type=Path, required=True, help="file of the result")
    options = parser.parse_args()
    if len(options.n) == 1:
        rows = [measure(options, options.n[0])]
    else:
        rows = []
        for count in options.n:
            with tempfile.NamedTemporaryFile(suffix=".json") as part:
                command = [sys.executable, __file__, *_arguments(options), "--n", str(count), "--json", part.name]
                subprocess.run(command, check=True)
                rows += json.loads(Path(part.name).read_text())["rows"]
    result = {"kind": options.kind, "absorber": options.absorber or "all", "cores": os.cpu_count(), "load": os.getloadavg(), "rows": rows}
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _arguments(options: argparse.Namespace) -> list[str]:
    """The options of a part, but for its size and its file."""
    named = {"--structures": options.structures, "--kind": options.kind, "--absorber": options.absorber}
    named |= {"--cache": options.cache, "--chunk-size": options.chunk_size}
    return [text for name, value in named.items() if value is not None for text in (name, str(value))]


if __name__ == "__main__":
    main()

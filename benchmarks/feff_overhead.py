"""What AiiDA adds to FEFF: its share of the wall and CPU time of EXAFS sites, packed into one job and each in a job of its own.

    python benchmarks/feff_overhead.py --sites 50 --json overhead.json --docs docs/reference/overhead.md

The sites are drawn with seed 0 from the reference library: FEFF is known to compute them. The profile is a temporary one of its own:
SQLite, no broker, no daemon; jobs run on localhost, one after the other, one site at a time. The bar (issue 3): packed, at most 10 % of the
wall time.

AiiDA's share is what passes outside the jobs: 1 - jobs / total. A job is what a user would run without AiiDA, `xastruct-feff` with its
Python and FEFF's programs, from the first line of its script to the last; total is from before the structures are stored to when the last
output is, reruns of failed sites included. What FEFF's programs alone take of both is given too. CPU seconds, which neighbours on the
machine hardly change, are those of this process and of what AiiDA starts, and of the jobs. A site of another crystal is run before the
clock starts, so that Python's modules are loaded, as they are in a daemon that has been at work.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from profiles import profile

#: Makes each job say when it began and ended, and what CPU time it took, FEFF and Python.
OPTIONS = {
    "prepend_text": "date +%s.%N > clock.txt",
    "append_text": "times > times.txt\ndate +%s.%N >> clock.txt",
    "additional_retrieve_list": ["times.txt", "clock.txt"],
}

Site = tuple[str, str, Any, int]


def choose(count: int, library: Path) -> list[Site]:
    """Sites of the AMCSD's EXAFS in the library, of as many crystals, drawn with seed 0: element, AMCSD code, crystal and site."""
    import random

    from aiida_xastruct.engine.reference import read_reference, read_structure

    known: dict[str, tuple[str, int]] = {}
    for record in read_reference(library, kinds=("EXAFS",), verify=False):
        if record.source == "amcsd":
            known.setdefault(record.source_id, (record.absorber, record.site))
    chosen = random.Random(0).sample(sorted(known), count)
    return [(known[source_id][0], source_id, read_structure("amcsd", source_id), known[source_id][1]) for source_id in chosen]


@contextmanager
def measured(row: dict[str, float]) -> Iterator[None]:
    """Add the wall seconds of the block to a row, and the CPU seconds of this process and of those that it started."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall, cpu = time.monotonic(), time.process_time()
    yield
    row["wall"] += time.monotonic() - wall
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    row["aiida_cpu"] += time.process_time() - cpu + (now.ru_utime + now.ru_stime - children.ru_utime - children.ru_stime)


def job_cpu(node: Any) -> float:
    """CPU seconds of a job: what bash's `times` says of its children."""
    minutes = re.findall(r"(\d+)m([\d.]+)s", node.outputs.retrieved.get_object_content("times.txt").splitlines()[1])
    return sum(60 * int(first) + float(second) for first, second in minutes)


def job_wall(node: Any) -> float:
    """Seconds from the first line of a job's script to the last."""
    begun, ended = (float(word) for word in node.outputs.retrieved.get_object_content("clock.txt").split())
    return ended - begun


def note(row: dict[str, float], node: Any, facts: list[dict[str, Any]]) -> None:
    """Add what a job and the sites in it took."""
    row["jobs"] += 1
    row["job_cpu"] += job_cpu(node)
    row["job_wall"] += job_wall(node)
    for item in facts:
        row["feff_wall"] += item.get("wall_seconds", 0.0)
        row["feff_cpu"] += item.get("cpu_seconds", 0.0)


def new_row() -> dict[str, float]:
    """Zero of everything."""
    return dict.fromkeys(("sites", "spectra", "jobs", "wall", "job_wall", "feff_wall", "aiida_cpu", "job_cpu", "feff_cpu"), 0.0)


def run_alone(row: dict[str, float], crystal: Any, site: int) -> None:
    """One site through `xastruct.feff.base`."""
    from aiida import orm
    from aiida.engine import run_get_node

    from aiida_xastruct.tools.codes import bundled_feff_code
    from aiida_xastruct.workflows.feff.base import FeffBaseWorkChain

    with measured(row):
        structure = orm.StructureData(pymatgen=crystal)
        builder = FeffBaseWorkChain.get_builder_from_protocol(
            bundled_feff_code(), structure, site, "EXAFS", overrides={"options": dict(OPTIONS)}
        )
        results, node = run_get_node(builder)
    row["spectra"] += "spectrum" in results
    for job in node.called:
        note(row, job, [job.outputs.output_parameters.get_dict()])


def run_packed(row: dict[str, float], sites: list[Site]) -> None:
    """All sites through `xastruct.feff_batch`, and those that fail again through `xastruct.feff.base`, as `xastruct.feff.crystal` does."""
    from aiida.engine import run_get_node

    from aiida_xastruct.calculations.feff_batch import FeffBatchCalculation
    from aiida_xastruct.calculations.functions.predict_batch import structures_node
    from aiida_xastruct.tools.codes import bundled_feff_code

    with measured(row):
        crystals = {f"{element}-{source_id}": crystal for element, source_id, crystal, _ in sites}
        wanted: dict[str, list[int]] = {}
        for element, source_id, _, site in sites:
            wanted.setdefault(f"{element}-{source_id}", []).append(site)
        builder = FeffBatchCalculation.get_builder()
        builder.code, builder.structures, builder.sites = bundled_feff_code(), structures_node(crystals), wanted
        builder.parameters = {"kind": "EXAFS"}
        builder.metadata.options = {"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}, **OPTIONS}
        results, node = run_get_node(builder)
    if "statuses" not in results:
        raise SystemExit(f"the batch failed: {node.exit_status} {node.exit_message}")
    rows = results["statuses"]["sites"]
    row["spectra"] += sum(item["label"] == "" for item in rows)
    note(row, node, [item["facts"] for item in rows])
    for item in rows:
        if item["label"]:
            run_alone(row, crystals[item["structure"]], item["site"])


def finish(row: dict[str, float], count: int) -> dict[str, Any]:
    """The row with its shares, rounded."""
    total_cpu = row["aiida_cpu"] + row["job_cpu"]
    shares = {"share_of_wall": 1 - row["job_wall"] / row["wall"], "share_of_cpu": row["aiida_cpu"] / total_cpu}
    return {name: round(value, 4) for name, value in {**row, "sites": count, "total_cpu": total_cpu, **shares}.items()}


#: Key of a row, what it is, and how it is printed.
LINES = (
    ("sites", "sites", "{:.0f}"),
    ("spectra", "of them with a spectrum", "{:.0f}"),
    ("jobs", "jobs", "{:.0f}"),
    ("wall", "wall time (s)", "{:.1f}"),
    ("job_wall", "of it in the jobs (s)", "{:.1f}"),
    ("feff_wall", "of it FEFF's programs (s)", "{:.1f}"),
    ("share_of_wall", "**AiiDA's share of the wall time**", "{:.1%}"),
    ("total_cpu", "CPU time (s)", "{:.1f}"),
    ("job_cpu", "of it in the jobs (s)", "{:.1f}"),
    ("feff_cpu", "of it FEFF's programs (s)", "{:.1f}"),
    ("share_of_cpu", "AiiDA's share of the CPU time, with the scheduler's polls", "{:.1%}"),
)


def table(result: dict[str, Any]) -> str:
    """Markdown of the two columns."""
    lines = ["| EXAFS, one site at a time | packed in one job | a job each |", "|---|---|---|"]
    for key, words, form in LINES:
        lines.append(f"| {words} | {form.format(result['packed'][key])} | {form.format(result['unpacked'][key])} |")
    return "\n".join(lines)


def page(result: dict[str, Any]) -> str:
    """The page of the documentation."""
    count, cores = f"{result['packed']['sites']:.0f}", result["cores"]
    load = "load {:.1f} at the start, {:.1f} at the end".format(*result["load"])
    verdict = "met" if result["packed"]["share_of_wall"] <= 0.1 else "missed in this run"
    return f"""# What AiiDA adds to FEFF

EXAFS of {count} sites of as many crystals, drawn from the reference library (AMCSD, seed 0), by FEFF 8.5L, in a temporary profile with
SQLite, no broker and no daemon: packed into one `xastruct.feff_batch`, and each through `xastruct.feff.base`, one after the other.
AiiDA's share is what passes outside the jobs: storing the inputs, submitting, polling, retrieving, reading and storing the spectra. A
job is `xastruct-feff` with its Python and FEFF's programs, as one would run it without AiiDA. Reruns of sites that failed are counted. Wall
times are of a machine with {cores} cores that others used too ({load}). CPU times depend on them less:
while FEFF waits for a core, AiiDA goes on asking after the job, every second.

{table(result)}

The project's bar is 10 % of the wall time, packed: {verdict}.

Made by `python benchmarks/feff_overhead.py --docs docs/reference/overhead.md`.
"""


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=50)
    parser.add_argument("--library", type=Path, default=Path(__file__).parent.parent / "reference")
    parser.add_argument("--json", type=Path, help="write the numbers")
    parser.add_argument("--docs", type=Path, help="write the page of the documentation")
    options = parser.parse_args()
    sites = choose(options.sites, options.library)
    with tempfile.TemporaryDirectory(prefix="xastruct-overhead-") as scratch, profile(Path(scratch), "sqlite"):
        from pymatgen.core import Lattice, Structure

        run_alone(new_row(), Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.212), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]), 0)
        load = [os.getloadavg()[0]]
        packed, unpacked = new_row(), new_row()
        run_packed(packed, sites)
        print(json.dumps(finish(packed, len(sites))), flush=True)
        for _, _, crystal, site in sites:
            run_alone(unpacked, crystal, site)
        load.append(os.getloadavg()[0])
    result = {"cores": os.cpu_count(), "load": load, "packed": finish(packed, len(sites)), "unpacked": finish(unpacked, len(sites))}
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.docs:
        options.docs.write_text(page(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

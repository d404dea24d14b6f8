"""One site of each absorbing element from Li to U through `xastruct.feff.base`: how many end with status 0, and why the others do not.

    python benchmarks/feff_coverage.py --folder /tmp/coverage --kind EXAFS --exclude ../shared/data/holdout_formulas.txt
    python benchmarks/feff_coverage.py --folder /tmp/coverage --kind XANES --limit 10 --docs docs/reference/feff_coverage.md

The sites are the first of the library's round robin over the AMCSD with seed 0. The AiiDA profile is one of its own in
`--folder`; elements in its results files stay, so that it can be stopped and started again. The bar (issue 3): at least 78 of 80, XANES
fast and EXAFS each.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any


def profile(folder: Path) -> None:
    """Make or load a profile in the folder; nothing of the user's own is touched."""
    os.environ["AIIDA_PATH"] = str(folder)
    (folder / ".aiida").mkdir(parents=True, exist_ok=True)
    from aiida import load_profile
    from aiida.manage.configuration import create_profile, get_config

    config = get_config(create=True)
    if "coverage" not in config.profile_names:
        create_profile(
            config, name="coverage", email="coverage@localhost", storage_backend="core.sqlite_dos",
            storage_config={"filepath": str(folder / ".aiida" / "coverage")},
        )  # fmt: skip
        config.set_default_profile("coverage")
        config.set_option("runner.poll.interval", 1)
        config.store()
    load_profile("coverage")


def choose(exclude: list[Path]) -> dict[str, tuple[str, int]]:
    """The first site of each element in the library's order with seed 0: AMCSD code and site."""
    from aiida_xastruct.engine.reference.order import Excluded, RoundRobin
    from aiida_xastruct.engine.spectrum import atomic_number

    order = RoundRobin("amcsd", "", 0, Excluded.read(exclude), lambda _source_id, _reason: None, set())
    found: dict[str, tuple[str, int]] = {}
    for element, source_id, site, _ in order.sites():
        if element in found:
            break  # the first round is over
        found[element] = (source_id, site)
    return {element: found[element] for element in sorted(found, key=atomic_number) if atomic_number(element) <= 92}


def measure(element: str, source_id: str, site: int, kind: str, protocol: str) -> dict[str, Any]:
    """Run one site through the workflow."""
    from aiida import orm
    from aiida.engine import run_get_node

    from aiida_xastruct.engine.reference import read_structure
    from aiida_xastruct.tools.codes import bundled_feff_code
    from aiida_xastruct.workflows.feff.base import FeffBaseWorkChain

    structure = orm.StructureData(pymatgen=read_structure("amcsd", source_id))
    results, node = run_get_node(FeffBaseWorkChain.get_builder_from_protocol(bundled_feff_code(), structure, site, kind, protocol))
    cpu = sum(
        child.outputs.output_parameters.get_dict().get("cpu_seconds", 0.0) for child in node.called if "output_parameters" in child.outputs
    )
    row = {"element": element, "source_id": source_id, "site": site, "kind": kind, "status": node.exit_status, "runs": len(node.called)}
    return {**row, "cpu_seconds": round(cpu, 2), "spectrum": "spectrum" in results, "message": node.exit_message or ""}


def load(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file, none if there is no such file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def page(results: dict[str, list[dict[str, Any]]]) -> str:
    """The page of the documentation, from the rows of each kind."""
    import numpy as np

    lines, bad = ["| kind | elements | status 0 | after more than one run | CPU s, median (10 to 90 %) |", "|---|---|---|---|---|"], []
    for kind, rows in results.items():
        if not rows:
            continue
        low, middle, high = np.percentile([row["cpu_seconds"] for row in rows], [10, 50, 90])
        good = [row for row in rows if row["status"] == 0]
        again = sum(row["runs"] > 1 for row in good)
        lines.append(f"| {kind} | {len(rows)} | {len(good)} | {again} | {middle:.1f} ({low:.1f} to {high:.1f}) |")
        for row in rows:
            if row["status"] != 0:
                bad.append(f"- {kind}, {row['element']} (AMCSD {row['source_id']} site {row['site']}): {row['status']}, {row['message']}")
    most = max(map(len, results.values()))
    unfinished = [f"{kind} has been run on {len(rows)} of {most} elements so far." for kind, rows in results.items() if len(rows) < most]
    table, failures = "\n".join([*lines, "", *unfinished]).rstrip(), "\n".join(bad or ["- none"])
    return f"""# FEFF: which elements

One site of each absorbing element from Li to U that the AMCSD has, the first of the reference library's round robin with seed 0, through
`xastruct.feff.base`: XANES with the protocol fast, EXAFS with its defaults. CPU seconds are of all runs of a site, on a machine that others
used too. The project's bar is 78 of 80 elements each.

{table}

What did not end with status 0, with its exit status and reason:

{failures}

Made by `python benchmarks/feff_coverage.py`, as its head says.
"""


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kind", choices=("XANES", "EXAFS"), default="EXAFS")
    parser.add_argument("--protocol", default="fast")
    parser.add_argument("--exclude", type=Path, action="append", default=[])
    parser.add_argument("--limit", type=int, help="elements to compute in this run")
    parser.add_argument("--docs", type=Path, help="write the page of the documentation from the results of both kinds")
    options = parser.parse_args()
    folder = options.folder.resolve()
    profile(folder)
    results = folder / f"{options.kind.lower()}-{options.protocol}.jsonl"
    rows = load(results)
    waiting = {element: site for element, site in choose(options.exclude).items() if element not in {row["element"] for row in rows}}
    for element, (source_id, site) in list(waiting.items())[: options.limit]:
        rows.append(measure(element, source_id, site, options.kind, options.protocol))
        with results.open("a") as stream:
            stream.write(json.dumps(rows[-1]) + "\n")
        print(rows[-1], flush=True)
    good = sum(row["status"] == 0 for row in rows)
    print(f"{good} of {len(rows)} elements end with status 0")
    for row in rows:
        if row["status"] != 0:
            print(f"  {row['element']:2s} AMCSD {row['source_id']} site {row['site']}: {row['status']} {row['message']}")
    if options.docs:
        names = {"EXAFS": "exafs-fast", "XANES": "xanes-fast"}
        options.docs.write_text(page({kind: load(folder / f"{name}.jsonl") for kind, name in names.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

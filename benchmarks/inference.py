"""How many sites a second the shipped models answer, from CIF and from stored features, beside FEFF on the same sites in the same run.

    python benchmarks/inference.py --json inference.json --exclude ../shared/data/holdout_formulas.txt
    python benchmarks/inference.py --table inference.json > docs/reference/speed.md

The sites are AMCSD structures of at most 60 atoms, one of each of `--sites` absorbers in the library's round robin with seed 0. *From CIF,
batch 1*: one file at a time is parsed and its site predicted. *From features*: rows that `engine.features` made, repeated to the batch.
Inference: spectrum to first shell, on the models' own spectra. FEFF: fast XANES by FEFF10 on the first `--feff` sites, EXAFS by FEFF 8.5L
on all. Everything runs on one thread; seconds are medians of CPU time, which a busy machine stretches less than wall time. The last rows
are of wall time on all cores, as users have it. The bars (issue 4): from CIF at batch 1 at least 100 times FEFF's XANES, and 5,000 spectra
a second from features.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.errors import XastructError
from aiida_xastruct.engine.features import site_rows
from aiida_xastruct.engine.feff.deck import FeffParameters
from aiida_xastruct.engine.feff.runner import compute
from aiida_xastruct.engine.reference import read_structure
from aiida_xastruct.engine.reference.order import Excluded, RoundRobin

REPEATS = 7


def choose(count: int, exclude: list[Path]) -> list[tuple[str, str, int]]:
    """(element, AMCSD code, site), one of each of the first `count` absorbers."""
    order = RoundRobin("amcsd", "", 0, Excluded.read(exclude), lambda _source_id, _reason: None, set())
    found: dict[str, tuple[str, str, int]] = {}
    for element, source_id, site, _ in order.sites():
        if element in found or len(found) == count:
            break
        numbers = {other.specie.Z for other in read_structure("amcsd", source_id)}
        if not numbers & {*range(84, 89), *range(95, 119)}:  # SevenNet does not know these
            found[element] = (element, source_id, site)
    return list(found.values())


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """Median CPU seconds of a call, or those of another clock, after one that warms it up."""
    call()
    taken = []
    for _ in range(REPEATS):
        start = clock()
        call()
        taken.append(clock() - start)
    return statistics.median(taken)


def measure(sites: list[tuple[str, str, int]], n_feff: int, folder: Path) -> dict[str, Any]:
    """Every number of the table."""
    from pymatgen.core import Structure

    family = FamilyBundle.load("default")
    crystals = [read_structure("amcsd", source_id) for _, source_id, _ in sites]
    files = []
    for crystal, (_, source_id, _) in zip(crystals, sites, strict=True):
        files.append(folder / f"{source_id}.cif")
        crystal.to(filename=str(files[-1]))
    elements = [element for element, _, _ in sites]
    found: dict[str, Any] = {"sites": len(sites), "atoms_median": statistics.median(len(crystal) for crystal in crystals)}
    found["load"] = os.getloadavg()[0]
    for kind in ("XANES", "EXAFS"):
        model = family.model("forward", kind)
        model.predict(crystals[0], [sites[0][2]])
        taken = []
        for file, (_, _, site) in zip(files, sites, strict=True):
            start = time.process_time()
            model.predict(Structure.from_file(file), [site])
            taken.append(time.process_time() - start)
        found[f"{kind} from CIF, batch 1"] = statistics.median(taken)
        rows = np.concatenate([site_rows(crystal, [site]) for crystal, (_, _, site) in zip(crystals, sites, strict=True)])
        for batch in (1, 256):
            pick = np.arange(batch) % len(rows)
            own, names = rows[pick], [elements[index] for index in pick]
            found[f"{kind} from features, batch {batch}"] = seconds(lambda m=model, o=own, n=names: m.predict_from_features(o, n)) / batch
        torch.set_num_threads(os.cpu_count() or 1)
        wall = seconds(lambda m=model, o=own, n=names: m.predict_from_features(o, n), time.perf_counter)
        found[f"{kind} from features, batch 256, wall time on {torch.get_num_threads()} cores"] = wall / batch
        torch.set_num_threads(1)
        spectra = [answer.spectrum for answer in model.predict_from_features(rows, elements)]
        found[f"{kind} to first shell, batch 1"] = seconds(lambda s=spectra: family.infer(s[0]))
    for kind, count in (("XANES", n_feff), ("EXAFS", len(sites))):
        taken = []
        for crystal, (_, _, site) in zip(crystals[:count], sites, strict=False):
            try:
                result = compute(crystal, site, FeffParameters(kind=kind))  # type: ignore[arg-type]
            except XastructError as error:
                print(f"FEFF {kind} of {crystal.composition.reduced_formula}: {error}", file=sys.stderr)
                continue
            taken.append(float(result.facts["cpu_seconds"]))
        found[f"FEFF {kind}"], found[f"FEFF {kind} sites"] = statistics.median(taken), len(taken)
    return found


def main() -> int:
    """Run the benchmark and print its table."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=40, help="absorbers, one site of each (40)")
    parser.add_argument("--feff", type=int, default=8, help="of which FEFF computes the XANES (8)")
    parser.add_argument("--exclude", type=Path, action="append", default=[])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path, help="print the page of a JSON file that --json wrote")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.table:
        print(page(json.loads(options.table.read_text())))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(choose(options.sites, options.exclude), options.feff, Path(scratch))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(page(found))
    return 0


def page(found: dict[str, Any]) -> str:
    """The page of the documentation."""
    lines = [
        "# Speed",
        "",
        "Printed by `python benchmarks/inference.py --table inference.json` from what the same script measured; its head says how.",
        f"{found['sites']} sites of as many absorbers, crystals of {found['atoms_median']:.0f} atoms (median). CPU time of one "
        f"thread, where no other is named; load of the machine at the start {found['load']:.1f}.",
        f"FEFF gave {found['FEFF XANES sites']} XANES (fast) and {found['FEFF EXAFS sites']} EXAFS of these sites. On a GPU: unmeasured.",
        "",
        "| | ms a site | sites a second | times FEFF |",
        "|---|---|---|---|",
    ]
    for name, value in found.items():
        if isinstance(value, float) and name != "load" and ("from" in name or "to first" in name or name in ("FEFF XANES", "FEFF EXAFS")):
            kind = "XANES" if "XANES" in name else "EXAFS"
            lines.append(f"| {name} | {1000 * value:.2f} | {1 / value:,.1f} | {found[f'FEFF {kind}'] / value:,.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

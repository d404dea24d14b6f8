"""Our FEFF10 XANES against FEFF 9.9.1 (SCF 7, FMS 9) on Cu sites of OmniXAS's training split: error and CPU seconds.

    python benchmarks/feff_fidelity.py --data ../shared/data --protocol fast --sites 40 --results fidelity-fast.jsonl

One site of each of `--sites` materials, drawn with seed 0 from those that are not held out. Sites in the results file stay. The bar
(issue 3): R2 median >= 0.99, 10th percentile >= 0.96, median <= 30 CPU seconds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine.compare import compare
from aiida_xastruct.engine.errors import XastructError
from aiida_xastruct.engine.feff import FeffParameters, compute
from aiida_xastruct.engine.spectrum import Spectrum


def read(path: Path) -> list[dict[str, Any]]:
    """All records of a gzipped JSON-lines file."""
    with gzip.open(path, "rt") as stream:
        return [json.loads(line) for line in stream]


def choose(data: Path, count: int) -> list[tuple[dict[str, Any], Structure]]:
    """One Cu site of each of `count` training materials, in an order that does not depend on `count`."""
    held_out = set((data / "holdout_ids.txt").read_text().split())
    sites: dict[str, list[dict[str, Any]]] = {}
    for record in read(data / "omnixas_feff.spectra.jsonl.gz"):
        if record["absorber"] == "Cu" and record["split"] == "train" and record["material_id"] not in held_out:
            sites.setdefault(record["material_id"], []).append(record)
    generator = random.Random(0)
    chosen = sorted(sites)
    generator.shuffle(chosen)
    crystals = {
        record["material_id"]: record for record in read(data / "omnixas_feff.structures.jsonl.gz") if record["material_id"] in sites
    }
    pairs = []
    for material in chosen[:count]:
        crystal = crystals[material]
        structure = Structure(Lattice(crystal["lattice"]), crystal["species"], crystal["frac"])
        pairs.append((generator.choice(sorted(sites[material], key=lambda record: record["site"])), structure))
    return pairs


def measure(record: dict[str, Any], structure: Structure, parameters: FeffParameters) -> dict[str, Any]:
    """Compute one site and compare it."""
    identity = {"material_id": record["material_id"], "site": record["site"], "atoms": len(structure)}
    reference = Spectrum(np.array(record["energy_eV"]), np.array(record["mu"]), "Cu", "K", "XANES", "feff", "feff", "feff_xsedge50")
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = compute(structure, record["site"], parameters, folder)
    except XastructError as error:
        return {**identity, "reason": str(error)}
    found = compare(result.spectrum, reference)
    facts = {name: result.facts.get(name) for name in ("cpu_seconds", "scf_converged", "scf_settled")}
    return {**identity, **vars(found), **facts}


def summary(rows: list[dict[str, Any]]) -> str:
    """Median, 10th and 90th percentile of each number, and whether the bar is met."""
    good = [row for row in rows if "reason" not in row]
    lines = [f"{len(good)} of {len(rows)} sites computed"]
    for row in rows:
        if "reason" in row:
            lines.append(f"  {row['material_id']} site {row['site']}: {row['reason']}")
    if good:
        for name in ("r2", "mse", "spearman", "cpu_seconds"):
            low, middle, high = np.percentile([row[name] for row in good], [10, 50, 90])
            lines.append(f"{name:12s} median {middle:.4g}, 10 % {low:.4g}, 90 % {high:.4g}")
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--protocol", default="fast")
    parser.add_argument("--scf", type=float, help="fixed SCF radius, for the curve over radii")
    parser.add_argument("--fms", type=float, help="fixed FMS radius")
    parser.add_argument("--sites", type=int, default=40)
    parser.add_argument("--results", type=Path, required=True)
    options = parser.parse_args()
    parameters = FeffParameters(protocol=options.protocol, scf_radius=options.scf, fms_radius=options.fms)
    rows = [json.loads(line) for line in options.results.read_text().splitlines()] if options.results.exists() else []
    known = {(row["material_id"], row["site"]) for row in rows}
    for record, structure in choose(options.data, options.sites):
        if (record["material_id"], record["site"]) not in known:
            rows.append(measure(record, structure, parameters))
            with options.results.open("a") as stream:
                stream.write(json.dumps(rows[-1]) + "\n")
            print(rows[-1], flush=True)
    print(summary(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

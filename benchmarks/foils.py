"""Metal foils, as a user would ask: imported, processed, inferred, beside CrystalNN's first shell of the crystal.

    python benchmarks/foils.py --data ../shared/data --family default --json foils.json
    python benchmarks/foils.py --table foils.json > docs/reference/foils.md

Each foil file of `xasref` is read and processed with the default parameters (`engine.processing`), and the family is asked by its EXAFS,
its XANES and both. The crystal is the median of the AMCSD's entries of the metal at ambient conditions (`benchmarks/measured.py`). No model
is chosen by these spectra; `benchmarks/measured.py` says what was thought of by them. A foil passes if the metal itself, and nothing
else, is named, and the mean distance is within 0.05 angstrom.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from measured import METALS, Phases, edge_in
from pages import described, parse

from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.errors import XastructError
from aiida_xastruct.engine.joint import infer_both
from aiida_xastruct.engine.merging import merge
from aiida_xastruct.engine.processing import process
from aiida_xastruct.engine.scans import ScanParameters, read_scan
from aiida_xastruct.engine.spectrum import atomic_number

#: What a mean distance may be off, angstrom.
CLOSE = 0.05

#: Foils that the work is measured by; the others are reported too.
ASKED = ("Cu", "Fe", "Ni", "Zn")


def run(data: Path, family: FamilyBundle) -> dict[str, Any]:
    """Every foil, with what the family says of it."""
    phases = Phases(data / "mp_structures.npz")
    rows = []
    for path in sorted((data / "experiment" / "xasref").glob("*.dat")):
        scan = read_scan(path.read_text(), path.name)
        absorber, edge = edge_in(scan)
        if absorber not in METALS:
            continue
        truth = phases.truth(absorber, METALS[absorber], absorber)
        if truth is None:
            continue
        done = process(merge([scan], ScanParameters(absorber=absorber, edge=edge)))
        row = {"file": path.name, "absorber": absorber, "edge": edge, "distance": truth.distance, "e0": done.record["e0"]}
        row |= {"edge_step": done.record["edge_step"], "k_max": float(done.k[-1]) if len(done.k) else None, "answers": {}}
        for kind in ("EXAFS", "XANES", "both"):
            try:
                xanes, exafs = (replace(done.spectrum, kind=name) for name in ("XANES", "EXAFS"))
                answer = infer_both(family, xanes, exafs) if kind == "both" else family.infer(exafs if kind == "EXAFS" else xanes)
            except XastructError as error:
                row["answers"][kind] = {"problem": str(error)}
                continue
            row["answers"][kind] = {
                "neighbours": list(answer.neighbour_set),
                "probability": answer.neighbours.get(absorber, 0.0),
                "mean_distance": answer.mean_distance,
                "interval": list(answer.interval),
                "in_domain": answer.in_domain,
            }
        rows.append(row)
    return {"family": family.card["name"], "version": family.card["version"], "rows": rows}


def passes(row: dict[str, Any], kind: str) -> bool:
    """Whether a foil's metal is named, alone, at its distance."""
    answer = row["answers"][kind]
    return answer.get("neighbours") == [row["absorber"]] and abs(answer["mean_distance"] - row["distance"]) <= CLOSE


def page(result: dict[str, Any]) -> str:
    """Markdown of a result."""
    rows = sorted(result["rows"], key=lambda row: (row["absorber"] not in ASKED, atomic_number(row["absorber"])))
    lines = ["# Metal foils", "", f"Family `{result['family']}`, version {result['version']}. Distances in angstrom.", ""]
    lines += ["    python benchmarks/foils.py --data ../shared/data --family default --json foils.json", ""]
    lines += [*"\n\n".join((__doc__ or "").split("\n\n")[2:]).splitlines(), ""]
    for kind in ("EXAFS", "both", "XANES"):
        asked = [row for row in rows if row["absorber"] in ASKED]
        good, of_asked = sum(passes(row, kind) for row in rows), sum(passes(row, kind) for row in asked)
        lines += [f"## From {'EXAFS and XANES' if kind == 'both' else kind}", ""]
        lines += [f"{of_asked} of {len(asked)} of {', '.join(ASKED)} pass, and {good} of all {len(rows)}.", ""]
        lines += ["| foil | crystal | inferred | 90 % interval | error | neighbours | probability of the metal | in the domain | passes |"]
        lines += ["|---" * 9 + "|"]
        for row in rows:
            answer = row["answers"][kind]
            name = f"{row['absorber']} {row['edge']}"
            if "problem" in answer:
                lines.append(f"| {name} | {row['distance']:.3f} | {answer['problem']} |" + " |" * 6)
                continue
            low, high = answer["interval"]
            cells = [
                name,
                f"{row['distance']:.3f}",
                f"{answer['mean_distance']:.3f}",
                f"{low:.3f} to {high:.3f}" + ("" if low <= row["distance"] <= high else ", missed"),
                f"{answer['mean_distance'] - row['distance']:+.3f}",
                " ".join(answer["neighbours"]),
                f"{answer['probability']:.2f}",
                "yes" if answer["in_domain"] else "no",
                "yes" if passes(row, kind) else "no",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Command line."""
    parser = described(__doc__)
    parser.add_argument("--data", type=Path, help="folder of the shared data")
    parser.add_argument("--family", default="default", help="`default` or the folder of a family")
    options = parse(parser, page, "data")
    family = FamilyBundle.load(options.family)
    options.json.write_text(json.dumps(run(options.data, family), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A measured spectrum among the crystals of the AMCSD: where its own mineral comes out when all are ranked by their predicted EXAFS.

    python benchmarks/candidates.py --scan examples/data/20K_GOE_Fe_K_240.00000.xdi --absorber Fe --mineral Goethite --json candidates.json
    python benchmarks/candidates.py --table candidates.json > docs/reference/candidates.md

The candidates are the entries of the AMCSD that larixite ships which hold the absorber, are ordered and of at most `--atoms` atoms; entries
of one formula and space group are one candidate, the first of them, so that a mineral that was solved twenty times counts once.
"""

from __future__ import annotations

import json
import re
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pages import described, parse

from aiida_xastruct.engine.averaging import average
from aiida_xastruct.engine.bundle import DEFAULT_FAMILY, MATERIALS, FamilyBundle
from aiida_xastruct.engine.candidates import Candidate, Settings, rank
from aiida_xastruct.engine.errors import XastructError
from aiida_xastruct.engine.reference.sources import AmcsdSource
from aiida_xastruct.engine.scans import ScanParameters
from aiida_xastruct.engine.spectrum_file import read_spectrum
from aiida_xastruct.engine.structure import inequivalent_absorbers, space_group

#: Candidates that the page lists.
SHOWN = 20


def candidates(absorber: str, most: int, first: str) -> dict[str, tuple[Candidate, str]]:
    """Predicted spectra by AMCSD code, and the mineral of each; entries of the mineral `first` come before others of their kind."""
    source, family = AmcsdSource(), FamilyBundle.load("default")
    codes = source.ids_by_element()[absorber]
    names = {code: _mineral(source.text(code)) for code in codes if _readable(source, code)}
    found: dict[str, tuple[Candidate, str]] = {}
    seen: set[tuple[str, int]] = set()
    for count, code in enumerate(sorted(names, key=lambda code: (names[code] != first, int(code)))):
        try:
            crystal, _ = source.structure(code)
            kind = (crystal.composition.remove_charges().reduced_formula, space_group(crystal))
            if len(crystal) > most or kind in seen:
                continue
            sites = inequivalent_absorbers(crystal, absorber)
            answers = family.predict(crystal, [site.site for site in sites], "EXAFS")
            weights = [site.multiplicity for site in sites]
            mean, band = average([answer.spectrum for answer in answers], weights, [answer.band for answer in answers])
        except XastructError:
            continue
        seen.add(kind)
        bound = float(np.average([answer.error_bound for answer in answers], weights=weights))
        found[code] = (Candidate(mean, band, bound), f"{names[code] or '-'}, {kind[0]}, {kind[1]}")
        print(f"\r{count + 1}/{len(names)} entries, {len(found)} candidates", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def _readable(source: AmcsdSource, code: str) -> bool:
    try:
        return bool(source.text(code))
    except XastructError:
        return False


def _mineral(text: str) -> str:
    """The mineral that a CIF of the AMCSD names; empty if it names none."""
    match = re.search(r"^_chemical_name_mineral\s+'(.*)'", text, re.MULTILINE)
    return match[1] if match else ""


def _trained() -> set[str]:
    """AMCSD codes of what the family has seen."""
    lines = (DEFAULT_FAMILY / MATERIALS).read_text().splitlines()
    return {line.split()[1] for line in lines if line.startswith("amcsd ")}


def measure(scan: Path, absorber: str, mineral: str, most: int) -> dict[str, Any]:
    """Rank all candidates by the scan."""
    started = time.perf_counter()
    found = candidates(absorber, most, mineral)
    target = read_spectrum(scan.read_bytes(), scan.name, ScanParameters(absorber=absorber))
    ranking = rank(target, {code: candidate for code, (candidate, _) in found.items()}, Settings("EXAFS"))
    rows = [{**asdict(one), "what": found[one.name][1]} for one in ranking.candidates]
    return {
        "scan": scan.name,
        "version": FamilyBundle.load("default").card["version"],
        "absorber": absorber,
        "mineral": mineral,
        "atoms": most,
        "candidates": rows,
        "refused": len(ranking.refused),
        "trained": len(_trained() & {row["name"] for row in rows}),
        "seconds": time.perf_counter() - started,
    }


def page(result: dict[str, Any]) -> str:
    """Markdown of a result."""
    rows = result["candidates"]
    own = [row for row in rows if row["what"].startswith(f"{result['mineral']},")]
    inside = [row for row in rows if row["inside"]]
    at_limit = sum(row["at_limit"] for row in rows)
    places = ", ".join(str(1 + rows.index(row)) for row in own) or "none"
    name = result["mineral"].lower()
    lines = [
        "# Candidates of a measured spectrum",
        "",
        f"Where does {name} come out when the measured `{result['scan']}` ranks the crystals of the AMCSD by their predicted EXAFS?",
        "Printed by `python benchmarks/candidates.py --table candidates.json` from what the same script measured; its head says how.",
        "",
        f"{len(rows):,} candidates with {result['absorber']}, one for each formula and space group, of at most {result['atoms']} atoms; "
        f"{result['trained']} of these crystals are in the training data of version {result['version']} of the family, the scan is "
        f"not. Places of {name}: {places}. "
        f"{len(inside)} candidates differ by no more than their own error bound, and for {at_limit} the best shift is the largest allowed.",
        "",
        "| place | AMCSD | mineral, formula, space group | distance (Å⁻²) | own error below | R2 | shift from E0 (eV) |",
        "|---|---|---|---|---|---|---|",
    ]
    for place, row in enumerate(rows[:SHOWN], 1):
        numbers = f"{row['distance']:.3f} | {row['error_bound']:.3f} | {row['r2']:.3f} | {row['from_e0']:+.1f}"
        lines.append(f"| {place} | {row['name']} | {row['what']} | {numbers} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, or print the page of a result."""
    parser = described(__doc__)
    parser.add_argument("--scan", type=Path, help="measured spectrum")
    parser.add_argument("--absorber", help="its element")
    parser.add_argument("--mineral", help="what was measured, as the AMCSD names it")
    parser.add_argument("--atoms", type=int, default=40, help="of the largest crystal")
    options = parse(parser, page, "scan", "absorber", "mineral")
    warnings.simplefilter("ignore")
    options.json.write_text(json.dumps(measure(options.scan, options.absorber, options.mineral, options.atoms), indent=1))


if __name__ == "__main__":
    main()

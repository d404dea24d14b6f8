"""Every measured file under `../shared/data/experiment`, imported or refused, with its quality.

    python benchmarks/imports.py --data ../shared/data --json imports.json
    python benchmarks/imports.py --table imports.json > docs/reference/imports.md

Absorber and edge are what the file claims: in an XDI header, in an Athena project, or for plain columns in the file's name. A claim that
the energies contradict is refused; the file is then read again as the edge that the refusal names, in a row of its own.

*E0 - table* is the steepest rise that `find_e0` gives, minus the tabulated edge. Corrected are the energies that the data's README calls
nominal: -33 eV for Sr, -20 eV for Cr (what chemistry adds included), of the files that the quality report flags as nominal. What lies
farther than 3 eV from the table after that is an exception, and its reason is one of these, decided in this order:

- *nominal*: chemistry or the scan's own offset, on top of the correction, which is one number for all files of the element.
- *chemical shift*: the sample is a compound; a formal charge moves the steepest rise, here by -6 to +16.5 eV.
- *second rise*: of an element, whose edge rises in two steps of which the upper is steeper; the first, which tables mean, is within 3 eV.
- *source*: an element whose energies were not calibrated to the table; the E0 of the Athena project's owner says the same.
- *table*: an element whose tabulated edge is not the steepest rise of its foil, at L1 and L2 edges and of lead.

Noise is the standard deviation of a point in edge steps, glitches are points that their neighbours contradict, *k useful* is where larch
finds chi to fall under its noise.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pages import described, parse

from aiida_xastruct.engine.edge_check import likely_edge
from aiida_xastruct.engine.errors import XastructError
from aiida_xastruct.engine.first_rise import first_rise
from aiida_xastruct.engine.quality import FAR_FROM_TABLE, quality
from aiida_xastruct.engine.readers import labels_in, read, read_measurement
from aiida_xastruct.engine.scans import Scan, ScanParameters
from aiida_xastruct.engine.spectrum import EDGES, Spectrum, atomic_number, tabulated_edge

#: eV that the README of the data takes nominal energies to be off by.
NOMINAL = {"Sr": 33.0, "Cr": 20.0}

#: eV within which E0 agrees with the table.
AGREES = 3.0


def claims(path: Path) -> tuple[str, str]:
    """Absorber and edge that a name like `W_foil_W_K.dat` claims; empty where it claims none."""
    absorber, _, edge = path.stem.rpartition("_")
    absorber = absorber.rpartition("_")[2]
    return (absorber, edge) if path.suffix == ".dat" and edge in EDGES else ("", "")


def reason(row: dict[str, Any], spectrum: Spectrum) -> str:
    """Why E0 lies farther from the table than 3 eV after the corrections; empty where it does not."""
    corrected = row["corrected"]
    if abs(corrected) <= AGREES:
        return ""
    if row["correction"]:
        return f"nominal: {corrected:+.1f} eV remain after the correction of {-row['correction']:+.0f}"
    if not is_element(row["formula"], spectrum.absorber):
        return f"chemical shift: {row['formula'] or 'a compound'}"
    if abs(row["first_rise"]) <= AGREES:
        return f"second rise: the first is at {row['first_rise']:+.1f} eV"
    if row["owner_e0"] is not None:
        return (
            f"source: its owner's E0 is {row['owner_e0']:.1f} eV, {row['owner_e0'] - tabulated_edge(spectrum.absorber, spectrum.edge):+.1f}"
        )
    return "table" if spectrum.edge in ("L1", "L2") or spectrum.absorber == "Pb" else "source"


def is_element(formula: str, absorber: str) -> bool:
    """Whether a sample is the metal or element itself."""
    return re.fullmatch(rf"{absorber}( metal| foil)?", formula) is not None


def formula_of(path: Path, spectrum: Spectrum) -> str:
    """Formula in the XDI header, the element for the foils, or what the file name says."""
    if path.parent.name == "xasref":
        return spectrum.absorber
    stated = str(spectrum.settings.get("xdi", {}).get("sample", {}).get("formula", ""))
    named = re.search(r"(?i)foil|metal", path.stem)
    return spectrum.absorber if named or (not stated and path.stem.lower().startswith(spectrum.absorber.lower() + "_")) else stated


def measure(path: Path, label: str, parameters: ScanParameters, claim: str) -> dict[str, Any]:
    """One row: the quality of a file's spectrum, or why it is refused."""
    row: dict[str, Any] = {"file": path.name, "group": label, "claim": claim}
    try:
        spectrum = read_measurement([(path.name, path.read_bytes())], parameters)
        found = quality(spectrum)
    except XastructError as error:
        return row | {"refused": str(error)}
    nominal = abs(found.e0_minus_table) > FAR_FROM_TABLE
    correction = NOMINAL.get(spectrum.absorber, 0.0) if nominal else 0.0
    owner = spectrum.settings.get("xdi", {}).get("athena", {}).get("bkg_e0")
    row |= {
        "absorber": spectrum.absorber,
        "edge": spectrum.edge,
        "kind": spectrum.kind,
        "formula": formula_of(path, spectrum),
        "correction": correction,
        "corrected": found.e0_minus_table - correction,
        "owner_e0": float(owner) if owner else None,
        "first_rise": first_rise(spectrum) - tabulated_edge(spectrum.absorber, spectrum.edge),
        **asdict(found),
    }
    return row | {"reason": reason(row, spectrum)}


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file: one a spectrum in it, and one more where a refused claim names the likely edge."""
    absorber, edge = claims(path)
    claimed = ScanParameters(absorber=absorber, edge=edge)
    try:
        labels = labels_in(path.read_bytes(), path.name, claimed)
    except XastructError as error:
        yield {"file": path.name, "group": "", "claim": f"{absorber} {edge}".strip(), "refused": str(error)}
        return
    for label in labels:
        groups = (label,) if len(labels) > 1 else ()
        row = measure(
            path, label if groups else "", ScanParameters(absorber=absorber, edge=edge, groups=groups), f"{absorber} {edge}".strip()
        )
        yield row
        scan = read(path.read_bytes(), path.name, claimed)[0] if "refused" in row else None
        likely = likely_edge(scan.energy, scan.mu) if isinstance(scan, Scan) else None
        if likely is not None:
            yield measure(path, "", ScanParameters(absorber=likely.absorber, edge=likely.edge), "read as the likely edge")


def run(data: Path) -> dict[str, Any]:
    """Rows of every file."""
    paths = sorted(path for folder in ("xasdatalibrary", "xasref") for path in (data / "experiment" / folder).iterdir() if path.is_file())
    return {"files": len(paths), "rows": [row for path in paths for row in rows_of(path)]}


_TITLES = (
    *("file", "edge", "sample", "E0 - table (eV)", "corrected", "edge step", "noise (%)", "k max", "k useful", "glitches"),
    *("beyond 3 eV because", "verdict"),
)


def table(result: dict[str, Any]) -> str:
    """Markdown of a result."""
    rows = result["rows"]
    read_, refused = [row for row in rows if "refused" not in row], [row for row in rows if "refused" in row]
    exceptions = [row for row in read_ if row["reason"]]
    reasons = Counter(row["reason"].partition(":")[0] for row in exceptions)
    corrected = [row for row in read_ if row["correction"] and not row["reason"]]
    good = sum(not row["remarks"] for row in read_)
    lines = [
        "# Imported files",
        "",
        f"{result['files']} files of `../shared/data/experiment`: {len(read_)} spectra imported ({good} without a remark), {len(refused)} "
        f"files or claims refused. E0 lies within {AGREES:g} eV of the tabulated edge for {len(read_) - len(exceptions)}, of which "
        f"{len(corrected)} after the correction; the {len(exceptions)} exceptions are: "
        + ", ".join(f"{count} {name}" for name, count in reasons.most_common())
        + ".",
        "",
        "    python benchmarks/imports.py --data ../shared/data --json imports.json",
        "    python benchmarks/imports.py --table imports.json",
        "",
        *"\n\n".join((__doc__ or "").split("\n\n")[2:]).splitlines(),
        "",
        "## Refused",
        "",
        "| file | claim | why |",
        "|---|---|---|",
        *(f"| {row['file']} | {row['claim']} | {_cell(row['refused'])} |" for row in refused),
        "",
        "## Energies calibrated by these elements",
        "",
        *_calibrations(read_),
        "",
        "## Imported",
        "",
        "Verdict: the remarks of the quality report.",
        "",
        f"| {' | '.join(_TITLES)} |",
        "|---" * len(_TITLES) + "|",
    ]
    for row in sorted(read_, key=lambda row: (atomic_number(row["absorber"]), row["edge"], row["file"])):
        name = f"{row['file']}: {row['group']}" if row["group"] else row["file"]
        cells = [
            f"{name} ({row['claim']})" if row["claim"].startswith("read") else name,
            f"{row['absorber']} {row['edge']}",
            row["formula"],
            f"{row['e0_minus_table']:+.1f}",
            f"{row['corrected']:+.1f}" if row["correction"] else "",
            "" if row["edge_step"] is None else f"{row['edge_step']:.3g}",
            "" if row["noise"] is None else f"{100 * row['noise']:.2g}",
            f"{row['k_max']:.1f}",
            "" if row["k_useful"] is None else f"{row['k_useful']:.1f}",
            str(len(row["glitches"])),
            row["reason"],
            " ".join(row["remarks"]) or "good",
        ]
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join([*lines, ""])


def _calibrations(rows: list[dict[str, Any]]) -> list[str]:
    """Which rise of an element a calibration takes for its edge, beside the steepest that it took before."""
    elements = [row for row in rows if is_element(row["formula"], row["absorber"])]
    near = {name: sum(abs(row[name]) <= AGREES for row in elements) for name in ("first_rise", "e0_minus_table")}
    lines = [
        f"`process --reference` puts the first rise of a reference where the table has its edge (`engine.first_rise`). Of the "
        f"{len(elements)} spectra of elements here it lies within {AGREES:g} eV of the table for {near['first_rise']}, the steepest rise, "
        f"which was taken before, for {near['e0_minus_table']}. They differ in these:",
        "",
        "| file | edge | steepest - table (eV) | first - table (eV) |",
        "|---|---|---|---|",
    ]
    return lines + [
        f"| {row['file']} | {row['absorber']} {row['edge']} | {row['e0_minus_table']:+.1f} | {row['first_rise']:+.1f} |"
        for row in sorted(elements, key=lambda row: (atomic_number(row["absorber"]), row["edge"], row["file"]))
        if abs(row["first_rise"] - row["e0_minus_table"]) > 0.05
    ]


def _cell(text: str) -> str:
    """Text that no cell of a table ends in."""
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> int:
    """Command line of this file."""
    parser = described(__doc__)
    parser.add_argument("--data", type=Path, help="folder that holds `experiment`")
    options = parse(parser, table, "data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options.json.write_text(json.dumps(run(options.data), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

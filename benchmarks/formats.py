"""Round trip of every format: spectra of every kind are exported, imported again, and compared number by number.

    python benchmarks/formats.py --json formats.json
    python benchmarks/formats.py --table formats.json > docs/reference/formats.md

The export is that of the node (`verdi data xastruct spectrum export`), the import is the reader that recognises the file by its content
(`aiida-xastruct import`). Goethite was measured at P65 (examples/data), FEFF's spectra are recorded ones of MgO (tests/fixtures/feff), the
learned ones are the default family's of copper, with their band.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pages import described, parse
from profiles import profile

ROOT = Path(__file__).parents[1]

NAMES = ("absorber", "edge", "kind", "method", "energy_reference", "normalisation", "e0", "site", "multiplicity", "structure_hash",
         "neighbours", "mean_distance", "settings")  # fmt: skip

#: Differences that are allowed: of energies in eV, of mu relative to the largest.
TOLERANCE = 1e-6

TITLES = {"xdi": "XDI", "csv": "CSV", "json": "JSON", "nexus": "NeXus", "xmu": "xmu.dat"}


def cases() -> dict[str, Any]:
    """An unstored node of each kind of spectrum, by what it is."""
    from pymatgen.core import Lattice, Structure

    from aiida_xastruct.data.spectrum import SpectrumData
    from aiida_xastruct.engine.bundle import FamilyBundle
    from aiida_xastruct.engine.feff import read_xmu
    from aiida_xastruct.engine.origin import origin_of
    from aiida_xastruct.engine.readers import read_measurement
    from aiida_xastruct.engine.readers.feff import of_chi
    from aiida_xastruct.engine.scans import ScanParameters
    from aiida_xastruct.engine.spectrum import chi_k, flatten

    files = [(path.name, path.read_bytes()) for path in sorted((ROOT / "examples" / "data").glob("*.xdi"))]
    found: dict[str, Any] = {}
    for kind in ("XANES", "EXAFS"):
        raw = read_measurement(files, ScanParameters(absorber="Fe", kind=kind))
        found[f"measured {kind}, raw"] = SpectrumData.from_engine(raw)
        found[f"measured {kind}, flat"] = SpectrumData.from_engine(flatten(raw))
    found["measured EXAFS, chi(k) alone"] = SpectrumData.from_engine(of_chi("chi", *chi_k(raw), "Fe", "K", 7112.0, "measured"))
    for kind in ("XANES", "EXAFS"):
        text = (ROOT / "tests" / "fixtures" / "feff" / kind.lower() / "xmu.dat").read_text()
        computed = read_xmu(text, "Mg", "K", kind, {"program": "FEFF"})  # type: ignore[arg-type]
        found[f"{kind} by FEFF"] = SpectrumData.from_engine(computed, site=0, multiplicity=4)
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.615), ["Cu"], [[0, 0, 0]])
    family = FamilyBundle.load()
    for kind in ("XANES", "EXAFS"):
        (answer,) = family.predict(copper, [0], kind)
        origin = origin_of(copper, 0)
        found[f"learned {kind}, with band"] = SpectrumData.from_engine(answer.spectrum, site=0, multiplicity=4, band=answer.band, **origin)
    white = replace(flatten(raw), absorber="Ce", edge="L2,3", energy=raw.energy - 1400.0, e0=5723.0)
    found["XANES of L2,3 (made)"] = SpectrumData.from_engine(white)
    return found


def compare(node: Any, file_format: str) -> dict[str, Any]:
    """Largest differences of a node from what its export gives, or why there is no export."""
    from aiida.common.exceptions import ValidationError

    from aiida_xastruct.data.spectrum import SpectrumData
    from aiida_xastruct.engine.readers import read_measurement

    try:
        content, _ = node._exportcontent(file_format)
    except ValidationError as error:
        return {"refused": str(error)}
    spectrum = read_measurement([("file", content)])
    crystal = spectrum.settings.get("crystal", {})
    back = SpectrumData.from_engine(
        replace(spectrum, settings={name: value for name, value in spectrum.settings.items() if name != "crystal"}), **crystal
    )
    arrays = {"energy": (node.energy, back.energy), "mu": (node.mu, back.mu), "mu0": (node.mu0, back.mu0), "band": (node.band, back.band)}
    lost = [name for name, (first, second) in arrays.items() if (first is None) != (second is None)]
    lost += [name for name in NAMES if node.base.attributes.get(name) != back.base.attributes.get(name)]
    energy = float(np.abs(node.energy - back.energy).max())
    others = [np.abs(first - second).max() / np.abs(node.mu).max() for name, (first, second) in arrays.items()
              if name != "energy" and first is not None and second is not None]  # fmt: skip
    return {"energy": energy, "mu": float(max(others)), "lost": lost, "bytes": len(content)}


def page(result: dict[str, Any]) -> str:
    """The page of a result."""
    lines = [
        "# Round trip of every format",
        "",
        "Made by `python benchmarks/formats.py`. A spectrum is exported, imported again by the reader that recognises the file, and",
        "compared with what it was: arrays (energy, mu, mu0, band) and attributes (absorber, edge, kind, method, energy reference,",
        "normalisation, E0, site, multiplicity, crystal, settings). A cell is the largest difference of an energy in eV / of mu, mu0 or",
        "the band relative to the largest mu; **0 / 0** is bit for bit. All attributes came back but those that a cell names.",
        "",
        "| | " + " | ".join(TITLES.values()) + " |",
        "|---|" + "---|" * len(TITLES),
    ]
    for kind, row in result["table"].items():
        lines.append(f"| {kind} | " + " | ".join(_cell(row[name]) for name in TITLES) + " |")
    lines += ["", "What each format cannot hold:", ""]
    written = [row["xmu"] for row in result["table"].values() if "energy" in row["xmu"]]
    energy, mu = (max(item[name] for item in written) for name in ("energy", "mu"))
    lines += [
        "- XDI, CSV, JSON, NeXus: nothing is lost. XDI has no field for what is not a measurement (method, band, crystal) and NXxas none",
        "  either; it stands in an extension (`Xastruct.` fields, the collection `xastruct`) that other programs pass over. A CSV without",
        "  its head (`comments=False`) no longer says what it is of.",
        "- xmu.dat: needs mu0, so that a spectrum without it is refused, which is so for most that are measured or learned. Energies have",
        "  six decimals, all else nine digits after the point: the format's precision is 5e-7 eV and 5e-10 of a value (largest here",
        f"  {energy:.1e} eV and {mu:.1e}). FEFF itself writes three decimals and five digits.",
    ]
    return "\n".join(lines)


def _cell(item: dict[str, Any]) -> str:
    if "refused" in item:
        return "refused: no mu0" if "mu0" in item["refused"] else f"refused: {item['refused']}"
    numbers = " / ".join("0" if item[name] == 0.0 else f"{item[name]:.0e}" for name in ("energy", "mu"))
    return numbers + (f" (lost: {', '.join(item['lost'])})" if item["lost"] else "")


def main() -> None:
    """Export, import, compare, and end with 1 if a difference is larger than the format's precision or an attribute is lost."""
    options = parse(described(__doc__), page)
    with tempfile.TemporaryDirectory() as folder, profile(Path(folder), "sqlite"):
        table = {kind: {name: compare(node, name) for name in TITLES} for kind, node in cases().items()}
    options.json.write_text(json.dumps({"table": table}, indent=1))
    cells = [item for row in table.values() for item in row.values() if "refused" not in item]
    if any(item["energy"] > TOLERANCE or item["mu"] > TOLERANCE or item["lost"] for item in cells):
        sys.exit("a spectrum did not come back as it was; see the result.")


if __name__ == "__main__":
    main()

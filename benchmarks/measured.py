"""Measured spectra of samples whose structure is known: what a family infers from their EXAFS and XANES, beside the crystal.

    python benchmarks/measured.py --data ../shared/data --family default --json measured.json
    python benchmarks/measured.py --table measured.json > docs/reference/measured.md

Report only: nothing is trained or calibrated on these spectra, and no model is chosen by them. Twice something was
thought of when some of them were laid beside FEFF's spectra of the same crystals (`models/views.py`): that XANES models should learn from
spectra whose E0 is on another rise and whose energies are stretched (version 8), and EXAFS models from spectra whose E0 is far off, with
what is left of a background, glitches, and the damping of soft metals (version 9). How much was set once, before each training, and not
tried again; but these spectra are no longer blind for the models.

Which structures are trusted: metal foils, whose phase at room temperature is beyond doubt, and compounds that the sample's name ties to one
phase, either a mineral or the one phase that is stable at ambient conditions (`PHASES`, with space groups). Left out are hydrates and
adsorbates, compounds of several phases under one formula (As2O3, NiS, Cu2S, VO), those known for vacancies (FeO, FexSx) and alpha-Mn, whose
four sites lie 2.3 to 2.9 angstrom from their neighbours. The distance is the median over the entries of the formula and space group in the
AMCSD that larixite ships (X-ray and neutron structures, those that state a temperature or pressure far from ambient left out; where it has
none, Materials Project's relaxed ones), of CrystalNN's first shell, averaged over the absorber's sites by multiplicity. A phase is
left out where the middle half of its entries spreads over more than 0.05 angstrom: there CrystalNN's shell is a matter of taste.

Scans of one sample are merged. Those that `quality.csv` calls unfit are left out, but for Sr, whose only fault is a nominal energy scale:
E0 is found in the data. Of the foils in `xasref` absorber and edge come from the energies.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import time
import warnings
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pages import described, parse

from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.errors import SpectrumError, StructureError, XastructError
from aiida_xastruct.engine.merging import merge
from aiida_xastruct.engine.metrics import micro_f1
from aiida_xastruct.engine.reference.sources import AmcsdSource, Source, open_source
from aiida_xastruct.engine.scans import Scan, ScanParameters, read_scan
from aiida_xastruct.engine.spectrum import Spectrum, atomic_number, edge_of, element_symbol, find_e0, tabulated_edge
from aiida_xastruct.engine.structure import first_shell, inequivalent_absorbers, space_group

#: Space groups of metals at room temperature.
METALS = (
    dict.fromkeys(("Ag", "Au", "Cu", "Ni", "Pb", "Pd", "Pt", "Rh"), 225)
    | dict.fromkeys(("Cr", "Fe", "Mo", "V", "W"), 229)
    | dict.fromkeys(("Cd", "Co", "Re", "Ru", "Zn", "Zr"), 194)
    | {"In": 139, "Sn": 141, "Se": 152}
)

_ONLY = "the phase that is stable at ambient conditions"

#: Names of samples in the XAS Data Library, as regular expressions of all of the name: formula, space group, why.
PHASES: dict[str, tuple[str, int, str]] = {
    "(Au|Pb)_Foil_L3.*|(Cu|Fe)_Foil_.*|(co|cu|pt)_metal_.*|(Fe|Ni|W)_metal_rt|V_foil|Zn_foil|.*_(Znfoil|Fe_foil)_.*": ("", 0, "metal foil"),
    "Se_Se0_rt": ("Se", 152, "grey selenium, " + _ONLY),
    "gaas_.*": ("GaAs", 216, _ONLY),
    "as2s3_.*": ("As2S3", 14, "orpiment by name"),
    "CdO_.*": ("CdO", 225, "monteponite by name"),
    "CdS_10K": ("CdS", 186, "greenockite by name"),
    "CeO2": ("CeO2", 225, _ONLY),
    "cr2o3_.*": ("Cr2O3", 167, _ONLY),
    "cro2_.*": ("CrO2", 136, _ONLY),
    "k2cr2o7_.*": ("K2Cr2O7", 2, _ONLY),
    "k2cro4_.*": ("K2CrO4", 62, _ONLY),
    "na2cro4_.*": ("Na2CrO4", 63, _ONLY),
    "CuO_tenorite_.*": ("CuO", 15, "tenorite by name"),
    "CuS_covellite_.*": ("CuS", 194, "covellite by name"),
    "EuO_.*": ("EuO", 225, _ONLY),
    "EuSe_.*": ("EuSe", 225, _ONLY),
    "EuTiO3_.*": ("EuTiO3", 221, _ONLY),
    "Fe2O3_rt": ("Fe2O3", 167, "hematite, " + _ONLY),
    "Fe3C_rt": ("Fe3C", 62, "cementite, the one carbide of the formula"),
    "Fe3O4_rt|.*_magnetite_.*": ("Fe3O4", 227, "magnetite, " + _ONLY),
    "FeS2_rt|pyrite\\d_rt": ("FeS2", 205, "pyrite, " + _ONLY),
    "marcasite_rt": ("FeS2", 58, "marcasite by name"),
    ".*_siderite_.*": ("FeCO3", 167, "siderite by name"),
    "MnO_rt": ("MnO", 225, _ONLY),
    "MnO2_rt": ("MnO2", 136, "pyrolusite by name"),
    "Mn3O4_rt": ("Mn3O4", 141, "hausmannite by name"),
    "Se_CuSe_rt": ("CuSe", 194, "klockmannite by name"),
    "Se_HgSe_rt": ("HgSe", 216, _ONLY),
    "Se_ZnSe_rt|zn_znse_rt": ("ZnSe", 216, _ONLY),
    "SrCO3_.*": ("SrCO3", 62, "strontianite by name"),
    "SrO_.*": ("SrO", 225, _ONLY),
    "SrSO4_.*": ("SrSO4", 62, "celestine, " + _ONLY),
    "SrTiO3_.*": ("SrTiO3", 221, _ONLY),
    "V2O3": ("V2O3", 167, "the phase of room temperature"),
    "V2O5": ("V2O5", 59, _ONLY),
    "VO2": ("VO2", 14, "the phase of room temperature"),
    "WO2_rt": ("WO2", 14, _ONLY),
    "WO3_rt": ("WO3", 14, "the phase of room temperature"),
    ".*_sphalerite_rt": ("ZnS", 216, "sphalerite by name"),
    ".*_smithsonite_rt": ("ZnCO3", 167, "smithsonite by name"),
}

#: Largest spread of the middle half of the entries of a phase that is trusted, angstrom.
TRUSTED_SPREAD = 0.05

#: How far a scan must reach above E0, eV, to be asked as EXAFS (k of 9, the shortest range that models learn) and as XANES.
EXAFS_REACH, XANES_REACH = 310.0, 60.0


@dataclass(frozen=True)
class Sample:
    """One sample: its scans, and the phase that it is taken for."""

    name: str
    scans: tuple[Scan, ...]
    formula: str
    space_group: int
    why: str


@dataclass(frozen=True)
class Truth:
    """First shell of an absorber in a phase: distance, and the spread of the middle half of the entries, angstrom."""

    distance: float
    spread: float
    neighbours: tuple[str, ...]
    entries: int
    source: str


def edge_in(scan: Scan) -> tuple[str, str]:
    """Absorber and edge of a scan by its energies: the steepest rise, and the nearest edge that people measure.

    Raises:
        SpectrumError: if no such edge lies within 15 eV.
    """
    slope = np.gradient(scan.mu, scan.energy)
    steepest = float(scan.energy[int(np.argmax(slope))])
    edges = {(symbol, edge_of(symbol)): tabulated_edge(symbol, edge_of(symbol)) for symbol in map(element_symbol, range(11, 93))}
    found, energy = min(edges.items(), key=lambda item: abs(item[1] - steepest))
    if abs(energy - steepest) > 15.0:
        raise SpectrumError(f"{scan.name} rises at {steepest:.0f} eV, where no element has its usual edge; give its absorber.")
    return found


def foils(folder: Path) -> list[Sample]:
    """The metal foils of `xasref`; a name that says another element or edge than the energies is noted."""
    found = []
    for path in sorted(folder.glob("*.dat")):
        scan = read_scan(path.read_text(), path.name)
        absorber, edge = edge_in(scan)
        _, _, said, said_edge = path.stem.split("_")
        note = "" if (said, said_edge) == (absorber, edge) else f"; the file name says {said} {said_edge}, the energies {absorber} {edge}"
        if absorber in METALS:
            scan = replace(scan, absorber=absorber, edge=edge)
            found.append(Sample(path.stem, (scan,), absorber, METALS[absorber], "metal foil" + note))
    return found


def library(folder: Path) -> tuple[list[Sample], int]:
    """Samples of the XAS Data Library with a trusted phase, and how many samples have none."""
    with (folder / "quality.csv").open() as lines:
        quality = {Path(row["file"]).name: row for row in csv.DictReader(lines)}
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.glob("*.xdi")):
        row = quality.get(path.name)
        if row is not None and row["edge"] == edge_of(row["el"]) and (row["ok"] == "True" or row["el"] == "Sr"):
            groups[re.sub(r"_(scan)?\d+$", "", path.stem)].append(path)
    samples, without = [], 0
    for name, paths in groups.items():
        phase = next((value for pattern, value in PHASES.items() if re.fullmatch(pattern, name)), None)
        if phase is None:
            without += 1
            continue
        scans = tuple(read_scan(path.read_text(errors="replace"), path.name) for path in paths)
        formula, number, why = phase
        formula = formula or scans[0].absorber
        samples.append(Sample(name, scans, formula, number or METALS[formula], why))
    return samples, without


def ambient(text: str) -> bool:
    """Whether an entry of the AMCSD states neither a temperature outside of 270 to 320 K nor more than 0.2 GPa."""
    for value, unit in re.findall(r"\bT\s*=+\s*(-?[\d.]+)\s*(K|C|deg)", text):
        kelvin = float(value) + (0.0 if unit == "K" else 273.15)
        if not 270.0 <= kelvin <= 320.0:
            return False
    pressures = re.findall(r"\bP\s*=+\s*([\d.]+)\s*(GPa|[kK]bar)", text)
    return all(float(value) * (1.0 if unit == "GPa" else 0.1) <= 0.2 for value, unit in pressures)


class Phases:
    """First shells of phases, from the AMCSD or, where it has no entry, from Materials Project's table."""

    def __init__(self, table: Path) -> None:
        self._sources: list[tuple[str, Source]] = [("AMCSD", open_source("amcsd")), ("Materials Project", open_source("npz", str(table)))]
        self._ids = [self._by_elements(source) for _, source in self._sources]
        self._known: dict[tuple[str, int, str], Truth | None] = {}

    @staticmethod
    def _by_elements(source: Source) -> dict[frozenset[str], list[str]]:
        elements: dict[str, set[str]] = defaultdict(set)
        for element, ids in source.ids_by_element().items():
            for source_id in ids:
                elements[source_id].add(element)
        found: dict[frozenset[str], list[str]] = defaultdict(list)
        for source_id, own in elements.items():
            found[frozenset(own)].append(source_id)
        return found

    def truth(self, formula: str, number: int, absorber: str) -> Truth | None:
        """The first shell of an absorber, or None where no source has an ordered entry of the phase."""
        key = (formula, number, absorber)
        if key not in self._known:
            self._known[key] = self._find(*key)
        return self._known[key]

    def _find(self, formula: str, number: int, absorber: str) -> Truth | None:
        from pymatgen.core import Composition

        wanted = Composition(formula)
        elements = frozenset(element.symbol for element in wanted.elements)
        for (name, source), ids in zip(self._sources, self._ids, strict=True):
            shells = []
            for source_id in ids[elements]:
                try:
                    structure, _ = source.structure(source_id)
                    if not ambient(source.text(source_id) if isinstance(source, AmcsdSource) else ""):
                        continue
                    if structure.composition.reduced_formula == wanted.reduced_formula and space_group(structure) == number:
                        sites = inequivalent_absorbers(structure, absorber)
                        own = [(first_shell(structure, site.site), site.multiplicity) for site in sites]
                        distance = float(np.average([shell.mean_distance for shell, _ in own], weights=[count for _, count in own]))
                        shells.append((distance, frozenset().union(*(shell.neighbour_set for shell, _ in own))))
                except StructureError:  # of that entry
                    continue
            if shells:
                distances = [distance for distance, _ in shells]
                middle = sorted(shells, key=lambda item: item[0])[len(shells) // 2]
                spread = float(np.subtract(*np.percentile(distances, (75, 25))))
                return Truth(float(np.median(distances)), spread, tuple(sorted(middle[1])), len(shells), name)
        return None


def questions(sample: Sample) -> list[Spectrum]:
    """What a sample's merged scan can be asked as: EXAFS and XANES, as far as it reaches."""
    spectrum = merge(sample.scans, ScanParameters())
    reach = spectrum.energy[-1] - find_e0(spectrum)
    kinds = [kind for kind, least in (("EXAFS", EXAFS_REACH), ("XANES", XANES_REACH)) if reach >= least]
    return [replace(spectrum, kind=kind) for kind in kinds]  # type: ignore[arg-type]


def ask(family: FamilyBundle, spectrum: Spectrum, sample: Sample, truth: Truth) -> dict[str, Any]:
    """What a family infers, without and with the elements of the sample."""
    from pymatgen.core import Composition

    present = [element.symbol for element in Composition(sample.formula).elements]
    answer, told = family.infer(spectrum), family.infer(spectrum, present)
    low, high = answer.interval
    return {
        "mean_distance": answer.mean_distance,
        "error": answer.mean_distance - truth.distance,
        "half_width": (high - low) / 2,
        "inside": bool(low <= truth.distance <= high),
        "neighbours": list(answer.neighbour_set),
        "neighbours_elements_known": list(told.neighbour_set),
        "set_holds_all": set(truth.neighbours) <= set(answer.conformal_set),
        "in_domain": answer.in_domain,
    }


def run(data: Path, family: FamilyBundle) -> dict[str, Any]:
    """Every question, with its answer."""
    started = time.process_time()
    samples, without = library(data / "experiment" / "xasdatalibrary")
    samples = foils(data / "experiment" / "xasref") + samples
    seen = {tuple(line.split()[-2:]) for line in (family.folder / "materials.txt").read_text().splitlines()}
    phases = Phases(data / "mp_structures.npz")
    rows, left_out = [], []
    for sample in samples:
        absorber = sample.scans[0].absorber
        truth = phases.truth(sample.formula, sample.space_group, absorber)
        if truth is None:
            left_out.append(f"{sample.name}: no ordered entry of {sample.formula} in space group {sample.space_group}")
            continue
        if truth.spread > TRUSTED_SPREAD:
            left_out.append(f"{sample.name}: the entries of {sample.formula} disagree on the distance by {truth.spread:.2f} angstrom")
            continue
        try:
            asked = questions(sample)
        except XastructError as error:
            left_out.append(f"{sample.name}: {error}")
            continue
        for spectrum in asked:
            row = {
                "sample": sample.name,
                "absorber": absorber,
                "edge": spectrum.edge,
                "kind": spectrum.kind,
                "formula": sample.formula,
                "space_group": sample.space_group,
                "why": sample.why,
                "scans": len(sample.scans),
                "reach": float(spectrum.energy[-1] - find_e0(spectrum)),
                "trained_on": (sample.formula, str(sample.space_group)) in seen,
                "truth": asdict(truth),
            }
            try:
                rows.append(row | ask(family, spectrum, sample, truth))
            except XastructError as error:
                left_out.append(f"{sample.name} {spectrum.kind}: {error}")
    return {
        "family": family.card["name"],
        "version": family.card["version"],
        "family_hash": family.content_hash,
        "rows": rows,
        "left_out": left_out,
        "samples_without_trusted_phase": without,
        "cpu_seconds": time.process_time() - started,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Mean and median error, share inside the interval and neighbour scores of rows."""

    def mask(names: list[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        found = np.zeros(104, dtype=bool)
        found[[atomic_number(name) for name in names]] = True
        return found

    error = np.abs([row["error"] for row in rows])
    true = np.array([mask(row["truth"]["neighbours"]) for row in rows])
    found, told = (np.array([mask(row[key]) for row in rows]) for key in ("neighbours", "neighbours_elements_known"))
    return {
        "mae": float(error.mean()),
        "median": float(np.median(error)),
        "inside": float(np.mean([row["inside"] for row in rows])),
        "f1": micro_f1(found, true),
        "exact": float((found == true).all(axis=1).mean()),
        "set_holds_all": float(np.mean([row["set_holds_all"] for row in rows])),
        "f1_elements_known": micro_f1(told, true),
    }


_TITLES = {
    "mae": "mean error",
    "median": "median error",
    "inside": "inside the 90 % interval",
    "f1": "neighbours: micro-F1",
    "exact": "exact set",
    "set_holds_all": "all in the 90 % set",
    "f1_elements_known": "micro-F1, elements known",
}


def table(result: dict[str, Any]) -> str:
    """Markdown of a result."""
    rows = result["rows"]
    samples = {row["sample"] for row in rows}
    lines = [
        "# Measured spectra",
        "",
        f"Family `{result['family']}`, version {result['version']}: {len(rows)} spectra of {len(samples)} samples whose structure can be "
        f"trusted, out of `../shared/data/experiment`; {result['samples_without_trusted_phase']} more samples have none. Distances in "
        "angstrom.",
        "",
        "    python benchmarks/measured.py --data ../shared/data --family default --json measured.json",
        "    python benchmarks/measured.py --table measured.json",
        "",
        *"\n\n".join((__doc__ or "").split("\n\n")[2:]).splitlines(),
        "",
    ]
    parts = {"all": rows, "in the domain": [row for row in rows if row["in_domain"]]}
    parts["foils"] = [row for row in rows if row["why"].startswith("metal")]
    parts["compounds"] = [row for row in rows if not row["why"].startswith("metal")]
    parts["phase in the training data"] = [row for row in rows if row["trained_on"]]
    parts["phase not in it"] = [row for row in rows if not row["trained_on"]]
    for kind in ("EXAFS", "XANES"):
        lines += [f"| {kind} | spectra | {' | '.join(_TITLES.values())} |", "|---" * (len(_TITLES) + 2) + "|"]
        for name, part in parts.items():
            own = [row for row in part if row["kind"] == kind]
            if own:
                values = summary(own)
                lines.append(f"| {name} | {len(own)} | {' | '.join(f'{values[key]:.3f}' for key in _TITLES)} |")
        lines.append("")
    lines += ["By absorber:", "", "| absorber | EXAFS spectra | mean error | F1 | XANES spectra | mean error | F1 |", "|---" * 7 + "|"]
    for absorber in sorted({row["absorber"] for row in rows}, key=atomic_number):
        cells = [absorber]
        for kind in ("EXAFS", "XANES"):
            own = [row for row in rows if row["absorber"] == absorber and row["kind"] == kind]
            values = summary(own) if own else {}
            cells += [str(len(own)), f"{values['mae']:.3f}" if own else "", f"{values['f1']:.2f}" if own else ""]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Every spectrum. *Entries* are those that the distance is the median of, *spread* that of their middle half.",
        "",
        "| sample | absorber | phase | why | entries, spread | distance | kind | inferred | error | neighbours | inferred | in domain |",
        "|---" * 12 + "|",
    ]
    for row in sorted(rows, key=lambda row: (atomic_number(row["absorber"]), row["sample"], row["kind"])):
        truth = row["truth"]
        source = "" if truth["source"] == "AMCSD" else f" ({truth['source']})"
        cells = [
            row["sample"],
            f"{row['absorber']} {row['edge']}",
            f"{row['formula']} {row['space_group']}",
            row["why"],
            f"{truth['entries']}{source}, {truth['spread']:.3f}",
            f"{truth['distance']:.3f}",
            row["kind"],
            f"{row['mean_distance']:.3f} +- {row['half_width']:.3f}",
            f"{row['error']:+.3f}",
            " ".join(truth["neighbours"]),
            " ".join(row["neighbours"]),
            "yes" if row["in_domain"] else "no",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if result["left_out"]:
        lines += ["", "Left out:", "", *(f"- {reason}" for reason in result["left_out"])]
    return "\n".join([*lines, ""])


def main() -> int:
    """Run the benchmark."""
    parser = described(__doc__)
    parser.add_argument("--data", type=Path, help="../shared/data")
    parser.add_argument("--family", default="default", help="'default' or a folder")
    options = parse(parser, table, "data")
    warnings.simplefilter("ignore")  # larch and pymatgen
    result = run(options.data, FamilyBundle.load(options.family))
    options.json.write_text(json.dumps(result, indent=1))
    for kind in ("EXAFS", "XANES"):
        print(kind, json.dumps(summary([row for row in result["rows"] if row["kind"] == kind])))
    return 0


if __name__ == "__main__":
    sys.exit(main())

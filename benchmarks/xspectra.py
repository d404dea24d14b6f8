"""XSpectra and FEFF on diamond, silicon and graphite through AiiDA: the K edge by both, beside published numbers of diamond.

    python benchmarks/xspectra.py --json xspectra.json [--only WORDS]
    python benchmarks/xspectra.py --table xspectra.json > docs/reference/xspectra.md

Needs `pw.x` and `xspectra.x` of Quantum ESPRESSO on PATH (Debian: quantum-espresso) and the extra `xspectra`. Works in a temporary AiiDA
profile of its own. Pseudopotentials: `examples/data/core_hole.tar.gz`, made by `scripts/core_hole_pseudos.py`, and those that the authors
of XSpectra ship with their example, from Debian's package. A result that the JSON file holds already is not computed again.
"""

from __future__ import annotations

import gzip
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from pages import described, parse
from profiles import profile

from aiida_xastruct.engine.compare import compare
from aiida_xastruct.engine.spectrum import FloatArray, Spectrum, find_e0, flatten, smooth_background, tabulated_edge
from aiida_xastruct.engine.xspectra.site import lowest_empty

ROOT = Path(__file__).resolve().parents[1]

#: Crystals at room temperature: element, space group, a and c in angstrom, and positions. Graphite has two sites, neither of them cubic.
CRYSTALS: dict[str, tuple[str, str, float, float, list[list[float]]]] = {
    "diamond": ("C", "Fd-3m", 3.567, 3.567, [[0.0, 0.0, 0.0]]),
    "silicon": ("Si", "Fd-3m", 5.431, 5.431, [[0.0, 0.0, 0.0]]),
    "graphite": ("C", "P6_3/mmc", 2.464, 6.711, [[0.0, 0.0, 0.25], [1 / 3, 2 / 3, 0.25]]),
}

#: The cell and the meshes of the example that the authors of XSpectra ship.
AS_SHIPPED = {"image_distance": 3.5, "kpoints_spacing": 0.45, "spectrum_spacing": 0.45}

#: Runs: crystal, whether its conventional cell is repeated, and overrides of the protocol fast.
RUNS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "diamond, 8 atoms, pseudopotentials of XSpectra's authors": (
        "diamond",
        True,
        {**AS_SHIPPED, "cutoff_wfc": 40.0, "cutoff_rho": 160.0, "parameters": {"paw_radius": 3.2}},
    ),
    "diamond, 8 atoms": ("diamond", True, AS_SHIPPED),
    "diamond, 16 atoms": ("diamond", False, {"image_distance": 5.0, "spectrum_spacing": 0.6}),
    "diamond, 54 atoms (fast)": ("diamond", False, {}),
    "silicon, 16 atoms (fast)": ("silicon", False, {}),
    "silicon, 54 atoms": ("silicon", False, {"image_distance": 11.0}),
    "graphite, 16 atoms": ("graphite", False, {"image_distance": 4.9}),
}

#: The one of them that is computed with the authors' pseudopotentials.
THEIRS = next(iter(RUNS))

#: Where Debian keeps the example of diamond with a core hole, its pseudopotentials and its spectrum.
EXAMPLE = Path("/usr/share/doc/quantum-espresso/examples/XSpectra")
SHIPPED = {"ground_state/C.UPF": "C_PBE_TM_2pj.UPF.gz", "core_hole/C.UPF": "Ch_PBE_TM_2pj.UPF.gz"}


def crystal(name: str, conventional: bool) -> Any:
    """A node of one of `CRYSTALS`."""
    from aiida.orm import StructureData
    from pymatgen.core import Lattice, Structure

    element, group, a, c, positions = CRYSTALS[name]
    lattice = Lattice.cubic(a) if a == c else Lattice.hexagonal(a, c)
    cell = Structure.from_spacegroup(group, lattice, [element] * len(positions), positions)
    return StructureData(pymatgen=cell if conventional else cell.get_primitive_structure())


def family_of(name: str) -> str:
    """Label of the family of a run, which is installed."""
    from aiida_xastruct.groups.core_hole import CoreHolePseudoFamily

    if name != THEIRS:
        return str(CoreHolePseudoFamily.install(ROOT / "examples" / "data" / "core_hole.tar.gz", "pbe").label)
    with tempfile.TemporaryDirectory() as scratch:
        for place, file in SHIPPED.items():
            (Path(scratch) / place).parent.mkdir()
            (Path(scratch) / place).write_bytes(gzip.decompress((EXAMPLE / "pseudo" / file).read_bytes()))
        return str(CoreHolePseudoFamily.install(scratch, "authors").label)


def run_xspectra(name: str) -> dict[str, Any]:
    """The spectrum by `xastruct.xspectra.crystal`."""
    from aiida.engine import run_get_node

    from aiida_xastruct.tools.codes import quantum_espresso_code
    from aiida_xastruct.workflows.xspectra.crystal import XspectraCrystalWorkChain

    known, conventional, overrides = RUNS[name]
    builder = XspectraCrystalWorkChain.get_builder_from_protocol(
        quantum_espresso_code("pw.x"), quantum_espresso_code("xspectra.x"), crystal(known, conventional), CRYSTALS[known][0],
        overrides=overrides, family=family_of(name),
    )  # fmt: skip
    outputs, node = run_get_node(builder)
    curves = {}
    for link in node.base.links.get_outgoing().all():
        if "_polarisation_" in link.link_label and "spectrum" in link.node.outputs:
            spectrum = link.node.outputs.spectrum
            curves[link.link_label] = [spectrum.get_x()[1].tolist(), spectrum.get_y()[0][1].tolist()]
    logs = {name: said.get_dict() for name, said in outputs.get("output_parameters", {}).items()}
    jobs = [one for one in node.called_descendants if one.process_type == "aiida.calculations:xastruct.xspectra"]
    seconds = sum(one.outputs.output_parameters["cpu_seconds"] for one in jobs if "output_parameters" in one.outputs)
    return _kept(outputs, node) | {"logs": logs, "polarisations": curves, "cpu_seconds": seconds}


def run_feff(name: str) -> dict[str, Any]:
    """The spectrum by `xastruct.feff.crystal`."""
    from aiida.engine import run_get_node

    from aiida_xastruct.tools.codes import bundled_feff_code
    from aiida_xastruct.workflows.feff.crystal import FeffCrystalWorkChain

    builder = FeffCrystalWorkChain.get_builder_from_protocol(bundled_feff_code(), crystal(name, False), CRYSTALS[name][0], protocol="fast")
    outputs, node = run_get_node(builder)
    return _kept(outputs, node)


def _kept(outputs: Any, node: Any) -> dict[str, Any]:
    """What of a workflow goes into the result."""
    from aiida.orm import CalcJobNode

    jobs = [one for one in node.called_descendants if isinstance(one, CalcJobNode)]
    kept: dict[str, Any] = {"exit_status": node.exit_status, "exit_message": node.exit_message, "jobs": len(jobs)}
    if "spectrum" in outputs:
        sites = outputs["spectra"]
        kept["sites"] = {name: {"multiplicity": one.multiplicity, "settings": one.settings} for name, one in sites.items()}
        # That of a single site is on the program's own energies.
        shown = next(iter(sites.values())) if len(sites) == 1 else outputs["spectrum"]
        kept |= {"energy": shown.energy.tolist(), "mu": shown.to_engine().mu.tolist(), "normalisation": shown.normalisation}
    return kept


def main() -> None:
    """Compute what the file lacks; or print its page."""
    parser = described(__doc__)
    parser.add_argument("--only", default="", help="compute only what has these words in its name")
    options = parse(parser, page)
    file: Path = options.json
    result: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    with tempfile.TemporaryDirectory() as scratch, profile(Path(scratch), "sqlite"):
        from aiida.engine import run_get_node  # noqa: F401  (the engine is imported before the clock starts)

        work: dict[str, Any] = {name: lambda name=name: run_xspectra(name) for name in RUNS}
        work |= {f"FEFF, {known}": lambda known=known: run_feff(known) for known in CRYSTALS}
        for name, compute in work.items():
            if options.only not in name or result.get(name, {}).get("exit_status") == 0:
                continue
            start = time.perf_counter()
            result[name] = {**compute(), "seconds": time.perf_counter() - start}
            print(f"{name}: {result[name]['exit_status']} in {result[name]['seconds']:.0f} s", file=sys.stderr)
            file.write_text(json.dumps(result))
    if (shipped := EXAMPLE / "reference" / "diamondh.xspectra.dat.gz").is_file():
        with gzip.open(shipped, "rt") as stream:
            table = np.loadtxt(stream, comments="#")
        result["example"] = {"energy": table[:, 0].tolist(), "sigma": table[:, 1].tolist()}
        result["amplitudes"] = p_amplitudes()
        file.write_text(json.dumps(result))


def p_amplitudes() -> dict[str, list[float]]:
    """Of the p orbitals of the pseudopotentials with a hole, see `engine.xspectra.upf.Orbital.amplitude`."""
    from aiida_xastruct.engine.xspectra.files import read_files
    from aiida_xastruct.engine.xspectra.upf import amplitudes

    ours = read_files(ROOT / "examples" / "data" / "core_hole.tar.gz").core_hole
    texts = {f"ours, {name.partition('.')[0]}": content.decode() for name, content in ours.items()}
    texts["XSpectra's authors, C"] = gzip.decompress((EXAMPLE / "pseudo" / SHIPPED["core_hole/C.UPF"]).read_bytes()).decode()
    return {name: amplitudes(text, 1, name) for name, text in texts.items()}


def spectrum_of(result: dict[str, Any], name: str) -> Spectrum:
    """A spectrum of the result, flat."""
    kept, feff = result[name], name.startswith("FEFF")
    element = CRYSTALS[name.rpartition(" ")[2] if feff else RUNS[name][0]][0]
    made = Spectrum(
        np.array(kept["energy"]), np.array(kept["mu"]), element, "K", "XANES", "feff" if feff else "xspectra",
        "feff" if feff else "nominal", kept["normalisation"],
    )  # fmt: skip
    return flatten(made)


def peaks(energy: FloatArray, mu: FloatArray) -> list[tuple[float, float]]:
    """Energies and heights of the maxima that stand out by 3 % of the highest, within 35 eV."""
    from scipy.signal import find_peaks

    near = energy <= 35.0
    found, _ = find_peaks(mu[near], prominence=0.03 * mu[near].max())
    return [(float(energy[index]), float(mu[index])) for index in found]


def relative(result: dict[str, Any], name: str) -> tuple[FloatArray, FloatArray]:
    """Energies from the highest occupied level, as XSpectra's own, and the cross section as it gave it, up to a factor."""
    spectrum, levels = spectrum_of(result, name), result[name]["logs"]["site_0"]
    edge = tabulated_edge(spectrum.absorber, "K")
    energy = spectrum.energy - edge + levels["lowest_empty_ev"] - levels["zero_ev"]
    return energy, spectrum.mu * smooth_background(spectrum.energy, edge)


def _published(result: dict[str, Any]) -> list[str]:
    """Our spectra of the authors' example beside theirs, with their pseudopotentials and with ours."""
    example = result["example"]
    theirs = peaks(np.array(example["energy"]), np.array(example["sigma"]))
    highest = max(height for _, height in theirs)
    rows = [
        "| pseudopotentials | published (eV) | computed (eV) | residual (eV) | published height | computed height | residual |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, title in ((THEIRS, "the authors'"), ("diamond, 8 atoms", "ours")):
        if name not in result:
            rows.append(f"| {title} | not run | | | | | |")
            continue
        energy, mu = relative(result, name)
        found, own = peaks(energy, mu), float(mu[energy <= 35.0].max())
        for place, height in theirs:
            at, high = min(found, key=lambda peak: abs(peak[0] - place))
            shares = f"{height / highest:.2f} | {high / own:.2f} | {high / own - height / highest:+.2f}"
            rows.append(f"| {title} | {place:.1f} | {at:.1f} | {at - place:+.1f} | {shares} |")
    return rows


def _amplitudes(result: dict[str, Any]) -> list[str]:
    rows = [
        "| pseudopotential with a hole | amplitude of the p orbitals beyond the cutoff radius, that of the pseudo orbital being 1 |",
        "|---|---|",
    ]
    return rows + [f"| {name} | {', '.join(f'{value:.3f}' for value in found)} |" for name, found in result["amplitudes"].items()]


def _runs(result: dict[str, Any]) -> list[str]:
    rows = [
        "| run | sites | fields | mesh of k | atoms | holes apart (Å) | E0 (eV) | lowest empty level (eV) | CPU of XSpectra (s) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in RUNS:
        if "energy" not in result.get(name, {}):
            rows.append(f"| {name} | not run | | | | | | | |")
            continue
        sites, levels = result[name]["sites"], result[name]["logs"]["site_0"]
        settings = sites["site_0"]["settings"]
        cell, gap = settings["supercell"], levels["lowest_empty_ev"] - levels["zero_ev"]
        points = "x".join(map(str, settings["spectrum_mesh"]))
        counts = f"{len(sites)} | {settings['polarisations']} | {points} | {cell['atoms']} | {cell['image_distance']:.2f}"
        e0, seconds = find_e0(spectrum_of(result, name)), result[name]["cpu_seconds"]
        rows.append(f"| {name} | {counts} | {e0:.1f} | {gap:.2f} | {seconds:.0f} |")
    return rows


def _polarised(result: dict[str, Any]) -> list[str]:
    """Of each site of graphite and each direction of the field: the absorption of the empty pi and of the empty sigma bands."""
    rows = [
        "| site of graphite | of 4 atoms | edge after the first (eV) | field along | up to 5 eV above the edge | 5 to 15 eV above it |",
        "|---|---|---|---|---|---|",
    ]
    kept = result.get("graphite, 16 atoms", {})
    if "energy" not in kept:
        return [*rows, "| not run | | | | | |"]
    apart = []
    for site, said in kept["sites"].items():
        levels = kept["logs"][site]
        for number, axis in enumerate("xyz"):
            energy, sigma = map(np.array, kept["polarisations"][f"{site}_polarisation_{number}"])
            above = energy - (lowest_empty(levels) - levels["zero_ev"])
            near, far = (above > -1.0) & (above < 5.0), (above >= 5.0) & (above < 15.0)
            total = np.trapezoid(sigma[above < 40.0], above[above < 40.0])
            shares = [np.trapezoid(sigma[part], above[part]) / total for part in (near, far)]
            place = f"{site} | {said['multiplicity']} | {said['settings']['shift_ev']:.2f}"
            rows.append(f"| {place} | {axis} | {shares[0]:.3f} | {shares[1]:.3f} |")
        along_x, along_y = (np.array(kept["polarisations"][f"{site}_polarisation_{number}"][1]) for number in (0, 1))
        apart.append(float(np.abs(along_x - along_y).max() / along_x.max()))
    most = 100 * max(apart)
    words = (
        f"By symmetry x and y are equal. They differ by up to {most:.1f} % of the highest peak: the mesh, shifted by half a step,",
        "has no threefold axis, and XSpectra sums over it as it is. Trust the mean of the three, which no turn of the mesh changes.",
    )
    return [*rows, "", *words]


def _pairs(result: dict[str, Any]) -> list[str]:
    """Cells against each other, and XSpectra against FEFF."""
    rows = ["| spectrum | judged by | R2 | shift (eV) |", "|---|---|---|---|"]
    for known in CRYSTALS:
        names = [name for name, run in RUNS.items() if run[0] == known and name in result]
        pairs = list(itertools.pairwise(names)) + [(f"FEFF, {known}", name) for name in names[-1:]]
        for first, second in pairs:
            if first not in result:
                continue
            found = compare(spectrum_of(result, first), spectrum_of(result, second))
            rows.append(f"| {first} | {second} | {found.r2:.3f} | {found.shift:+.1f} |")
    return rows


def _peaks(result: dict[str, Any]) -> list[str]:
    rows = ["| spectrum | peaks: eV from the steepest rise (flat mu) |", "|---|---|"]
    for name in [*RUNS, *(f"FEFF, {known}" for known in CRYSTALS)]:
        if name in result:
            spectrum = spectrum_of(result, name)
            found = peaks(spectrum.energy - find_e0(spectrum), spectrum.mu)
            rows.append(f"| {name} | {', '.join(f'{at:.1f} ({height:.2f})' for at, height in found)} |")
    return rows


PAGE = """\
# XSpectra beside FEFF

Written by `python benchmarks/xspectra.py --table xspectra.json`; the head of the script says what was run. Quantum ESPRESSO 6.7 of
Debian through AiiDA (`xastruct.xspectra.crystal`), PBE, a full hole in 1s, pseudopotentials of `scripts/core_hole_pseudos.py`;
FEFF10 by `xastruct.feff.crystal`, protocol fast.

{runs}

Fields: polarisations that were computed; one where cell and mesh are cubic. Meshes are those of XSpectra, shifted by half a step. The
lowest empty level counts from the highest full one.

## Against published numbers

The spectrum of diamond with a core hole that the authors of XSpectra (C. Gougoussis, M. Calandra, A.P. Seitsonen and F. Mauri,
Phys. Rev. B 80, 075102 (2009)) ship with Quantum ESPRESSO 6.7 as `diamondh.xspectra.dat`: 8 atoms, 40 Ry, meshes of 4 x 4 x 4, broadening
0.8 eV. We compute the same cell with the same meshes, once with the pseudopotentials that come with the example (40 Ry, their radius of
reconstruction), once with ours (60 Ry, XSpectra's own radius). Energies are from the highest occupied level, heights are shares of the
highest peak. They call their cell underconverged, and so is ours: this is a check of the pseudopotentials and of the chain of programs,
not of diamond.

{published}

With the authors' pseudopotentials the chain of programs gives their spectrum (the last peak is a plateau of 1 eV). Ours differ by what the
two sets differ in: the radius, the cutoff, and the second orbital of the reconstruction. XSpectra makes every matrix element of two p
orbitals, and `ld1.x` scales each of them to its pseudo orbital at one point, the cutoff radius. The authors' second orbital has a node next
to it, and came out too large:

{amplitudes}

A height goes with the square. Ours have a radius (C 1.2 bohr, Si 1.6) at which neither orbital has a node, and the second orbital lies in
the middle of the energies of a spectrum. `scripts/core_hole_pseudos.py` holds the heights that two orbitals give against those of the
atom's own p waves, and refuses a deck that is off by more than 10 % within 3 Ry (41 eV) above the valence p level, around which the valence
bands lie. It prints that ours are off by 3 % at most for C and by 9 % for Si; at 4.5 Ry C by 3 %, Si by 28 %. The decks before these had
the second orbital at 0.1 Ry with a radius of 1.5 bohr, just beyond its node, and the script refuses them.

## Cells, and FEFF

R2 of flat mu from -10 to 50 eV around E0 of the second, after the shift that brings them closest. E0 of XSpectra is nominal: its lowest
empty level lies at the tabulated edge. Flat mu is divided by its last 10 eV, where two sets of pseudopotentials differ most.

{pairs}

{peaks}

## Two sites and three polarisations

Graphite has two sites of its own, and neither is cubic, so each takes a cell and three directions of the field, and a powder is the mean.
What the field finds near the edge is known: along the axis of the layers (z) the empty pi bands, in the layers (x and y) the sigma bands,
which begin some eV higher. Shares of the cross section up to 40 eV above the lowest empty level:

{polarised}

## What is converged and what is not

The Lanczos chain is (error below 0.001). For the size of the cell see R2 between two sizes, where they were run. A broadening of 0.8 eV
at all energies leaves peaks far above the edge sharper than they are in nature, where the electron's lifetime broadens them; FEFF has that.
Spectra are normalised over their last 10 eV, 50 eV above the edge, where oscillations remain; the height of the first peak hangs on that.
There is no measured spectrum of C or Si K among the data that this project has, so nothing here says which of the two is nearer to nature.
"""


def page(result: dict[str, Any]) -> str:
    """The page of a result."""
    tables = {"runs": _runs, "published": _published, "amplitudes": _amplitudes, "pairs": _pairs, "peaks": _peaks, "polarised": _polarised}
    return PAGE.format(**{name: "\n".join(make(result)) for name, make in tables.items()})


if __name__ == "__main__":
    main()

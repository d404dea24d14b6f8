"""The main job, end to end, on real input: `python examples/demo.py` (which `make demo` runs).

1. The spectra of crystals of the AMCSD, which comes with larixite: a learned model answers, FEFF where the model is unsure.
2. The local structure behind a measured spectrum: scans of goethite are merged, normalised and read.

Everything happens in an AiiDA profile in the output folder, without services; no other profile is read or written. Exit status 1 if no
answer, or every answer, needed FEFF: then the calibrated threshold would not be at work.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from demo_parts.measured import goethite_scans
from demo_parts.profile import fresh_folder, load_own_profile


@dataclass(frozen=True)
class Question:
    """One crystal of the AMCSD and the spectrum asked for."""

    name: str
    amcsd: str
    family: str
    absorber: str
    kind: str


QUESTIONS = (
    Question("tenorite CuO", "18816", "oxide", "Cu", "XANES"),
    Question("copper", "13088", "metal", "Cu", "XANES"),
    Question("perovskite CaTiO3", "2890", "oxide", "Ti", "XANES"),
    Question("pyrite FeS2", "605", "sulphide", "Fe", "XANES"),
    Question("halite NaCl", "641", "halide", "Cl", "EXAFS"),
    Question("galena PbS", "3", "sulphide", "Pb", "EXAFS"),
    Question("periclase MgO", "18050", "oxide", "Mg", "EXAFS"),
    Question("tungsten carbide WC", "4855", "carbide", "C", "EXAFS"),
)
QUICK = ("copper", "halite NaCl", "periclase MgO", "tungsten carbide WC")

#: Goethite with its hydrogen: Yang, Lu, Downs and Costin, Acta Cryst. E 62, i250 (2006).
GOETHITE = "10471"


def predict(question: Question, code: Any) -> dict[str, Any]:
    """Run `xastruct.predict` on one crystal."""
    from aiida.engine import run_get_node
    from aiida.orm import StructureData

    from aiida_xastruct.engine.reference.sources import AmcsdSource
    from aiida_xastruct.workflows.predict import PredictWorkChain

    crystal, _ = AmcsdSource().structure(question.amcsd)
    structure = StructureData(pymatgen=crystal, label=f"AMCSD {question.amcsd}, {question.name}").store()
    builder = PredictWorkChain.get_builder_from_protocol(structure, absorber=question.absorber, kind=question.kind, code=code)
    outputs, node = run_get_node(builder)
    if not node.is_finished_ok:
        sys.exit(f"{question.name}: exit status {node.exit_status}: {node.exit_message}")
    row = {"name": question.name, "class": question.family, "node": node, "structure": structure, "outputs": outputs}
    return row | {"answer": outputs["answer"].get_dict()}


def compare(row: dict[str, Any], code: Any) -> dict[str, Any]:
    """FEFF's spectrum beside a learned one, for the figure: its first site."""
    from aiida.engine import run_get_node

    from aiida_xastruct.workflows.feff.base import FeffBaseWorkChain

    ml = next(iter(row["outputs"]["spectra"].values()))
    builder = FeffBaseWorkChain.get_builder_from_protocol(code, row["structure"], ml.site, kind=ml.kind)
    outputs, node = run_get_node(builder)
    if "spectrum" not in outputs:
        sys.exit(f"FEFF failed on {row['name']}: {node.exit_message}")
    return {"name": f"{row['name']}, {ml.absorber} {ml.edge}", "ml": ml, "feff": outputs["spectrum"]}


def read_measured(folder: Path, offline: bool, say: Any) -> dict[str, Any]:
    """Import, merge, normalise and infer the scans of goethite, read once as EXAFS and once as XANES."""
    from aiida.engine import run_get_node
    from aiida.orm import Dict, SinglefileData

    from aiida_xastruct.calculations.functions.import_scans import import_scans
    from aiida_xastruct.calculations.functions.normalise_spectrum import normalise_spectrum
    from aiida_xastruct.workflows.infer import InferWorkChain

    files, source = goethite_scans(folder, offline)
    say(f"measured goethite: {source}")
    raw = {f"scan_{index}": SinglefileData(path) for index, path in enumerate(files)}
    merged, node = import_scans.run_get_node(parameters=Dict({"absorber": "Fe", "edge": "K"}), **raw)
    if not node.is_finished_ok:
        sys.exit(f"the scans cannot be used: {node.exit_message}")
    rows = []
    for kind in ("EXAFS", "XANES"):
        outputs, node = run_get_node(InferWorkChain.get_builder_for(merged, kind=kind))
        if not node.is_finished_ok:
            sys.exit(f"inference from the {kind}: {node.exit_message}")
        rows.append({"name": f"its {kind}", "answer": outputs["answer"].get_dict(), "node": outputs["answer"]})
    return {"merged": merged, "flat": normalise_spectrum(merged), "rows": rows}


def true_shell() -> dict[str, Any]:
    """First shell of iron in the crystal structure of goethite."""
    from aiida_xastruct.engine.reference.sources import AmcsdSource
    from aiida_xastruct.engine.structure import first_shell, inequivalent_absorbers

    crystal, _ = AmcsdSource().structure(GOETHITE)
    shell = first_shell(crystal, inequivalent_absorbers(crystal, "Fe")[0].site)
    return {"name": f"crystal (AMCSD {GOETHITE})", "neighbours": sorted(shell.neighbour_set), "mean_distance": shell.mean_distance}


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; the exit status is 0, or 1 where the threshold is not at work or a step failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for all output (default: demo-output)")
    parser.add_argument("--quick", action="store_true", help="no XANES by FEFF and no download: seconds instead of minutes")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    warnings.simplefilter("ignore")  # of the libraries, about each other
    folder = fresh_folder(options.output)
    load_own_profile(folder)

    from rich.console import Console

    from aiida_xastruct.tools.codes import bundled_feff_code
    from demo_parts.show import ancestors, answers_table, draw, inference_table

    console = Console(width=None if sys.stdout.isatty() else 180)

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - started:6.1f} s  {text}", highlight=False)

    code = bundled_feff_code()
    rows = []
    for question in QUESTIONS:
        if options.quick and question.name not in QUICK:
            continue
        say(f"{question.name}: {question.absorber} {question.kind}")
        rows.append(predict(question, code))
    learned = [row for row in rows if row["answer"]["method"] == "ml"]
    referred = [row for row in rows if row["answer"]["method"] != "ml"]
    compared = []
    for kind in ("XANES", "EXAFS"):
        first = next((row for row in learned if row["answer"]["kind"] == kind), None)
        if first is not None and not (options.quick and kind == "XANES"):
            say(f"{first['name']}: FEFF too, to compare")
            compared.append(compare(first, code))
    measured = read_measured(folder, options.quick, say)
    figure = folder / "predicted-against-feff.png"
    draw(figure, compared, measured["flat"])

    answers_table(console, rows)
    inference_table(console, measured["rows"], true_shell())
    # FEFF's answer has the longest story: the model's doubt, the job, its parser. What FEFF wrote is in it.
    shown = (referred or rows)[0]
    console.print(f"\n[bold]Provenance of the spectrum of {shown['name']}[/]", highlight=False)
    lines = ancestors(shown["outputs"]["spectrum"])
    console.print("\n".join(lines), highlight=False, markup=False)
    (folder / "provenance.txt").write_text("\n".join(lines) + "\n")
    console.print(f"\nfigure: {figure}\nprofile: AIIDA_PATH={folder} verdi process list -a", highlight=False)
    say(f"{len(learned)} of {len(rows)} answers by the model, {len(referred)} with FEFF")
    if not referred or not learned:
        console.print("[red]Every answer came from one source: the calibrated threshold is not at work.[/]")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

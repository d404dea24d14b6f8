"""The console script `xastruct`: what runs on a compute node, where AiiDA need not be installed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import TimeIsUpError, XastructError
from .making import add_commands
from .terminal import print_table, progress_bar, write_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns 0, 1 for input that cannot be used (one sentence on standard error), 2 for wrong usage, 3 where time was up."""
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except TimeIsUpError as error:
        print(f"xastruct: {error}", file=sys.stderr)
        return 3
    except XastructError as error:
        print(f"xastruct: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"xastruct: {error.filename or 'a file'} cannot be used: {error.strerror or error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("xastruct: stopped.", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    found = argparse.ArgumentParser(prog="xastruct", description="X-ray absorption spectra of crystals, and back to local structure.")
    commands = found.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    predict = command("predict", _predict, "Predict the spectrum of each inequivalent absorbing site of a crystal.")
    predict.add_argument("structure", type=Path, help="CIF, POSCAR or any file pymatgen reads; or many crystals, NAME.jsonl.gz")
    predict.add_argument("--absorber", help="element; all elements of the crystal if left out")
    predict.add_argument("--kind", choices=("XANES", "EXAFS"), default="XANES")
    predict.add_argument("--family", default="default", help="'default' or a folder")
    predict.add_argument("--json", type=Path, help="write spectra and uncertainty here")
    many = predict.add_argument_group("many crystals, one a line of a file NAME.jsonl.gz")
    many.add_argument("-o", "--output", type=Path, help="folder for the table and the arrays of spectra")
    many.add_argument("--cache", type=Path, help="SQLite file that keeps features")
    many.add_argument("--cores", type=int, default=1)
    many.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="of the features; auto is CUDA where there is any")

    infer = command("infer", _infer, "Name the nearest neighbours, and their mean distance, behind a spectrum.")
    infer.add_argument("spectrum", type=Path, nargs="+", help="scans of one sample (XDI or columns); several are merged")
    infer.add_argument("--absorber", help="element; the files' own if left out")
    infer.add_argument("--edge", help="the edge people measure if left out: K up to Z 50, L3 from 51")
    infer.add_argument("--kind", choices=("XANES", "EXAFS", "both"), help="EXAFS if left out and the scan reaches 250 eV above the edge")
    infer.add_argument("--elements-present", nargs="+", metavar="ELEMENT", help="what the sample is known to hold")
    infer.add_argument("--family", default="default", help="'default' or a folder")
    infer.add_argument("--json", type=Path, help="write the answer here")

    add_commands(command)

    evaluate = command("evaluate", _evaluate, "Measure a family on any file of spectra.")
    evaluate.add_argument("family", help="'default' or a folder")
    evaluate.add_argument("spectra", type=Path, help="SPECTRA.jsonl.gz")
    evaluate.add_argument("structures", type=Path, help="STRUCTURES.jsonl.gz")
    evaluate.add_argument("--json", type=Path, help="write all metrics here")

    compare = command("compare", _compare, "Measure how alike two spectra of one edge are, after the shift that brings them closest.")
    compare.add_argument("spectrum", type=Path, help="xmu.dat, an exported spectrum, a scan (XDI or columns), or two columns")
    compare.add_argument("reference", type=Path, help="what it is judged by")
    compare.add_argument("--absorber", help="element, where the files do not say")
    compare.add_argument("--edge", help="where the files do not say; the edge people measure if left out")
    compare.add_argument("--kind", choices=("XANES", "EXAFS"), help="EXAFS if left out and both files reach that far")
    compare.add_argument("--k-range", type=float, nargs=2, metavar="K", default=(3.0, 12.0), help="of an EXAFS, 1/angstrom (3 12)")
    compare.add_argument("--flat", action="store_true", help="mu is normalised already, in files that do not say")
    compare.add_argument("--json", type=Path, help="write the metrics here")
    return found


def _predict(options: argparse.Namespace) -> None:
    from .bundle import FamilyBundle
    from .crystal_file import read_crystal
    from .structure import inequivalent_absorbers

    if options.structure.name.endswith(".jsonl.gz"):
        _predict_many(options)
        return
    structure = read_crystal(options.structure, say=lambda words: print(words, file=sys.stderr))
    absorbers = inequivalent_absorbers(structure, options.absorber)
    family = FamilyBundle.load(options.family)
    rows, content = [], []
    if options.absorber is None:
        refused = {element: family.model("forward", options.kind).refused(element) for element in {one.element for one in absorbers}}
        absorbers = [one for one in absorbers if not refused[one.element]]
        for words in filter(None, refused.values()):
            print(words, file=sys.stderr)
    answers = family.predict(structure, [absorber.site for absorber in absorbers], options.kind)
    for absorber, answer in zip(absorbers, answers, strict=True):
        rows.append(
            [
                f"{absorber.element} {absorber.site}",
                str(absorber.multiplicity),
                f"{answer.spectrum.e0:.1f}",
                f"{answer.uncertainty:.3g}",
                "FEFF should answer" if answer.needs_reference else "ml",
                answer.reason,
            ]
        )
        content.append(
            {
                "site": absorber.site,
                "absorber": absorber.element,
                "multiplicity": absorber.multiplicity,
                "edge": answer.spectrum.edge,
                "e0_eV": answer.spectrum.e0,
                "energy_eV": answer.spectrum.energy.tolist(),
                "mu": answer.spectrum.mu.tolist(),
                "band": answer.band.tolist(),
                "uncertainty": answer.uncertainty,
                "error_bound": answer.error_bound,
                "coverage": answer.coverage,
                "threshold": answer.threshold,
                "in_domain": answer.in_domain,
                "needs_reference": answer.needs_reference,
                "reason": answer.reason,
            }
        )
    formula = structure.composition.reduced_formula
    print_table(f"{options.kind} of {formula}", ("site", "multiplicity", "E0 (eV)", "uncertainty", "method", "reason"), rows)
    write_json(options.json, {"formula": formula, "kind": options.kind, "family": family.content_hash, "sites": content})


def _predict_many(options: argparse.Namespace) -> None:
    import torch

    from .batch import predict_batch
    from .bundle import FamilyBundle
    from .errors import StructureError
    from .structures_file import count_structures, read_structures

    if options.output is None:
        raise StructureError("there is no place for the spectra of many crystals; add --output FOLDER.")
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    with options.structure.open("rb") as counted, options.structure.open("rb") as stream, progress_bar("structures") as progress:
        total, done = count_structures(counted), 0

        def step(structures: int, _: int) -> None:
            nonlocal done
            done += structures
            progress(done, total)

        entries = read_structures(stream, options.structure.name)
        batch = predict_batch(
            FamilyBundle.load(options.family), entries, options.absorber or "", options.kind,
            cache=options.cache, cores=options.cores, device=device, progress=step,
        )  # fmt: skip
    batch.save(options.output)
    doubted = sum(bool(row.get("needs_reference")) for row in batch.rows)
    counts = [str(count) for count in (total, len(batch.mu), doubted, len(batch.rows) - len(batch.mu))]
    print_table(
        f"{options.kind} in {options.output}, by {device}", ("structures", "spectra", "FEFF should answer", "rows without"), [counts]
    )


def _infer(options: argparse.Namespace) -> None:
    from dataclasses import asdict, replace

    from .bundle import FamilyBundle
    from .joint import infer_both
    from .readers import read_measurement
    from .scans import ScanParameters

    kind = "EXAFS" if options.kind == "both" else options.kind or ""
    parameters = ScanParameters(absorber=options.absorber or "", edge=options.edge or "", kind=kind)
    spectrum = read_measurement([(path.name, path.read_bytes()) for path in options.spectrum], parameters)
    family = FamilyBundle.load(options.family)
    if options.kind == "both":
        answer = infer_both(family, replace(spectrum, kind="XANES"), spectrum, options.elements_present)
    else:
        answer = family.infer(spectrum, options.elements_present)
    low, high = answer.interval
    share = f"{answer.coverage:.0%}".replace("%", " %")
    rows = [
        ["nearest neighbours", ", ".join(answer.neighbour_set)],
        [f"{share} set", ", ".join(answer.conformal_set[:12]) + (" ..." if len(answer.conformal_set) > 12 else "")],
        ["probabilities", ", ".join(f"{element} {value:.2f}" for element, value in list(answer.neighbours.items())[:6])],
        ["mean distance (angstrom)", f"{answer.mean_distance:.3f}, {share} between {low:.3f} and {high:.3f}"],
        ["nearest distance (angstrom)", f"{answer.nearest_distance:.3f}"],
        ["coordination", f"{answer.coordination:.1f}"],
        ["in the domain", f"{'yes' if answer.in_domain else 'no'}: {answer.reason}"],
    ]
    read_as = "XANES and EXAFS" if options.kind == "both" else spectrum.kind
    print_table(f"{spectrum.absorber} {spectrum.edge} {read_as}", ("quantity", "answer"), rows)
    write_json(options.json, asdict(answer))


def _evaluate(options: argparse.Namespace) -> None:
    from .bundle import FamilyBundle
    from .evaluate import evaluate

    with progress_bar("structures") as progress:
        result = evaluate(FamilyBundle.load(options.family), options.spectra, options.structures, progress)
    rows = []
    for kind, own in result["forward"].items():
        rows += [
            [f"forward {kind} {name}", f"mse {values['mse']:.5f}", str(values["n"])] for name, values in own.items() if name != "unanswered"
        ]
    for kind, own in result["inverse"].items():
        for name, values in own.items():
            if isinstance(values, dict):
                text = ", ".join(f"{key} {value:.3f}" for key, value in values.items() if key != "n")
                rows.append([f"inverse {kind} {name}", text, str(values["n"])])
    print_table(f"{options.spectra.name}: {result['n']} spectra", ("what", "metrics", "sites"), rows)
    for reason, count in result["refused"].items():
        print(f"left out {count}: {reason}")
    print(f"flagged out of domain: {result['flagged_out_of_domain']:.1%}")
    write_json(options.json, result)


def _compare(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from .compare import compare
    from .scans import ScanParameters
    from .spectrum_file import read_pair

    parameters = ScanParameters(absorber=options.absorber or "", edge=options.edge or "")
    files = [(path.read_bytes(), path.name) for path in (options.spectrum, options.reference)]
    spectrum, reference = read_pair(files, parameters, options.flat)
    found = compare(spectrum, reference, options.kind, tuple(options.k_range))
    title = f"{options.spectrum.name} against {options.reference.name}, {spectrum.absorber} {spectrum.edge} {found.kind}"
    print_table(title, ("quantity", "value"), list(found.rows().items()))
    write_json(options.json, asdict(found))


if __name__ == "__main__":
    sys.exit(main())

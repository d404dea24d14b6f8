"""The console script `xastruct`: what runs on a compute node, where AiiDA need not be installed."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import TimeIsUpError, XastructError

if TYPE_CHECKING:
    from .configuration import FamilyConfig

Progress = Callable[[int, int], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns 0, 1 for input that cannot be used (one sentence on standard error), 2 for wrong usage, 3 where time was up."""
    options = _parser().parse_args(arguments)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xastruct", description="X-ray absorption spectra of crystals, and back to local structure.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    predict = command("predict", _predict, "Predict the spectrum of each inequivalent absorbing site of a crystal.")
    predict.add_argument("structure", type=Path, help="CIF, POSCAR or any file pymatgen reads; or many crystals, *.jsonl.gz")
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
    infer.add_argument("--kind", choices=("XANES", "EXAFS"), help="EXAFS if left out and the scan reaches 250 eV above the edge")
    infer.add_argument("--elements-present", nargs="+", metavar="ELEMENT", help="what the sample is known to hold")
    infer.add_argument("--family", default="default", help="'default' or a folder")
    infer.add_argument("--json", type=Path, help="write the answer here")

    dataset = command("dataset", _dataset, "Make a training set from files of spectra and structures, and the reference library.")
    dataset.add_argument("spectra", type=Path, nargs="*", help="NAME.spectra.jsonl.gz; NAME.structures.jsonl.gz must lie beside it")
    dataset.add_argument("--reference", type=Path, help="folder of the reference library")
    dataset.add_argument("--holdout", type=Path, required=True, help="folder with holdout_ids.txt and holdout_formulas.txt")
    dataset.add_argument("--cache", type=Path, required=True, help="SQLite file that keeps first shells and features")
    dataset.add_argument("--cores", type=int, default=1)
    dataset.add_argument("-o", "--output", type=Path, required=True, help="HDF5 file to write")

    crystals = command("crystals", _crystals, "Sample sites of crystals without spectra, for models to learn from by simulation.")
    crystals.add_argument("--source", choices=("amcsd", "npz", "cif"), default="npz", help="kind of collection (npz)")
    crystals.add_argument("--path", type=Path, help="the table of npz, the folder of cif")
    crystals.add_argument("--per-element", type=int, default=600, help="sites of each absorbing element (600)")
    crystals.add_argument("--seed", type=int, default=0, help="which crystals, and which of their sites")
    crystals.add_argument("--holdout", type=Path, required=True, help="folder with holdout_ids.txt and holdout_formulas.txt")
    crystals.add_argument("--cores", type=int, default=1)
    crystals.add_argument("-o", "--output", type=Path, required=True, help="HDF5 file to write")

    pairs = command("pairs", _pairs, "Compute EXAFS of sites whose XANES is there: what both tell together is learned and measured on.")
    pairs.add_argument("spectra", type=Path, nargs="*", help="NAME.spectra.jsonl.gz; NAME.structures.jsonl.gz must lie beside it")
    pairs.add_argument("--reference", type=Path, help="folder of the reference library")
    pairs.add_argument("--holdout", type=Path, required=True, help="folder with holdout_ids.txt and holdout_formulas.txt")
    pairs.add_argument("--state", type=Path, required=True, help="folder that keeps the EXAFS; a run that was stopped goes on from it")
    pairs.add_argument("--cache", type=Path, required=True, help="SQLite file that keeps first shells and features")
    pairs.add_argument("--sites", type=int, default=300, help="of each source and part (300)")
    pairs.add_argument("--split-seed", type=int, default=0, help="of the family that is to answer")
    pairs.add_argument("--cores", type=int, default=1)
    pairs.add_argument("-o", "--output", type=Path, required=True, help="HDF5 file to write")

    train = command("train", _train, "Train and calibrate a family of models; a run that was stopped goes on where it was.")
    train.add_argument("config", type=Path, help="YAML: dataset, name, version, tasks, split_seed, architecture, training")
    train.add_argument("-o", "--output", type=Path, required=True, help="folder of the family to write")
    train.add_argument("--dataset", type=Path, help="HDF5 file; overrides the one in the configuration")
    train.add_argument("--keep", nargs="+", default=(), metavar="MODEL", help="models in the folder that are only calibrated anew")
    train.add_argument(
        "--crystals", type=Path, help="file of `xastruct crystals`; inverse EXAFS learns from simulated spectra of these too"
    )
    train.add_argument("--seconds", type=float, default=math.inf, help="end in time, with exit status 3; the same command goes on")
    train.add_argument("--log", type=Path, help="add a line of JSON after every epoch to this file")
    train.add_argument("--report", type=Path, help="write how it ended to this JSON file")

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
    return parser


@contextmanager
def _bar(text: str) -> Iterator[Progress]:
    """A progress bar on standard error, for things that take more than two seconds."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    # In a log file a bar would be a stray empty line before the error.
    with Bar(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(text, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _write_json(path: Path | None, content: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(content, indent=1) + "\n")


def _read_structure(path: Path) -> Any:
    import warnings

    from pymatgen.core import Structure

    from .errors import StructureError

    if not path.is_file():
        raise StructureError(f"{path} does not exist; give the path of a CIF or POSCAR.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Structure.from_file(path)
    except Exception as error:  # pymatgen's readers raise whatever their parsers do
        detail = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StructureError(f"{path} cannot be read as a crystal structure ({detail}); give a CIF or POSCAR.") from error


def _predict(options: argparse.Namespace) -> None:
    from .bundle import FamilyBundle
    from .structure import check_structure, inequivalent_absorbers

    if options.structure.name.endswith(".jsonl.gz"):
        _predict_many(options)
        return
    structure = _read_structure(options.structure)
    check_structure(structure)
    absorbers = inequivalent_absorbers(structure, options.absorber)
    family = FamilyBundle.load(options.family)
    answers = family.predict(structure, [absorber.site for absorber in absorbers], options.kind)
    rows, content = [], []
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
    _table(f"{options.kind} of {formula}", ("site", "multiplicity", "E0 (eV)", "uncertainty", "method", "reason"), rows)
    _write_json(options.json, {"formula": formula, "kind": options.kind, "family": family.content_hash, "sites": content})


def _predict_many(options: argparse.Namespace) -> None:
    import torch

    from .batch import predict_batch
    from .bundle import FamilyBundle
    from .errors import StructureError
    from .structures_file import count_structures, read_structures

    if options.output is None:
        raise StructureError("there is no place for the spectra of many crystals; add --output FOLDER.")
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    with options.structure.open("rb") as counted, options.structure.open("rb") as stream, _bar("structures") as progress:
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
    _table(f"{options.kind} in {options.output}, by {device}", ("structures", "spectra", "FEFF should answer", "rows without"), [counts])


def _infer(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from .bundle import FamilyBundle
    from .scans import ScanParameters, merge, read_scan

    parameters = ScanParameters(absorber=options.absorber or "", edge=options.edge or "", kind=options.kind or "")
    texts = [(path.read_text(errors="replace"), path.name) for path in options.spectrum]
    spectrum = merge([read_scan(text, name, parameters) for text, name in texts], parameters)
    answer = FamilyBundle.load(options.family).infer(spectrum, options.elements_present)
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
    _table(f"{spectrum.absorber} {spectrum.edge} {spectrum.kind}", ("quantity", "answer"), rows)
    _write_json(options.json, asdict(answer))


def _sources(options: argparse.Namespace) -> list[Iterator[Any]]:
    """Records of the files and the library that a command names."""
    from .errors import DatasetError
    from .prepare import read_jsonl, read_library

    sources = []
    for path in options.spectra:
        beside = path.with_name(path.name.replace(".spectra.", ".structures."))
        if beside == path or not beside.is_file():
            raise DatasetError(
                f"{path.name} has no structures beside it; name the pair NAME.spectra.jsonl.gz and NAME.structures.jsonl.gz."
            )
        sources.append(read_jsonl(path, beside))
    if options.reference:
        sources.append(read_library(options.reference))
    if not sources:
        raise DatasetError("no source of spectra was given; name files of spectra, or --reference FOLDER.")
    return sources


def _dataset(options: argparse.Namespace) -> None:
    from itertools import chain

    from .dataset import Holdout
    from .prepare import prepare
    from .reference.scattering import read_paths

    sources = _sources(options)
    with _bar("structures") as progress:
        paths = read_paths(options.reference) if options.reference else ()
        dataset, left_out = prepare(chain(*sources), Holdout.read(options.holdout), options.cache, options.cores, progress, paths)
    dataset.save(options.output)
    rows = [[kind, str(len(table)), str(len(set(table.absorber.tolist())))] for kind, table in dataset.tables.items()]
    _table(f"{options.output}: {len(dataset.materials)} materials", ("kind", "sites", "absorbers"), rows)
    _table("left out", ("reason", "spectra"), [[reason, str(count)] for reason, count in left_out.items()])


def _pairs(options: argparse.Namespace) -> None:
    from itertools import chain

    from .dataset import Holdout
    from .pairs import make_pairs
    from .reference.state import State

    with _bar("EXAFS") as progress:
        dataset = make_pairs(
            chain(*_sources(options)), Holdout.read(options.holdout), State(options.state), options.cache, options.sites,
            options.split_seed, options.cores, progress,
        )  # fmt: skip
    dataset.save(options.output)
    parts = dataset.parts("EXAFS", options.split_seed)
    _table(
        f"{options.output}: {len(dataset.materials)} materials",
        ("part", "sites"),
        [[name, str(mask.sum())] for name, mask in parts.items()],
    )


def _crystals(options: argparse.Namespace) -> None:
    from .crystals import sample_crystals
    from .dataset import Holdout

    path = str(options.path) if options.path else ""
    with _bar("sites") as progress:
        holdout = Holdout.read(options.holdout)
        found = sample_crystals(options.source, path, options.per_element, holdout, options.seed, options.cores, progress)
    found.save(options.output)
    rows = [[str(len(found)), str(len(found.materials)), str(len(set(found.absorber.tolist())))]]
    _table(str(options.output), ("sites", "materials", "absorbers"), rows)


def _train(options: argparse.Namespace) -> None:
    from .checkpoint import is_first_process
    from .crystals import Crystals
    from .dataset import Dataset
    from .family import make_family
    from .watch import Watch, reported

    def say(line: str) -> None:
        if is_first_process():  # several processes that train each run this command
            print(line, flush=True)

    watch = Watch(options.log, options.seconds)
    with reported(options.report, watch) as report:
        path, config = _read_config(options.config, options.dataset)
        crystals = Crystals.load(options.crystals) if options.crystals else None
        report["family"] = make_family(Dataset.load(path), config, options.output, say, crystals, options.keep, watch)
        say(f"wrote {options.output} with {', '.join(report['family']['models'])}")


def _read_config(path: Path, dataset: Path | None) -> tuple[Path, FamilyConfig]:
    """The dataset and the configuration that a file names; `dataset` wins over the file's own."""
    import yaml

    from .configuration import FamilyConfig
    from .errors import DatasetError

    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise DatasetError(f"{path} is not YAML ({str(error).splitlines()[0]}); mend it.") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path} must hold a mapping of keys to values.")
    named = content.pop("dataset", None)
    found = dataset or (path.parent / named if named else None)
    if found is None:
        raise DatasetError("no dataset was given; add the key dataset to the configuration or use --dataset FILE.")
    return found, FamilyConfig.from_dict(content)


def _evaluate(options: argparse.Namespace) -> None:
    from .bundle import FamilyBundle
    from .evaluate import evaluate

    with _bar("structures") as progress:
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
    _table(f"{options.spectra.name}: {result['n']} spectra", ("what", "metrics", "sites"), rows)
    for reason, count in result["refused"].items():
        print(f"left out {count}: {reason}")
    print(f"flagged out of domain: {result['flagged_out_of_domain']:.1%}")
    _write_json(options.json, result)


def _compare(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from .compare import compare
    from .scans import ScanParameters
    from .spectrum_file import read_pair

    parameters = ScanParameters(absorber=options.absorber or "", edge=options.edge or "")
    texts = [(path.read_text(errors="replace"), path.name) for path in (options.spectrum, options.reference)]
    spectrum, reference = read_pair(texts, parameters, options.flat)
    found = compare(spectrum, reference, options.kind, tuple(options.k_range))
    title = f"{options.spectrum.name} against {options.reference.name}, {spectrum.absorber} {spectrum.edge} {found.kind}"
    _table(title, ("quantity", "value"), list(found.rows().items()))
    _write_json(options.json, asdict(found))


if __name__ == "__main__":
    sys.exit(main())

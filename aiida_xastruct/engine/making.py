"""The commands of `xastruct` by which models are made: dataset, crystals, pairs, train and join."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .terminal import print_table, progress_bar

if TYPE_CHECKING:
    from .configuration import FamilyConfig

#: Adds a command: its name, what runs it, what it does.
AddCommand = Callable[[str, Callable[[argparse.Namespace], None], str], argparse.ArgumentParser]


def add_commands(command: AddCommand) -> None:
    """Add these commands and their options."""
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
    train.add_argument("--begin", nargs="+", default=(), metavar="MODEL", help="models in the folder whose networks go on learning")
    train.add_argument(
        "--crystals", type=Path, help="file of `xastruct crystals`; inverse EXAFS learns from simulated spectra of these too"
    )
    train.add_argument("--seconds", type=float, default=math.inf, help="end in time, with exit status 3; the same command goes on")
    train.add_argument("--log", type=Path, help="add a line of JSON after every epoch to this file")
    train.add_argument("--report", type=Path, help="write how it ended to this JSON file")

    join = command("join", _join, "Find out how to weigh a family's answers from XANES and from EXAFS where a sample has both.")
    join.add_argument("family", type=Path, help="folder of the family; the cards of its inverse EXAFS models are written anew")
    join.add_argument("--pairs", type=Path, required=True, help="file of `xastruct pairs`")


def _sources(options: argparse.Namespace, refuse: Callable[[str], None]) -> list[Iterator[Any]]:
    """Records of the files and the library that a command names; `refuse` is told of those of the library that are left out."""
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
        sources.append(read_library(options.reference, refuse))
    if not sources:
        raise DatasetError("no source of spectra was given; name files of spectra, or --reference FOLDER.")
    return sources


def _dataset(options: argparse.Namespace) -> None:
    from itertools import chain

    from .dataset import Holdout
    from .prepare import prepare
    from .reference.scattering import read_paths

    refused: list[str] = []
    sources = _sources(options, refused.append)
    with progress_bar("structures") as progress:
        paths = read_paths(options.reference) if options.reference else ()
        dataset, left_out = prepare(chain(*sources), Holdout.read(options.holdout), options.cache, options.cores, progress, paths)
    dataset.save(options.output)
    rows = [[kind, str(len(table)), str(len(set(table.absorber.tolist())))] for kind, table in dataset.tables.items()]
    print_table(f"{options.output}: {len(dataset.materials)} materials", ("kind", "sites", "absorbers"), rows)
    left_out.update(Counter(refused))
    print_table("left out", ("reason", "spectra"), [[reason, str(count)] for reason, count in left_out.items()])


def _pairs(options: argparse.Namespace) -> None:
    from itertools import chain

    from .dataset import Holdout
    from .pairs import make_pairs
    from .reference.state import State

    refused: list[str] = []
    with progress_bar("EXAFS") as progress:
        dataset = make_pairs(
            chain(*_sources(options, refused.append)), Holdout.read(options.holdout), State(options.state), options.cache, options.sites,
            options.split_seed, options.cores, progress,
        )  # fmt: skip
    dataset.save(options.output)
    parts = dataset.parts("EXAFS", options.split_seed)
    print_table(
        f"{options.output}: {len(dataset.materials)} materials",
        ("part", "sites"),
        [[name, str(mask.sum())] for name, mask in parts.items()],
    )
    if refused:
        print_table("left out", ("reason", "spectra"), [[reason, str(count)] for reason, count in Counter(refused).items()])


def _crystals(options: argparse.Namespace) -> None:
    from .crystals import sample_crystals
    from .dataset import Holdout

    path = str(options.path) if options.path else ""
    with progress_bar("sites") as progress:
        holdout = Holdout.read(options.holdout)
        found = sample_crystals(options.source, path, options.per_element, holdout, options.seed, options.cores, progress)
    found.save(options.output)
    rows = [[str(len(found)), str(len(found.materials)), str(len(set(found.absorber.tolist())))]]
    print_table(str(options.output), ("sites", "materials", "absorbers"), rows)


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
        report["family"] = make_family(Dataset.load(path), config, options.output, say, crystals, options.keep, watch, options.begin)
        say(f"wrote {options.output} with {', '.join(report['family']['models'])}")


def _read_config(path: Path, dataset: Path | None) -> tuple[Path, FamilyConfig]:
    """The dataset and the configuration that a file names; `dataset` wins over the file's own."""
    from .configuration import FamilyConfig, read_content
    from .errors import DatasetError

    content = read_content(path)
    named = content.pop("dataset", None)
    found = dataset or (path.parent / named if named else None)
    if found is None:
        raise DatasetError("no dataset was given; add the key dataset to the configuration or use --dataset FILE.")
    return found, FamilyConfig.from_dict(content)


def _join(options: argparse.Namespace) -> None:
    from .dataset import Dataset
    from .joint import join_models

    found = join_models(options.family, Dataset.load(options.pairs))
    for question, keys in (("neighbours", ("micro_f1", "macro_f1", "exact", "set_size")), ("distance", ("mae", "r2_within_absorber"))):
        rows = [[name, *(f"{own['report'][key]:.4f}" for key in keys)] for name, own in found[question].items()]
        print_table(f"{question}, {found[question]['both']['report']['sites']} sites of report", ("from", *keys), rows)

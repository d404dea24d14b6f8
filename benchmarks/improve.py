"""What two rounds of active learning bring, beside a random pick of the same size.

    python benchmarks/improve.py --dataset dataset.h5 --json improve.json
    python benchmarks/improve.py --table improve.json > docs/reference/improve.md

A forward model of EXAFS is trained on `--start` sites of *train*, drawn by the seed. In each of two rounds `--sites` more are picked from
all other sites of *train*: by `engine.acquisition`, as `xastruct.improve` does, or at random. Both arms begin with the same model, pick
from the same candidates by the same rules (no site whose absorber, formula and prototype are known; no two of one formula and prototype
in a round), and train anew with the same configuration and seed.

FEFF is not run here: the dataset has the spectrum of every candidate, which FEFF 8.5L has computed before, and it is looked up when its
site is picked. Picking, training, calibration and comparison are the functions that `xastruct.improve` calls.

The error is asked of *report*, all of it: no model learns from its sites or is chosen by them. *Select*, which decides when a network is
best and whether a new model is better, is thinned to `--select` sites. Scattering paths, which the dataset has of some sites, are left out,
as FEFF's jobs in a round give none. How the acquisition weighs was settled on another split of the dataset (seed 1, two starts, one
round; six ways were tried). What is done is kept in the JSON file, so that a run goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pages import described, parse

from aiida_xastruct.engine.acquisition import Candidates, Gate, Known, choose, places
from aiida_xastruct.engine.bundle import ModelBundle
from aiida_xastruct.engine.configuration import FamilyConfig
from aiida_xastruct.engine.dataset import Dataset, group_label
from aiida_xastruct.engine.family import make_family
from aiida_xastruct.engine.improvement import compare
from aiida_xastruct.engine.spectrum import element_symbol

TASK, KIND, SPLIT_SEED = "forward-EXAFS", "EXAFS", 0

#: A small training: minutes on one core. Errors are larger than those of the family that ships, which has 25 times as many sites.
TRAINING = {
    "members": 1, "epochs": 100, "batch_size": 16, "learning_rate": 0.003, "weight_decay": 0.02, "accelerator": "cpu", "devices": 1,
    "progress": False,
}  # fmt: skip
ARCHITECTURE = {"width": 128, "depth": 2, "dropout": 0.1}

ROUNDS = 2

Rows = NDArray[np.int64]

#: How each arm picks: (model, dataset, free candidates, known rows, count, seed) to rows.
Pick = Callable[[ModelBundle, Dataset, Rows, Rows, int, int], Rows]


def configuration(seed: int) -> FamilyConfig:
    """What every model here is trained by."""
    training = {**TRAINING, "seed": seed}
    return FamilyConfig.from_dict(
        {"name": "improve", "tasks": [TASK], "split_seed": SPLIT_SEED, "architecture": ARCHITECTURE, "training": training}
    )


def with_training_rows(dataset: Dataset, rows: Rows, most_select: int) -> Dataset:
    """The dataset with these rows of *train* alone, a part of *select*, and all of the other parts."""
    masks = dataset.parts(KIND, SPLIT_SEED)
    select = np.random.default_rng(0).permutation(np.flatnonzero(masks["select"]))[:most_select]
    kept = np.concatenate([rows, select, np.flatnonzero(masks["calibrate"] | masks["report"])])
    return Dataset(dataset.materials, dataset.engines, {KIND: dataset.tables[KIND].take(np.sort(kept))})


def labels(dataset: Dataset) -> NDArray[np.str_]:
    """(n,) label of the group of each row."""
    return np.array([group_label(dataset.materials[material]) for material in dataset.tables[KIND].material])


def free(dataset: Dataset, own: Dataset) -> Rows:
    """Rows that may be added to a dataset: the gate that `xastruct.improve` has is asked about each."""
    table, gate = dataset.tables[KIND], Gate.of(own, KIND, SPLIT_SEED)
    return np.array(
        [
            row
            for row in np.flatnonzero(dataset.parts(KIND, SPLIT_SEED)["train"])
            if not gate.refusal(dataset.materials[table.material[row]], element_symbol(int(table.absorber[row])))
        ]
    )


def by_acquisition(model: ModelBundle, dataset: Dataset, candidates: Rows, known: Rows, count: int, seed: int) -> Rows:
    """The choice of `xastruct.improve`, from the error that the model expects of each candidate."""
    table = dataset.tables[KIND].take(candidates)
    answers = model.predict_from_features(table.features, [element_symbol(int(z)) for z in table.absorber])
    expected = np.array([answer.uncertainty for answer in answers])
    sites = Candidates(places(model, table.features), table.absorber, expected, labels(dataset)[candidates])
    before = dataset.tables[KIND].take(known)
    return candidates[choose(sites, Known(places(model, before.features), before.absorber), count).rows]


def at_random(model: ModelBundle, dataset: Dataset, candidates: Rows, known: Rows, count: int, seed: int) -> Rows:
    """The first of a random order, no two of one group."""
    order = np.random.default_rng((seed, len(known))).permutation(candidates)
    _, first = np.unique(labels(dataset)[order], return_index=True)
    return order[np.sort(first)[:count]]


ARMS: dict[str, Pick] = {"acquisition": by_acquisition, "random": at_random}


def trained(dataset: Dataset, rows: Rows, seed: int, most_select: int, folder: Path) -> tuple[ModelBundle, Dataset]:
    """The model of these rows, and what it was trained on; a model that is there already is read."""
    own = with_training_rows(dataset, rows, most_select)
    if not (folder / "family.json").is_file():
        make_family(own, configuration(seed), folder)
    return ModelBundle.load(folder / TASK), own


def run(dataset: Dataset, seeds: Sequence[int], start: int, sites: int, most_select: int, path: Path) -> dict[str, Any]:
    """Train what the file at `path` lacks."""
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"seeds": {}, "cpu_seconds": 0.0}
    result |= {"dataset": dataset.content_hash(), "config": asdict(configuration(0)), "start": start, "sites": sites, "select": most_select}
    work, train = path.with_suffix(""), np.flatnonzero(dataset.parts(KIND, SPLIT_SEED)["train"])
    for seed in seeds:
        first = np.random.default_rng(seed).permutation(train)[:start]
        done = result["seeds"].setdefault(str(seed), {})
        for name, pick in ARMS.items():
            rounds, rows, standing = done.setdefault(name, []), first, None
            for number in range(ROUNDS + 1):
                began = time.process_time()
                folder = work / (f"{seed}-start" if number == 0 else f"{seed}-{name}-{number}")
                if number:
                    assert standing is not None
                    candidates = free(dataset, with_training_rows(dataset, rows, most_select))
                    rows = np.concatenate([rows, pick(standing, dataset, candidates, rows, sites, seed)])
                model, own = trained(dataset, rows, seed, most_select, folder)
                if len(rounds) <= number:
                    rounds.append(_said(model, own, rows, standing))
                    result["cpu_seconds"] += time.process_time() - began
                    path.write_text(json.dumps(result, indent=1) + "\n")
                # As in `xastruct.improve`: what stands picks, and the new model stands if it is better on select.
                standing = model if standing is None or rounds[number]["verdict"]["better"] else standing
    shutil.rmtree(work, ignore_errors=True)
    return result


def _said(model: ModelBundle, own: Dataset, rows: Rows, standing: ModelBundle | None) -> dict[str, Any]:
    """What is kept of a model: its errors on *report*, and how it stands beside the one before."""
    absorbers = len(np.unique(own.tables[KIND].absorber[own.parts(KIND, SPLIT_SEED)["train"]]))
    metrics = {name: model.card["metrics"]["report"][name] for name in ("mse", "rmse_median", "baseline_mse", "sites")}
    verdict = None if standing is None else asdict(compare(standing, model, own))
    return {"train": len(rows), "absorbers": absorbers, "verdict": verdict, **metrics}


def table(result: dict[str, Any]) -> str:
    """Markdown of a result."""
    runs = [own for own in result["seeds"].values() if all(len(own.get(name, ())) == ROUNDS + 1 for name in ARMS)]
    training = result["config"]["training"]
    sites = [result["start"] + number * result["sites"] for number in range(ROUNDS + 1)]
    first = runs[0]["random"][0]
    lines = [
        "# Active learning",
        "",
        *(__doc__ or "").splitlines()[2:],
        "",
        f"{len(runs)} seeds; {first['sites']} sites of *report*, where the mean of each absorber's training spectra has an error of "
        f"{np.mean([own['random'][0]['baseline_mse'] for own in runs]):.2f}. Networks: {training['members']}, epochs: "
        f"{training['epochs']}.",
        f"Data `{result['dataset'][:12]}`; {result['cpu_seconds']:.0f} CPU-seconds in all.",
        "",
        "## Mean square error of k²χ on *report* (Å⁻⁴), mean ± standard deviation over the seeds",
        "",
        *_errors(runs, sites, "mse"),
        "",
        "## Median over sites of the root mean square error (Å⁻²)",
        "",
        *_errors(runs, sites, "rmse_median"),
        "",
        _in_words(runs, sites),
        "",
        "## Each run",
        "",
        "*Better on select* is the verdict on the new model beside the one that stood: by how much its mean square error is less, with the "
        "standard error over groups of formula and prototype. Only a better one picks in the next round.",
        "",
        "| seed | pick | round | sites | absorbers | error on *report* | median | better on *select* |",
        "|---" * 8 + "|",
    ]
    for seed, own in result["seeds"].items():
        for name in ARMS:
            for number, row in enumerate(own.get(name, ())):
                if number == 0 and name != next(iter(ARMS)):
                    continue  # the same model
                verdict = row["verdict"]
                said = "" if verdict is None else f"{'yes' if verdict['better'] else 'no'}, {_share(verdict)}"
                lines.append(
                    f"| {seed} | {name if number else 'start'} | {number} | {row['train']} | {row['absorbers']} | {row['mse']:.3f} | "
                    f"{row['rmse_median']:.3f} | {said} |"
                )
    return "\n".join([*lines, ""])


def _share(verdict: dict[str, Any]) -> str:
    return f"{verdict['decrease']:+.1%} ± {verdict['standard_error']:.1%}".replace("%", " %")


def _values(runs: list[dict[str, Any]], name: str, metric: str, number: int) -> NDArray[np.float64]:
    """(seeds,) of a metric after a round."""
    return np.array([own[name][number][metric] for own in runs])


def _errors(runs: list[dict[str, Any]], sites: list[int], metric: str) -> list[str]:
    """Rows of a table of a metric after each round."""
    rows = ["| round | sites | acquisition | random | acquisition over random | seeds where it is less |", "|---" * 6 + "|"]
    for number, count in enumerate(sites):
        values = {name: _values(runs, name, metric, number) for name in ARMS}
        cells = [_spread(values[name], ".3f") for name in ARMS]
        if number == 0:
            rows.append(f"| 0 | {count} | {cells[0]} | the same | | |")
            continue
        ratio = values["acquisition"] / values["random"]
        rows.append(f"| {number} | {count} | {' | '.join(cells)} | {_spread(ratio, '.2f')} | {(ratio < 1).sum()} of {len(runs)} |")
    return rows


def _spread(values: NDArray[np.float64], form: str) -> str:
    deviation = f" ± {values.std(ddof=1):{form}}" if len(values) > 1 else ""
    return f"{values.mean():{form}}{deviation}"


def _in_words(runs: list[dict[str, Any]], sites: list[int]) -> str:
    """What the numbers say of the last round, and how sure that is."""
    said = []
    for metric, name in (("mse", "the mean square error"), ("rmse_median", "the median over sites")):
        ratio = _values(runs, "acquisition", metric, ROUNDS) / _values(runs, "random", metric, ROUNDS)
        error = ratio.std(ddof=1) / np.sqrt(len(ratio)) if len(ratio) > 1 else float("inf")
        off = ratio.mean() - 1.0
        sure = "more than two standard errors of these seeds" if abs(off) > 2 * error else "within two standard errors of these seeds"
        said.append(f"{name} is {abs(off):.0%}".replace("%", " %") + f" {'less' if off < 0 else 'more'} than by a random pick, {sure}")
    return f"After {ROUNDS} rounds, {sites[-1]} sites, by acquisition {'; '.join(said)}."


def main() -> int:
    """Run the benchmark."""
    parser = described(__doc__)
    parser.add_argument("--dataset", type=Path, help="what `xastruct dataset` made")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2), help="of the starts and trainings (0 1 2)")
    parser.add_argument("--start", type=int, default=300, help="sites of the first model (300)")
    parser.add_argument("--sites", type=int, default=150, help="sites of a round (150)")
    parser.add_argument("--select", type=int, default=400, help="sites of select (400)")
    options = parse(parser, table, "dataset")
    torch.set_num_threads(1)
    print(table(run(Dataset.load(options.dataset), options.seeds, options.start, options.sites, options.select, options.json)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

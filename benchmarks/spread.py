"""How far the numbers of a family scatter over group splits and training seeds.

    python benchmarks/spread.py --dataset dataset.h5 --config configs/spread.yaml --json spread.json
    python benchmarks/spread.py --table spread.json > docs/reference/spread.md

A family is trained, calibrated and measured on its own *report* part for each split and each seed, with the configuration's tasks
(`--tasks` for others, which are added to those that the file has). A split draws anew which groups of reduced formula and prototype are
trained on and which are reported; a seed sets the first weights, the order and the draws of training. What is done is kept in the JSON
file, so that a run goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from pages import described, parse

from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.configuration import FamilyConfig, read_content
from aiida_xastruct.engine.dataset import Dataset
from aiida_xastruct.engine.family import make_family

#: Metrics of a card's `report` column that are collected, and what they are called.
METRICS: dict[str, dict[str, str]] = {
    "forward": {"mse": "mean square error", "r2_median": "median R2", "whole_spectrum_in_band": "wholly inside the 90 % band"},
    "distance": {"mae": "MAE (angstrom)", "r2_within_absorber": "R2 within absorber", "coverage90": "inside the 90 % interval"},
    "neighbours": {"micro_f1": "micro-F1", "macro_f1": "macro-F1", "exact": "exact set", "coverage90": "inside the 90 % set"},
}


def reseeded(config: FamilyConfig, split: int, seed: int) -> FamilyConfig:
    """The configuration with another split and another seed of every task."""
    own = {label: replace(options, seed=seed) for label, options in config.training_of.items()}
    return replace(config, split_seed=split, training=replace(config.training, seed=seed), training_of=own)


def run(dataset: Dataset, config: FamilyConfig, splits: int, seeds: int, path: Path) -> dict[str, Any]:
    """Train what the file at `path` lacks; each entry of `runs` holds the report metrics of a family by task."""
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"runs": {}}
    result |= {"config": asdict(config), "dataset": dataset.content_hash()}
    runs = result["runs"]
    for split in range(splits):
        for seed in range(seeds):
            name = f"split {split}, seed {seed}"
            done = runs.setdefault(name, {"split": split, "seed": seed, "cpu_seconds": 0.0, "metrics": {}})
            missing = tuple(label for label in config.tasks if label not in done["metrics"])
            if not missing:
                continue
            folder = path.with_suffix("") / name.replace(", ", "-").replace(" ", "")
            start = time.process_time()
            make_family(dataset, replace(reseeded(config, split, seed), tasks=missing), folder)
            family = FamilyBundle.load(folder)
            cards = {label: family.model(*label.split("-")).card for label in family.labels}
            done["metrics"] |= {label: card["metrics"]["report"] for label, card in cards.items()}
            done["cpu_seconds"] += time.process_time() - start
            path.write_text(json.dumps(result, indent=1))
            shutil.rmtree(folder)
    return result


def spread(runs: list[dict[str, Any]], label: str, metric: str) -> dict[str, float]:
    """Mean and standard deviation over all runs, over the means of splits, and over the seeds of one split."""
    by_split: dict[int, list[float]] = {}
    for one in runs:
        if metric in one["metrics"].get(label, {}):
            by_split.setdefault(one["split"], []).append(one["metrics"][label][metric])
    values = [value for own in by_split.values() for value in own]
    several = [own for own in by_split.values() if len(own) > 1]

    def deviation(numbers: list[float]) -> float:
        return float(np.std(numbers, ddof=1)) if len(numbers) > 1 else float("nan")

    return {
        "mean": float(np.mean(values)),
        "sd": deviation(values),
        "sd_of_splits": deviation([float(np.mean(own)) for own in by_split.values()]),
        "sd_of_seeds": float(np.sqrt(np.mean([np.var(own, ddof=1) for own in several]))) if several else float("nan"),
    }


def table(result: dict[str, Any]) -> str:
    """Markdown of a result."""
    runs = list(result["runs"].values())
    splits, seeds = ({one[name] for one in runs} for name in ("split", "seed"))
    training = result["config"]["training"]
    lines = [
        "# Spread over splits and seeds",
        "",
        *(__doc__ or "").splitlines()[2:],
        "",
        f"{len(runs)} families: {len(splits)} splits, {len(seeds)} seeds; data `{result['dataset'][:12]}`; networks a task: "
        f"{training['members']}, epochs: {training['epochs']} but where the configuration says otherwise, so that the spread compares with "
        f"that of another family, and the means do not. {np.mean([one['cpu_seconds'] for one in runs]):.0f} CPU-seconds a family.",
        "",
        "| task | metric on *report* | mean +- standard deviation | of the means of splits | of the seeds of a split |",
        "|---" * 5 + "|",
    ]
    for label in sorted({label for one in runs for label in one["metrics"]}):
        for metric, text in METRICS[label.split("-")[0]].items():
            found = spread(runs, label, metric)
            numbers = f"{found['mean']:.4f} +- {found['sd']:.4f} | {found['sd_of_splits']:.4f} | {found['sd_of_seeds']:.4f}"
            lines.append(f"| {label} | {text} | {numbers} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """Run the benchmark."""
    parser = described(__doc__)
    parser.add_argument("--dataset", type=Path, help="what `xastruct dataset` made")
    parser.add_argument("--config", type=Path, default=Path("configs/spread.yaml"))
    parser.add_argument("--tasks", nargs="+", help="labels such as distance-XANES; the configuration's if left out")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    options = parse(parser, table, "dataset")
    config = FamilyConfig.from_dict(read_content(options.config))
    config = replace(config, tasks=tuple(options.tasks) if options.tasks else config.tasks)
    print(table(run(Dataset.load(options.dataset), config, options.splits, options.seeds, options.json)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

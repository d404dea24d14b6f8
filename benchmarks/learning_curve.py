"""Error against number of training sites: what more data would bring.

    python benchmarks/learning_curve.py --dataset dataset.h5 --config configs/learning.yaml --json learning.json
    python benchmarks/learning_curve.py --table learning.json > docs/reference/learning_curves.md

Families are trained on 1/8, 1/4, 1/2 and all of the groups of reduced formula and prototype of *train*, each set inside the next, and
measured on the same *report* part. A smaller set is seen more often: epochs grow with the square root of what is left out. The last columns
are a line through the logarithms of sites and error: by what factor twice the sites change the error, and where the line meets the bar.
What is done is kept in the JSON file, so that a run goes on where it stopped.
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
from peer_split import draw

from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.configuration import FamilyConfig, read_content
from aiida_xastruct.engine.dataset import Dataset, group_label
from aiida_xastruct.engine.family import make_family
from aiida_xastruct.engine.training import TrainingOptions

FRACTIONS = (0.125, 0.25, 0.5, 1.0)

#: Of each question: metric of a card, what it is called, its baseline.
METRIC = {
    "forward": ("mse", "mean square error", "baseline_mse"),
    "distance": ("mae", "mean absolute error of the mean distance (angstrom)", "baseline_mae"),
    "neighbours": ("micro_f1", "1 - micro-F1", "baseline_micro_f1"),
}

#: What must be reached, where it is one number.
BARS = {"distance-EXAFS": 0.02, "distance-XANES": 0.05, "neighbours-EXAFS": 0.15}


def thinned(dataset: Dataset, fraction: float, split_seed: int) -> Dataset:
    """The dataset with a fraction of the groups of its training part, and all of the other parts."""
    tables, paths = {}, dataset.paths
    for kind, own in dataset.tables.items():
        group = np.array([group_label(dataset.materials[material]) for material in own.material])
        kept = ~dataset.parts(kind, split_seed)["train"] | (draw(group, "learning curve") < fraction)
        tables[kind] = own.take(kept)
        if kind == "EXAFS" and paths is not None:
            paths = paths.of_sites(kept)
    return Dataset(dataset.materials, dataset.engines, tables, paths)


def scaled(config: FamilyConfig, fraction: float) -> FamilyConfig:
    """The configuration with as many more epochs as a smaller set needs."""

    def more(options: TrainingOptions) -> TrainingOptions:
        return replace(options, epochs=round(options.epochs / fraction**0.5))

    own = {label: more(options) for label, options in config.training_of.items()}
    return replace(config, training=more(config.training), training_of=own)


def run(dataset: Dataset, config: FamilyConfig, path: Path) -> dict[str, Any]:
    """Train what the file at `path` lacks: of each fraction and task the report metrics and the number of training sites."""
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"runs": {}}
    result |= {"config": asdict(config), "dataset": dataset.content_hash()}
    for fraction in FRACTIONS:
        done = result["runs"].setdefault(str(fraction), {})
        if all(label in done for label in config.tasks):
            continue
        folder = path.with_suffix("") / f"fraction-{fraction}"
        start = time.process_time()
        make_family(thinned(dataset, fraction, config.split_seed), scaled(config, fraction), folder)
        family = FamilyBundle.load(folder)
        cards = {label: family.model(*label.split("-")).card for label in config.tasks}
        own = {label: card["metrics"]["report"] | {"train": card["split"]["train"]} for label, card in cards.items()}
        done |= own
        result.setdefault("cpu_seconds", {})[str(fraction)] = time.process_time() - start
        path.write_text(json.dumps(result, indent=1))
        shutil.rmtree(folder)
    return result


def error_of(metrics: dict[str, float], label: str) -> float:
    """The number that falls as a model gets better."""
    value = metrics[METRIC[label.split("-")[0]][0]]
    return 1.0 - value if label.startswith("neighbours") else value


def power_law(sites: list[int], errors: list[float]) -> tuple[float, float]:
    """Logarithm of the error of one site, and the exponent, of error = exp(a) x sites^b."""
    exponent, start = np.polyfit(np.log(sites), np.log(errors), 1)
    return float(start), float(exponent)


def outlook(label: str, sites: list[int], errors: list[float]) -> str:
    """What the line through the logarithms says of the bar."""
    bar = BARS.get(label)
    if bar is None:
        return ""
    if errors[-1] <= bar:
        return "reached"
    start, exponent = power_law(sites, errors)
    needed = np.exp((np.log(bar) - start) / exponent) if exponent < 0 else np.inf
    return f"at {needed:.1g} sites" if needed < 1e7 else "not by more of the same sites"


def table(result: dict[str, Any]) -> str:
    """Markdown of a result."""
    training = result["config"]["training"]
    lines = [
        "# Learning curves",
        "",
        *(__doc__ or "").splitlines()[2:],
        "",
        f"Data `{result['dataset'][:12]}`; networks a task: {training['members']}, epochs on all sites: {training['epochs']} but where the "
        "configuration says otherwise, so errors are larger than those of the family that ships.",
        "",
        f"| task | error on *report* | {' | '.join(f'{fraction:g} of train' for fraction in FRACTIONS)} | absorber alone | twice the "
        "sites | bar |",
        "|---" * (len(FRACTIONS) + 5) + "|",
    ]
    for label in dict.fromkeys(label for own in result["runs"].values() for label in own):
        runs = {fraction: result["runs"][str(fraction)][label] for fraction in FRACTIONS if label in result["runs"].get(str(fraction), {})}
        sites, errors = [int(own["train"]) for own in runs.values()], [error_of(own, label) for own in runs.values()]
        _, text, baseline = METRIC[label.split("-")[0]]
        beside = runs[max(runs)][baseline]
        cells = [f"{errors[list(runs).index(f)]:.4f} ({runs[f]['train']} sites)" if f in runs else "" for f in FRACTIONS]
        factor = f"x {2 ** power_law(sites, errors)[1]:.2f}" if len(runs) > 1 else ""
        bar = f"{BARS[label]:g}: {outlook(label, sites, errors)}" if label in BARS and len(runs) > 1 else ""
        alone = 1.0 - beside if label.startswith("neighbours") else beside
        lines.append(f"| {label} | {text} | {' | '.join(cells)} | {alone:.4f} | {factor} | {bar} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """Run the benchmark."""
    parser = described(__doc__)
    parser.add_argument("--dataset", type=Path, help="what `xastruct dataset` made")
    parser.add_argument("--config", type=Path, default=Path("configs/learning.yaml"))
    parser.add_argument("--tasks", nargs="+", help="labels such as distance-XANES; the configuration's if left out")
    options = parse(parser, table, "dataset")
    config = FamilyConfig.from_dict(read_content(options.config))
    config = replace(config, tasks=tuple(options.tasks) if options.tasks else config.tasks)
    print(table(run(Dataset.load(options.dataset), config, options.json)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Two processes that share a training, against one: the same loss curve within noise.

    zcat ../shared/data/omnixas_feff.spectra.jsonl.gz | awk 'NR % 10 == 1' | gzip > tenth.spectra.jsonl.gz
    cp ../shared/data/omnixas_feff.structures.jsonl.gz tenth.structures.jsonl.gz
    xastruct dataset tenth.spectra.jsonl.gz --holdout ../shared/data --cache sites.sqlite -o dataset.h5
    python benchmarks/ddp.py --dataset dataset.h5 --json ddp.json
    python benchmarks/ddp.py --table ddp.json > docs/reference/ddp.md

`xastruct train` is run with `devices: 1` and `devices: 2` (gloo, CPU; each process takes half of every step) from six seeds each. With the
same seed both start from the same weights, and see the sites in another order and other draws. The distance of two curves is the median,
over epochs, of how far apart they are: the training loss holds the logarithm of the error that a network states of itself, and single steps
in which it states far too little stand out by themselves. What is done is kept in the JSON file, so that a run goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pages import described, parse

from aiida_xastruct.engine.dataset import Dataset
from aiida_xastruct.engine.watch import read_log

SEEDS = (0, 1, 2, 3, 4, 5)
PROCESSES = (1, 2)
LOSSES = {"loss": "training", "select_loss": "select"}

CONFIG: dict[str, Any] = {
    "name": "ddp",
    "tasks": ["distance-XANES"],
    "architecture": {"width": 128, "depth": 2, "dropout": 0.1},
    "training": {"members": 1, "epochs": 20, "batch_size": 64, "accelerator": "cpu", "progress": False},
}


def train(dataset: Path, seed: int, processes: int) -> dict[str, Any]:
    """Loss curves of each task, by the log of one command, and where it says it ran."""
    with tempfile.TemporaryDirectory(prefix="xastruct-ddp-") as name:
        folder = Path(name)
        training = {**CONFIG["training"], "seed": seed, "devices": processes}
        (folder / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "training": training}))
        command = [sys.executable, "-m", "aiida_xastruct.engine.cli", "train", folder / "config.yaml", "--dataset", dataset]
        command += ["-o", folder / "family", "--log", folder / "log.jsonl", "--report", folder / "report.json"]
        subprocess.run([str(word) for word in command], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
        found: dict[str, dict[str, list[float]]] = {}
        for line in read_log((folder / "log.jsonl").read_text().splitlines()):
            for loss in LOSSES:
                found.setdefault(line["task"], {key: [] for key in LOSSES})[loss].append(line[loss])
        report = json.loads((folder / "report.json").read_text())
    return {"curves": found, "processes": report["processes"], "device": report["device"]}


def run(path: Path, dataset: Path) -> dict[str, Any]:
    """Train what the file at `path` lacks."""
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"runs": {}}
    table = Dataset.load(dataset)
    sites = {name: len(part) for name, part in table.split("XANES", 0).items()}
    result |= {"config": CONFIG, "dataset": table.content_hash(), "sites": sites}
    for seed in SEEDS:
        for processes in PROCESSES:
            key = f"{processes} {seed}"
            if key not in result["runs"]:
                result["runs"][key] = train(dataset, seed, processes)
                assert result["runs"][key]["processes"] == processes
                path.write_text(json.dumps(result, indent=1))
    return result


def distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Median over epochs of the absolute difference of two curves."""
    return float(np.median(np.abs(one - other)))


def page(result: dict[str, Any]) -> str:
    """Markdown of a result."""
    runs, training = result["runs"], result["config"]["training"]
    first = runs[f"{PROCESSES[0]} {SEEDS[0]}"]["curves"]
    pairs = list(combinations(range(len(SEEDS)), 2))
    lines = [
        "# One process and two",
        "",
        *(__doc__ or "").splitlines()[2:],
        "",
        f"Data `{result['dataset'][:12]}`: {result['sites']['train']} sites to train, {result['sites']['select']} to select; "
        f"{training['epochs']} epochs, {training['batch_size']} sites in a step of all processes together.",
        "",
        f"Noise is the distance of two curves of one process from different seeds (mean and largest of {len(pairs)} pairs). Beside it: the "
        f"distance of the curve of two processes from that of one with the same seed (mean and largest of {len(SEEDS)}), and that of the "
        "medians over seeds. Best is the lowest of a curve, mean and standard deviation over seeds.",
        "",
        "| networks of | loss | noise | two processes | of the medians | best of one | best of two |",
        "|---|---|---|---|---|---|---|",
    ]
    within, outliers = [], dict.fromkeys(PROCESSES, 0)
    for task in first:
        for loss, name in LOSSES.items():
            one, two = (curves(result, task, loss, n) for n in PROCESSES)
            noise = [distance(one[a], one[b]) for a, b in pairs]
            shared = [distance(a, b) for a, b in zip(one, two, strict=True)]
            medians = distance(np.median(one, axis=0), np.median(two, axis=0))
            within.append(np.mean(shared) <= np.mean(noise))
            cells = [f"{np.mean(own):.4f} ({max(own):.4f})" for own in (noise, shared)]
            best = [f"{own.min(axis=1).mean():.4f} ± {own.min(axis=1).std(ddof=1):.4f}" for own in (one, two)]
            lines.append(f"| {task} | {name} | {cells[0]} | {cells[1]} | {medians:.4f} | {best[0]} | {best[1]} |")
        for n in PROCESSES:
            own = curves(result, task, "loss", n)
            outliers[n] += int((own > own[:, :1]).sum())
    said = "all" if all(within) else f"{sum(within)} of {len(within)}"
    lines += ["", f"Two processes are as near to one as two seeds of one are to each other in {said} of the losses (means)."]
    lines += [f"Epochs whose training loss is above that of the first: {outliers[1]} of one process, {outliers[2]} of two."]
    lines += ["", "The loss curves, median over the seeds, of one process / of two:", ""]
    lines += ["| epoch | " + " | ".join(f"{task}, {name}" for task in first for name in LOSSES.values()) + " |"]
    lines += ["|---" * (1 + len(first) * len(LOSSES)) + "|"]
    for epoch in (1, 2, 3, 5, 10, 15, 20):
        cells = []
        for task in first:
            for loss in LOSSES:
                cells.append(" / ".join(f"{np.median(curves(result, task, loss, n)[:, epoch - 1]):.4f}" for n in PROCESSES))
        lines.append(f"| {epoch} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def curves(result: dict[str, Any], task: str, loss: str, processes: int) -> NDArray[np.float64]:
    """(seeds, epochs) of a loss."""
    return np.array([result["runs"][f"{processes} {seed}"]["curves"][task][loss] for seed in SEEDS])


def main() -> int:
    """Run the benchmark."""
    parser = described(__doc__)
    parser.add_argument("--dataset", type=Path, help="what `xastruct dataset` made, with XANES")
    options = parse(parser, page, "dataset")
    print(page(run(options.json, options.dataset)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

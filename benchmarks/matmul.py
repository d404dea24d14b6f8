"""What training costs, and what it comes to, with single-precision matrices multiplied exactly and in bfloat16.

    python benchmarks/matmul.py --dataset dataset.h5 --config configs/default.yaml --json matmul.json
    python benchmarks/matmul.py --table matmul.json > docs/reference/matmul.md

The first network of each task is trained twice from the same seed on one thread, by the configuration but for `--epochs`: once with
`matmul: highest`, once with `matmul: medium`, as families are trained by default (`engine.training.TrainingOptions`). Medium rounds the
factors of a product to bfloat16 where the processor multiplies these quicker, and sums in single precision.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pages import described, parse

from aiida_xastruct.engine.configuration import FamilyConfig, read_content
from aiida_xastruct.engine.dataset import Dataset
from aiida_xastruct.engine.lessons import lessons_of
from aiida_xastruct.engine.models.tasks import Task
from aiida_xastruct.engine.training import train_ensemble

TASKS = ("forward-EXAFS", "forward-XANES", "shell-XANES")
PRECISIONS = ("highest", "medium")


def run(dataset: Dataset, config: FamilyConfig, epochs: int) -> dict[str, Any]:
    """CPU seconds an epoch and the best select loss, by task and precision."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {"processor": processor(), "torch": torch.__version__, "dataset": dataset.content_hash(), "epochs": epochs}
    found["tasks"] = {}
    for label in TASKS:
        name, kind = label.split("-")
        task = Task(name, kind)  # type: ignore[arg-type]
        parts, masks = dataset.split(task.kind, config.split_seed), dataset.parts(task.kind, config.split_seed)
        lessons, beside = lessons_of(task, dataset, masks["train"], parts["train"], config, Path(), None)
        options = replace(config.options(label), members=1, epochs=epochs, accelerator="cpu", devices=1, progress=False)
        found["tasks"][label] = {"sites": len(lessons)}
        for matmul in PRECISIONS:
            start = time.process_time()
            _, losses = train_ensemble(
                task, lessons, parts["select"], config.architecture, replace(options, matmul=matmul), **beside
            )  # fmt: skip
            found["tasks"][label][matmul] = {"cpu_seconds": (time.process_time() - start) / epochs, "select_loss": losses[0]}
    return found


def processor() -> str:
    """What the processor calls itself, and which of its instructions multiply bfloat16."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    quick = [flag for flag in told.get("flags", "").split() if flag in ("amx_bf16", "avx512_bf16")]
    return f"{told.get('model name', platform.processor())} ({', '.join(quick) or 'without instructions for bfloat16'})"


def table(result: dict[str, Any]) -> str:
    """Markdown of a result."""
    lines = [
        "# How exactly training multiplies",
        "",
        *(__doc__ or "").splitlines()[2:],
        "",
        f"{result['processor']}, PyTorch {result['torch']}; data `{result['dataset'][:12]}`; {result['epochs']} epochs.",
        "",
        "| task | sites | CPU seconds an epoch: highest | medium | ratio | best select loss: highest | medium |",
        "|---" * 7 + "|",
    ]
    for label, own in result["tasks"].items():
        exact, quick = (own[matmul] for matmul in PRECISIONS)
        seconds = f"{exact['cpu_seconds']:.1f} | {quick['cpu_seconds']:.1f} | {exact['cpu_seconds'] / quick['cpu_seconds']:.1f}"
        lines.append(f"| {label} | {own['sites']} | {seconds} | {exact['select_loss']:.4f} | {quick['select_loss']:.4f} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """Run the benchmark."""
    parser = described(__doc__)
    parser.add_argument("--dataset", type=Path, help="what `xastruct dataset` made")
    parser.add_argument("--config", type=Path, default=Path("configs/default.yaml"))
    parser.add_argument("--epochs", type=int, default=4)
    options = parse(parser, table, "dataset")
    config = FamilyConfig.from_dict(read_content(options.config))
    options.json.write_text(json.dumps(run(Dataset.load(options.dataset), config, options.epochs), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

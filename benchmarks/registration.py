"""What the kernel model of crystal to XANES gains by learning curves and their shifts apart, and what is left to gain.

    python benchmarks/registration.py --dataset dataset.h5 --family default --json registration.json
    python benchmarks/registration.py --table registration.json > docs/reference/registration.md

The kernel model (`engine.models.kernel`) is fitted on *train* twice, with each training curve where it is and with each moved to where the
other materials' sites expect it, and asked about *select*, by which the number of rounds was chosen, and *calibrate*; *report* is left
alone. Alone, and as the family answers: with the networks that it holds. *Best shift* is the answer moved, by up to 6 eV, to where
its error is least, which nobody who asks can do: what could be gained if FEFF's edges were known.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pages import described, parse

from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.dataset import Dataset
from aiida_xastruct.engine.models.ensemble import Ensemble
from aiida_xastruct.engine.models.kernel import MOST_STEPS, ROUNDS, SiteKernel, moved
from aiida_xastruct.engine.models.tasks import KERNEL_BLOCKS, curve_error
from aiida_xastruct.engine.spectrum import atomic_number

PARTS = ("select", "calibrate")

#: Absorbers with hundreds of training sites, which OmniXAS computed.
OFTEN = [atomic_number(element) for element in ("Ti", "V", "Cr", "Co", "Ni", "Cu")]


def measure(family: FamilyBundle, dataset: Dataset) -> list[dict[str, Any]]:
    """Errors of each kernel model on each part, for absorbers seen often and seldom."""
    model = family.model("forward", "XANES")
    task, networks = model.task, Ensemble(model.task, model.ensemble.members)
    parts = dataset.split("XANES", int(model.card["split"]["seed"]))
    inputs = {name: task.inputs(task.source(parts[name])) for name in ("train", *PARTS)}
    absorber = {name: torch.as_tensor(part.absorber) for name, part in parts.items()}
    target = {name: task.target(parts[name]) for name in inputs}
    said = {name: networks(inputs[name], absorber[name]).value for name in inputs}
    rows = []
    for rounds in (0, ROUNDS):
        kernel = SiteKernel.fit(
            inputs["train"], absorber["train"], target["train"], said["train"], parts["train"].material, KERNEL_BLOCKS, rounds=rounds
        )
        for name in PARTS:
            alone = kernel(inputs[name], absorber[name])[0]
            answers = {"alone": alone, "with the networks": (alone + said[name]) / 2.0}
            errors = {label: curve_error(value, target[name], "XANES") for label, value in answers.items()}
            steps = torch.arange(-MOST_STEPS, MOST_STEPS + 1)
            shifted = [curve_error(moved(alone, step.expand(len(alone))), target[name], "XANES") for step in steps]
            errors["alone, best shift"] = torch.stack(shifted).min(dim=0).values
            often = np.isin(parts[name].absorber, OFTEN)
            for seen, mask in (("often", often), ("seldom", ~often)):
                for label, error in errors.items():
                    squared = (error.numpy()[mask] ** 2).astype(np.float64)
                    rows.append(
                        {
                            "moved": rounds > 0, "part": name, "seen": seen, "answer": label, "sites": int(mask.sum()),
                            "mean": float(squared.mean()), "median": float(np.median(squared)),
                        }
                    )  # fmt: skip
        print(f"{rounds} rounds: measured", file=sys.stderr)
    return rows


def page(result: dict[str, Any]) -> str:
    """The page, as Markdown."""
    lines = ["# Curves and their shifts", "", f"Family `default`, version {result['version']}; data `{result['data']}`."]
    lines += [*(__doc__ or "").splitlines()[1:], ""]
    lines += ["| absorbers seen | part | sites | answer | mean square error: curves as they are | moved | median: as they are | moved |"]
    lines += ["|---" * 8 + "|"]
    keyed = {(row["moved"], row["part"], row["seen"], row["answer"]): row for row in result["rows"]}
    for (was_moved, part, seen, answer), row in keyed.items():
        if not was_moved:
            other = keyed[True, part, seen, answer]
            numbers = " | ".join(f"{one:.5f}" for one in (row["mean"], other["mean"], row["median"], other["median"]))
            lines.append(f"| {seen} | {part} | {row['sites']} | {answer} | {numbers} |")
    lines += ["", "Seen often are Ti, V, Cr, Co, Ni and Cu. The dataset is that of `configs/default.yaml`; one split, one family."]
    return "\n".join(lines)


def main() -> None:
    """See the head of this file."""
    parser = described(__doc__)
    parser.add_argument("--dataset", type=Path, help="what `xastruct dataset` made")
    parser.add_argument("--family", default="default")
    options = parse(parser, page, "dataset")
    dataset, family = Dataset.load(options.dataset), FamilyBundle.load(options.family)
    result = {"version": family.card["version"], "data": dataset.content_hash()[:12], "rows": measure(family, dataset)}
    options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

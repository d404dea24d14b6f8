"""Does the domain of inverse models find the spectra that they misread, and does it better where it knows the absorber?

    python benchmarks/domain.py --dataset dataset.h5 --family default --json domain.json
    python benchmarks/domain.py --table domain.json > docs/reference/domain.md

The index of each kind of spectrum is made anew from *train*, without absorbers and with neighbours in the periodic table so many standard
deviations apart (`engine.models.domain.PLACE`; families have 3, chosen on *select*), and asked about random draws of *select* and
*calibrate*. Beside each: the rank correlation (Spearman) of its score with the error of the mean distance and with whether the neighbours
are misread, and how many are misread among the twentieth that lies furthest.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pages import described, parse
from scipy.stats import spearmanr

from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.dataset import Dataset
from aiida_xastruct.engine.models.calibration import NeighbourCalibration
from aiida_xastruct.engine.models.domain import PLACE, DomainIndex
from aiida_xastruct.engine.models.tasks import drawn_inputs
from aiida_xastruct.engine.spectrum import Kind

PARTS = ("select", "calibrate")
PLACES = (None, 1.0, PLACE, 10.0)


def measure(family: FamilyBundle, dataset: Dataset, kind: Kind) -> list[dict[str, Any]]:
    """How each index orders the spectra of each part."""
    far, near = family.model("distance", kind), family.model("neighbours", kind)
    parts = dataset.split(kind, int(far.card["split"]["seed"]))
    seen = {name: drawn_inputs(far.task, parts[name], index) for index, name in enumerate(("train", *PARTS))}
    position = {name: far.task.position(far.task.source(parts[name]), inputs) for name, inputs in seen.items()}
    error, misread = {}, {}
    for name in PARTS:
        z = torch.as_tensor(parts[name].absorber)
        error[name] = np.abs(far.ensemble(seen[name], z).value.double().numpy()[:, 0] - parts[name].mean_distance)
        named = near.promises(NeighbourCalibration).named(near.ensemble(seen[name], z).value.double().numpy())
        misread[name] = (named != parts[name].neighbours).any(axis=1)
    rows = []
    for place in PLACES:
        scaled = {name: part.absorber * (place or 0.0) / PLACE for name, part in parts.items()}
        absorbers = None if place is None else (scaled["train"], scaled["select"])
        index = DomainIndex.fit(position["train"], position["select"], absorbers)  # type: ignore[arg-type]
        for name in PARTS:
            score = index.score(position[name], scaled[name])  # type: ignore[arg-type]
            furthest = np.argsort(-score)[: len(score) // 20]
            rows.append(
                {
                    "place": place, "part": name, "sites": len(score), "error": float(spearmanr(score, error[name])[0]),
                    "misread": float(spearmanr(score, misread[name])[0]), "share": float(misread[name].mean()),
                    "furthest": float(misread[name][furthest].mean()),
                }
            )  # fmt: skip
    return rows


def page(result: dict[str, Any]) -> str:
    """Markdown of a result."""
    lines = ["# What the domain finds", "", f"Family `default`, version {result['version']}; data `{result['data']}`.", ""]
    lines += (__doc__ or "").splitlines()[2:]
    for kind, rows in result["found"].items():
        lines += ["", f"## {kind}", ""]
        lines += ["| places apart | part | sites | with the error | with being misread | misread of all | of the furthest twentieth |"]
        lines += ["|---" * 7 + "|"]
        for row in rows:
            place = "absorber unknown" if row["place"] is None else f"{row['place']:g}"
            numbers = f"{row['error']:.2f} | {row['misread']:.2f} | {100 * row['share']:.0f} % | {100 * row['furthest']:.0f} %"
            lines.append(f"| {place} | {row['part']} | {row['sites']} | {numbers} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """Run the benchmark."""
    parser = described(__doc__)
    parser.add_argument("--dataset", type=Path, help="what `xastruct dataset` made")
    parser.add_argument("--family", default="default")
    options = parse(parser, page, "dataset")
    family, dataset = FamilyBundle.load(options.family), Dataset.load(options.dataset)
    found = {kind: measure(family, dataset, kind) for kind in ("XANES", "EXAFS")}
    result = {"version": family.card["version"], "data": dataset.content_hash()[:12], "found": found}
    options.json.write_text(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

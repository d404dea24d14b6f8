"""Absorbers that a family has seldom seen: do its 90 % intervals and sets hold there, with and without the doubt it adds?

    python benchmarks/seldom.py --dataset dataset.h5 --family default --json seldom.json
    python benchmarks/seldom.py --table seldom.json > docs/reference/seldom.md

Inverse models doubt what their networks say of absorbers with few training sites (`engine.models.doubt`, fitted on *select*). Here each is
asked with and without that, calibrated on *calibrate* each time, and the promises are counted by how many training sites an absorber has.
Neither part is wholly fresh: the doubt has seen the one, the calibration the other. *Report* is left alone. The dataset is that of
`configs/default.yaml`, random draws of its spectra as in a measurement.
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
from aiida_xastruct.engine.dataset import MAX_Z, Dataset
from aiida_xastruct.engine.models.calibration import DistanceCalibration, NeighbourCalibration, expected_error
from aiida_xastruct.engine.models.doubt import SELDOM, often_seen
from aiida_xastruct.engine.models.ensemble import Ensemble
from aiida_xastruct.engine.models.tasks import drawn_inputs

PARTS = ("select", "calibrate")


def groups(sites: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Rows by the number of training sites (n,) of their absorbers."""
    return {
        "fewer than 10": sites < 10,
        f"10 to {SELDOM - 1}": (sites >= 10) & (sites < SELDOM),
        f"{SELDOM} or more": sites >= SELDOM,
    }


def measure(family: FamilyBundle, dataset: Dataset, kind: Any, doubting: bool) -> dict[str, Any]:
    """Shares of promises that hold, by part and group."""
    seed = int(family.model("distance", kind).card["split"]["seed"])
    parts, masks = dataset.split(kind, seed), dataset.parts(kind, seed)
    trained = np.bincount(parts["train"].absorber, minlength=MAX_Z)
    label = dataset.group_of(kind)[masks["calibrate"]]
    held: dict[str, dict[str, Any]] = {name: {} for name in PARTS}
    said = {}
    for task in ("distance", "neighbours"):
        model = family.model(task, kind).ensemble  # type: ignore[arg-type]
        asked = model if doubting else Ensemble(model.task, model.members)
        said[task] = {
            name: asked(drawn_inputs(model.task, parts[name], index), torch.as_tensor(parts[name].absorber))
            for index, name in enumerate(("train", *PARTS))
            if name in PARTS
        }
    task = family.model("distance", kind).task
    values = {name: own.value.double().numpy() for name, own in said["distance"].items()}
    expected = {name: expected_error(task, own.stated.numpy(), own.spread.numpy()) for name, own in said["distance"].items()}
    truth = {name: task.target(parts[name]).double().numpy() for name in PARTS}
    intervals = DistanceCalibration.fit(values["calibrate"], truth["calibrate"], expected["calibrate"], label)
    probability = {name: own.value.double().numpy() for name, own in said["neighbours"].items()}
    near = {name: parts[name].neighbours for name in PARTS}
    often = often_seen(parts["train"]) if doubting else None
    sets = NeighbourCalibration.fit(
        probability["calibrate"], near["calibrate"], label, probability["select"], near["select"], parts["calibrate"].absorber, often
    )
    for name in PARTS:
        half = intervals.factors[0] * expected[name][:, 0]
        inside = np.abs(values[name] - truth[name])[:, 0] <= half
        whole = sets.whole(probability[name], parts[name].absorber)
        covered = (whole | ~near[name]).all(axis=1)
        for group, rows in groups(trained[parts[name].absorber]).items():
            if rows.sum() >= 10:
                held[name][group] = {
                    "sites": int(rows.sum()),
                    "intervals": float(inside[rows].mean()),
                    "half_width": float(half[rows].mean()),
                    "sets": float(covered[rows].mean()),
                    "size": float(whole[rows].sum(axis=1).mean()),
                }
    return held


def run(path: Path, family: FamilyBundle) -> dict[str, Any]:
    """Both kinds, with doubt and without."""
    dataset = Dataset.load(path)
    found = {kind: {str(doubting): measure(family, dataset, kind, doubting) for doubting in (False, True)} for kind in ("XANES", "EXAFS")}
    doubt = {
        kind: {
            "error": float(family.model("distance", kind).ensemble.doubt.error.max()),  # type: ignore[arg-type]
            "mix": float(family.model("neighbours", kind).ensemble.doubt.mix.max()),  # type: ignore[arg-type]
        }
        for kind in found
    }
    return {"version": family.card["version"], "data": dataset.content_hash()[:12], "found": found, "doubt": doubt}


def page(result: dict[str, Any]) -> str:
    """Markdown of a result."""
    lines = ["# Absorbers that are seldom seen", "", f"Family `default`, version {result['version']}; data `{result['data']}`.", ""]
    lines += [*"\n\n".join((__doc__ or "").split("\n\n")[1:]).splitlines(), ""]
    for kind, own in result["found"].items():
        doubt = result["doubt"][kind]
        lines += [f"## From {kind}", "", f"Stated errors of seldom absorbers are multiplied by {doubt['error']:.2f}, and"]
        lines += [f"{100 * doubt['mix']:.0f} % of a neighbour's probability is how often elements are neighbours of such absorbers.", ""]
        lines += [
            "| training sites of the absorber | part | sites | doubt | intervals that hold | mean half-width (Å) | sets that hold | size |"
        ]
        lines += ["|---" * 8 + "|"]
        for part in PARTS:
            for group in own["True"][part]:
                for doubting in ("False", "True"):
                    row = own[doubting][part][group]
                    cells = [group, part, str(row["sites"]), "with" if doubting == "True" else "without", f"{100 * row['intervals']:.0f} %"]
                    cells += [f"{row['half_width']:.3f}", f"{100 * row['sets']:.0f} %", f"{row['size']:.1f}"]
                    lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Command line."""
    parser = described(__doc__)
    parser.add_argument("--dataset", type=Path, help="HDF5 file of `xastruct dataset`")
    parser.add_argument("--family", default="default", help="`default` or the folder of a family")
    options = parse(parser, page, "dataset")
    options.json.write_text(json.dumps(run(options.dataset, FamilyBundle.load(options.family)), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

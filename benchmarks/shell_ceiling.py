"""How well the mean distance of CrystalNN's first shell can be known from the crystal's own distances, without any spectrum.

    python benchmarks/shell_ceiling.py --dataset dataset.h5 --crystals crystals.h5 --docs docs/reference/shell_ceiling.md

A model is told what an ideal EXAFS analysis would find, the exact distance, number and element of every neighbour up to 6 angstrom, and
guesses CrystalNN's mean and nearest distance. Where it errs, the shell is a matter of where one ends it: CrystalNN decides by the solid
angles of Voronoi cells, which distances alone do not tell. Whoever reads distances and elements from a spectrum, without an error, is left
with this one. Trained on the *train* parts of both files, measured on *report*, three seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from aiida_xastruct.engine.crystals import Crystals
from aiida_xastruct.engine.dataset import Dataset
from aiida_xastruct.engine.metrics import r2_within
from aiida_xastruct.engine.models.networks import element_descriptors
from aiida_xastruct.engine.paths import MAX_PATHS, PATH_COLUMNS, PATHS_SIZE, PathKind

#: Distinct distances that the model is told, nearest first.
SHELLS = 16


def told(paths: NDArray[np.float32], absorber: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n, features) of rows of paths (n, PATHS_SIZE): per distinct distance r, r over the nearest, number, number so far, and element."""
    rows = paths.reshape(len(paths), MAX_PATHS, len(PATH_COLUMNS))
    r = np.where((rows[..., 0] == PathKind.SINGLE) & (rows[..., 3] > 0), rows[..., 4], np.inf)
    order = np.argsort(r, axis=1, kind="stable")[:, :SHELLS]
    distance = np.take_along_axis(r, order, axis=1)
    known = np.isfinite(distance)
    number = np.where(known, np.take_along_axis(rows[..., 3], order, axis=1), np.nan)
    z = np.where(known, np.take_along_axis(rows[..., 1], order, axis=1), 0).astype(np.int64)
    elements = element_descriptors().numpy()[:, -5:]  # period, group, radius, electronegativity, edge
    own = elements[absorber]
    radii = 2.0 * (elements[z][..., 2] + own[:, None, 2])
    contrast = elements[z][..., 3] - own[:, None, 3]
    distance = np.where(known, distance, np.nan)
    columns = [
        distance,
        distance / distance[:, :1],
        number,
        np.nancumsum(number, axis=1),
        np.where(known, z, np.nan),
        distance / radii,
        contrast,
    ]
    return np.concatenate([np.where(known, column, np.nan) for column in columns] + [own], axis=1).astype(np.float32)


def main() -> None:
    """Measure and print, and write the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--crystals", type=Path, required=True)
    parser.add_argument("--split-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--docs", type=Path, help="page to write")
    options = parser.parse_args()
    dataset, crystals = Dataset.load(options.dataset), Crystals.load(options.crystals)
    parts = dataset.split("EXAFS", options.split_seed)
    more = crystals.of_part("train", options.split_seed)
    train, report = parts["train"], parts["report"]
    inputs = np.concatenate([told(train.features[:, -PATHS_SIZE:], train.absorber), told(crystals.paths[more], crystals.absorber[more])])
    targets = {
        name: np.concatenate([getattr(train, name), getattr(crystals, name)[more]]) for name in ("mean_distance", "nearest_distance")
    }
    asked = told(report.features[:, -PATHS_SIZE:], report.absorber)
    found: dict[str, dict[str, list[float]]] = {}
    for name, target in targets.items():
        numbers = found[name] = {"mae": [], "median": [], "r2_within_absorber": []}
        for seed in range(options.seeds):
            # What is to be told is the ratio to the nearest atom, one in most crystals.
            model = HistGradientBoostingRegressor(loss="absolute_error", max_iter=600, learning_rate=0.08, max_features=0.3)
            model.set_params(random_state=seed)
            model.fit(inputs, target / inputs[:, 0])
            value = model.predict(asked) * asked[:, 0]
            error = np.abs(value - getattr(report, name))
            numbers["mae"].append(float(error.mean()))
            numbers["median"].append(float(np.median(error)))
            numbers["r2_within_absorber"].append(float(r2_within(value, getattr(report, name), report.absorber)))
    text = page(found, len(inputs), len(report))
    print(text)
    if options.docs:
        options.docs.write_text(text)


def page(found: dict[str, dict[str, list[float]]], learned: int, reported: int) -> str:
    """Markdown of what was measured."""
    names = {"mean_distance": "mean distance", "nearest_distance": "nearest distance"}
    rows = [
        f"| {names[name]} | " + " | ".join(f"{np.mean(own):.4f} ± {np.std(own):.4f}" for own in numbers.values()) + " |"
        for name, numbers in found.items()
    ]
    return "\n".join(
        [
            "# What distances alone tell of the first shell",
            "",
            "CrystalNN's first shell, guessed by gradient boosting from the exact distance, number and element of every neighbour up to 6",
            "angstrom: all that an EXAFS analysis without any error could find. What it misses is where CrystalNN ends a shell, which it",
            f"decides by solid angles. {learned} sites to learn from (the *train* parts of the EXAFS data and of the crystals), {reported}",
            "*report* sites of the EXAFS data; mean and standard deviation over seeds.",
            "",
            "| | mean absolute error (angstrom) | median | R2 within an absorber |",
            "|---|---|---|---|",
            *rows,
            "",
            "Made by `python benchmarks/shell_ceiling.py`, as its head says.",
            "",
        ]
    )


if __name__ == "__main__":
    main()

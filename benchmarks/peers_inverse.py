"""Spectrum to local structure: a family beside its peers, trained here on the same sites and asked about the same spectra.

    python benchmarks/peers_inverse.py --dataset dataset.h5 --family default --json peers_inverse.json
    python benchmarks/peers_inverse.py --dataset dataset.h5 --config configs/default.yaml --copper --json peers_inverse.json
    python benchmarks/peers_inverse.py --table peers_inverse.json > docs/reference/peers_inverse.md

*Ours*: the split of the family's card. All learn from *train* and are asked about the same random draws of *report* as the family on its
card (thermal disorder, S0^2, shifts of E0, noise, short ranges); peers learn from drawn spectra too, `--draws` of each site. The peers:

- element-specific random forests of 300 trees on polynomial features (Torrisi et al., npj Comput. Mater. 6, 109 (2020)): cubic polynomials
  fitted to each tenth and each twentieth of the spectrum, their coefficients the features;
- the nearest spectra of the absorber (of mean square difference; how many is chosen on *select*), and their mean;
- ridge on the polynomial features, one an element, its strength chosen on *select*;
- the absorber alone: its mean distance, its most frequent set of neighbours;
- of EXAFS, extra trees on the Fourier transform and the atomic number of the absorber, one model for all elements.

Where an element has fewer than 20 sites to learn from, forest, neighbours and ridge are one model for all elements, with the atomic number
as a feature. An element counts as named at a probability of one half; the likeliest always.

Draws of EXAFS have become harder with version 9 of the family: a version stands beside its peers here, not beside
[today's accuracy](accuracy.md).

*Cu* (`--copper`): OmniXAS's Cu split (arXiv:2409.19552) as given, spectra as FEFF computed them, at 0 K. The networks learn as a family's
do from every XANES spectrum but the Cu sites of no part and every site of a material of the Cu val part, with a tenth of the materials to
select by; the peers from the Cu sites among them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pages import described, parse
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge

from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.configuration import FamilyConfig, read_content
from aiida_xastruct.engine.dataset import GRIDS, PARTS, Dataset, SiteTable
from aiida_xastruct.engine.lessons import balanced, learned_as
from aiida_xastruct.engine.metrics import exact, macro_f1, micro_f1, r2, r2_within
from aiida_xastruct.engine.models.baselines import absorber_mean, frequent_neighbours
from aiida_xastruct.engine.models.calibration import NeighbourCalibration
from aiida_xastruct.engine.models.tasks import Task, drawn_inputs
from aiida_xastruct.engine.models.views import fourier
from aiida_xastruct.engine.spectrum import atomic_number
from aiida_xastruct.engine.training import train_ensemble

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

TREES = 300

#: Numbers of pieces that a spectrum is cut into, and the degree of the polynomial fitted to each.
PIECES, DEGREE = (10, 20), 3

#: An element has models of its own from this many training sites on.
LEAST_SITES = 20

NEAREST = (1, 3, 5, 10)
RIDGE = (0.1, 1.0, 10.0, 100.0, 1000.0)


class Spectra:
    """Spectra to learn from or to ask about.

    Attributes:
        curve: (n, grid) flat mu or windowed k^2 chi, zero where there is no data.
        absorber: (n,) atomic numbers.
        distance: (n,) mean distances, angstrom.
        neighbours: (n, MAX_Z) whether an element is in the first shell.
    """

    def __init__(self, kind: str, inputs: torch.Tensor, table: SiteTable) -> None:
        self.curve: Array = inputs[:, : len(GRIDS[kind])].double().numpy()
        self.absorber, self.distance = table.absorber, table.mean_distance.astype(np.float64)
        self.neighbours = table.neighbours
        self.pieces = polynomials(self.curve)

    def __len__(self) -> int:
        return len(self.curve)


def polynomials(curve: Array) -> Array:
    """(n, pieces x 4) coefficients of the cubic polynomials fitted to the pieces of curves (n, grid), each piece from -1 to 1."""
    found = []
    for count in PIECES:
        bounds = np.linspace(0, curve.shape[1], count + 1).round().astype(int)
        for start, end in pairwise(bounds):
            found.append(np.polynomial.legendre.legfit(np.linspace(-1, 1, end - start), curve[:, start:end].T, DEGREE).T)
    return np.concatenate(found, axis=1)


Answer = tuple[Array, Mask]  # distances (n,), neighbours (n, MAX_Z)
Peer = Callable[[Spectra, Spectra, Spectra], Answer]  # learned from train and select, asked about the third


def named(probability: Array) -> Mask:
    """(n, MAX_Z) elements at one half and more, and the likeliest."""
    return NeighbourCalibration(1.0, 0.5, 0.0).named(probability)


def by_element(
    train: Spectra, select: Spectra, asked: Spectra, answer: Callable[[Mask, Mask, Mask, bool], tuple[Array, Array]]
) -> tuple[Array, Array]:
    """Distances (n,) and probabilities (n, MAX_Z) of a peer that is trained for each element, or for all where one has few sites.

    `answer` takes the rows to learn from, to select by and to answer for, and whether the atomic number is a feature.
    """
    distance, probability = np.zeros(len(asked)), np.zeros(asked.neighbours.shape)
    rare = np.ones(len(asked), dtype=bool)
    for z in np.unique(asked.absorber):
        own = train.absorber == z
        if own.sum() >= LEAST_SITES:
            rows = asked.absorber == z
            distance[rows], probability[rows] = answer(own, select.absorber == z, rows, False)
            rare &= ~rows
    if rare.any():
        every = np.ones(len(train), dtype=bool)
        distance[rare], probability[rare] = answer(every, np.ones(len(select), dtype=bool), rare, True)
    return distance, probability


def forests(train: Spectra, select: Spectra, asked: Spectra) -> Answer:
    """Random forests on polynomial features."""

    def answer(learn: Mask, _: Mask, rows: Mask, with_z: bool) -> tuple[Array, Array]:
        x, asked_x = (
            np.column_stack([part.pieces[own], part.absorber[own]]) if with_z else part.pieces[own]
            for part, own in ((train, learn), (asked, rows))
        )
        elements = np.flatnonzero(train.neighbours[learn].any(axis=0))
        distances = RandomForestRegressor(TREES, max_features=1 / 3, random_state=0).fit(x, train.distance[learn])
        neighbours = RandomForestRegressor(TREES, max_features="sqrt", random_state=0)
        neighbours.fit(x, train.neighbours[learn][:, elements].astype(np.float64))
        probability = np.zeros((int(rows.sum()), train.neighbours.shape[1]))
        probability[:, elements] = neighbours.predict(asked_x).reshape(len(asked_x), -1)
        return distances.predict(asked_x), probability

    distance, probability = by_element(train, select, asked, answer)
    return distance, named(probability)


def nearest(train: Spectra, select: Spectra, asked: Spectra) -> Answer:
    """The nearest spectra of the absorber."""

    def mean(learn: Mask, of: Spectra, rows: Mask, with_z: bool, count: int) -> tuple[Array, Array]:
        x, y = (np.column_stack([part.curve[own], 10.0 * with_z * part.absorber[own]]) for part, own in ((train, learn), (of, rows)))
        far = torch.cdist(torch.as_tensor(y), torch.as_tensor(x))
        chosen = far.topk(min(count, len(x)), largest=False).indices.numpy()
        return train.distance[learn][chosen].mean(axis=1), train.neighbours[learn][chosen].mean(axis=1)

    def answer(learn: Mask, choose: Mask, rows: Mask, with_z: bool) -> tuple[Array, Array]:
        count = NEAREST[0]
        if choose.any():
            errors = [np.abs(mean(learn, select, choose, with_z, k)[0] - select.distance[choose]).mean() for k in NEAREST]
            count = NEAREST[int(np.argmin(errors))]
        return mean(learn, asked, rows, with_z, count)

    distance, probability = by_element(train, select, asked, answer)
    return distance, named(probability)


def ridge(train: Spectra, select: Spectra, asked: Spectra) -> Answer:
    """Ridge on polynomial features; for all elements at once the atomic number enters as one of a hundred."""

    def answer(learn: Mask, choose: Mask, rows: Mask, with_z: bool) -> tuple[Array, Array]:
        centre, scale = train.pieces[learn].mean(axis=0), train.pieces[learn].std(axis=0) + 1e-6

        def features(part: Spectra, own: Mask) -> Array:
            x = np.clip((part.pieces[own] - centre) / scale, -8, 8)
            return np.column_stack([x, np.eye(part.neighbours.shape[1])[part.absorber[own]]]) if with_z else x

        target = np.column_stack([train.distance[learn], train.neighbours[learn]])
        models = [Ridge(alpha=strength).fit(features(train, learn), target) for strength in RIDGE]
        best = models[len(models) // 2]
        if choose.any():
            x, true = features(select, choose), select.distance[choose]
            best = min(models, key=lambda model: float(np.abs(model.predict(x)[:, 0] - true).mean()))
        said = best.predict(features(asked, rows))
        return said[:, 0], said[:, 1:]

    distance, probability = by_element(train, select, asked, answer)
    return distance, named(probability)


def prior(train: Spectra, select: Spectra, asked: Spectra) -> Answer:
    """The absorber alone."""
    distance = absorber_mean(train.distance[:, None], train.absorber)[asked.absorber, 0]
    return distance, frequent_neighbours(train.neighbours, train.absorber)[asked.absorber]


def extra_trees(train: Spectra, select: Spectra, asked: Spectra) -> Answer:
    """Extra trees on the Fourier transform, for all elements at once."""
    x, asked_x = (
        np.column_stack([fourier(torch.as_tensor(part.curve, dtype=torch.float32)).numpy(), part.absorber]) for part in (train, asked)
    )
    target = np.column_stack([train.distance, 0.3 * train.neighbours])  # distances decide most splits, as without neighbours
    trees = ExtraTreesRegressor(TREES // 2, max_features=0.1, min_samples_leaf=2, random_state=0).fit(x, target)
    said = trees.predict(asked_x)
    return said[:, 0], named(said[:, 1:] / 0.3)


PEERS: dict[str, Peer] = {
    "random forests on polynomials, by element": forests,
    "nearest spectra of the element": nearest,
    "ridge on polynomials, by element": ridge,
    "the absorber alone": prior,
}


def scores(answer: Answer, asked: Spectra) -> dict[str, float]:
    """Metrics of an answer."""
    distance, neighbours = answer
    return {
        "mae": float(np.abs(distance - asked.distance).mean()),
        "r2": r2(distance, asked.distance),
        "r2_within_absorber": r2_within(distance, asked.distance, asked.absorber),
        "micro_f1": micro_f1(neighbours, asked.neighbours),
        "macro_f1": macro_f1(neighbours, asked.neighbours, least=20),
        "exact": exact(neighbours, asked.neighbours),
    }


def of_family(family: FamilyBundle, kind: str, inputs: torch.Tensor, asked: Spectra) -> Answer:
    """What the family says."""
    z = torch.as_tensor(asked.absorber)
    near = family.model("neighbours", kind)
    distance = family.model("distance", kind).ensemble(inputs, z).value[:, 0].double().numpy()
    return distance, near.promises(NeighbourCalibration).named(near.ensemble(inputs, z).value.double().numpy())


def ours(dataset: Dataset, family: FamilyBundle, kind: str, draws: int, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Family and peers on the report part of the family's own split.

    Peers are not trained again where `known`, an earlier result, has them of the same sites and draws.
    """
    task = family.model("distance", kind).task
    seed = family.model("distance", kind).card["split"]["seed"]
    asked_of = {"dataset": dataset.content_hash(), "split_seed": seed, "draws": draws}
    parts = dataset.split(kind, seed)
    train_parts = [Spectra(kind, drawn_inputs(task, parts["train"], 100 + draw), parts["train"]) for draw in range(draws)]
    train = joined(train_parts)
    select = Spectra(kind, drawn_inputs(task, parts["select"], PARTS.index("select")), parts["select"])
    inputs = drawn_inputs(task, parts["report"], PARTS.index("report"))  # the very draws of the card
    asked = Spectra(kind, inputs, parts["report"])
    peers = PEERS | ({"extra trees on the Fourier transform": extra_trees} if kind == "EXAFS" else {})
    found: dict[str, Any] = {"this family": scores(of_family(family, kind, inputs, asked), asked)}
    same = known is not None and all(known.get(key) == value for key, value in asked_of.items())
    seconds = dict(known["cpu_seconds"]) if known is not None and same else {}
    for name, peer in peers.items():
        if known is not None and name in seconds:
            found[name] = known["scores"][name]
            continue
        start = time.process_time()
        found[name] = scores(peer(train, select, asked), asked)
        seconds[name] = time.process_time() - start
    return {
        "scores": found,
        "cpu_seconds": seconds,
        "sites": {name: len(part) for name, part in parts.items()},
        "rare": int(sum((parts["train"].absorber == z).sum() < LEAST_SITES for z in np.unique(asked.absorber))),
        "family": f"{family.card['name']} {family.card['version']} ({family.content_hash[:12]})",
    } | asked_of


def joined(parts: list[Spectra]) -> Spectra:
    """The spectra of several together."""
    whole = parts[0]
    for name in ("curve", "pieces", "absorber", "distance", "neighbours"):
        setattr(whole, name, np.concatenate([getattr(part, name) for part in parts]))
    return whole


def copper(dataset: Dataset, config: FamilyConfig) -> dict[str, Any]:
    """Mean distances on OmniXAS's Cu val part."""
    from peer_split import draw

    table = dataset.tables["XANES"]
    source_id = np.array([dataset.materials[i]["source_id"] for i in table.material])
    omnixas = np.array([dataset.materials[i]["source"] == "omnixas_feff" for i in table.material])
    cu = omnixas & (table.absorber == atomic_number("Cu"))
    asked = cu & (table.peer_split == "val")
    seen = ~(cu & (table.peer_split == "")) & ~np.isin(source_id, source_id[asked])
    aside = draw(source_id, "select") < 0.1
    train, select = seen & ~aside, seen & aside
    task = Task("distance", "XANES")
    learned = learned_as(task)
    start = time.process_time()
    lessons = balanced(table.take(train))
    trained, _ = train_ensemble(learned, lessons, table.take(select), config.architecture, config.options(learned.label))
    ensemble = trained if learned is task else trained.part(task, config.architecture)
    seconds = time.process_time() - start
    inputs = task.inputs(task.source(table))
    rows_of = {"train": train & cu, "select": select & cu, "val": asked}
    parts = {name: Spectra("XANES", inputs[torch.as_tensor(rows)], table.take(rows)) for name, rows in rows_of.items()}
    said = ensemble(inputs[torch.as_tensor(asked)], torch.as_tensor(table.absorber[asked])).value[:, 0].double().numpy()
    answers = {"network": said} | {name: peer(parts["train"], parts["select"], parts["val"])[0] for name, peer in PEERS.items()}
    true = parts["val"].distance
    return {
        "scores": {name: {"mae": float(np.abs(own - true).mean()), "r2": r2(own, true)} for name, own in answers.items()},
        "sites": {"train": int(train.sum()), "train of Cu": int((train & cu).sum()), "select": int(select.sum()), "val": int(asked.sum())},
        "members": config.options(learned.label).members,
        "network_cpu_seconds": seconds,
    }


def table(result: dict[str, Any]) -> str:
    """Markdown of a result."""
    lines = ["# Spectrum to structure, beside peers", "", *(__doc__ or "").splitlines()[2:], ""]
    for kind in GRIDS:
        if kind not in result:
            continue
        own = result[kind]
        sites = own["sites"]
        lines += [
            f"## {kind}",
            "",
            f"Family {own['family']}. {sites['train']} sites to learn from (peers: {own['draws']} draws of each), {sites['select']} to "
            f"select by, {sites['report']} to report; {own['rare']} of the absorbers asked about have fewer than {LEAST_SITES} sites to "
            "learn from.",
            "",
            "| *report* | distance: MAE (angstrom) | R2 | R2 within absorber | neighbours: micro-F1 | macro-F1, >= 20 sites | exact set |",
            "|---" * 7 + "|",
        ]
        for name, values in own["scores"].items():
            numbers = [values[key] for key in ("mae", "r2", "r2_within_absorber", "micro_f1", "macro_f1", "exact")]
            lines.append(f"| {name} | {' | '.join(f'{value:.4f}' if i == 0 else f'{value:.3f}' for i, value in enumerate(numbers))} |")
        ratio = own["scores"]["this family"]["mae"] / own["scores"]["random forests on polynomials, by element"]["mae"]
        lines += ["", f"The family's error is {ratio:.2f} of that of the per-element forests.", ""]
    if "copper" in result:
        own = result["copper"]
        lines += [
            "## OmniXAS's Cu split, XANES by FEFF at 0 K",
            "",
            f"{own['sites']['train']} sites to learn from ({own['sites']['train of Cu']} of Cu), {own['sites']['select']} to select by, "
            f"{own['sites']['val']} in val; {own['members']} networks.",
            "",
            "| Cu, val | mean distance: MAE (angstrom) | R2 |",
            "|---|---|---|",
            *(f"| {name} | {values['mae']:.4f} | {values['r2']:.3f} |" for name, values in own["scores"].items()),
            "",
        ]
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark; peers that the JSON file holds of the same sites are kept."""
    parser = described(__doc__)
    parser.add_argument("--dataset", type=Path, help="what the family was trained on, or more: a material keeps its part")
    parser.add_argument("--family", default="default", help="'default' or a folder")
    parser.add_argument("--kind", nargs="+", choices=tuple(GRIDS), default=list(GRIDS))
    parser.add_argument("--draws", type=int, default=1, help="random draws of each site that the peers learn from")
    parser.add_argument("--copper", action="store_true", help="OmniXAS's Cu split, and nothing else")
    parser.add_argument("--config", type=Path, default=Path("configs/default.yaml"), help="how the networks for Cu are trained")
    options = parse(parser, table, "dataset")
    dataset = Dataset.load(options.dataset)
    result: dict[str, Any] = json.loads(options.json.read_text()) if options.json.exists() else {}
    if options.copper:
        config = FamilyConfig.from_dict(read_content(options.config))
        training = replace(config.options("shell-XANES"), accelerator="cpu", devices=1, progress=False)
        result["copper"] = copper(dataset, replace(config, training=training, training_of={}))
        options.json.write_text(json.dumps(result, indent=1))
    else:
        family = FamilyBundle.load(options.family)
        for kind in options.kind:
            result[kind] = ours(dataset, family, kind, options.draws, result.get(kind))
            options.json.write_text(json.dumps(result, indent=1))
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

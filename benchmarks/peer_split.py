"""Crystal to XANES on OmniXAS's data: the model that ships and its parts, beside ridge, nearest neighbour and the mean spectrum.

    python benchmarks/peer_split.py --data ../shared/data --dataset dataset.h5 --config configs/default.yaml --json peer_split.json
    python benchmarks/peer_split.py --table peer_split.json

Two protocols. *Cu*: OmniXAS's split (arXiv:2409.19552) as given. One model learns every XANES spectrum of the dataset but the Cu sites
that OmniXAS put in no part and every site of a material of its Cu val part; a twentieth of the materials is set aside to choose by, and
val is measured on once. With `--more` it learns Cu sites of no part too, where val holds no such formula and prototype. The error is the
mean square error in OmniXAS's units, mu x 0.8784 on 8983.173 + 0.25 i eV, 141 points. *Ti V Cr Co Ni*: cross-validation over materials,
five folds, the fold left out of a model that learns all else; error on the file's own energies, over that of the mean spectrum of the
element's training sites. The model that ships is the mean of networks on SevenNet's features and of a kernel model
(`engine.models.kernel`), which are also measured apart. The baselines learn the same sites (of the one element), from the same inputs
standardised; their strength is chosen on the materials set aside.

With `--graph` a graph network trained from scratch (`graph_network.py`), on the same sites but those of the reference library, answers
for Cu's val part too, alone and as a third of the mean of all.

What is done is kept in the JSON file, so that a run goes on where it stopped. `--members` and `--fold-members` take fewer networks.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from graph_network import graphs, predict, train_graph_network
from numpy.typing import NDArray
from pages import described, parse
from torch_geometric.data import Data

from aiida_xastruct.engine.configuration import FamilyConfig
from aiida_xastruct.engine.dataset import Dataset, SiteTable
from aiida_xastruct.engine.evaluate import edge_tail
from aiida_xastruct.engine.models.ensemble import Ensemble
from aiida_xastruct.engine.models.kernel import SiteKernel
from aiida_xastruct.engine.models.tasks import KERNEL_BLOCKS, Task
from aiida_xastruct.engine.prepare import read_jsonl
from aiida_xastruct.engine.spectrum import XANES_GRID, atomic_number, element_symbol, smooth_background, tabulated_edge
from aiida_xastruct.engine.training import train_ensemble

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: OmniXAS's Cu grid (eV) and the factor between its mu and FEFF's.
CU_GRID = 8983.173 + 0.25 * np.arange(141)
CU_SCALE = 0.8784

ELEMENTS = ("Ti", "V", "Cr", "Co", "Ni")
FOLDS = 5
ASIDE = 0.05
WHOLE, KERNEL, GRAPH = "networks and kernel model", "kernel model alone", "graph network from scratch"
TASK = Task("forward", "XANES")

#: Regularisation of ridge, relative to the number of sites.
RIDGE = (1e-3, 1e-2, 1e-1, 1.0)


class Sites:
    """The XANES rows of a dataset, and OmniXAS's own spectra of those that it computed."""

    def __init__(self, dataset: Dataset, data: Path) -> None:
        self.dataset = dataset
        self.table: SiteTable = dataset.tables["XANES"]
        self.omnixas = np.array([dataset.materials[i]["source"] == "omnixas_feff" for i in self.table.material])
        self.source_id = np.array([dataset.materials[i]["source_id"] for i in self.table.material])
        wanted = {(self.source_id[row], int(self.table.site[row])): int(row) for row in np.flatnonzero(self.omnixas)}
        self.truth: dict[int, tuple[Array, Array]] = {}
        with gzip.open(data / "omnixas_feff.spectra.jsonl.gz", "rt") as lines:
            for record in map(json.loads, lines):
                row = wanted.get((record["material_id"], record["site"]))
                if row is not None and element_symbol(int(self.table.absorber[row])) == record["absorber"]:
                    self.truth[row] = (np.array(record["energy_eV"]), np.array(record["mu"]))
        self.inputs = TASK.inputs(TASK.source(self.table))
        self._data = data

    def graphs(self) -> dict[int, Data]:
        """Graphs of the rows whose structures are in the folder of the data."""
        source = [self.dataset.materials[i]["source"] for i in self.table.material]
        rows = {(source[row], self.source_id[row], int(self.table.site[row])): row for row in range(len(self.table))}
        found: dict[int, Data] = {}
        for name in ("omnixas_feff", "feff_mp"):
            spectra, structures = (self._data / f"{name}.{what}.jsonl.gz" for what in ("spectra", "structures"))
            for record in read_jsonl(spectra, structures, lambda _: None):
                row = rows.get((record.source, record.source_id, record.site))
                if row is not None and row not in found and record.spectrum.kind == "XANES":
                    found[row] = graphs(record.structure, [record.site])[0]
        return found

    def of(self, element: str) -> Mask:
        """OmniXAS's sites of an absorber."""
        return self.omnixas & (self.table.absorber == atomic_number(element))

    def grid(self, element: str) -> Array:
        """Energies (n,) in eV that errors of an absorber are measured on; Ti to Ni have one grid for all of a file's spectra."""
        return CU_GRID if element == "Cu" else self.truth[int(np.flatnonzero(self.of(element))[0])][0]

    def true(self, rows: Mask, element: str) -> Array:
        """(n, grid) OmniXAS's spectra; what lies below a spectrum repeats its first value, as in OmniXAS."""
        grid, scale = self.grid(element), CU_SCALE if element == "Cu" else 1.0
        return np.array([scale * np.interp(grid, *self.truth[int(row)]) for row in np.flatnonzero(rows)])

    def predicted(self, flat: Array, train: Mask, rows: Mask, element: str) -> Array:
        """(n, grid) spectra in OmniXAS's form from a network's flat curves (n, len(XANES_GRID)), as `xastruct evaluate` makes them."""
        engine = self.dataset.engines[int(self.table.engine[np.flatnonzero(rows)[0]])]
        edge = tabulated_edge(element, "K") + self.dataset.edge_shifts("XANES", train).of(element, engine)
        grid, scale = self.grid(element), CU_SCALE if element == "Cu" else 1.0
        above = grid - edge
        curves = [np.where(above < XANES_GRID[0], edge_tail(above, XANES_GRID, own), np.interp(above, XANES_GRID, own)) for own in flat]
        return np.array(curves) * smooth_background(grid, edge) * scale


def draw(labels: NDArray[np.str_], purpose: str) -> Array:
    """A number in [0, 1) for each label, from a hash of it: sites of one material share it."""
    numbers = {label: int.from_bytes(hashlib.sha256(f"{purpose}|{label}".encode()).digest()[:8], "big") / 2**64 for label in set(labels)}
    return np.array([numbers[label] for label in labels])


def model(sites: Sites, train: Mask, select: Mask, asked: Mask, config: FamilyConfig) -> tuple[dict[str, Array], Array, float]:
    """Train as a family is trained, and answer; with no networks, the kernel model alone.

    Returns:
        flat curves (n, len(XANES_GRID)) of the rows asked for, by the whole model and by each of its parts; those of the select rows by the
        whole; and the CPU seconds that training took.
    """
    start = time.process_time()
    table = sites.dataset.aligned("XANES", train)
    (x, z), (x_select, z_select) = (
        (sites.inputs[torch.as_tensor(rows)], torch.as_tensor(sites.table.absorber[rows])) for rows in (asked, select)
    )
    if config.training.members == 0:
        own = table.take(train)
        target = TASK.target(own)
        inputs, guess = sites.inputs[torch.as_tensor(train)], torch.nanmean(target, dim=0).expand(len(target), -1)
        kernel = SiteKernel.fit(inputs, torch.as_tensor(own.absorber), target, guess, own.material, KERNEL_BLOCKS)
        seconds = time.process_time() - start
        return {KERNEL: kernel(x, z)[0].double().numpy()}, kernel(x_select, z_select)[0].double().numpy(), seconds
    ensemble, _ = train_ensemble(TASK, table.take(train), table.take(select), config.architecture, config.training)
    seconds = time.process_time() - start
    assert ensemble.kernel is not None
    answers = {
        WHOLE: ensemble(x, z).value,
        "networks alone": Ensemble(TASK, ensemble.members)(x, z).value,
        KERNEL: ensemble.kernel(x, z)[0],
    }
    return {name: value.double().numpy() for name, value in answers.items()}, ensemble(x_select, z_select).value.double().numpy(), seconds


def graph_network(sites: Sites, train: Mask, asked: Mask) -> Array:
    """Flat curves (n, len(XANES_GRID)) of the rows asked for, by a graph network trained from scratch on those of `train` with a graph."""
    known = sites.graphs()
    learned = np.array([row for row in np.flatnonzero(train) if row in known])
    target = TASK.target(sites.dataset.aligned("XANES", train).take(learned))
    network = train_graph_network(TASK, [known[row] for row in learned], target)
    return np.asarray(predict(network, [known[row] for row in np.flatnonzero(asked)]).double().numpy())


def baselines(sites: Sites, train: Mask, select: Mask, asked: Mask, element: str) -> Iterator[tuple[str, Array]]:
    """Name and answer (n, grid) of each baseline; the strengths are those with the least error on `select`."""
    x = sites.inputs.double()
    mean, scale = x[torch.as_tensor(train)].mean(dim=0), x[torch.as_tensor(train)].std(dim=0).clamp(min=1e-2)
    known, choose, ask = (((x[torch.as_tensor(rows)] - mean) / scale).clamp(-8, 8) for rows in (train, select, asked))
    target, chosen_by = sites.true(train, element), sites.true(select, element)
    centre = target.mean(axis=0)
    residual = torch.as_tensor(target - centre)
    yield "mean spectrum", np.tile(centre, (int(asked.sum()), 1))
    yield "nearest neighbour", target[torch.cdist(ask, known).argmin(dim=1).numpy()]
    gram, product = known.T @ known, known.T @ residual
    options = []
    for strength in RIDGE:
        weights = torch.linalg.solve(gram + strength * len(known) * torch.eye(len(gram)), product)
        options.append([(rows @ weights).numpy() + centre for rows in (choose, ask)])
    yield "ridge", min(options, key=lambda option: float(((option[0] - chosen_by) ** 2).mean()))[1]


def per_site(predicted: Array, true: Array) -> list[float]:
    """Mean square error of each site."""
    return [float(error) for error in ((predicted - true) ** 2).mean(axis=1)]


def copper(sites: Sites, config: FamilyConfig, more: bool, graph: bool) -> dict[str, Any]:
    """OmniXAS's Cu split; with `more`, its Cu sites of no part too, but for those of a formula and prototype that val holds."""
    cu = sites.of("Cu")
    asked = cu & (sites.table.peer_split == "val")
    in_no_part = cu & (sites.table.peer_split == "")
    group = sites.dataset.group_of("XANES")
    left_out = in_no_part & np.isin(group, group[asked]) if more else in_no_part
    seen = ~left_out & ~np.isin(sites.source_id, sites.source_id[asked])
    aside = draw(sites.source_id, "select") < ASIDE
    train, select = seen & ~aside, seen & aside
    flat, flat_select, seconds = model(sites, train, select, asked, config)
    true = sites.true(asked, "Cu")
    if graph:
        flat[GRAPH] = graph_network(sites, train, asked)
        flat["all three"] = (2.0 * flat[WHOLE] + flat[GRAPH]) / 3.0
    errors = {name: per_site(sites.predicted(own, train, asked, "Cu"), true) for name, own in flat.items()}
    select_error = per_site(sites.predicted(flat_select[cu[select]], train, select & cu, "Cu"), sites.true(select & cu, "Cu"))
    for name, answer in baselines(sites, train & cu, select & cu, asked, "Cu"):
        errors[name] = per_site(answer, true)
    return {
        "sites": {"train": int(train.sum()), "train of Cu": int((train & cu).sum()), "select": int(select.sum()), "val": int(asked.sum())},
        "mse": {name: float(np.mean(own)) for name, own in errors.items()},
        "standard_error": {name: float(np.std(own) / len(own) ** 0.5) for name, own in errors.items()},
        "select_mse": float(np.mean(select_error)),
        "cpu_seconds": seconds,
    }


def fold(sites: Sites, index: int, config: FamilyConfig) -> dict[str, Any]:
    """One fold of the materials of Ti, V, Cr, Co and Ni: error sums of each element."""
    place = draw(sites.source_id, "fold")
    out = (place >= index / FOLDS) & (place < (index + 1) / FOLDS)
    aside = ~out & (draw(sites.source_id, "select") < ASIDE)
    train = ~out & ~aside
    own = np.zeros(len(out), dtype=bool)
    for element in ELEMENTS:
        own |= sites.of(element)
    asked = out & own
    flat, _, seconds = model(sites, train, aside, asked, config)
    found: dict[str, Any] = {"cpu_seconds": seconds}
    for element in ELEMENTS:
        mine = sites.of(element)
        true = sites.true(asked & mine, element)
        errors = {name: per_site(sites.predicted(own[mine[asked]], train, asked & mine, element), true) for name, own in flat.items()}
        for name, answer in baselines(sites, train & mine, aside & mine, asked & mine, element):
            errors[name] = per_site(answer, true)
        found[element] = {"sites": len(true), "errors": errors}
    return found


def table(result: dict[str, Any]) -> str:
    """Markdown of a result."""
    folds = list(result["folds"].values())
    lines = []
    for key, said in (("cu", "OmniXAS's Cu split"), ("cu_more", "The same, and its Cu sites of no part to learn from")):
        if key not in result:
            continue
        cu = result[key]
        lines += [
            f"{said}: {cu['sites']['train']} sites to learn from ({cu['sites']['train of Cu']} of Cu), {cu['sites']['select']} to "
            f"select by, {cu['sites']['val']} in val; {result['members']} networks.",
            "",
            "| Cu, val | MSE (OmniXAS's units) | over the mean spectrum's |",
            "|---|---|---|",
        ]
        for name, mse in sorted(cu["mse"].items(), key=lambda item: item[1]):
            error = f"{mse:.5f} +- {cu['standard_error'][name]:.5f}"
            lines.append(f"| {name} | {error} | {mse / cu['mse']['mean spectrum']:.3f} |")
        lines.append("")
    if not folds:
        return "\n".join(lines)
    names = list(folds[0][ELEMENTS[0]]["errors"])
    lines += [
        f"Cross-validation over materials, {len(folds)} of {FOLDS} folds, networks to a fold: {result['fold_members']}. MSE over that of "
        "the mean spectrum.",
        "",
        f"| absorber | sites | {' | '.join(name for name in names if name != 'mean spectrum')} |",
        "|---|---|" + "---|" * (len(names) - 1),
    ]
    for element in ELEMENTS:
        total = {name: sum(sum(part[element]["errors"][name]) for part in folds) for name in names}
        count = sum(part[element]["sites"] for part in folds)
        ratios = [f"{total[name] / total['mean spectrum']:.3f}" for name in names if name != "mean spectrum"]
        lines.append(f"| {element} | {count} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark."""
    parser = described(__doc__)
    parser.add_argument("--data", type=Path, help="../shared/data")
    parser.add_argument("--dataset", type=Path, help="what `xastruct dataset` made")
    parser.add_argument("--config", type=Path, default=Path("configs/default.yaml"))
    parser.add_argument("--members", type=int, help="networks for Cu, 0 for the kernel model alone; the configuration's if left out")
    parser.add_argument("--fold-members", type=int, default=1, help="networks for each fold, 0 for the kernel model alone")
    parser.add_argument("--folds", type=int, default=FOLDS, help="folds to run, the first ones of five")
    parser.add_argument("--more", action="store_true", help="Cu again, with its sites of no part to learn from")
    parser.add_argument("--graph", action="store_true", help="a graph network from scratch too, for Cu")
    options = parse(parser, table, "data", "dataset")
    if options.graph and options.members == 0:
        parser.error("--graph is measured beside the whole model; give it networks")
    config = FamilyConfig.from_dict(yaml.safe_load(options.config.read_text()))
    training = replace(config.options(TASK.label), accelerator="cpu", devices=1, progress=False)
    members = training.members if options.members is None else options.members
    sites = Sites(Dataset.load(options.dataset), options.data)
    result: dict[str, Any] = json.loads(options.json.read_text()) if options.json.exists() else {}
    result.setdefault("architecture", asdict(config.architecture))
    result.setdefault("training", asdict(training))
    result.setdefault("folds", {})
    result["members"] = members
    for key in ("cu", "cu_more") if options.more else ("cu",):
        if key not in result or (options.graph and GRAPH not in result[key]["mse"]):
            own = replace(config, training=replace(training, members=members))
            result[key] = copper(sites, own, key == "cu_more", options.graph)
            options.json.write_text(json.dumps(result))
    result["fold_members"] = options.fold_members
    for index in range(options.folds):
        if str(index) not in result["folds"]:
            result["folds"][str(index)] = fold(sites, index, replace(config, training=replace(training, members=options.fold_members)))
            options.json.write_text(json.dumps(result))
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What makes a model better by new spectra, and whether it did: a training set that grows, and a comparison of two models.

The split of a dataset follows from a hash of each group of reduced formula and prototype (`dataset.part_of`), so that it stays where it is
when the dataset grows. Here that is made sure of: only groups of *train* may be added, so that *select*, which decides between two models,
*calibrate* and *report* are the same sites for ever, and no model has learned from any of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .bundle import ModelBundle
from .dataset import COLUMNS, Dataset, SiteTable, group_label, part_of
from .errors import DatasetError, ModelError
from .models.tasks import numpy_curve_error
from .spectrum import element_symbol

#: Sites that a comparison needs at least.
LEAST_SITES = 5


def grow(dataset: Dataset, new: Dataset, split_seed: int) -> tuple[Dataset, dict[str, int]]:
    """A dataset with the sites of another after its own; all parts but *train* stay as they are.

    Args:
        dataset: what there is; its rows keep their places, and its scattering paths stay.
        new: what comes on top. Sites of other parts, and those that are there already, are left out.
        split_seed: of the split.

    Returns:
        the larger dataset, and how many sites were left out for which reason.

    Raises:
        DatasetError: if the new sites have curves, draws or features of other lengths than those there are.
    """
    materials, engines = [*dataset.materials], [*dataset.engines]
    place = {_identity(material): row for row, material in reversed(list(enumerate(materials)))}
    left_out: Counter[str] = Counter()
    tables = dict(dataset.tables)
    for kind, table in new.tables.items():
        old = tables.get(kind)
        there = _sites(dataset, kind)
        kept, material_rows, engine_rows = [], [], []
        for row in range(len(table)):
            material = new.materials[table.material[row]]
            part = part_of(group_label(material), split_seed)
            if part != "train":
                left_out[f"of the part {part}"] += 1
                continue
            site = (*_identity(material), int(table.site[row]))
            if site in there:
                left_out["there already"] += 1
                continue
            there.add(site)
            if _identity(material) not in place:
                place[_identity(material)] = len(materials)
                materials.append(material)
            engine = new.engines[table.engine[row]]
            if engine not in engines:
                engines.append(engine)
            kept.append(row)
            material_rows.append(place[_identity(material)])
            engine_rows.append(engines.index(engine))
        if not kept:
            continue
        own = table.take(np.array(kept))
        own = replace(own, material=np.array(material_rows, dtype=np.int64), engine=np.array(engine_rows, dtype=np.int64))
        tables[kind] = own if old is None else _joined(old, own, kind)
    return Dataset(materials, engines, tables, dataset.paths), dict(left_out)


def _identity(material: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """What tells a material from others; two sources may have used one name."""
    return str(material["source"]), str(material["source_id"]), str(material["formula"]), str(material["prototype"])


def _sites(dataset: Dataset, kind: str) -> set[tuple[Any, ...]]:
    """Identity of each material with each of its sites that a dataset has of a kind."""
    table = dataset.tables.get(kind)
    if table is None:
        return set()
    pairs = zip(table.material, table.site, strict=True)
    return {(*_identity(dataset.materials[material]), int(site)) for material, site in pairs}


def _joined(old: SiteTable, new: SiteTable, kind: str) -> SiteTable:
    for name in ("curve", "wide", "thermal", "features"):
        shapes = getattr(old, name).shape[1:], getattr(new, name).shape[1:]
        if shapes[0] != shapes[1]:
            raise DatasetError(
                f"the {name} of the new {kind} sites have the shape {shapes[1]} and those of the dataset {shapes[0]}; "
                "make the dataset again with this version."
            )
    # Targets are no part of a dataset: a split sets them.
    return SiteTable(**{name: np.concatenate([getattr(old, name), getattr(new, name)]) for name in COLUMNS})


@dataclass(frozen=True)
class Verdict:
    """Which of two models is the better one.

    Attributes:
        part: of the split that they were asked about.
        sites: number of its sites, and
        groups: of its groups of reduced formula and prototype.
        old_error: mean square error of the old model: of flat mu, or of k^2 chi (1/angstrom^4).
        new_error: that of the new one, on the same sites.
        decrease: share of the old error that the new model makes less; negative where it makes more.
        standard_error: of `decrease`, over groups.
        margin: what `decrease` must exceed.
        better: whether it does.
    """

    part: str
    sites: int
    groups: int
    old_error: float
    new_error: float
    decrease: float
    standard_error: float
    margin: float
    better: bool


def compare(old: ModelBundle, new: ModelBundle, dataset: Dataset, margin: float = 0.0, part: str = "select") -> Verdict:
    """Ask two forward models of one kind and one split about the same sites.

    Args:
        old: the model that stands.
        new: the one that would replace it.
        dataset: any dataset that holds the part.
        margin: share of the old error by which the new one must be less.
        part: of the split; none that either learned from.

    Raises:
        ModelError: if the models do not answer the same question, or know other splits: the part would not be new to both.
        DatasetError: if the dataset has too few sites of the part.
    """
    if old.task != new.task or old.task.name != "forward":
        raise ModelError(f"{old.task.label} and {new.task.label} are not two forward models of one kind; compare those.")
    seed = int(old.card["split"]["seed"])
    if int(new.card["split"]["seed"]) != seed:
        raise ModelError(f"the models were trained on split {seed} and {new.card['split']['seed']}; train the new one on the old one's.")
    kind = old.task.kind
    if kind not in dataset.tables:
        raise DatasetError(f"the dataset has no {kind} spectra; give the one that the model was trained on.")
    mask = dataset.parts(kind, seed)[part]
    if mask.sum() < LEAST_SITES:
        raise DatasetError(f"the dataset has {mask.sum()} {kind} sites in {part}, too few to compare models by; {LEAST_SITES} are needed.")
    table = dataset.tables[kind].take(mask)
    was, now = (curve_errors(model, table, dataset.engines) ** 2 for model in (old, new))
    labels, index = np.unique(dataset.group_of(kind)[mask], return_inverse=True)
    difference = np.bincount(index, weights=was - now - (was - now).mean())
    scatter = float(np.sqrt((difference**2).sum() * len(labels) / max(len(labels) - 1, 1)) / len(was))
    decrease = float((was - now).mean() / was.mean())
    return Verdict(
        part, len(was), len(labels), float(was.mean()), float(now.mean()), decrease, scatter / float(was.mean()), margin, decrease > margin
    )


def curve_errors(model: ModelBundle, table: SiteTable, engines: list[str]) -> NDArray[np.float64]:
    """(n,) root mean square errors of a forward model on sites, each curve above the edge where the model puts it.

    So two models are asked about the same energies, wherever their training sets have put an edge.

    Args:
        model: forward.
        table: (n) sites.
        engines: names of the programs that `table.engine` counts in.
    """
    if model.task.kind == "XANES":
        pairs = zip(table.absorber, table.engine, strict=True)
        edge = np.array([model.edges.of(element_symbol(int(z)), engines[int(engine)]) for z, engine in pairs])
        target = table.above(edge)
    else:
        target = table.curve
    said = model.ensemble(model.task.inputs(torch.as_tensor(table.features)), torch.as_tensor(table.absorber))
    return numpy_curve_error(said.value.double().numpy(), target, model.task.kind)

"""Make a model family from a dataset: train, calibrate, measure, write. One configuration, one command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from . import ALGORITHM_VERSION
from .bundle import CARD, FAMILY_CARD, ModelBundle
from .content import content_hash
from .dataset import GRIDS, Dataset, SiteTable
from .errors import DatasetError, XastructError
from .measure import measure
from .models.baselines import absorber_mean
from .models.calibration import (
    DistanceCalibration,
    ErrorModel,
    ForwardCalibration,
    NeighbourCalibration,
    curve_spread,
    expected_error,
    sites_per_element,
)
from .models.domain import DomainIndex
from .models.ensemble import Architecture, Ensemble, Prediction
from .models.tasks import Task, numpy_curve_error
from .sevennet import FOLDER as SEVENNET
from .spectrum import edge_of, element_symbol
from .training import TrainingOptions, train_ensemble

TASKS = ("forward", "neighbours", "distance")

MATERIALS = "materials.txt"


@dataclass(frozen=True)
class FamilyConfig:
    """What to train.

    `tasks` are labels such as `forward-XANES`; empty means all that the dataset has spectra for. `training` holds for every task but
    where `training_of` says otherwise, by label.
    """

    name: str = "family"
    version: str = "1"
    split_seed: int = 0
    tasks: tuple[str, ...] = ()
    architecture: Architecture = field(default_factory=Architecture)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    training_of: dict[str, TrainingOptions] = field(default_factory=dict)

    def options(self, label: str) -> TrainingOptions:
        """How the task of this label is trained."""
        return self.training_of.get(label, self.training)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FamilyConfig:
        """From the contents of a YAML file.

        Raises:
            XastructError: naming an unknown key and those allowed, or a value that cannot be used.
        """
        inner = {"architecture": Architecture, "training": TrainingOptions}
        values: dict[str, Any] = {}
        _check_mapping("", data, [item.name for item in fields(cls)])
        for key, value in data.items():
            if key == "training_of":
                continue
            if key in inner:
                values[key] = _changed(key, inner[key](), value)
            elif key == "tasks":
                if not isinstance(value, list | tuple):
                    raise XastructError(f"tasks is {value!r}; give a list such as [forward-XANES].")
                values[key] = tuple(value)
            else:
                values[key] = _usable(key, value, getattr(cls(), key))
        config = cls(**values)
        exceptions = data.get("training_of", {})
        _check_mapping("training_of", exceptions, [f"{task}-{kind}" for task in TASKS for kind in GRIDS])
        own = {label: _changed(f"training_of.{label}", config.training, value) for label, value in exceptions.items()}
        return replace(config, training_of=own)


def _changed(key: str, usual: Any, value: Any) -> Any:
    """A dataclass with the values of a mapping in the place of its own."""
    _check_mapping(key, value, [item.name for item in fields(usual)])
    return replace(usual, **{name: _usable(f"{key}.{name}", own, getattr(usual, name)) for name, own in value.items()})


#: Numbers that may be zero; all others must be larger.
_ZERO_ALLOWED = ("seed", "split_seed", "depth", "dropout", "weight_decay")


def _usable(key: str, value: Any, usual: Any) -> Any:
    """A value of a configuration, if it is of the type of the usual one; text may be given as a number."""
    name = key.rpartition(".")[2]
    if name in ("devices", "precision"):  # Lightning takes several types, and checks them itself
        return value
    if isinstance(usual, str):
        return str(value)
    if isinstance(usual, bool):
        if not isinstance(value, bool):
            raise XastructError(f"{key} is {value!r}; give true or false.")
        return value
    allowed = (int,) if isinstance(usual, int) else (int, float)
    if not isinstance(value, allowed) or isinstance(value, bool) or value < 0 or (value == 0 and name not in _ZERO_ALLOWED):
        kind = "whole number" if isinstance(usual, int) else "number (in YAML 2.0e-3, not 2e-3)"
        raise XastructError(f"{key} is {value!r}; give a {kind}{' of 0 or more' if name in _ZERO_ALLOWED else ' above 0'}.")
    return value


def _check_mapping(name: str, data: Any, allowed: list[str]) -> None:
    if not isinstance(data, dict):
        raise XastructError(f"{name or 'the configuration'} must be a mapping with keys among {', '.join(allowed)}.")
    for key in data:
        if key not in allowed:
            raise XastructError(f"unknown key {f'{name}.' if name else ''}{key} in the configuration; use {', '.join(allowed)}.")


def make_family(dataset: Dataset, config: FamilyConfig, folder: Path, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Train every task that the dataset allows and write the family.

    Args:
        dataset: materials and spectra; held-out ones are already out (`engine.prepare` sees to it).
        config: what and how.
        folder: where to write; made if missing.
        say: called with a line of progress.

    Returns:
        the family card.

    Raises:
        DatasetError: if the dataset has no spectra for a task asked for.
    """
    labels = config.tasks or tuple(f"{task}-{kind}" for kind in dataset.tables for task in TASKS)
    data_hash = dataset.content_hash()
    for label in labels:
        name, _, kind = label.partition("-")
        task = Task(name, kind)  # type: ignore[arg-type]  # Task checks both
        if kind not in dataset.tables:
            raise DatasetError(f"the dataset has no {kind} spectra, so {label} cannot be trained.")
        bundle = make_model(task, dataset, config, data_hash, folder / label)
        say(f"{label}: {json.dumps(bundle.card['metrics']['report'])}")
    return write_family_card(dataset, config, folder)


def write_family_card(dataset: Dataset, config: FamilyConfig, folder: Path) -> dict[str, Any]:
    """Write `family.json`, and `materials.txt`: every material that the family has seen, so that anyone can check what it has not.

    Returns:
        the content of `family.json`.
    """
    card = {
        "name": config.name,
        "version": config.version,
        "training_data_hash": dataset.content_hash(),
        "models": sorted(path.parent.name for path in folder.glob(f"*/{CARD}")),
    }
    (folder / FAMILY_CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    lines = sorted(f"{item['source']} {item['source_id']} {item['formula']} {item['space_group']}" for item in dataset.materials)
    (folder / MATERIALS).write_text("\n".join(lines) + "\n")
    return card


def make_model(task: Task, dataset: Dataset, config: FamilyConfig, data_hash: str, folder: Path) -> ModelBundle:
    """Train, calibrate and measure one model, write it, and read it back: what ships is what was calibrated."""
    table = dataset.tables[task.kind]
    masks = dataset.parts(task.kind, config.split_seed)
    parts = {name: table.take(mask) for name, mask in masks.items()}
    paths = dataset.paths.of_sites(masks["train"]) if dataset.paths is not None and task.label == "forward-EXAFS" else None
    options = config.options(task.label)
    trained, losses = train_ensemble(task, parts["train"], parts["select"], config.architecture, options, paths)
    folder.mkdir(parents=True, exist_ok=True)
    trained.save(folder / "weights.safetensors")
    ensemble = Ensemble.load(folder / "weights.safetensors", task, config.architecture)  # rounded to half precision, as users have it
    seen = {name: drawn_inputs(task, part, index) for index, (name, part) in enumerate(parts.items())}
    position = {name: task.position(task.source(part), seen[name]) for name, part in parts.items()}
    domain = DomainIndex.fit(position["train"], position["select"])
    said = {name: ensemble(seen[name], torch.as_tensor(parts[name].absorber)) for name in ("select", "calibrate")}
    elements = sorted(sites_per_element(parts["train"]).items())
    shifts = dataset.edge_shifts(task.kind)
    card = {
        "task": task.name,
        "kind": task.kind,
        "elements": [element_symbol(z) for z, _ in elements],
        "edges": sorted({edge_of(element_symbol(z)) for z, _ in elements}),
        "training_sites": {element_symbol(z): count for z, count in elements},
        "training_data_hash": data_hash,
        "features": content_hash(SEVENNET) if task.name == "forward" else "",
        "engine_version": __version__,
        "reference_programs": dataset.engines,
        "algorithm_version": ALGORITHM_VERSION[task.name],
        "architecture": asdict(config.architecture),
        "training": {**asdict(options), "progress": False, "best_select_loss": losses},
        "split": {"grouped_by": "reduced formula and prototype", "seed": config.split_seed, **{k: len(v) for k, v in parts.items()}},
        "edge_shift": _usual_shift(parts["train"], dataset.engines, shifts),
        "edge_shift_by_engine": {engine: {element_symbol(z): round(s, 3) for z, s in own.items()} for engine, own in shifts.items()},
        "calibration": _calibrate(task, parts, said, domain, seen),
    }
    bundle = ModelBundle(card, ensemble, domain)
    card["metrics"] = {"report": measure(bundle, parts["train"], parts["report"], seen["report"])}
    bundle.save(folder)
    return ModelBundle.load(folder)


def drawn_inputs(task: Task, part: SiteTable, seed: int) -> torch.Tensor:
    """Network inputs of a part, of one random draw a site where the task has draws: what calibration must hold for."""
    return task.inputs(task.source(part), torch.Generator().manual_seed(seed))


def _usual_shift(train: SiteTable, engines: list[str], shifts: dict[str, dict[int, float]]) -> dict[str, float]:
    """Edge shift of each absorber in the engine that most of its training spectra come from, eV."""
    found = {}
    for z in np.unique(train.absorber):
        engine = engines[int(np.bincount(train.engine[train.absorber == z]).argmax())]
        found[element_symbol(int(z))] = round(shifts[engine][int(z)], 3)
    return found


Parts = dict[str, SiteTable]
Said = dict[str, Prediction]
Seen = dict[str, torch.Tensor]


def _calibrate(task: Task, parts: Parts, said: Said, domain: DomainIndex, seen: Seen) -> dict[str, Any]:
    """What the select and calibrate parts let a model promise, as plain values."""
    if task.name == "neighbours":
        calibrate, select = said["calibrate"].value.double().numpy(), said["select"].value.double().numpy()
        return asdict(NeighbourCalibration.fit(calibrate, parts["calibrate"].neighbours, select, parts["select"].neighbours))
    answer, part = said["calibrate"], parts["calibrate"]
    value = answer.value.double().numpy()
    if task.name == "distance":
        expected = expected_error(task, answer.stated.numpy(), answer.spread.numpy())
        return {"factors": list(DistanceCalibration.fit(value, task.target(part).double().numpy(), expected).factors)}
    columns, errors = {}, {}
    for name, own in said.items():
        columns[name] = (
            own.stated[:, 0].double().numpy(),
            curve_spread(own.spread.numpy(), task.kind),
            domain.score(task.position(task.source(parts[name]), seen[name])),
        )
        errors[name] = numpy_curve_error(own.value.numpy(), parts[name].target, task.kind)
    model = ErrorModel.fit(errors["select"], *columns["select"])
    mean = absorber_mean(parts["train"].target, parts["train"].absorber)[part.absorber]
    baseline = numpy_curve_error(mean, part.target, task.kind)
    fitted = ForwardCalibration.fit(
        model, model(*columns["calibrate"]), value, part.target.astype(np.float64), errors["calibrate"], baseline
    )
    return fitted.to_json()

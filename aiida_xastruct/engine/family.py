"""Make a model family from a dataset: train, calibrate, measure, write. One configuration, one command."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import __version__
from . import ALGORITHM_VERSION
from .beginnings import LEARNED, beginning, card_of, check_split, check_version, training_before
from .bundle import CARD, FAMILY_CARD, MATERIALS, POOL, WEIGHTS, FamilyBundle, ModelBundle, list_materials
from .checkpoint import RunState, is_first_process, wait_for_all
from .configuration import TASKS, FamilyConfig
from .content import content_hash
from .crystals import Crystals
from .dataset import Dataset, SiteTable
from .errors import DatasetError, ModelError
from .formats import FAMILY, MODEL
from .lessons import learned_as, lessons_of
from .measure import measure, report_on, risk_coverage
from .models.baselines import absorber_mean
from .models.calibration import (
    RISK_OF_BASELINE,
    Curves,
    DistanceCalibration,
    ErrorModel,
    ForwardCalibration,
    NeighbourCalibration,
    curve_spread,
    expected_error,
    sites_per_element,
)
from .models.composition import CompositionModel, Sites
from .models.domain import DomainIndex
from .models.doubt import Doubt, often_seen
from .models.ensemble import Architecture, Ensemble, Prediction
from .models.tasks import Task, drawn_inputs, numpy_curve_error
from .sevennet import FOLDER as SEVENNET
from .spectrum import edge_of, element_symbol
from .training import finished_ensemble, train_ensemble
from .watch import Watch


def make_family(
    dataset: Dataset,
    config: FamilyConfig,
    folder: Path,
    say: Callable[[str], None] = lambda _: None,
    crystals: Crystals | None = None,
    keep: Collection[str] = (),
    watch: Watch | None = None,
    begin: Collection[str] = (),
) -> dict[str, Any]:
    """Train every task that the dataset allows and write the family.

    A run that was stopped goes on where it was if it is started with the same arguments (`engine.checkpoint`).

    Args:
        dataset: materials and spectra; held-out ones are already out (`engine.prepare` sees to it).
        config: what and how.
        folder: where to write; made if missing.
        say: called with a line of progress.
        crystals: sites without spectra, of which inverse models of EXAFS learn from simulated ones.
        keep: labels of models in `folder` whose networks are kept, and only calibrated and measured anew on this dataset. They must have
            been trained on the same split, which keeps its parts when a dataset grows.
        watch: is told of every epoch, and may end the training in time.
        begin: labels of models in `folder` whose networks go on learning, instead of random ones. The same holds for their split.

    Returns:
        the family card.

    Raises:
        DatasetError: if the dataset has no spectra for a task asked for.
        TimeIsUpError: if the watch says so.
    """
    labels = config.tasks or tuple(f"{task}-{kind}" for kind in dataset.tables for task in TASKS)
    data_hash = dataset.content_hash()
    tasks = {}
    for label in labels:
        name, _, kind = label.partition("-")
        tasks[label] = Task(name, kind)  # type: ignore[arg-type]  # Task checks both
        if name not in TASKS:
            raise ModelError(f"{label} is no task; use {', '.join(TASKS)}, each of XANES or EXAFS, such as forward-XANES.")
        if kind not in dataset.tables:
            raise DatasetError(f"the dataset has no {kind} spectra, so {label} cannot be trained.")
    for label in (*keep, *begin):
        if label not in tasks:
            raise DatasetError(f"{label} is to be kept or begun from, but is none of the tasks {', '.join(tasks)}; name it among them.")
        if label in keep and label in begin:
            raise DatasetError(f"{label} is both to be kept and to go on learning; name it once.")
    kept = _crystals_of(folder) if keep or begin else None  # before the first process writes another card
    fingerprint = _fingerprint(config, data_hash, crystals, begin)
    run = RunState(folder, fingerprint)
    if watch is not None:
        watch.begin(fingerprint)
    for label, task in tasks.items():
        if label in run.finished:
            say(f"{label}: finished before this run was stopped")
            continue
        if label in keep:
            if is_first_process() and calibrate_anew(folder / label, dataset, config, data_hash):
                say(f"{label}: how to weigh it against XANES is to be found anew; run `xastruct join {folder}`")
            wait_for_all()
            bundle = ModelBundle.load(folder / label)
        else:
            bundle = make_model(task, dataset, config, data_hash, folder / label, crystals, run, watch, begin)
        run.finish(label)
        say(f"{label}: {json.dumps(bundle.card['metrics']['report'])}")
    card = write_family_card(dataset, config, folder, crystals, kept)
    run.close()
    return card


def _fingerprint(config: FamilyConfig, data_hash: str, crystals: Crystals | None, begin: Collection[str]) -> str:
    """What two runs that make the same family have in common."""
    content = asdict(config)
    for options in (content["training"], *content["training_of"].values()):
        # Neither changes what is learned: a training that a GPU failed goes on where it was on a CPU.
        del options["progress"], options["accelerator"]
    made_of = [content, data_hash, crystals.content_hash() if crystals is not None else "", __version__, ALGORITHM_VERSION, sorted(begin)]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _crystals_of(folder: Path) -> str:
    """Hash of the crystals that the family in a folder has learned from; empty where there were none, or there is no family."""
    return str(FamilyBundle(folder).card.get("crystals_hash", "")) if (folder / FAMILY_CARD).is_file() else ""


def write_family_card(
    dataset: Dataset, config: FamilyConfig, folder: Path, crystals: Crystals | None = None, kept: str | None = None
) -> dict[str, Any]:
    """Write `family.json`, and `materials.txt`: every material that the family has seen, so that anyone can check what it has not.

    Args:
        dataset: see `make_family`.
        config: see `make_family`.
        folder: see `make_family`.
        crystals: see `make_family`.
        kept: the hash of the crystals of the family in the folder, some of whose networks are kept and have seen what it lists; None
            where none are.

    Returns:
        the content of `family.json`.
    """
    card = {
        "format": FAMILY,
        "name": config.name,
        "version": config.version,
        "training_data_hash": dataset.content_hash(),
        "crystals_hash": crystals.content_hash() if crystals is not None else kept or "",
        "models": sorted(path.parent.name for path in folder.glob(f"*/{CARD}")),
    }
    if not is_first_process():
        return card
    (folder / FAMILY_CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    if kept is None:
        (folder / MATERIALS).unlink(missing_ok=True)
    list_materials(folder, [*dataset.materials, *(crystals.materials if crystals is not None else ())])
    return card


def make_model(
    task: Task,
    dataset: Dataset,
    config: FamilyConfig,
    data_hash: str,
    folder: Path,
    crystals: Crystals | None = None,
    run: RunState | None = None,
    watch: Watch | None = None,
    begin: Collection[str] = (),
) -> ModelBundle:
    """Train, calibrate and measure one model, write it, and read it back: what ships is what was calibrated.

    Within a run, networks that another model was made of are not trained again. Where several processes train, all learn, and the first
    calibrates and writes for all.
    """
    masks = dataset.parts(task.kind, config.split_seed)
    parts = dataset.split(task.kind, config.split_seed)
    learned = learned_as(task)
    options = config.options(learned.label)
    state = run.networks(learned.label) if run is not None else None
    before = training_before(folder) if task.label in begin else None
    finished = finished_ensemble(learned, config.architecture, options, state)
    if finished is None:
        lessons, beside = lessons_of(task, dataset, masks["train"], parts["train"], config, folder.parent, crystals)
        begun = beginning(folder.parent, learned, config, begin)
        finished = train_ensemble(
            learned, lessons, parts["select"], config.architecture, options, **beside, state=state, watch=watch, begun=begun
        )
    trained, losses = finished
    if is_first_process():
        if learned is not task:
            trained = trained.part(task, config.architecture)
        folder.mkdir(parents=True, exist_ok=True)
        trained.save(folder / WEIGHTS)
        ensemble = Ensemble.load(folder / WEIGHTS, task, config.architecture)  # rounded to half precision, as users have it
        finish_model(ensemble, dataset, config, losses, data_hash, folder, before)
    wait_for_all()
    return ModelBundle.load(folder)


def calibrate_anew(folder: Path, dataset: Dataset, config: FamilyConfig, data_hash: str) -> bool:
    """Calibrate and measure the networks of a model on another dataset; its card goes on saying what they learned from.

    Returns:
        whether the card said how to weigh the model against that of XANES, which it does no longer.

    Raises:
        ModelError: if the folder holds no model, or one of another algorithm version.
        DatasetError: if the networks were trained on another split: their training sites would be among those to calibrate on.
    """
    card = card_of(folder, "keep")
    check_version(card, folder)
    check_split(card, folder, config.split_seed, "train it again")
    ensemble = Ensemble.load(folder / WEIGHTS, Task(card["task"], card["kind"]), Architecture(**card["architecture"]))
    bundle = finish_model(ensemble, dataset, config, card["training"]["best_select_loss"], data_hash, folder)
    bundle.card.update({name: card[name] for name in LEARNED}, calibration_data_hash=data_hash)
    bundle.save(folder)
    return POOL in card


def finish_model(
    ensemble: Ensemble,
    dataset: Dataset,
    config: FamilyConfig,
    losses: list[float],
    data_hash: str,
    folder: Path,
    before: dict[str, Any] | None = None,
) -> ModelBundle:
    """Calibrate and measure a trained ensemble, write the model, and read it back.

    Args:
        ensemble: trained on the train part of `dataset` by `config.split_seed`.
        dataset: what it was trained on.
        config: how it was trained.
        losses: best select loss of each network.
        data_hash: content hash of `dataset`.
        folder: where to write.
        before: what the networks had learned before (`beginnings.training_before`), if they went on learning.
    """
    task = ensemble.task
    parts = dataset.split(task.kind, config.split_seed)
    masks = dataset.parts(task.kind, config.split_seed)
    seen = {name: drawn_inputs(task, part, index) for index, (name, part) in enumerate(parts.items())}
    position = {name: task.position(task.source(part), seen[name]) for name, part in parts.items()}
    absorbers = (parts["train"].absorber, parts["select"].absorber) if task.name != "forward" else None  # its features tell them
    domain = DomainIndex.fit(position["train"], position["select"], absorbers)
    ensemble = _with_doubt(ensemble, parts, seen["select"])
    ensemble.save(folder / WEIGHTS)
    said = {name: ensemble(seen[name], torch.as_tensor(parts[name].absorber)) for name in ("select", "calibrate")}
    group, elements_of = dataset.group_of(task.kind), dataset.present(task.kind)
    groups = {name: group[mask] for name, mask in masks.items()}
    present = {name: elements_of[mask] for name, mask in masks.items()}
    elements = sorted(sites_per_element(parts["train"]).items())
    edges = dataset.edge_shifts(task.kind, masks["train"])
    card: dict[str, Any] = {
        "format": MODEL,
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
        "training": {
            **asdict(config.options(learned_as(task).label)),
            "progress": False,
            "best_select_loss": losses,
            **({} if before is None else {"before": before}),
        },
        "split": {"grouped_by": "reduced formula and prototype", "seed": config.split_seed, **{k: len(v) for k, v in parts.items()}},
        "edge_shift": dict(edges.usual),
        "edge_shift_by_engine": {engine: dict(own) for engine, own in edges.by_engine.items()},
        "calibration": _calibrate(ensemble, parts, said, domain, seen, groups),
    }
    if task.name == "neighbours":
        card["composition"] = asdict(_compose(parts, said, present, groups["calibrate"]))
    bundle = ModelBundle(card, ensemble, domain)
    report = report_on(dataset, task.kind, parts, present["report"])
    card["metrics"] = measure(bundle, report, seen["report"])
    if task.name == "forward":
        card["risk_coverage"] = risk_coverage(bundle, report, seen["report"])
    else:
        card["metrics"]["computed"] = measure(bundle, report, task.inputs(task.source(parts["report"])))["report"]
    bundle.save(folder)
    return ModelBundle.load(folder)


def _with_doubt(ensemble: Ensemble, parts: Parts, seen: torch.Tensor) -> Ensemble:
    """An ensemble with the doubt that the select part teaches, of which `seen` are the inputs; forward models state it themselves."""
    task, select = ensemble.task, parts["select"]
    if task.name == "forward":
        return ensemble
    bare = Ensemble(task, ensemble.members)
    said = bare(seen, torch.as_tensor(select.absorber))
    value = said.value.double().numpy()
    if task.name == "neighbours":
        return Ensemble(task, ensemble.members, doubt=Doubt.fit_neighbours(parts["train"], select, value))
    expected = expected_error(task, said.stated.numpy(), said.spread.numpy())
    error = np.abs(value - task.target(select).double().numpy())
    return Ensemble(task, ensemble.members, doubt=Doubt.fit_errors(parts["train"], select, error[:, 0], expected[:, 0]))


Parts = dict[str, SiteTable]
Said = dict[str, Prediction]
Seen = dict[str, torch.Tensor]
Groups = dict[str, NDArray[np.int64]]


#: Draws of the select part by which the threshold of named elements is chosen; by one, chance has a say.
_DRAWS = 4


def _calibrate(ensemble: Ensemble, parts: Parts, said: Said, domain: DomainIndex, seen: Seen, groups: Groups) -> dict[str, Any]:
    """What the select and calibrate parts let a model promise, as plain values."""
    task = ensemble.task
    answer, part, group = said["calibrate"], parts["calibrate"], groups["calibrate"]
    value = answer.value.double().numpy()
    if task.name == "neighbours":
        chooses, often = parts["select"], often_seen(parts["train"])
        inputs = torch.cat([drawn_inputs(task, chooses, seed) for seed in range(_DRAWS)])
        select = ensemble(inputs, torch.as_tensor(np.tile(chooses.absorber, _DRAWS))).value.double().numpy()
        known = np.tile(chooses.neighbours, (_DRAWS, 1))
        return asdict(NeighbourCalibration.fit(value, part.neighbours, group, select, known, part.absorber, often, _DRAWS))
    if task.name == "distance":
        expected = expected_error(task, answer.stated.numpy(), answer.spread.numpy())
        return asdict(DistanceCalibration.fit(value, task.target(part).double().numpy(), expected, group))
    columns, errors = {}, {}
    for name, own in said.items():
        score = domain.score(task.position(task.source(parts[name]), seen[name]), parts[name].absorber)
        columns[name] = (own.stated[:, 0].double().numpy(), curve_spread(own.spread.numpy(), task.kind), score)
        errors[name] = numpy_curve_error(own.value.numpy(), parts[name].target, task.kind)
    model = ErrorModel.fit(errors["select"], *columns["select"])
    curves = {
        name: Curves(model(*columns[name]), own.value.double().numpy(), parts[name].target.astype(np.float64), errors[name], groups[name])
        for name, own in said.items()
    }
    mean = absorber_mean(parts["train"].target, parts["train"].absorber)[part.absorber]
    risk = RISK_OF_BASELINE * float(numpy_curve_error(mean, part.target, task.kind).mean())
    return asdict(ForwardCalibration.fit(model, curves["select"], curves["calibrate"], risk))


def _compose(parts: Parts, said: Said, present: dict[str, NDArray[np.bool_]], group: NDArray[np.int64]) -> CompositionModel:
    """What the elements of a compound add to what a neighbours model reads."""
    sites = {}
    for name in ("train", "select", "calibrate"):
        value = said[name].value.double().numpy() if name in said else np.zeros(present[name].shape)
        sites[name] = Sites(parts[name].absorber, present[name], parts[name].neighbours, value)
    return CompositionModel.fit(sites["train"], sites["select"], sites["calibrate"], group, often_seen(parts["train"]))

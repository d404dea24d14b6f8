"""Networks that a training begins from: those of a model that is there already, rather than random ones."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from .bundle import CARD, WEIGHTS
from .configuration import FamilyConfig
from .errors import DatasetError, ModelError
from .models.ensemble import Architecture, Ensemble
from .models.tasks import Task


def beginning(folder: Path, learned: Task, config: FamilyConfig, begin: Collection[str]) -> Ensemble | None:
    """The networks that the training of a task begins from; None where random ones do.

    Args:
        folder: of the family that holds the models.
        learned: the task that networks are trained for; "shell" is put together from its two models.
        config: of the training.
        begin: labels of the models to begin from.

    Raises:
        ModelError: if the folder holds no such model, or one of another size.
        DatasetError: if it was trained on another split: its training sites would be among those that calibrate.
    """
    names = ("neighbours", "distance") if learned.name == "shell" else (learned.name,)
    tasks = [Task(name, learned.kind) for name in names]  # type: ignore[arg-type]
    chosen = [task.label for task in tasks if task.label in begin]
    if not chosen:
        return None
    if len(chosen) < len(tasks):
        raise ModelError(f"{' and '.join(task.label for task in tasks)} are learned together; begin from both or from neither.")
    parts = [_read(folder / task.label, task, config) for task in tasks]
    networks = parts[0] if learned.name != "shell" else Ensemble.joined(learned, config.architecture, *parts)
    members = config.options(learned.label).members
    if len(networks.members) < members:
        raise ModelError(f"{chosen[0]} in {folder} has {len(networks.members)} networks to begin from, not {members}; train fewer members.")
    return networks


def training_before(folder: Path) -> dict[str, Any]:
    """What the card of a model says of the training that another one begins from, with the hash of its data.

    Raises:
        ModelError: if the folder holds no model.
    """
    card = _card(folder)
    return {**card["training"], "training_data_hash": card["training_data_hash"]}


def _read(folder: Path, task: Task, config: FamilyConfig) -> Ensemble:
    card = _card(folder)
    architecture, seed = Architecture(**card["architecture"]), card["split"]["seed"]
    if architecture != config.architecture:
        raise ModelError(f"{task.label} in {folder.parent} has {architecture}, and is to begin {config.architecture}; they must agree.")
    if seed != config.split_seed:
        raise DatasetError(f"{task.label} in {folder.parent} was trained on split {seed}, not {config.split_seed}; begin from another.")
    return Ensemble.load(folder / WEIGHTS, task, architecture)


def _card(folder: Path) -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text())
        Architecture(**card["architecture"])
        dict(card["training"], hash=card["training_data_hash"], seed=card["split"]["seed"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder} holds no model to begin from ({error}); give the folder of a family that has it.") from error
    return card

"""Models that are there already: networks that a training begins from, rather than random ones, and the cards of those that stay."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from . import ALGORITHM_VERSION
from .bundle import CARD, WEIGHTS
from .configuration import FamilyConfig
from .errors import DatasetError, ModelError
from .models.ensemble import Architecture, Ensemble
from .models.tasks import Task

#: What a card says of how its networks came about, and keeps when they are calibrated anew.
LEARNED = ("architecture", "elements", "edges", "training", "training_data_hash", "training_sites")

#: Versions whose networks are those of today's: forward 4 changed the kernel model, which EXAFS has none of; neighbours 6 and distance 5
#: changed the chi(k) of raw measurements, of which no network has learned.
_AS_TODAY = {
    "forward-EXAFS": ("3",),
    **{f"neighbours-{kind}": ("5",) for kind in ("XANES", "EXAFS")},
    **{f"distance-{kind}": ("4",) for kind in ("XANES", "EXAFS")},
}


def beginning(folder: Path, learned: Task, config: FamilyConfig, begin: Collection[str]) -> Ensemble | None:
    """The networks that the training of a task begins from; None where random ones do.

    Args:
        folder: of the family that holds the models.
        learned: the task that networks are trained for; "shell" is put together from its two models.
        config: of the training.
        begin: labels of the models to begin from.

    Raises:
        ModelError: if the folder holds no such model, or one of another size or algorithm version.
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
    card = card_of(folder, "begin from")
    return {**card["training"], "training_data_hash": card["training_data_hash"]}


def card_of(folder: Path, to: str) -> dict[str, Any]:
    """The card of a model whose networks a run does something with: `to` "keep", or to "begin from".

    Raises:
        ModelError: if the folder holds no model, or its card does not say how it was trained.
    """
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text())
        learned = {name: card[name] for name in LEARNED}
        Architecture(**learned["architecture"])
        Task(card["task"], card["kind"])
        _ = card["split"]["seed"], learned["training"]["best_select_loss"], card["algorithm_version"]  # what is lacking is said here
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder} holds no model to {to} ({error}); train it, or give the folder of a family that has it.") from error
    return card


def check_split(card: dict[str, Any], folder: Path, split_seed: int, advice: str) -> None:
    """Raise DatasetError if a model was trained on another split: its training sites would be among those to calibrate on."""
    if (seed := card["split"]["seed"]) != split_seed:
        raise DatasetError(f"{folder.name} in {folder.parent} was trained on split {seed}, not {split_seed}; {advice}.")


def check_version(card: dict[str, Any], folder: Path) -> None:
    """Raise ModelError if a model's networks were made for another algorithm version, so that they would read or answer something else."""
    task, version = Task(card["task"], card["kind"]), str(card["algorithm_version"])
    if version != ALGORITHM_VERSION[task.name] and version not in _AS_TODAY.get(task.label, ()):
        raise ModelError(
            f"{task.label} in {folder.parent} was made for algorithm {version} of the engine, and this is {ALGORITHM_VERSION[task.name]}; "
            "train it from nothing."
        )


def _read(folder: Path, task: Task, config: FamilyConfig) -> Ensemble:
    card = card_of(folder, "begin from")
    if (architecture := Architecture(**card["architecture"])) != config.architecture:
        raise ModelError(f"{task.label} in {folder.parent} has {architecture}, and is to begin {config.architecture}; they must agree.")
    check_version(card, folder)
    check_split(card, folder, config.split_seed, "begin from another")
    return Ensemble.load(folder / WEIGHTS, task, architecture)

"""What models learn from: spectra of the training part, more of what is rare, and those that a forward model simulates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .bundle import CARD, ModelBundle
from .configuration import FamilyConfig
from .crystals import Crystals
from .dataset import Dataset, SiteTable
from .errors import DatasetError
from .models.shells import candidate_waves
from .models.simulate import each_draw, simulate
from .models.tasks import Task
from .paths import PATHS_SIZE

#: A site of a rare absorber is seen at most so often for each time that one of the commonest is.
MOST_REPEATS = 10


def learned_as(task: Task) -> Task:
    """The task that a model's networks are trained for: both inverse questions of a kind are learned together."""
    return task if task.name == "forward" else Task("shell", task.kind)


def lessons_of(
    task: Task,
    dataset: Dataset,
    train: NDArray[np.bool_],
    table: SiteTable,
    config: FamilyConfig,
    family: Path,
    crystals: Crystals | None,
) -> tuple[SiteTable, dict[str, Any]]:
    """The spectra that a model learns from, and what `train_ensemble` takes beside them.

    Forward EXAFS learns from FEFF's single paths too; inverse EXAFS from spectra that the family's forward model simulates, and its waves.

    Args:
        task: what is learned.
        dataset: where the paths are.
        train: rows of the training part, and `table`: the part itself.
        table: see `train`.
        config: how it is trained.
        family: where the forward model is.
        crystals: sites without spectra; those of the training part are simulated too.

    Raises:
        DatasetError: if an inverse model of EXAFS has no forward model of the same split beside it.
    """
    if task.kind == "XANES":
        return (table if task.name == "forward" else balanced(table)), {}
    if task.name == "forward":
        return table, {"paths": dataset.paths.of_sites(train) if dataset.paths is not None else None}
    if not (family / "forward-EXAFS" / CARD).is_file():
        raise DatasetError(f"{task.label} learns from spectra that forward-EXAFS simulates; name forward-EXAFS among the tasks before it.")
    forward = ModelBundle.load(family / "forward-EXAFS")
    if forward.card["split"]["seed"] != config.split_seed:
        raise DatasetError(f"forward-EXAFS in {family} was trained on another split than {config.split_seed}; train it again first.")
    lessons = [each_draw(table)]
    if config.simulated:
        lessons.append(simulate(table, forward.ensemble, config.simulated, config.split_seed))
        if crystals is not None:
            more = crystals.sites(crystals.of_part("train", config.split_seed))
            lessons.append(simulate(more, forward.ensemble, config.simulated, config.split_seed))
    return SiteTable.join(lessons), {"waves": candidate_waves(forward.ensemble, torch.as_tensor(table.features[:, -PATHS_SIZE:]))}


def balanced(table: SiteTable) -> SiteTable:
    """A table with the sites of rare absorbers several times: as often as the root of how much rarer they are, at most `MOST_REPEATS`.

    Of the XANES spectra that there are, five of six are of six absorbers. Networks that see them as they come know distances around
    other absorbers a sixth less well, and around those six no better.
    """
    of_absorber = np.bincount(table.absorber)
    rarer = of_absorber.max() / of_absorber[table.absorber]
    return table.take(np.repeat(np.arange(len(table)), np.clip(np.rint(np.sqrt(rarer)), 1, MOST_REPEATS).astype(np.int64)))

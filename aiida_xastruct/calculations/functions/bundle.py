"""Models that are stored as nodes, loaded once a process."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...data.model import ModelData
    from ...engine.bundle import FamilyBundle

#: Loaded families kept in memory, by the content of their models.
_KEPT = 4
_loaded: OrderedDict[tuple[str, ...], FamilyBundle] = OrderedDict()


def load_bundle(*models: ModelData) -> FamilyBundle:
    """The engine's form of one or more models of a family.

    Args:
        models: stored or not; at most one for each task and kind of spectrum.

    Raises:
        ModelError: if a model is damaged.
    """
    from ...engine.bundle import FamilyBundle
    from ...groups.family import write_family

    key = tuple(sorted(model.content_hash for model in models))
    if key in _loaded:
        _loaded.move_to_end(key)
        return _loaded[key]
    with tempfile.TemporaryDirectory(prefix="xastruct-family-") as name:
        # The manifest names the family; what a model answers is on its own card.
        folder = write_family(Path(name), list(models), {"name": "models of one question"})
        bundle = FamilyBundle.load(folder)
        for model in models:
            bundle.model(model.task, model.kind)  # a family reads a model when it is asked; the folder is gone by then
    _loaded[key] = bundle
    while len(_loaded) > _KEPT:
        _loaded.popitem(last=False)
    return bundle


def check_version(task: str, version: str) -> None:
    """Refuse to answer under another version of the algorithm than this installation computes.

    Raises:
        ModelError: if the versions differ.
    """
    from ...engine import ALGORITHM_VERSION
    from ...engine.errors import ModelError

    if version != ALGORITHM_VERSION[task]:
        raise ModelError(
            f"version {version!r} of {task} was asked for, this installation computes {ALGORITHM_VERSION[task]!r}; leave the input out."
        )

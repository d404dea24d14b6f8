"""Training of a small family in this process."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, Process, calcfunction
from aiida.orm import Dict, SinglefileData

from ...data.dataset import DatasetData
from ...engine import ALGORITHM_VERSION
from ...engine.errors import XastructError


@calcfunction
def train_family(
    dataset: DatasetData,
    config: Dict,
    crystals: SinglefileData | None = None,
    algorithm_version: Dict = ALGORITHM_VERSION,  # type: ignore[assignment]
) -> Any:
    """Train a family here and now; for what takes minutes on this machine. Larger ones are for `xastruct.train`.

    It goes on until it is done, and nothing of it is kept if it is stopped. It must be run, never by the daemon, whose worker could do
    nothing else meanwhile: there it refuses.

    Args:
        dataset: what to learn from.
        config: what and how: keys of `aiida_xastruct.engine.configuration.FamilyConfig`.
        crystals: file of `xastruct crystals`, for inverse EXAFS.
        algorithm_version: of each task, so that caches never mix two; leave it out.

    Returns:
        `models` and `report`, as `xastruct.train` gives them. Exit status 310 with one sentence where nothing can be trained, 311 in a
        worker of the daemon.
    """
    import tempfile
    from pathlib import Path

    from ...engine.configuration import FamilyConfig
    from ...engine.crystals import Crystals
    from ...engine.family import make_family
    from ...engine.watch import Watch, read_log, reported
    from ...groups.family import models_of
    from ...parsers.train import describe
    from ..train import effective_config

    current = Process.current()
    if current is not None and current.runner.is_daemon_runner:
        return ExitCode(311, "training here would block a worker of the daemon; run this function yourself, or submit xastruct.train.")
    if algorithm_version.get_dict() != ALGORITHM_VERSION:
        return ExitCode(310, f"this installation trains {ALGORITHM_VERSION}, not {algorithm_version.get_dict()}; leave the input out.")
    try:
        FamilyConfig.from_dict(config.get_dict())
    except XastructError as error:
        return ExitCode(310, str(error))
    used = effective_config({"config": config})
    with tempfile.TemporaryDirectory(prefix="xastruct-train-") as name:
        folder = Path(name)
        watch = Watch(folder / "log.jsonl")
        try:
            with reported(None, watch):
                sites = None
                if crystals is not None:
                    with crystals.as_path() as path:
                        sites = Crystals.load(path)
                card = make_family(dataset.load(), FamilyConfig.from_dict(used), folder / "family", crystals=sites, watch=watch)
        except XastructError as error:
            return ExitCode(310, str(error))
        models = models_of(folder / "family")
        own = {"ended": "finished", "reason": "", "family": card, "device": watch.device, "processes": watch.processes}
        report = describe(own, read_log((folder / "log.jsonl").read_text().splitlines()), models)
    return {
        "models": {model.replace("-", "_"): node for model, node in models.items()},
        "report": Dict(report | {"config": used, "seconds": round(watch.elapsed(), 3)}),
    }

"""Parser of a training: finished models as nodes, how it went, and why it did not end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ExitCode
from aiida.parsers import Parser

from ..calculations.train import STATE, TrainCalculation, effective_config
from ..data.model import KINDS, TASKS
from ..engine.errors import ModelError
from ..groups.family import models_of
from .feff import stopped_by_scheduler
from .folder import ParsesFolder

#: Exit code of each end that a training reports of itself.
_LABELS = {
    "refused": "ERROR_INPUT_REFUSED",
    "dataset_unfit": "ERROR_DATASET_UNFIT",
    "out_of_memory": "ERROR_OUT_OF_MEMORY",
    "diverged": "ERROR_DIVERGED",
    "no_device": "ERROR_NO_DEVICE",
    "failed": "ERROR_FAILED",
    "out_of_time": "OUT_OF_WALLTIME",
    "interrupted": "KILLED",
}


class TrainParser(ParsesFolder, Parser):
    """Parser of `TrainCalculation`."""

    def parse_folder(self, folder: Path) -> ExitCode | None:
        """Attach `models` and `report`, and say what stopped the training."""
        from ..engine.watch import read_log

        family = folder / TrainCalculation.FAMILY
        report = _json(folder / TrainCalculation.REPORT_FILE)
        lines = _text(folder / TrainCalculation.LOG_FILE).splitlines()
        log = read_log(lines)
        asked = self.node.inputs.algorithm_version.get_dict()
        if report and report.get("algorithm_version") != asked:
            own = report.get("algorithm_version")
            return self._exit("ERROR_ALGORITHM_VERSION", f"{own} where {asked} was asked for; install the same aiida-xastruct there.")
        whole = report.get("ended") == "finished"
        try:
            models = models_of(family, None if whole else _finished(family))
        except ModelError as error:
            return self._exit("ERROR_OUTPUT_DAMAGED", str(error))
        # A job that was killed has no report; its models say what trained them.
        for name, model in models.items():
            if model.algorithm_version != asked.get(model.task):
                words = f"{name} by {model.algorithm_version} where {asked.get(model.task)} was asked for"
                return self._exit("ERROR_ALGORITHM_VERSION", f"{words}; install the same aiida-xastruct there.")
        for name, model in models.items():
            self.out(f"models.{name.replace('-', '_')}", model)
        self.out("report", orm.Dict(self._describe(report, log, models)))
        if whole:
            return None
        label, reason = self._what_stopped(folder, report, lines)
        if label in ("OUT_OF_WALLTIME", "KILLED"):
            label = f"{'WARNING' if models or any((family / STATE).parent.glob('*/*')) else 'ERROR'}_{label}"
        return self._exit(label, reason)

    def _what_stopped(self, folder: Path, report: dict[str, Any], lines: list[str]) -> tuple[str, str]:
        """Exit code and reason of a training that did not finish; without prefix where it depends on what is left of it."""
        from ..engine.errors import OutOfMemoryError
        from ..engine.watch import divergence, short_of

        said, by_shell = _text(folder / TrainCalculation.ERROR_FILE), self.node.get_scheduler_stderr() or ""
        if (ended := str(report.get("ended"))) in _LABELS:
            return _LABELS[ended], str(report.get("reason") or "it does not say why.")
        if reason := divergence(lines):
            return "ERROR_STOPPED_AS_DIVERGED", reason
        known = short_of(f"{said}\n{by_shell}")
        if isinstance(known, OutOfMemoryError) or self.node.exit_status == 110:
            return "ERROR_OUT_OF_MEMORY", str(known or self.node.exit_message)
        if by_scheduler := stopped_by_scheduler(self.node):
            return by_scheduler[0].removeprefix("ERROR_"), by_scheduler[1]
        if report:
            return "KILLED", "the job ended without a word."
        words = [line for line in (said.strip() or by_shell).splitlines() if line.strip()]
        if not words or (not said.strip() and "Killed" in by_shell):
            return "KILLED", "the job ended without a word before its first report; if it does so again, check that the code is `xastruct`."
        return "ERROR_NO_OUTPUT", f"{words[-1]}; check that the code is `xastruct` of this version."

    def _describe(self, report: dict[str, Any], log: list[dict[str, Any]], models: dict[str, Any]) -> dict[str, Any]:
        """Content of the output `report`."""
        resources = self.node.get_option("resources") if self.node.get_option("withmpi") else None
        inputs = {name: getattr(self.node.inputs, name) for name in self.node.inputs}
        return describe(report, log, models) | {"config": effective_config(inputs, resources)}

    def _exit(self, label: str, reason: str) -> ExitCode:
        return getattr(self.exit_codes, label).format(reason=reason)


def describe(report: dict[str, Any], log: list[dict[str, Any]], models: dict[str, Any]) -> dict[str, Any]:
    """What is known of a training, as plain values.

    Args:
        report: as the engine writes it.
        log: lines of it.
        models: finished ones by name.
    """
    losses: dict[str, list[dict[str, list[Any]]]] = {}
    for line in log:
        if "epoch" in line:
            networks = losses.setdefault(line["task"], [])
            while len(networks) <= line["network"]:
                networks.append({"epoch": [], "loss": [], "select_loss": []})
            for name, values in networks[line["network"]].items():
                values.append(line[name])
    best = {name: model.card["training"]["best_select_loss"] for name, model in models.items()}
    own = {name: report.get(name) for name in ("ended", "reason", "family", "device", "processes", "seconds", "version")}
    return own | {
        "finished": sorted(models),
        "metrics": {name: model.metrics for name, model in models.items()},
        "best_select_loss": best,
        "losses": losses,
        "epochs_done": sum("epoch" in line for line in log),
    }


def _finished(family: Path) -> list[str]:
    """Models that a training finished before it was stopped."""
    listed = _json(family / STATE).get("finished")
    # Names become paths: only those that models may have are followed.
    names = {f"{task}-{kind}" for task in TASKS for kind in KINDS}
    return [name for name in sorted(names) if name in listed] if isinstance(listed, list) else []


def _json(path: Path) -> dict[str, Any]:
    """Content of a JSON file; empty where there is none, or it is damaged or no object."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""

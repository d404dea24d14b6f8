"""Monitors: what AiiDA looks at while a job runs, and may stop it for."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aiida.common.log import LOG_LEVEL_REPORT
from aiida.engine.processes.calcjobs.monitors import CalcJobMonitorResult

from .train import TrainCalculation

if TYPE_CHECKING:
    from aiida.orm import CalcJobNode
    from aiida.transports import Transport


#: How far each training was when it was last reported, in this process.
_reported: dict[str, tuple[str, int, int]] = {}


def training_loss(node: CalcJobNode, transport: Transport) -> CalcJobMonitorResult | None:
    """Report how far a training is, and stop one whose log holds a loss that is not a number.

    The trainer stops by itself; but of several processes one may go on waiting for another that has stopped. The parser reads the same log
    and gives the job its exit code. `verdi process report` shows what is reported: a line for every tenth of a network.
    """
    from ..engine.watch import divergence, read_log

    path = f"{node.get_remote_workdir()}/{TrainCalculation.LOG_FILE}"
    if not transport.isfile(path):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        transport.getfile(path, str(Path(scratch) / "log"))
        lines = (Path(scratch) / "log").read_text(errors="replace").splitlines()
    if reason := divergence(lines):
        return CalcJobMonitorResult(message=reason, override_exit_code=False)
    epochs = [line for line in read_log(lines) if "epoch" in line]
    if epochs:
        line = epochs[-1]
        place = (line["task"], line["network"], 10 * line["epoch"] // line["epochs"])
        if _reported.get(node.uuid) != place:
            _reported[node.uuid] = place
            where = f"network {line['network'] + 1} of {line['task']}: epoch {line['epoch']} of {line['epochs']}"
            node.logger.log(LOG_LEVEL_REPORT, f"{where}, select loss {line['select_loss']:.4g}, {line['seconds']:.0f} s.")
    return None

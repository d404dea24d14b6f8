"""Parser of XSpectra: the spectrum, what the log says, and the reason where there is none."""

from __future__ import annotations

from pathlib import Path

from aiida import orm
from aiida.engine import ExitCode
from aiida.parsers import Parser

from .feff import stopped_by_scheduler
from .folder import ParsesFolder


class XspectraParser(ParsesFolder, Parser):
    """Parser of `XspectraCalculation`."""

    def parse_folder(self, folder: Path) -> ExitCode | None:
        """Attach `spectrum` and `output_parameters`, or say why there is no spectrum."""
        from ..engine.xspectra.output import judge

        outcome = judge(folder, stopped_by_scheduler(self.node))
        self.out("output_parameters", orm.Dict(outcome.facts))
        if len(outcome.energy):
            curve = orm.XyData()
            curve.set_x(outcome.energy, "energy", "eV")
            curve.set_y(outcome.sigma, "sigma", "n/a")
            self.out("spectrum", curve)
        if outcome.label:
            return getattr(self.exit_codes, outcome.label).format(reason=outcome.reason)
        return None

"""Parser of FEFF: the spectrum, what the logs say, and the reason where there is no spectrum."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aiida import orm
from aiida.engine import ExitCode
from aiida.parsers import Parser

from ..data.spectrum import SpectrumData
from .folder import ParsesFolder

if TYPE_CHECKING:
    from ..engine.feff.outcome import Request


class FeffParser(ParsesFolder, Parser):
    """Parser of `FeffCalculation`."""

    def parse_folder(self, folder: Path) -> ExitCode | None:
        """Attach `spectrum` and `output_parameters`, or say why there is no spectrum."""
        from ..engine.feff.outcome import judge

        outcome = judge(folder, self._asked, self.node.get_scheduler_stderr() or "", stopped_by_scheduler(self.node))
        self.out("output_parameters", orm.Dict(outcome.facts))
        if outcome.spectrum is not None:
            site, multiplicity = self._site()
            self.out("spectrum", SpectrumData.from_engine(outcome.spectrum, site=site, multiplicity=multiplicity))
        if outcome.label:
            return getattr(self.exit_codes, outcome.label).format(reason=outcome.reason)
        return None

    def _asked(self) -> Request:
        """What the calculation was asked for, from its inputs or from the deck that the user gave."""
        from ..calculations.feff import feff_parameters, request
        from ..engine.feff.deck import read_request
        from ..engine.feff.outcome import Request

        inputs = self.node.inputs
        if "feff_input" in inputs:
            absorber, edge, kind = read_request(inputs.feff_input.get_content())
            return Request(absorber, edge, kind, {"deck": "own"})
        absorber = inputs.structure.get_kind(inputs.structure.sites[inputs.site.value].kind_name).symbol
        return request(absorber, feff_parameters(inputs.parameters if "parameters" in inputs else None))

    def _site(self) -> tuple[int | None, int | None]:
        """Index of the absorber and how many sites are equivalent to it; unknown for a deck of one's own."""
        from ..engine.structure import multiplicities

        if "site" not in self.node.inputs:
            return None, None
        site = int(self.node.inputs.site.value)
        return site, multiplicities(self.node.inputs.structure.get_pymatgen_structure(), [site])[0]


def stopped_by_scheduler(node: orm.CalcJobNode) -> tuple[str, str] | None:
    """Label of the exit code and reason for a job that the scheduler stopped; None for any other."""
    status = node.exit_status
    labels = {110: "ERROR_KILLED", 120: "ERROR_OUT_OF_WALLTIME", 131: "ERROR_KILLED", 140: "ERROR_KILLED"}
    if status not in labels:
        return None
    return labels[status], f"the scheduler stopped the job ({node.exit_message or status})."

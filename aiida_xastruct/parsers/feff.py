"""Parser of FEFF: the spectrum, what the logs say, and the reason where there is no spectrum."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
            self.out("spectrum", SpectrumData.from_engine(outcome.spectrum, **self._site()))
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

    def _site(self) -> dict[str, Any]:
        """Index of the absorber, how many sites are equivalent to it, and its surroundings; nothing for a deck of one's own."""
        from ..engine.origin import origin_of
        from ..engine.structure import multiplicities

        if "site" not in self.node.inputs:
            return {}
        site, crystal = int(self.node.inputs.site.value), self.node.inputs.structure.get_pymatgen_structure()
        return {"site": site, "multiplicity": multiplicities(crystal, [site])[0], **origin_of(crystal, site)}


def stopped_by_scheduler(node: orm.CalcJobNode) -> tuple[str, str] | None:
    """Label of the exit code and reason for a job that the scheduler stopped; None for any other."""
    status = node.exit_status
    labels = {110: "ERROR_KILLED", 120: "ERROR_OUT_OF_WALLTIME", 131: "ERROR_KILLED", 140: "ERROR_KILLED"}
    if status not in labels:
        return None
    return labels[status], f"the scheduler stopped the job ({node.exit_message or status})."

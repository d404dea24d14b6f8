"""Parser of FEFF: the spectrum, what the logs say, and the reason where there is no spectrum."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ExitCode
from aiida.parsers import Parser

from ..data.spectrum import SpectrumData

#: Exit code of each cause that `engine.feff.diagnose` recognises.
_EXIT_CODES = {
    "input_refused": "ERROR_INPUT_REFUSED",
    "missing_potential": "ERROR_MISSING_POTENTIAL",
    "missing_absorber": "ERROR_MISSING_ABSORBER",
    "cluster_too_large": "ERROR_CLUSTER_TOO_LARGE",
    "atoms_too_close": "ERROR_ATOMS_TOO_CLOSE",
    "potentials_failed": "ERROR_POTENTIALS_FAILED",
    "negative_occupation": "ERROR_NEGATIVE_OCCUPATION",
    "out_of_time": "ERROR_OUT_OF_WALLTIME",
    "killed": "ERROR_KILLED",
    "not_installed": "ERROR_NOT_INSTALLED",
}


class FeffParser(Parser):
    """Parser of `FeffCalculation`."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Attach `spectrum` and `output_parameters`, or say why there is no spectrum."""
        import tempfile

        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            self.retrieved.copy_tree(folder)
            return self._parse_folder(folder)

    def _parse_folder(self, folder: Path) -> ExitCode | None:
        from ..engine.errors import XastructError
        from ..engine.feff.output import read_folder

        facts = _run_facts(folder)
        if not (folder / "xmu.dat").is_file():
            self.out("output_parameters", orm.Dict(facts))
            return self._reason(folder)
        try:
            absorber, edge, kind, settings = self._asked(folder)
            result = read_folder(folder, absorber, edge, kind, {**settings, "program": facts.get("version", "own executable")})
        except XastructError as error:
            self.out("output_parameters", orm.Dict(facts))
            # A table that is cut off is what a job that was stopped leaves behind; then that is the reason.
            stopped = self._stopped()
            return stopped or self.exit_codes.ERROR_OUTPUT_DAMAGED.format(reason=str(error))
        facts = {**result.facts, **facts}
        if result.problems:
            facts["problems"] = list(result.problems)
        warnings = [*facts.get("warnings", []), *_physics_warnings(absorber, edge)]
        if warnings:
            facts["warnings"] = warnings
        self.out("output_parameters", orm.Dict(facts))
        if result.problems:
            return self.exit_codes.ERROR_IMPLAUSIBLE.format(reason=" ".join(result.problems))
        site, multiplicity = self._site()
        self.out("spectrum", SpectrumData.from_engine(result.spectrum, site=site, multiplicity=multiplicity))
        if facts.get("scf_settled") is False:
            return self.exit_codes.WARNING_SCF_NOT_CONVERGED.format(
                reason=f"the Fermi level still moved after {facts.get('scf_iterations')} iterations."
            )
        return None

    def _asked(self, folder: Path) -> tuple[str, str, Any, dict[str, Any]]:
        """Absorber, edge, kind and settings of the calculation, from its inputs or from the deck that the user gave."""
        from ..calculations.feff import feff_parameters
        from ..engine.feff.deck import read_request, resolve_edge

        inputs = self.node.inputs
        if "feff_input" in inputs:
            absorber, edge, kind = read_request(inputs.feff_input.get_content())
            return absorber, edge, kind, {"deck": "own"}
        parameters = feff_parameters(inputs.parameters if "parameters" in inputs else None)
        kinds = [inputs.structure.get_kind(item.kind_name) for item in inputs.structure.sites]
        absorber = kinds[inputs.site.value].symbol
        return absorber, resolve_edge(absorber, parameters.edge), parameters.kind, parameters.to_dict()

    def _site(self) -> tuple[int | None, int | None]:
        """Index of the absorber and how many sites are equivalent to it; unknown for a deck of one's own."""
        from ..engine.structure import multiplicities

        if "site" not in self.node.inputs:
            return None, None
        site = int(self.node.inputs.site.value)
        return site, multiplicities(self.node.inputs.structure.get_pymatgen_structure(), [site])[0]

    def _reason(self, folder: Path) -> ExitCode:
        from ..engine.feff.diagnose import diagnose

        logs = {path.name: path.read_text(errors="replace") for path in sorted(folder.glob("log*.dat"))}
        for name in ("xastruct-feff.err", "xastruct-feff.log", "xastruct-feff.stderr"):
            if (folder / name).is_file():
                logs[name] = (folder / name).read_text(errors="replace")
        logs["scheduler"] = self.node.get_scheduler_stderr() or ""
        found = diagnose(logs)
        if found.cause == "unknown" and (stopped := self._stopped()) is not None:
            return stopped
        return getattr(self.exit_codes, _EXIT_CODES.get(found.cause, "ERROR_NO_OUTPUT")).format(reason=str(found))

    def _stopped(self) -> ExitCode | None:
        """The scheduler's own word for a job that it stopped."""
        status = self.node.exit_status
        names = {110: "ERROR_KILLED", 120: "ERROR_OUT_OF_WALLTIME", 131: "ERROR_KILLED", 140: "ERROR_KILLED"}
        if status in names:
            return getattr(self.exit_codes, names[status]).format(
                reason=f"the scheduler stopped the job ({self.node.exit_message or status})."
            )
        return None


def _run_facts(folder: Path) -> dict[str, Any]:
    path = folder / "xastruct-feff.json"
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):  # a killed job leaves none, or half of one
        return {}


def _physics_warnings(absorber: str, edge: str) -> list[str]:
    """What a spectrum of this edge leaves out, whatever FEFF does."""
    from ..engine.spectrum import atomic_number

    z = atomic_number(absorber)
    if edge in ("L2", "L3") and 21 <= z <= 29:
        return [f"the {absorber} {edge} edge is dominated by multiplets of the 3d shell, which FEFF leaves out; do not train on it."]
    return []

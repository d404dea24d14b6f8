"""FEFF on one absorber, run again with other settings where it fails in a way that is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessHandlerReport, process_handler, while_
from aiida.engine.processes.builder import ProcessBuilder
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from ...calculations.feff import FeffCalculation
from ..recovery import ProtocolRestartWorkChain

_CODES = FeffCalculation.exit_codes

#: Wall time is doubled up to this many seconds before the protocol gives way.
MAX_WALLCLOCK = 24 * 3600


class FeffBaseWorkChain(ProtocolRestartWorkChain):
    """FEFF on one absorber with restarts.

    Every change that a handler makes to the inputs is in the report and in the `parameters` of the next calculation; the spectrum's
    settings are those of the calculation that gave it.
    """

    _process_class = FeffCalculation
    PROTOCOLS = Path(__file__).parent / "protocols.yaml"
    OVERRIDES = ("parameters", "max_wallclock_seconds", "max_iterations", "options")

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:  # type: ignore[override]
        """Inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.expose_inputs(FeffCalculation, namespace="feff")
        spec.expose_outputs(FeffCalculation)
        spec.outline(
            cls.setup,
            cls.check,
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),
            cls.results,
        )
        spec.exit_code(303, "ERROR_CANNOT_COMPUTE", message="FEFF cannot compute this absorber: {reason}")
        spec.exit_code(304, "ERROR_UNRECOVERABLE", message="FEFF failed and running it again would not help: {reason}")
        spec.exit_code(410, "WARNING_SCF_NOT_CONVERGED", message="SCF did not settle with any settings; its spectrum is attached: {reason}")

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        structure: orm.StructureData,
        site: int,
        kind: str = "XANES",
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> ProcessBuilder:
        """Builder for one site.

        Args:
            code: `xastruct-feff`, see `aiida_xastruct.tools.codes.bundled_feff_code`.
            structure: the crystal.
            site: 0-based index of the absorber.
            kind: XANES or EXAFS.
            protocol: fast, balanced or stringent; fast if None.
            overrides: `parameters` (fields of `FeffParameters`), `max_wallclock_seconds`, `max_iterations`, `options` (of the calculation).

        Raises:
            ValueError: for an unknown protocol or override.
        """
        chosen, given = cls.choose_protocol(protocol, overrides)
        builder = cls.get_builder()
        builder.feff.code = code
        builder.feff.structure = structure
        builder.feff.site = orm.Int(site)
        builder.feff.parameters = orm.Dict({**chosen["parameters"], "kind": kind, **given.get("parameters", {})})
        seconds = given.get("max_wallclock_seconds", chosen["max_wallclock_seconds"])
        builder.feff.metadata.options = cls.job_options(seconds, given)
        if "max_iterations" in given:
            builder.max_iterations = orm.Int(given["max_iterations"])
        return builder

    def setup(self) -> None:
        """Take the inputs; handlers change them from there."""
        super().setup()
        self.ctx.inputs = self.exposed_inputs(FeffCalculation, namespace="feff")

    def check(self) -> ExitCode | None:
        """Refuse with the reason what no settings can mend, before a job is made for it."""
        from ...calculations.feff import feff_parameters
        from ...engine.errors import XastructError
        from ...engine.feff.deck import write_deck

        inputs = self.ctx.inputs
        if "structure" not in inputs:
            return None
        try:
            write_deck(inputs["structure"].get_pymatgen_structure(), inputs["site"].value, feff_parameters(inputs.get("parameters")))
        except XastructError as error:
            return self.exit_codes.ERROR_CANNOT_COMPUTE.format(reason=str(error))
        return None

    @process_handler(priority=600, exit_codes=[_CODES.ERROR_INPUT_REFUSED, _CODES.ERROR_MISSING_POTENTIAL, _CODES.ERROR_MISSING_ABSORBER,
                                               _CODES.ERROR_ATOMS_TOO_CLOSE, _CODES.ERROR_NOT_INSTALLED])  # fmt: skip
    def handle_unrecoverable(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """A deck that FEFF refuses stays refused: stop with FEFF's own words."""
        return self._give_up(node)

    @process_handler(priority=590, exit_codes=_CODES.ERROR_CLUSTER_TOO_LARGE)
    def handle_cluster_too_large(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Leave out the outer fifth of the atoms, from FEFF's own limit down."""
        current = min(int(self._parameter("max_atoms")), 1000)
        if not self._own_cluster() or current <= 100:
            return self._give_up(node)
        return self._again(node, {"max_atoms": int(0.8 * current)})

    @process_handler(priority=580, exit_codes=_CODES.ERROR_OUT_OF_WALLTIME)
    def handle_out_of_walltime(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Allow twice the time, once; then step down to the next faster protocol."""
        options = self.ctx.inputs["metadata"]["options"]
        seconds = int(options["max_wallclock_seconds"])
        if self._count("walltime") == 1 and 2 * seconds <= MAX_WALLCLOCK:
            self.ctx.inputs["metadata"]["options"] = {**options, "max_wallclock_seconds": 2 * seconds}
            self.report(f"FeffCalculation<{node.pk}> ran out of {seconds} s; it gets {2 * seconds} s.")
            return ProcessHandlerReport(True)
        faster = {"stringent": "balanced", "balanced": "fast"}.get(str(self._parameter("protocol")))
        if faster is None or not self._own_cluster():
            return self._give_up(node)
        return self._again(node, {"protocol": faster, "scf_radius": None, "fms_radius": None})

    @process_handler(priority=570, exit_codes=_CODES.ERROR_KILLED)
    def handle_killed(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Run the same again, twice at most: a node that failed or memory that others took."""
        if self._count("killed") > 2:
            return self._give_up(node)
        return self._again(node, {})

    @process_handler(priority=560, exit_codes=[_CODES.ERROR_NEGATIVE_OCCUPATION])
    def handle_negative_occupation(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Leave out the ION card; without one, mix half as much density into each SCF iteration. Twice at most."""
        if not self._own_cluster() or self._count("occupation") > 2:
            return self._give_up(node)
        cards = dict(self._parameter("cards"))
        if cards.pop("ION", None) is not None:
            return self._again(node, {"cards": cards})
        return self._again(node, {"scf_mixing": float(self._parameter("scf_mixing")) / 2})

    @process_handler(priority=550, exit_codes=[_CODES.ERROR_POTENTIALS_FAILED, _CODES.ERROR_IMPLAUSIBLE])
    def handle_other_engine(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """EXAFS that FEFF 8.5L fails on goes to FEFF10, whose arrays are larger and whose potentials differ."""
        if not self._own_cluster() or self._parameter("kind") != "EXAFS" or self._parameter("engine") == "feff10":
            return self._give_up(node)
        return self._again(node, {"engine": "feff10"})

    @process_handler(priority=530, exit_codes=_CODES.WARNING_SCF_NOT_CONVERGED)
    def handle_scf_not_converged(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Mix half as much over twice the iterations, once; then keep the spectrum and say so."""
        if self._own_cluster() and self._count("scf") == 1:
            self.ctx.unsettled = node
            iterations = min(100, 2 * int(self._parameter("scf_iterations")))
            return self._again(node, {"scf_mixing": float(self._parameter("scf_mixing")) / 2, "scf_iterations": iterations})
        return self._keep(node)

    @process_handler(priority=10)
    def handle_failed_again(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Keep the spectrum whose SCF did not settle where running it again failed in a way that no handler knows."""
        return None if node.is_finished_ok or "unsettled" not in self.ctx else self._keep(self.ctx.unsettled)

    def _keep(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """End with the spectrum of a calculation whose SCF did not settle."""
        self.ctx.is_finished = True
        self._attach_outputs(node)
        return ProcessHandlerReport(True, self.exit_codes.WARNING_SCF_NOT_CONVERGED.format(reason=node.exit_message or ""))

    def _own_cluster(self) -> bool:
        """Whether the deck is ours to change."""
        return "structure" in self.ctx.inputs

    def _parameter(self, name: str) -> Any:
        """The current value of a parameter, its default filled in."""
        from ...calculations.feff import feff_parameters

        return getattr(feff_parameters(self.ctx.inputs.get("parameters")), name)

    def _again(self, node: orm.CalcJobNode, changes: Mapping[str, Any]) -> ProcessHandlerReport:
        """Run again with changed parameters."""
        if changes:
            current = self.ctx.inputs["parameters"].get_dict() if "parameters" in self.ctx.inputs else {}
            self.ctx.inputs["parameters"] = orm.Dict({**current, **changes})
        words = ", ".join(f"{name} = {value}" for name, value in changes.items()) or "the same inputs"
        self.report(f"FeffCalculation<{node.pk}>: {node.exit_message} Again with {words}.")
        return ProcessHandlerReport(True)

    def _give_up(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        if "unsettled" in self.ctx:
            return self._keep(self.ctx.unsettled)
        return ProcessHandlerReport(
            True, self.exit_codes.ERROR_UNRECOVERABLE.format(reason=node.exit_message or f"exit status {node.exit_status}")
        )

"""XSpectra for one polarisation, run again where it did not get done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessHandlerReport, process_handler, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from ...calculations.checks import refused_options
from ...calculations.xspectra import XspectraCalculation
from ...engine.xspectra.parameters import XspectraParameters
from ..feff.base import MAX_WALLCLOCK
from ..recovery import ProtocolRestartWorkChain

_CODES = XspectraCalculation.exit_codes

#: Share of the wall time after which XSpectra is to end by itself, and leave what it takes to go on.
TIME_LIMIT = 0.9


class XspectraBaseWorkChain(ProtocolRestartWorkChain):
    """XSpectra for one polarisation with restarts.

    It is told to end before the job's time is up, and then goes on from where it was. Every change that a handler makes to the inputs is
    in the report and in the `parameters` of the next calculation.
    """

    _process_class = XspectraCalculation
    PROTOCOLS = Path(__file__).parent / "protocols.yaml"
    OVERRIDES = (
        "parameters", "image_distance", "kpoints_spacing", "spectrum_spacing", "cutoff_factor", "cutoff_wfc", "cutoff_rho",
        "conv_thr_per_atom", "max_wallclock_seconds", "max_iterations", "options",
    )  # fmt: skip

    @classmethod
    def settings(cls, protocol: str | None, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What a protocol says for a crystal, with overrides in its place.

        Args:
            protocol: fast, balanced or stringent; fast if None.
            overrides: `parameters` (fields of `XspectraParameters`), `image_distance` (angstrom), `kpoints_spacing` and `spectrum_spacing`
                (1/angstrom, of the meshes of pw.x and xspectra.x), `cutoff_factor` of the family's cutoffs, or `cutoff_wfc` and
                `cutoff_rho` (Ry), `conv_thr_per_atom` (Ry), `max_wallclock_seconds`, `max_iterations` and `options` of the jobs.

        Raises:
            ValueError: for an unknown protocol or override, or a value that is unfit.
        """
        chosen, given = cls.choose_protocol(protocol, overrides)
        XspectraParameters.from_dict(given.get("parameters", {}))
        merged = {**chosen, **given, "parameters": {**chosen["parameters"], **given.get("parameters", {})}}
        if words := refused_options(XspectraCalculation, merged.get("options", {}), "options"):
            raise ValueError(words)
        for name, value in merged.items():
            if name in ("description", "parameters", "options"):
                continue
            if name in ("max_wallclock_seconds", "max_iterations") and (type(value) is not int or value < 1):
                raise ValueError(f"{name} is {value!r}; give a whole number, 1 or more.")
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value <= 1e6:
                raise ValueError(f"{name} is {value!r}; give a positive number.")
        if ("cutoff_wfc" in merged) != ("cutoff_rho" in merged):
            raise ValueError("give cutoff_wfc and cutoff_rho together, or neither.")
        return merged

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:  # type: ignore[override]
        """Inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.expose_inputs(XspectraCalculation, namespace="xspectra")
        spec.expose_outputs(XspectraCalculation)
        spec.outline(cls.setup, while_(cls.should_run_process)(cls.run_process, cls.inspect_process), cls.results)
        spec.exit_code(304, "ERROR_UNRECOVERABLE", message="XSpectra failed and running it again would not help: {reason}")
        spec.exit_code(410, "WARNING_NOT_CONVERGED", message="The Lanczos chain did not converge; its spectrum is attached: {reason}")

    def setup(self) -> None:
        """Take the inputs, with a limit of time below that of the job."""
        super().setup()
        self.ctx.inputs = self.exposed_inputs(XspectraCalculation, namespace="xspectra")
        self.ctx.unconverged = 0
        seconds = self.ctx.inputs["metadata"]["options"].get("max_wallclock_seconds")
        if seconds and "time_limit" not in self._parameters():
            self._set(time_limit=TIME_LIMIT * float(seconds))

    @process_handler(priority=600, exit_codes=[_CODES.ERROR_INPUT_REFUSED, _CODES.ERROR_IMPLAUSIBLE])
    def handle_unrecoverable(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """An input that XSpectra refuses stays refused: stop with its own words."""
        reason = node.exit_message or f"exit status {node.exit_status}"
        return ProcessHandlerReport(True, self.exit_codes.ERROR_UNRECOVERABLE.format(reason=reason))

    @process_handler(priority=560, exit_codes=_CODES.ERROR_TIME_LIMIT)
    def handle_time_limit(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """It ended in time: go on from what it left. The next run does not say which k points of this one did not converge."""
        self.ctx.unconverged += node.outputs.output_parameters["unconverged"]
        self.ctx.inputs["previous"] = node.outputs.remote_folder
        return self._again(node, "from where it was")

    @process_handler(priority=550, exit_codes=[_CODES.ERROR_OUT_OF_WALLTIME, _CODES.ERROR_KILLED])
    def handle_stopped(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Stopped from outside: from the start, with twice the time."""
        options = self.ctx.inputs["metadata"]["options"]
        seconds = min(2 * int(options.get("max_wallclock_seconds", 3600)), MAX_WALLCLOCK)
        options["max_wallclock_seconds"] = seconds
        self._set(time_limit=TIME_LIMIT * seconds)
        return self._from_the_start(node, f"with {seconds} s")

    @process_handler(priority=540, exit_codes=[_CODES.WARNING_LANCZOS_NOT_CONVERGED, ExitCode(0)])
    def handle_not_converged(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Three times the Lanczos vectors, once; then keep the spectrum and say so."""
        if node.exit_status == 0 and not self.ctx.unconverged:
            return None
        if self._count("lanczos") == 1:
            iterations = 3 * XspectraParameters.from_dict(self._parameters()).iterations
            self._set(iterations=iterations)
            return self._from_the_start(node, f"with iterations = {iterations}")
        self.ctx.is_finished = True
        self._attach_outputs(node)
        reason = node.exit_message or f"{self.ctx.unconverged} k points of an earlier part of it did not."
        return ProcessHandlerReport(True, self.exit_codes.WARNING_NOT_CONVERGED.format(reason=reason))

    def _parameters(self) -> dict[str, object]:
        """Current parameters, without their defaults."""
        return dict(self.ctx.inputs["parameters"].get_dict()) if "parameters" in self.ctx.inputs else {}

    def _set(self, **changes: object) -> None:
        self.ctx.inputs["parameters"] = orm.Dict({**self._parameters(), **changes})

    def _from_the_start(self, node: orm.CalcJobNode, how: str) -> ProcessHandlerReport:
        """Run again, without what an earlier run left."""
        self.ctx.inputs.pop("previous", None)
        self.ctx.unconverged = 0
        return self._again(node, f"from the start {how}")

    def _again(self, node: orm.CalcJobNode, how: str) -> ProcessHandlerReport:
        """Run again."""
        self.report(f"XspectraCalculation<{node.pk}>: {node.exit_message} Again, {how}.")
        return ProcessHandlerReport(True)

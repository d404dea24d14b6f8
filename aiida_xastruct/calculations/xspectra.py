"""CalcJob that runs xspectra.x of Quantum ESPRESSO on what pw.x left of a cell with a core hole."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine.processes.calcjobs.calcjob import CalcJobProcessSpec

from ..engine.xspectra.parameters import CORE, INPUT, OUTPUT, SAVE, SPECTRUM, XspectraParameters, write_input
from .checks import refusal
from .recovery import RecoveringCalcJob

#: Where aiida-quantumespresso has pw.x leave its results, and under which name.
FOLDER, PREFIX = "./out/", "aiida"


def _check_parameters(value: orm.Dict | None, _: Any) -> str | None:
    return refusal(XspectraParameters.from_dict, value)


def _check_polarisation(value: orm.List | None, _: Any) -> str | None:
    if value is None:
        return None
    numbers = value.get_list()
    if len(numbers) != 3 or not all(isinstance(item, (int, float)) for item in numbers) or not any(numbers):
        return f"polarisation is {numbers}; give three numbers, the direction of the electric field."
    return None


def _check_species(value: orm.Int | None, _: Any) -> str | None:
    return f"species is {value.value}; species of pw.x are counted from 1." if value is not None and value.value < 1 else None


class XspectraCalculation(RecoveringCalcJob):
    """XSpectra for one polarisation: the dipole spectrum of a 1s level, on the density of a pw.x that ran before.

    The code is `xspectra.x`. Of pw.x's results it takes the folder, as aiida-quantumespresso leaves it.
    """

    #: Raised by a change of what a job asks XSpectra for, or of what is read of its answer, so that AiiDA's cache gives no older run: the
    #: defaults of `XspectraParameters` and the text of the input are no part of a job's hash.
    CACHE_VERSION = 1

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Inputs, outputs and exit codes."""
        super().define(spec)
        spec.input("parent_folder", valid_type=orm.RemoteData, help="Where pw.x ran.")
        spec.input("ground_state", valid_type=orm.SinglefileData, help="Pseudopotential (UPF) whose core orbital is the initial state.")
        spec.input("kpoints", valid_type=orm.KpointsData, help="A mesh; it is shifted by half a step.")
        spec.input(
            "polarisation", valid_type=orm.List, serializer=orm.to_aiida_type, validator=_check_polarisation,
            help="Direction of the electric field, cartesian.",
        )  # fmt: skip
        spec.input(
            "species", valid_type=orm.Int, serializer=orm.to_aiida_type, validator=_check_species,
            help="Number of the absorbing species in pw.x's input, from 1; kinds are sorted by name there.",
        )  # fmt: skip
        spec.input(
            "parameters", valid_type=orm.Dict, required=False, serializer=orm.to_aiida_type, validator=_check_parameters,
            help="Fields of `aiida_xastruct.engine.xspectra.parameters.XspectraParameters`.",
        )  # fmt: skip
        spec.input(
            "zero", valid_type=orm.Float, required=False, serializer=orm.to_aiida_type,
            help="Fermi level of a metal, eV; XSpectra finds the highest full level itself where there is a gap.",
        )  # fmt: skip
        spec.input("previous", valid_type=orm.RemoteData, required=False, help="Folder of a run that ended in time, to go on from.")
        options = spec.inputs["metadata"]["options"]
        options["parser_name"].default = "xastruct.xspectra"
        options["resources"].default = {"num_machines": 1, "num_mpiprocs_per_machine": 1}
        options["withmpi"].default = False
        options["input_filename"].default = INPUT
        options["output_filename"].default = OUTPUT
        options["max_wallclock_seconds"].default = 3600

        spec.output("spectrum", valid_type=orm.XyData, help="Energy in eV from the zero that `output_parameters` names, and cross section.")
        spec.output("output_parameters", valid_type=orm.Dict, help="What the log says: version, levels, Lanczos vectors, CPU seconds.")
        spec.default_output_node = "output_parameters"

        # What says nothing about the input is not taken from a cache: a handler that runs it again must get a run.
        spec.exit_code(301, "ERROR_NO_OUTPUT", message="XSpectra wrote no spectrum: {reason}", invalidates_cache=True)
        spec.exit_code(302, "ERROR_OUTPUT_DAMAGED", message="XSpectra's spectrum cannot be used: {reason}", invalidates_cache=True)
        spec.exit_code(303, "ERROR_INPUT_REFUSED", message="XSpectra refused its input: {reason}")
        spec.exit_code(310, "ERROR_OUT_OF_WALLTIME", message="XSpectra ran out of time: {reason}", invalidates_cache=True)
        spec.exit_code(311, "ERROR_KILLED", message="XSpectra was killed: {reason}", invalidates_cache=True)
        spec.exit_code(312, "ERROR_TIME_LIMIT", message="XSpectra is not done: {reason}", invalidates_cache=True)
        spec.exit_code(320, "ERROR_IMPLAUSIBLE", message="XSpectra ended well but its spectrum fails the sanity check: {reason}")
        spec.exit_code(410, "WARNING_LANCZOS_NOT_CONVERGED", message="The spectrum is there but not converged: {reason}")

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the input and the initial state, and say what to run, to copy and to fetch."""
        from aiida.common.exceptions import InputValidationError

        from ..engine.errors import XastructError
        from ..engine.xspectra.upf import core_wavefunction

        pseudo = self.inputs.ground_state
        given = self.inputs.parameters.get_dict() if "parameters" in self.inputs else {}
        try:
            points, _ = self.inputs.kpoints.get_kpoints_mesh()
            core = core_wavefunction(pseudo.get_content(), "1s", pseudo.filename)
            text = write_input(
                XspectraParameters.from_dict(given), self.inputs.polarisation.get_list(), self.inputs.species.value, points, PREFIX, FOLDER,
                "previous" in self.inputs, self.inputs.zero.value if "zero" in self.inputs else None,
            )  # fmt: skip
        except (XastructError, AttributeError) as error:
            raise InputValidationError(str(error)) from error
        for name, content in ((INPUT, text), (CORE, core)):
            with folder.open(name, "w") as stream:
                stream.write(content)
        code = CodeInfo()
        code.code_uuid = self.inputs.code.uuid
        code.cmdline_params = ["-in", INPUT]
        code.stdout_name = OUTPUT
        info = CalcInfo()
        info.codes_info = [code]
        parent = self.inputs.parent_folder
        # Several polarisations read the same results, which are large; none of them writes there.
        info.remote_symlink_list = [(parent.computer.uuid, f"{parent.get_remote_path()}/out", "out")]
        if "previous" in self.inputs:
            previous = self.inputs.previous
            info.remote_copy_list = [(previous.computer.uuid, f"{previous.get_remote_path()}/{SAVE}", SAVE)]
        info.retrieve_list = [OUTPUT, SPECTRUM]
        return info

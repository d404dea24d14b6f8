"""CalcJob that predicts the spectra of many crystals, on a machine that may have a GPU."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine.processes.calcjobs.calcjob import CalcJobProcessSpec

from ..data.model import ModelData
from ..data.table import TableData
from ..engine import ALGORITHM_VERSION
from .checks import check_kind
from .feff_batch import cores
from .recovery import RecoveringCalcJob


def _check_model(value: ModelData | None, _: Any) -> str | None:
    """Refuse a model that answers other questions."""
    if value is not None and value.task != "forward":
        return f"the model answers {value.task} questions; give a forward model."
    return None


class PredictCalculation(RecoveringCalcJob):
    """Spectra of all inequivalent sites of many crystals by a forward model: `xastruct.functions.predict_batch` as a job.

    The code is `xastruct`, on a machine where AiiDA need not be installed. Features are computed by CUDA where there is any, otherwise by
    as many processes as `resources` asks for. The job says which version of the algorithm it ran; another than was asked for is refused.

    Inputs:
        structures: as `aiida_xastruct.calculations.functions.predict_batch.structures_node` makes it.
        absorber: element whose sites are asked for; empty for all elements.
        kind: XANES or EXAFS.
        model: a forward model of this kind.
        algorithm_version: of this task, so that caches never mix two; leave it out.
        cache: file on the machine of the job that features are read from and kept in.

    Outputs:
        table: a row for each site, and one for each crystal without an answer; see `predict_batch`.
        spectra: `grid`, `mu` and `half_band`; see `predict_batch`.
    """

    INPUT, FAMILY = "structures.jsonl.gz", "family"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Inputs, outputs and exit codes."""
        super().define(spec)
        spec.input("structures", valid_type=orm.SinglefileData, help="Many crystals in one file.")
        spec.input(
            "absorber", valid_type=orm.Str, default=lambda: orm.Str(""), serializer=orm.to_aiida_type,
            help="Element whose sites are asked for; empty for all elements.",
        )  # fmt: skip
        spec.input("kind", valid_type=orm.Str, validator=check_kind, serializer=orm.to_aiida_type, help="XANES or EXAFS.")
        spec.input("model", valid_type=ModelData, validator=_check_model, help="A forward model of this kind.")
        spec.input(
            "algorithm_version", valid_type=orm.Str, default=lambda: orm.Str(ALGORITHM_VERSION["forward"]), serializer=orm.to_aiida_type,
            help="Of this task, so that caches never mix two; leave it out.",
        )  # fmt: skip
        spec.input("cache", valid_type=str, required=False, non_db=True, help="File on the job's machine that keeps features.")
        options = spec.inputs["metadata"]["options"]
        options["parser_name"].default = "xastruct.predict"
        options["resources"].default = {"num_machines": 1, "num_mpiprocs_per_machine": 1}
        options["withmpi"].default = False
        options["output_filename"].default = "xastruct.log"

        spec.output("table", valid_type=TableData, help="A row for each site.")
        spec.output("spectra", valid_type=orm.ArrayData, help="The curves.")

        # What a new run may mend, such as a full disk, is not taken from a cache.
        spec.exit_code(301, "ERROR_REFUSED", invalidates_cache=True, message="xastruct cannot use the input: {reason}")
        spec.exit_code(302, "ERROR_NOT_FINISHED", invalidates_cache=True, message="The job wrote no batch: {reason}")
        spec.exit_code(
            303, "ERROR_OTHER_VERSION", invalidates_cache=True,
            message="The job ran version {found} of the algorithm, and {wanted} was asked for; install the same aiida-xastruct there.",
        )  # fmt: skip
        spec.exit_code(304, "ERROR_DAMAGED", invalidates_cache=True, message="The batch that the job wrote cannot be read: {reason}")

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the model as a family of one, and say what to run and to fetch."""
        from ..engine.batch import FACTS, GRID, HALF_BAND, MU, TABLE
        from ..groups.family import write_family

        family = folder.get_subfolder(self.FAMILY, create=True)
        # The manifest names the family; what a model answers is on its own card.
        write_family(_path(family), [self.inputs.model], {"name": "the model of one batch"})
        code = CodeInfo()
        code.code_uuid = self.inputs.code.uuid
        code.cmdline_params = ["predict", self.INPUT, "--kind", self.inputs.kind.value, "--family", self.FAMILY, "--output", "."]
        code.cmdline_params += ["--cores", str(cores(self.options.resources))]
        if self.inputs.absorber.value:
            code.cmdline_params += ["--absorber", self.inputs.absorber.value]
        if "cache" in self.inputs:
            code.cmdline_params += ["--cache", self.inputs.cache]
        code.stdout_name = self.options.output_filename
        code.stderr_name = "xastruct.stderr"
        info = CalcInfo()
        info.codes_info = [code]
        structures = self.inputs.structures
        info.local_copy_list = [(structures.uuid, structures.filename, self.INPUT)]
        # The model is a node already, and so will the arrays be.
        written = _path(family).rglob("*")
        info.provenance_exclude_list = [path.relative_to(_path(folder)).as_posix() for path in written if path.is_file()]
        info.retrieve_list = [FACTS, code.stdout_name, code.stderr_name]
        info.retrieve_temporary_list = [TABLE, GRID, MU, HALF_BAND]
        return info


def _path(folder: Folder) -> Any:
    from pathlib import Path

    return Path(folder.abspath)

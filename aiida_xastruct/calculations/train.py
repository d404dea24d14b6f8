"""CalcJob that trains a family of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine.processes.calcjobs.calcjob import CalcJobProcessSpec, validate_calc_job

from ..data.dataset import DatasetData
from ..data.model import ModelData
from ..engine import ALGORITHM_VERSION
from .checks import refusal
from .recovery import RecoveringCalcJob

#: Share of the job's wall time after which no epoch is begun that would not end in it, so that the job ends by itself.
TIME_SHARE = 0.95

#: What Lightning calls the classes of devices.
DEVICES = {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}

#: Where the state of a training is, from which another goes on.
STATE = "training/run.json"


def check_config(value: orm.Dict | None, _: Any) -> str | None:
    """Refuse a configuration that the engine would refuse."""
    from ..engine.configuration import FamilyConfig

    return refusal(FamilyConfig.from_dict, value)


def check_device(value: orm.Str | None, _: Any) -> str | None:
    """Refuse a device that is no class of devices."""
    return None if value is None else refused_device("`device`", value.value)


def refused_device(name: str, device: Any) -> str | None:
    """A sentence of what is wrong with a class of devices; None where nothing is."""
    return None if device in DEVICES else f"{name} is {device!r}; use one of {', '.join(DEVICES)}."


def check_tasks(config: orm.Dict, dataset: DatasetData) -> str | None:
    """Refuse tasks of a kind of spectrum that the dataset has none of."""
    for label in config.get_dict().get("tasks") or ():
        kind = str(label).rpartition("-")[2]
        if kind in ("XANES", "EXAFS") and kind not in dataset.kinds:
            return f"the dataset has no {kind} spectra, so {label} cannot be trained; take it from `tasks`, or give another dataset."
    return None


def check_checkpoint(value: orm.Data | None, _: Any) -> str | None:
    """Refuse a folder that no training can go on from."""
    if isinstance(value, orm.FolderData):
        path = f"{TrainCalculation.FAMILY}/{STATE}"
        if not _holds(value, path):
            return f"`checkpoint` has no {path}; give the `retrieved` or the `remote_folder` of a training that was stopped."
    if isinstance(value, orm.RemoteStashFolderData) and TrainCalculation.FAMILY not in value.source_list:
        return f"`checkpoint` is a stash without {TrainCalculation.FAMILY}; name that folder in the `source_list` of the stash."
    return None


def _holds(folder: orm.FolderData, path: str) -> bool:
    try:
        folder.base.repository.get_object(path)
    except FileNotFoundError:
        return False
    return True


def _check_inputs(value: Any, namespace: Any) -> str | None:
    """What AiiDA checks of every job, and whether the inputs fit each other."""
    if "config" not in value or "dataset" not in value:
        return None  # the ports themselves say what is missing
    return validate_calc_job(value, namespace) or check_tasks(value["config"], value["dataset"]) or _check_computer(value)


def _check_computer(value: Any) -> str | None:
    """Refuse a checkpoint on another computer, from which AiiDA copies nothing."""
    checkpoint = value.get("checkpoint")
    here = value.get("metadata", {}).get("computer") or getattr(value.get("code"), "computer", None)
    if checkpoint is None or isinstance(checkpoint, orm.FolderData) or here is None or checkpoint.computer.uuid == here.uuid:
        return None
    return f"`checkpoint` is on {checkpoint.computer.label}, and the job on {here.label}; give the `retrieved` folder of that training."


def effective_config(inputs: Mapping[str, Any], resources: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The configuration that is trained: what `seed`, `device` and the resources of the job say wins over what `config` says.

    Args:
        inputs: of the process.
        resources: of the job where it runs under MPI, as `srun` starts it: one process a device.
    """
    config = inputs["config"].get_dict()
    changes: dict[str, Any] = {"progress": False}
    if "seed" in inputs:
        changes["seed"] = inputs["seed"].value
    if "device" in inputs:
        changes["accelerator"] = DEVICES[inputs["device"].value]
    if resources is not None:
        nodes = int(resources.get("num_machines") or 1)
        total = int(resources.get("tot_num_mpiprocs") or nodes * int(resources.get("num_mpiprocs_per_machine") or 1))
        changes |= {"devices": total // nodes, "nodes": nodes}
    changed = {**config, "training": {**config.get("training", {}), **changes}}
    if "training_of" in config:  # what these leave out is as in `training`
        own_of = config["training_of"].items()
        changed["training_of"] = {label: own | {key: changes[key] for key in own if key in changes} for label, own in own_of}
    return changed


class TrainCalculation(RecoveringCalcJob):
    """Train a family of models by `xastruct train`, on any computer.

    The job ends by itself before its wall time does, and says after every epoch how it goes. What it has done by then is in `family` in its
    folder, which is retrieved: another job goes on from there, and comes to the same weights as one that nothing stopped.

    Inputs:
        dataset: what to learn from.
        config: what and how, the content of the file that `xastruct train` takes (`aiida_xastruct.engine.configuration.FamilyConfig`).
        crystals: table of sites without spectra that `xastruct crystals` made, for inverse models of EXAFS.
        seed: of the first network; wins over `config`.
        device: `cpu`, `cuda`, or `auto` for what the computer has; wins over `config`.
        checkpoint: `remote_folder`, `retrieved` or stashed folder of a training that was stopped, with the same inputs otherwise.
        algorithm_version: of each task, so that caches never mix two; leave it out.

    Outputs:
        models: each finished model by its name with an underscore, `models.forward_XANES`.
        report: `Dict` with `ended`, `reason`, `family` (the content of `family.json`), `finished` (names of models), `metrics` and
            `best_select_loss` by model, `losses` (by task, each network's `epoch`, `loss` and `select_loss`), `epochs_done`, `config` (that
            was trained), `device`, `processes`, `seconds`.
    """

    FAMILY = "family"
    CONFIG_FILE, DATASET_FILE, CRYSTALS_FILE = "config.yaml", "dataset.h5", "crystals.h5"
    LOG_FILE, REPORT_FILE = "xastruct-train.jsonl", "xastruct-train.json"
    OUTPUT_FILE, ERROR_FILE = "xastruct-train.log", "xastruct-train.stderr"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Inputs, outputs and exit codes."""
        super().define(spec)
        spec.input("dataset", valid_type=DatasetData, help="What to learn from.")
        spec.input(
            "config", valid_type=orm.Dict, validator=check_config, serializer=orm.to_aiida_type,
            help="What to train and how: keys of `aiida_xastruct.engine.configuration.FamilyConfig`.",
        )  # fmt: skip
        spec.input("crystals", valid_type=orm.SinglefileData, required=False, help="File of `xastruct crystals`, for inverse EXAFS.")
        spec.input("seed", valid_type=orm.Int, required=False, serializer=orm.to_aiida_type, help="Of the first network.")
        spec.input(
            "device", valid_type=orm.Str, required=False, validator=check_device, serializer=orm.to_aiida_type, help="auto, cpu or cuda."
        )
        spec.input(
            "checkpoint", valid_type=(orm.RemoteData, orm.FolderData, orm.RemoteStashFolderData), required=False,
            validator=check_checkpoint, help="Folder of a training that was stopped, to go on from.",
        )  # fmt: skip
        spec.input(
            "algorithm_version", valid_type=orm.Dict, default=lambda: orm.Dict(ALGORITHM_VERSION), serializer=orm.to_aiida_type,
            help="Of each task; leave it out.",
        )  # fmt: skip
        spec.inputs.validator = _check_inputs
        options = spec.inputs["metadata"]["options"]
        options["parser_name"].default = "xastruct.train"
        options["resources"].default = {"num_machines": 1, "num_mpiprocs_per_machine": 1}
        options["withmpi"].default = False
        options["output_filename"].default = cls.OUTPUT_FILE
        options["max_wallclock_seconds"].default = 12 * 3600

        spec.output_namespace("models", valid_type=ModelData, dynamic=True, help="Finished models.")
        spec.output("report", valid_type=orm.Dict, help="How it went: metrics, losses, device.")
        spec.default_output_node = "report"

        # What says nothing about the inputs is not taken from a cache: a handler that runs it again must get a run.
        spec.exit_code(301, "ERROR_NO_OUTPUT", message="the code wrote no report: {reason}", invalidates_cache=True)
        spec.exit_code(302, "ERROR_OUTPUT_DAMAGED", message="a trained model cannot be used: {reason}", invalidates_cache=True)
        spec.exit_code(303, "ERROR_INPUT_REFUSED", message="the configuration was refused: {reason}")
        spec.exit_code(304, "ERROR_DATASET_UNFIT", message="the dataset is not fit for this: {reason}")
        spec.exit_code(305, "ERROR_OUT_OF_MEMORY", message="the training ran out of memory: {reason}", invalidates_cache=True)
        spec.exit_code(306, "ERROR_DIVERGED", message="the training diverged: {reason}")
        spec.exit_code(
            307, "ERROR_STOPPED_AS_DIVERGED", message="the training diverged and did not end by itself: {reason}", invalidates_cache=True
        )
        spec.exit_code(308, "ERROR_NO_DEVICE", message="the training has no device: {reason}", invalidates_cache=True)
        spec.exit_code(309, "ERROR_OUT_OF_WALLTIME", message="time was up before the first epoch ended: {reason}", invalidates_cache=True)
        spec.exit_code(310, "ERROR_KILLED", message="the training was killed before an epoch ended: {reason}", invalidates_cache=True)
        spec.exit_code(311, "ERROR_ALGORITHM_VERSION", message="another version of the algorithm trained: {reason}", invalidates_cache=True)
        spec.exit_code(312, "ERROR_FAILED", message="the training failed: {reason}", invalidates_cache=True)
        spec.exit_code(
            410, "WARNING_OUT_OF_WALLTIME", message="time was up; go on from the `remote_folder`: {reason}", invalidates_cache=True
        )
        spec.exit_code(
            411, "WARNING_KILLED", message="the training was killed; go on from the `remote_folder`: {reason}", invalidates_cache=True
        )

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the configuration, and say what to copy, to run and to fetch."""
        import yaml

        resources = self.options.resources if self.options.withmpi else None
        with folder.open(self.CONFIG_FILE, "w") as stream:
            yaml.safe_dump(effective_config(self.inputs, resources), stream, sort_keys=True)
        code = CodeInfo()
        code.code_uuid = self.inputs.code.uuid
        code.cmdline_params = ["train", self.CONFIG_FILE, "--dataset", self.DATASET_FILE, "-o", self.FAMILY]
        code.cmdline_params += ["--log", self.LOG_FILE, "--report", self.REPORT_FILE]
        info = CalcInfo()
        info.local_copy_list = [(self.inputs.dataset.uuid, self.inputs.dataset.filename, self.DATASET_FILE)]
        if "crystals" in self.inputs:
            code.cmdline_params += ["--crystals", self.CRYSTALS_FILE]
            info.local_copy_list += [(self.inputs.crystals.uuid, self.inputs.crystals.filename, self.CRYSTALS_FILE)]
        if self.options.max_wallclock_seconds:
            code.cmdline_params += ["--seconds", str(int(TIME_SHARE * self.options.max_wallclock_seconds))]
        code.stdout_name = self.options.output_filename
        code.stderr_name = self.ERROR_FILE
        info.codes_info = [code]
        self._go_on(info)
        info.retrieve_list = [self.FAMILY, self.LOG_FILE, self.REPORT_FILE, code.stdout_name, code.stderr_name]
        return info

    def _go_on(self, info: CalcInfo) -> None:
        """Copy what an earlier training left: the family as far as it got, its state, and the log."""
        checkpoint = self.inputs.get("checkpoint")
        if isinstance(checkpoint, orm.FolderData):
            names = set(checkpoint.base.repository.list_object_names()) & {self.FAMILY, self.LOG_FILE}
            info.local_copy_list += [(checkpoint.uuid, name, name) for name in sorted(names)]
            return
        if isinstance(checkpoint, orm.RemoteData):
            source, names = checkpoint.get_remote_path(), {self.FAMILY, self.LOG_FILE}
        elif checkpoint is not None:
            source, names = checkpoint.target_basepath, set(checkpoint.source_list) & {self.FAMILY, self.LOG_FILE}
        else:
            return
        info.remote_copy_list = [(checkpoint.computer.uuid, f"{source}/{name}", name) for name in sorted(names)]

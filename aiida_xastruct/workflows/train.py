"""Training of a family of models, run again where it stops in a way that is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ProcessHandlerReport, process_handler, while_
from aiida.engine.processes.builder import ProcessBuilder
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from ..calculations.train import TrainCalculation
from ..data.dataset import DatasetData
from .recovery import ProtocolRestartWorkChain

_CODES = TrainCalculation.exit_codes

#: Sites in a step below which no less is tried when memory is short: the network and the data are then what is large.
LEAST_BATCH = 8

#: What the highest learning rate is divided by after a divergence.
SLOWER = 4.0

#: Jobs of one training, unless `max_iterations` says otherwise.
MAX_JOBS = 20


class TrainWorkChain(ProtocolRestartWorkChain):
    """Train a family of models with restarts.

    A job that ran out of time or was killed goes on from what it left, as often as `max_iterations` allows while epochs are gained. Where
    memory is short, half as many sites make a step. Where the loss diverges, the learning rate is divided by four, once: with a schedule
    that begins and ends low, a rate that high is the usual reason, and a second divergence says that it is another, which no rate mends.
    Where a GPU is missing or failed, a CPU goes on. Every change is in the report of the workflow, and in `config` of the output `report`.
    """

    _process_class = TrainCalculation
    PROTOCOLS = Path(__file__).parent / "train_protocols.yaml"
    OVERRIDES = ("config", "max_iterations", "options")

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:  # type: ignore[override]
        """Inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.expose_inputs(TrainCalculation, namespace="train")
        spec.expose_outputs(TrainCalculation)
        spec.inputs["max_iterations"].default = lambda: orm.Int(MAX_JOBS)
        spec.outline(
            cls.setup,
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),
            cls.results,
        )
        spec.exit_code(303, "ERROR_CANNOT_TRAIN", message="this cannot be trained: {reason}")
        spec.exit_code(304, "ERROR_UNRECOVERABLE", message="the training failed and running it again would not help: {reason}")
        spec.exit_code(305, "ERROR_OUT_OF_MEMORY", message="memory is short even for steps of {size} sites: {reason}")
        spec.exit_code(306, "ERROR_DIVERGED", message="the training diverged at a quarter of the learning rate too: {reason}")
        spec.exit_code(307, "ERROR_NO_PROGRESS", message="the last job ended no epoch; allow more than {seconds} s of wall time: {reason}")

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        dataset: DatasetData,
        protocol: str | None = None,
        tasks: list[str] | None = None,
        crystals: orm.SinglefileData | None = None,
        seed: int | None = None,
        device: str | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> ProcessBuilder:
        """Builder for one family.

        Args:
            code: `xastruct`, see `aiida_xastruct.tools.codes.bundled_xastruct_code`.
            dataset: what to learn from.
            protocol: fast, balanced or stringent; balanced if None.
            tasks: labels such as `forward-XANES`; all that the dataset has spectra for if None.
            crystals: file of `xastruct crystals`, for inverse EXAFS.
            seed: of the first network.
            device: auto, cpu or cuda.
            overrides: `config` (keys of `FamilyConfig`, merged into the protocol's, or the whole of a configuration of your own),
                `max_iterations`, `options` (of the calculation).

        Raises:
            ValueError: for an unknown protocol or override.
        """
        chosen, given = cls.choose_protocol(protocol, overrides)
        config = _merged(chosen["config"], given.get("config", {}))
        builder = cls.get_builder()
        builder.train.code = code
        builder.train.dataset = dataset
        builder.train.config = orm.Dict(config | ({"tasks": list(tasks)} if tasks is not None else {}))
        for port, value in {"crystals": crystals, "seed": seed, "device": device}.items():
            if value is not None:
                builder.train[port] = value
        builder.train.monitors = {"loss": orm.Dict({"entry_point": "xastruct.training_loss", "minimum_poll_interval": 30})}
        builder.train.metadata.options = cls.job_options(chosen["max_wallclock_seconds"], given)
        if "max_iterations" in given:
            builder.max_iterations = orm.Int(given["max_iterations"])
        return builder

    def setup(self) -> None:
        """Take the inputs; handlers change them from there."""
        super().setup()
        self.ctx.inputs = self.exposed_inputs(TrainCalculation, namespace="train")
        self.ctx.epochs = 0

    @process_handler(priority=600, exit_codes=[_CODES.ERROR_INPUT_REFUSED, _CODES.ERROR_DATASET_UNFIT, _CODES.ERROR_ALGORITHM_VERSION])
    def handle_refused(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """What the engine refuses stays refused."""
        return ProcessHandlerReport(True, self.exit_codes.ERROR_CANNOT_TRAIN.format(reason=_reason(node)))

    @process_handler(priority=590, exit_codes=[_CODES.ERROR_OUT_OF_WALLTIME, _CODES.WARNING_OUT_OF_WALLTIME])
    def handle_out_of_walltime(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Go on from the checkpoint while jobs end epochs; a job that ends none would not the next time."""
        if not self._gained(node):
            seconds = self.ctx.inputs["metadata"]["options"].get("max_wallclock_seconds")
            return ProcessHandlerReport(True, self.exit_codes.ERROR_NO_PROGRESS.format(seconds=seconds, reason=_reason(node)))
        return self._go_on(node)

    @process_handler(priority=580, exit_codes=[_CODES.ERROR_KILLED, _CODES.WARNING_KILLED])
    def handle_killed(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Go on from the checkpoint, or begin again where there is none; twice at most without an epoch in between."""
        if self._gained(node):
            self.ctx.tries = {**self.ctx.tries, "killed": 0}
        if self._count("killed") > 2:
            return self._give_up(node)
        return self._go_on(node)

    @process_handler(priority=570, exit_codes=_CODES.ERROR_OUT_OF_MEMORY)
    def handle_out_of_memory(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Halve the sites of a step, and begin again: what was trained in larger steps is another training."""
        config = self.ctx.inputs["config"].get_dict()
        sizes = _values(config, "batch_size")
        if max(sizes.values()) <= LEAST_BATCH:
            return ProcessHandlerReport(True, self.exit_codes.ERROR_OUT_OF_MEMORY.format(size=LEAST_BATCH, reason=_reason(node)))
        return self._anew(node, {where: max(LEAST_BATCH, size // 2) for where, size in sizes.items() if size > LEAST_BATCH}, "batch_size")

    @process_handler(priority=560, exit_codes=[_CODES.ERROR_DIVERGED, _CODES.ERROR_STOPPED_AS_DIVERGED])
    def handle_diverged(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Begin again with a quarter of the learning rate, once."""
        if self._count("diverged") > 1:
            return ProcessHandlerReport(True, self.exit_codes.ERROR_DIVERGED.format(reason=_reason(node)))
        rates = _values(self.ctx.inputs["config"].get_dict(), "learning_rate")
        return self._anew(node, {where: rate / SLOWER for where, rate in rates.items()}, "learning_rate")

    @process_handler(priority=550, exit_codes=_CODES.ERROR_NO_DEVICE)
    def handle_no_device(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Go on on a CPU, unless that is what failed."""
        if "device" in self.ctx.inputs and self.ctx.inputs["device"].value == "cpu":
            return self._give_up(node)
        self.ctx.inputs["device"] = orm.Str("cpu")
        self.report(f"TrainCalculation<{node.pk}>: {_reason(node)} A CPU goes on.")
        return self._go_on(node, say=False)

    def _gained(self, node: orm.CalcJobNode) -> bool:
        """Whether a job ended an epoch that none before it had ended."""
        report = node.outputs.report.get_dict() if "report" in node.outputs else {}
        before, self.ctx.epochs = self.ctx.epochs, max(self.ctx.epochs, int(report.get("epochs_done", 0)))
        return bool(self.ctx.epochs > before)

    def _go_on(self, node: orm.CalcJobNode, say: bool = True) -> ProcessHandlerReport:
        """Run again from what a job left in its folder; as before where it left nothing."""
        report = node.outputs.report.get_dict() if "report" in node.outputs else {}
        if report.get("epochs_done"):
            self.ctx.inputs["checkpoint"] = node.outputs.remote_folder
        if say:
            self.report(f"TrainCalculation<{node.pk}>: {_reason(node)} It goes on after {report.get('epochs_done', 0)} epochs.")
        return ProcessHandlerReport(True)

    def _anew(self, node: orm.CalcJobNode, changes: Mapping[str, Any], name: str) -> ProcessHandlerReport:
        """Begin again with a changed option of the training, by where in the configuration it is."""
        config = self.ctx.inputs["config"].get_dict()
        for where, value in changes.items():
            if where:
                config["training_of"][where][name] = value
            else:
                config["training"] = {**config.get("training", {}), name: value}
        self.ctx.inputs["config"] = orm.Dict(config)
        self.ctx.inputs.pop("checkpoint", None)
        self.ctx.epochs = 0
        words = ", ".join(f"{f'{where}.' if where else ''}{name} = {value:g}" for where, value in changes.items())
        self.report(f"TrainCalculation<{node.pk}>: {_reason(node)} Again with {words}.")
        return ProcessHandlerReport(True)

    def _give_up(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        return ProcessHandlerReport(True, self.exit_codes.ERROR_UNRECOVERABLE.format(reason=_reason(node)))


def _reason(node: orm.CalcJobNode) -> str:
    return node.exit_message or f"exit status {node.exit_status}."


def _values(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An option of the training: that of all tasks under an empty name, and those of tasks with one of their own."""
    from ..engine.training import TrainingOptions

    values = {"": config.get("training", {}).get(name, getattr(TrainingOptions(), name))}
    return values | {label: own[name] for label, own in config.get("training_of", {}).items() if name in own}


def _merged(usual: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with the values of another in the place of its own, at every depth."""
    merged = dict(usual)
    for key, value in given.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged

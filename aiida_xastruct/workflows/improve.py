"""A forward model that gets better by the spectra it needs most: screen, choose, compute, learn, compare; as many rounds as asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, WorkChain, while_
from aiida.orm import AbstractCode, Dict, Float, Int, ProcessNode, SinglefileData, Str, to_aiida_type

from ..calculations.checks import check_element, check_kind
from ..calculations.feff_batch import FeffBatchCalculation
from ..calculations.functions.compare_models import compare_models
from ..calculations.functions.extend_dataset import extend_dataset
from ..calculations.functions.pick_sites import features_from, pick_sites
from ..calculations.functions.summarise_rounds import summarise_rounds
from ..calculations.functions.train_family import train_family
from ..data.dataset import DatasetData
from ..data.model import ModelData
from ..engine.errors import XastructError
from .feff.crystal import SITES_PER_JOB, pack_seconds
from .improvement import check_inputs, install_next, numbered, training_config
from .inputs import find_family
from .screen import ScreenWorkChain
from .steps import builder_from_chunks, computed, fill, process_of
from .train import TrainWorkChain


class ImproveWorkChain(WorkChain):
    """Active learning: FEFF on the sites from which a forward model learns most, and a new version of its family where it got better.

    A round screens the crystals with the model that stands, chooses sites by `aiida_xastruct.engine.acquisition`, has FEFF compute them,
    adds their spectra to the training part of the dataset, trains the model anew as it was trained before, and compares both on the part
    *select*, which no round changes. If the new one is better, it stands: a family of the next version holds it and the other models of the
    family. If not, the old family stays; the spectra are kept for the next round all the same.

    What has ended is found by its place in the provenance, so that a run that was killed goes on without doing a step twice.

    Inputs:
        structures: chunks of crystals, `chunk_00000` and so on, as `structures_node` makes each.
        dataset: what the model was trained on, or any dataset to train it on anew.
        family: label of the family whose forward model is to get better; the one that ships with the package if left out.
        kind: XANES or EXAFS.
        absorber: element whose sites may be chosen; all if left out.
        rounds: how often.
        sites_per_round: sites that FEFF computes in each.
        sites_per_group: of these, sites of one reduced formula and prototype at most.
        margin: share of the old model's error by which the new one must be less to be better.
        holdout: `Dict` of materials that nothing may be trained on, `calculations.functions.pick_sites.holdout_node` makes it.
        code: FEFF (`xastruct-feff`).
        protocol: fast, balanced or stringent, for FEFF.
        feff: further inputs for FEFF: `parameters`, `max_wallclock_seconds`, `options`, `sites_per_job`.
        max_concurrent: jobs at a time.
        train_code: `xastruct` on the machine that is to train; this process trains if left out, which the daemon's worker must not.
        training: `config` (changes to `architecture` and `training` of the model's card), `options` of the job, and `device`.
        label: of the new families, `LABEL/1` and so on; if left out they are the next versions of the family, `FAMILY/2` and so on.
        predict_code: `xastruct` on the machine that is to predict; here if left out.
        predict_options: `metadata.options` of its jobs.
        cache: file that features are read from and kept in.
        cores: processes that compute features here.

    Outputs:
        dataset: the training set with all spectra that were added, also those of a round that failed after that.
        model: the forward model that stands.
        summary: `Dict` with `family` (its label), `improved`, `rounds` (a row each: sites asked for, added and failed, both errors, their
            difference and its standard error, the margin, whether it is better, the family made of it) and `ended`, why no more.
        rounds: of each round, `round_1` and so on, `picks`, `growth`, `dataset`, `verdict` and `model`.
    """

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Ports, outline and exit codes."""
        super().define(spec)
        node: dict[str, Any] = {"serializer": to_aiida_type}
        spec.input_namespace("structures", valid_type=SinglefileData, dynamic=True, help="Chunks of crystals.")
        spec.input("dataset", valid_type=DatasetData, help="The training set.")
        spec.input("family", valid_type=Str, required=False, help="Label of the model family.", **node)
        spec.input("kind", valid_type=Str, default=lambda: Str("XANES"), validator=check_kind, help="XANES or EXAFS.", **node)
        spec.input("absorber", valid_type=Str, required=False, validator=check_element, help="Element; all if left out.", **node)
        spec.input("rounds", valid_type=Int, default=lambda: Int(1), help="How often.", **node)
        spec.input("sites_per_round", valid_type=Int, default=lambda: Int(50), help="Sites that FEFF computes in each.", **node)
        spec.input("sites_per_group", valid_type=Int, default=lambda: Int(1), help="Of one formula and prototype.", **node)
        spec.input("margin", valid_type=Float, default=lambda: Float(0.0), help="Least decrease of the error, as a share.", **node)
        spec.input("holdout", valid_type=Dict, required=False, help="Materials that nothing may be trained on.", **node)
        spec.input("code", valid_type=AbstractCode, help="FEFF.")
        spec.input("protocol", valid_type=Str, default=lambda: Str("fast"), help="Of FEFF.", **node)
        spec.input("feff", valid_type=Dict, required=False, help="Further inputs for FEFF.", **node)
        spec.input("max_concurrent", valid_type=Int, default=lambda: Int(2), help="Jobs at a time.", **node)
        spec.input("train_code", valid_type=AbstractCode, required=False, help="`xastruct` where to train; this process if left out.")
        spec.input("training", valid_type=Dict, required=False, help="Changes to the training, options of its job, device.", **node)
        spec.input("label", valid_type=Str, required=False, help="Of the new families, before their number.", **node)
        spec.input("predict_code", valid_type=AbstractCode, required=False, help="`xastruct` where to predict; here if left out.")
        spec.input("predict_options", valid_type=Dict, required=False, help="Options of its jobs.", **node)
        spec.input("cache", valid_type=str, required=False, non_db=True, help="File that keeps features.")
        spec.input("cores", valid_type=int, default=1, non_db=True, help="Processes that compute features here.")
        spec.inputs.validator = check_inputs
        spec.outline(
            cls.setup,
            while_(cls.has_round)(
                cls.screen,
                cls.pick,
                while_(cls.has_jobs)(cls.run_feff, cls.inspect_feff),
                cls.extend,
                cls.train,
                cls.compare,
            ),
            cls.conclude,
        )
        spec.output("dataset", valid_type=DatasetData, required=False)
        spec.output("model", valid_type=ModelData, required=False)
        spec.output("summary", valid_type=Dict, required=False)
        spec.output_namespace("rounds", valid_type=(Dict, DatasetData, ModelData), dynamic=True, help="What each round made.")
        spec.exit_code(301, "ERROR_NO_MODEL", message="{reason}")
        spec.exit_code(302, "ERROR_TRAINING_REFUSED", message="the model cannot be trained so: {reason}")
        spec.exit_code(303, "ERROR_SCREENING_FAILED", message="the crystals cannot be screened: {reason}")
        spec.exit_code(304, "ERROR_NOTHING_TO_ADD", message="{reason}")
        spec.exit_code(305, "ERROR_NO_SPECTRA", message="{reason}")
        spec.exit_code(306, "ERROR_TRAINING_FAILED", message="the training failed: {reason}")
        spec.exit_code(307, "ERROR_NO_VERDICT", message="the models cannot be compared: {reason}")
        spec.exit_code(401, "WARNING_FEFF_FAILED", message="FEFF gave no spectrum of {count} sites that were chosen; `summary` has more.")
        spec.exit_code(402, "WARNING_ENDED_EARLY", message="{done} of {rounds} rounds were done: {reason}")

    @classmethod
    def get_builder_from_chunks(cls, chunks: Iterable[SinglefileData], **inputs: Any) -> ProcessBuilder:
        """Builder for chunks as `structure_chunks` makes them; other inputs by their names, plain values or nodes, None for the default."""
        return builder_from_chunks(cls, chunks, inputs)

    def setup(self) -> ExitCode | None:
        """Find the model, and how it was trained."""
        kind = self.inputs.kind.value
        try:
            family = find_family(self.inputs.family.value if "family" in self.inputs else None)
            self.ctx.model = family.get_model("forward", kind)
        except XastructError as error:
            return self.exit_codes.ERROR_NO_MODEL.format(reason=str(error))
        try:
            changes = self.inputs.training.get_dict() if "training" in self.inputs else {}
            self.ctx.config = training_config(self.ctx.model.card, changes.get("config", {}))
        except XastructError as error:
            return self.exit_codes.ERROR_TRAINING_REFUSED.format(reason=str(error))
        if "train_code" not in self.inputs and self.runner.is_daemon_runner:
            words = "a worker of the daemon trains nothing itself; give train_code, or run this here."
            return self.exit_codes.ERROR_TRAINING_REFUSED.format(reason=words)
        self.ctx.family, self.ctx.dataset, self.ctx.split_seed = family.label, self.inputs.dataset, self.ctx.config["split_seed"]
        self.ctx.first_family, self.ctx.round, self.ctx.said, self.ctx.stopped = family.label, 1, [], None
        self.ctx.holdout = {"holdout": self.inputs.holdout} if "holdout" in self.inputs else {}
        return None

    def has_round(self) -> bool:
        """Whether a round is left, and nothing stands against it."""
        return self.ctx.stopped is None and self.ctx.round <= self.inputs.rounds.value

    def screen(self) -> None:
        """Ask the model that stands about all crystals."""
        inputs: dict[str, Any] = {name: self.inputs[name] for name in ("kind", "max_concurrent", "cores")}
        inputs |= {name: self.inputs[name] for name in ("absorber", "predict_code", "predict_options", "cache") if name in self.inputs}
        builder = ScreenWorkChain.get_builder()
        builder.structures, builder.family = dict(self.inputs.structures), Str(self.ctx.family)
        self._begin("screen", fill(builder, inputs))

    def pick(self) -> None:
        """Choose the sites that the model would learn most from."""
        from ..engine.acquisition import ACQUISITION_VERSION

        self.ctx.jobs, self.ctx.done = [], 0
        screening = self._step("screen")
        if not _usable(screening):
            return self._stop("ERROR_SCREENING_FAILED", _words(screening))
        options = {
            "count": self.inputs.sites_per_round.value, "per_group": self.inputs.sites_per_group.value,
            "split_seed": self.ctx.split_seed, "acquisition_version": ACQUISITION_VERSION,
        }  # fmt: skip
        inputs: dict[str, Any] = {"model": self.ctx.model, "dataset": self.ctx.dataset, "options": Dict(options), **self.ctx.holdout}
        for chunk, structures in self.inputs.structures.items():
            inputs |= {f"structures_{chunk}": structures, f"table_{chunk}": process_of(screening, chunk).outputs.table}
        with features_from(Path(self.inputs.cache) if "cache" in self.inputs and "predict_code" not in self.inputs else None):
            node = self._compute("pick", pick_sites, inputs)
        if not node.is_finished_ok:
            return self._stop("ERROR_NOTHING_TO_ADD", _words(node))
        return self._pack(node.outputs.picks.get_dict())

    def _pack(self, picks: Mapping[str, Any]) -> None:
        """Jobs of FEFF for the chosen sites."""
        from ..engine.screening import Wanted, jobs

        most = self._feff_overrides().get("sites_per_job", SITES_PER_JOB[self.inputs.kind.value])
        self.ctx.jobs = jobs((Wanted("job", row["name"], row["site"]) for row in picks["sites"]), most)
        before, after = picks["covered"]
        self.report(
            f"round {self.ctx.round}: {len(picks['sites'])} of {picks['candidates']} sites in {len(self.ctx.jobs)} jobs; "
            f"the expected error that is covered rises from {before:.1%} to {after:.1%}"
        )

    def has_jobs(self) -> bool:
        """Whether a job of FEFF is left."""
        return self.ctx.stopped is None and self.ctx.done < len(self.ctx.jobs)

    def run_feff(self) -> None:
        """The next few jobs of FEFF, side by side."""
        self.ctx.running = self.ctx.jobs[self.ctx.done :][: self.inputs.max_concurrent.value]
        for job in self.ctx.running:
            self._begin(f"feff_{job['label']}", self._feff_builder(job))

    def _feff_overrides(self) -> dict[str, Any]:
        return dict(self.inputs.feff.get_dict()) if "feff" in self.inputs else {}

    def _feff_builder(self, job: Mapping[str, Any]) -> ProcessBuilder:
        from .feff.base import FeffBaseWorkChain

        chosen, _ = FeffBaseWorkChain.choose_protocol(self.inputs.protocol.value, None)
        overrides = self._feff_overrides()
        seconds = overrides.get("max_wallclock_seconds", chosen["max_wallclock_seconds"])
        options = FeffBaseWorkChain.job_options(seconds, overrides)
        sites = sum(map(len, job["sites"].values()))
        builder = FeffBatchCalculation.get_builder()
        builder.code, builder.structures, builder.sites = self.inputs.code, self._step("pick").outputs.structures, Dict(dict(job["sites"]))
        builder.parameters = Dict({**chosen["parameters"], "kind": self.inputs.kind.value, **overrides.get("parameters", {})})
        builder.site_seconds = Int(max(1, seconds // 4))
        builder.metadata.options = {**options, "max_wallclock_seconds": pack_seconds(seconds, sites, options["resources"])}
        return builder

    def inspect_feff(self) -> None:
        """Say how it went; a site without a spectrum is skipped."""
        self.ctx.done += len(self.ctx.running)
        for job in self.ctx.running:
            node = self._step(f"feff_{job['label']}")
            if node is None or not node.is_finished_ok:
                self.report(f"FEFF {job['label']}: {_words(node)}")

    def extend(self) -> None:
        """Add what FEFF computed to the training part."""
        if self.ctx.stopped is not None:
            return None
        inputs: dict[str, Any] = {name: self._step("pick").outputs[name] for name in ("picks", "structures")}
        inputs |= {"dataset": self.ctx.dataset, "options": Dict({"split_seed": self.ctx.split_seed}), **self.ctx.holdout}
        for job in self.ctx.jobs:
            node = self._step(f"feff_{job['label']}")
            outputs = node.outputs if node is not None else {}  # None where somebody killed the job
            inputs |= {f"{name}_{job['label']}": outputs[name] for name in ("collection", "statuses") if name in outputs}
        node = self._compute("extend", extend_dataset, inputs)
        if not node.is_finished_ok:
            return self._stop("ERROR_NO_SPECTRA", _words(node))
        self.ctx.dataset, growth = node.outputs.dataset, node.outputs.growth.get_dict()
        self.report(f"round {self.ctx.round}: {growth['added']} spectra added, {len(growth['failed'])} failed")
        for row in growth["failed"]:
            self.report(f"FEFF failed on {row['absorber']} site {row['site']} of {row['id']}: {row['reason']}")
        return None

    def train(self) -> None:
        """Train the model anew, by a job or here."""
        if self.ctx.stopped is not None:
            return
        dataset = self.ctx.dataset
        if "train_code" not in self.inputs:
            self._compute("train", train_family, {"dataset": dataset, "config": Dict(self.ctx.config)}, once=True)
            return
        given = self.inputs.training.get_dict() if "training" in self.inputs else {}
        overrides = {"config": self.ctx.config} | ({"options": given["options"]} if "options" in given else {})
        builder = TrainWorkChain.get_builder_from_protocol(self.inputs.train_code, dataset, device=given.get("device"), overrides=overrides)
        self._begin("train", builder)

    def compare(self) -> None:
        """Let the better model stand."""
        if self.ctx.stopped is not None:
            return None
        training, dataset = self._step("train"), self.ctx.dataset
        if training is None or not training.is_finished_ok:
            return self._stop("ERROR_TRAINING_FAILED", _words(training))
        model = training.outputs.models[f"forward_{self.inputs.kind.value}"]
        inputs = {"old": self.ctx.model, "new": model, "dataset": dataset, "margin": self.inputs.margin}
        node = self._compute("compare", compare_models, inputs)
        if not node.is_finished_ok:
            return self._stop("ERROR_NO_VERDICT", _words(node))
        verdict, label = node.outputs.verdict.get_dict(), None
        if verdict["better"]:
            stem, number = (self.inputs.label.value, 0) if "label" in self.inputs else numbered(self.ctx.first_family)
            label = install_next(find_family(self.ctx.family), model, dataset, stem, number).label
            self.ctx.family, self.ctx.model = label, model
        self.ctx.said = [*self.ctx.said, {"family": label}]
        words = f"{verdict['old_error']:.4g} before, {verdict['new_error']:.4g} now on {verdict['sites']} sites of {verdict['part']}"
        ends = f"the new model stands as {label}" if label else f"the old model stays ({self.ctx.family})"
        self.report(f"round {self.ctx.round}: mean square error {words}; {ends}")
        self.ctx.round += 1
        return None

    def conclude(self) -> ExitCode | None:
        """Return what came of it, and say so where it is less than was asked for."""
        done, rounds = len(self.ctx.said), self.inputs.rounds.value
        name, reason = self.ctx.stopped or ("", "")
        nodes: dict[str, Any] = {}
        failed = 0
        for number in range(1, done + 1):
            steps = {step: self._step(step, number).outputs for step in ("pick", "extend", "train", "compare")}
            of_round = {
                "picks": steps["pick"].picks, "growth": steps["extend"].growth, "dataset": steps["extend"].dataset,
                "verdict": steps["compare"].verdict, "model": steps["train"].models[f"forward_{self.inputs.kind.value}"],
            }  # fmt: skip
            self.out(f"rounds.round_{number}", of_round)
            nodes |= {f"{key}_{number}": of_round[key] for key in ("picks", "growth", "verdict")}
            failed += len(of_round["growth"]["failed"])
        if not done:
            if self.ctx.dataset.uuid != self.inputs.dataset.uuid:
                self.out("dataset", self.ctx.dataset)
                reason = f"{reason} The new spectra are kept, in the dataset <{self.ctx.dataset.pk}>."
            return getattr(self.exit_codes, name).format(reason=reason)
        facts = {
            "kind": self.inputs.kind.value, "family": self.ctx.family, "first_family": self.ctx.first_family,
            "improved": self.ctx.family != self.ctx.first_family, "rounds": self.ctx.said, "ended": reason, "config": self.ctx.config,
            "defaults": self._defaults(),
        }  # fmt: skip
        summary = self._compute("summarise", summarise_rounds, {"facts": Dict(facts), **nodes}).outputs.result
        for output, value in (("dataset", self.ctx.dataset), ("model", self.ctx.model), ("summary", summary)):
            self.out(output, value)
        if self.ctx.stopped is not None:
            return self.exit_codes.WARNING_ENDED_EARLY.format(done=done, rounds=rounds, reason=reason)
        return self.exit_codes.WARNING_FEFF_FAILED.format(count=failed) if failed else None

    def _defaults(self) -> dict[str, Any]:
        """Inputs that the caller left out, with the values they had."""
        names = ("kind", "rounds", "sites_per_round", "sites_per_group", "margin", "protocol", "max_concurrent")
        values = {name: self.inputs[name].value for name in names if name not in (self.raw_inputs or {})}
        return values if "family" in self.inputs else values | {"family": self.ctx.first_family}

    def _step(self, name: str, number: int | None = None) -> ProcessNode | None:
        """The process of a step of a round, the one under way if none is named."""
        return process_of(self.node, f"{name}_{number or self.ctx.round}")

    def _begin(self, name: str, builder: ProcessBuilder) -> None:
        """Submit the process of a step, or wait for the one that was submitted before the engine was killed."""
        label = f"{name}_{self.ctx.round}"
        builder.metadata.call_link_label = label
        self.to_context(**{label: process_of(self.node, label) or self.submit(builder)})

    def _compute(self, name: str, function: Any, inputs: Mapping[str, Any], once: bool = False) -> ProcessNode:
        """Run the calcfunction of a step, or take what it made before the engine was killed; `once` where it is too long to be repeated."""
        label = f"{name}_{self.ctx.round}"
        found = process_of(self.node, label)
        if found is not None:
            return found
        inputs = {**inputs, "metadata": {"call_link_label": label}}
        return function.run_get_node(**inputs)[1] if once else computed(function, **inputs)[1]

    def _stop(self, name: str, reason: str) -> None:
        """Begin no further step; `conclude` says why."""
        self.ctx.stopped = (name, reason)
        self.report(f"round {self.ctx.round}: {reason}")


def _usable(node: ProcessNode | None) -> bool:
    """Whether a process ended with what it was asked for, if with a warning."""
    return node is not None and (node.is_finished_ok or (node.exit_status or 0) >= 400)


def _words(node: ProcessNode | None) -> str:
    """Why a process has no answer."""
    if node is None:
        return "it was killed."
    return node.exit_message or f"{node.process_label}<{node.pk}> ended with {node.exit_status or node.process_state.value}."

"""Which spectra do these crystals have, thousands of them, and which looks like my measurement?"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from aiida.common.links import LinkType
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, WorkChain, while_
from aiida.orm import (
    AbstractCode,
    ArrayData,
    Data,
    Dict,
    Int,
    List,
    ProcessNode,
    QueryBuilder,
    SinglefileData,
    Str,
    WorkChainNode,
    to_aiida_type,
)

from ..calculations.checks import check_element, check_kind, refused_options
from ..calculations.feff_batch import FeffBatchCalculation
from ..calculations.functions.merge_batches import merge_batches
from ..calculations.functions.predict_batch import predict_batch, using
from ..calculations.predict import PredictCalculation
from ..data.spectrum import SpectrumData
from ..data.table import TableData
from ..engine import ALGORITHM_VERSION
from ..engine.errors import XastructError
from .feff.crystal import SITES_PER_JOB, pack_seconds
from .inputs import find_family
from .steps import builder_from_chunks, computed, process_of

#: Crystals in a chunk. A chunk costs AiiDA half a second, and is what a daemon that is killed has to begin again; its features are kept
#: all the same where there is a cache.
CHUNK = 1000

#: What `feff` may hold.
FEFF = ("parameters", "max_wallclock_seconds", "options", "sites_per_job")

_CALLS = (LinkType.CALL_CALC, LinkType.CALL_WORK)


class ScreenWorkChain(WorkChain):
    """Spectra of up to a hundred thousand crystals by a learned model, the most doubtful by FEFF, and the likeness of each to a target.

    The crystals come in chunks, each a node; `aiida_xastruct.tools.structures.structure_chunks` makes them. A chunk is predicted by one
    calcfunction here, or by one job on another machine. A screening that is killed goes on with the first chunk that has not ended: what
    has ended is found by its place in the provenance and never computed again.

    Inputs:
        structures: chunks of crystals, `chunk_00000` and so on, as `structures_node` makes each.
        absorber: element whose sites are asked for; the target's if there is one, else all.
        kind: XANES or EXAFS.
        family: label of the models to ask; the family that ships with the package if left out.
        target: spectrum to rank the crystals by; its energies are compared from E0.
        code: FEFF (`xastruct-feff`).
        max_reference_runs: sites that FEFF may compute, those that need it most.
        max_concurrent: jobs at a time.
        protocol: fast, balanced or stringent, for FEFF.
        feff: further inputs for FEFF: `parameters`, `max_wallclock_seconds`, `options`, `sites_per_job`.
        predict_code: `xastruct` on the machine that is to predict; here if left out.
        predict_options: `metadata.options` of its jobs.
        cache: file, on the machine that predicts, that features are read from and kept in.
        cores: processes that compute features here.

    Outputs:
        table: a row for each site, and one for each crystal without an answer: method, uncertainty, domain, reason and, with a target,
            distance and rank; see `merge_batches`.
        spectra: arrays of the models' curves by chunk; rows with method `ml` count in them.
        reference: arrays of FEFF's curves; rows with method `feff` count in them.
        summary: counts, the best crystals, models, and `defaults`, the inputs that were left out, with the values they had.
    """

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Ports, outline and exit codes."""
        super().define(spec)
        spec.input_namespace("structures", valid_type=SinglefileData, dynamic=True, help="Chunks of crystals.")
        spec.input(
            "absorber",
            valid_type=Str,
            required=False,
            serializer=to_aiida_type,
            validator=check_element,
            help="Element; that of the target, or all, if left out.",
        )
        spec.input("kind", valid_type=Str, default=lambda: Str("XANES"), serializer=to_aiida_type, validator=check_kind)
        spec.input("family", valid_type=Str, required=False, serializer=to_aiida_type, help="Label of the model family.")
        spec.input("target", valid_type=SpectrumData, required=False, help="Spectrum to rank the crystals by.")
        spec.input("code", valid_type=AbstractCode, required=False, help="FEFF, for what the model is unsure about.")
        spec.input("max_reference_runs", valid_type=Int, default=lambda: Int(0), serializer=to_aiida_type, help="Sites for FEFF.")
        spec.input("max_concurrent", valid_type=Int, default=lambda: Int(2), serializer=to_aiida_type, help="Jobs at a time.")
        spec.input("protocol", valid_type=Str, default=lambda: Str("fast"), serializer=to_aiida_type, help="Of FEFF.")
        spec.input("feff", valid_type=Dict, required=False, serializer=to_aiida_type, help="Further inputs for FEFF.")
        spec.input("predict_code", valid_type=AbstractCode, required=False, help="`xastruct` where to predict; here if left out.")
        spec.input("predict_options", valid_type=Dict, required=False, serializer=to_aiida_type, help="Options of its jobs.")
        spec.input("cache", valid_type=str, required=False, non_db=True, help="File that keeps features.")
        spec.input("cores", valid_type=int, default=1, non_db=True, help="Processes that compute features here.")
        spec.inputs.validator = _check_inputs
        spec.outline(
            cls.setup,
            while_(cls.has_chunks)(cls.predict_chunks, cls.inspect_chunks),
            cls.choose,
            while_(cls.has_jobs)(cls.run_feff, cls.inspect_feff),
            cls.merge,
        )
        spec.output("table", valid_type=TableData, required=False)
        spec.output_namespace("spectra", valid_type=ArrayData, dynamic=True)
        spec.output("reference", valid_type=ArrayData, required=False)
        spec.output("summary", valid_type=Dict, required=False)
        spec.exit_code(301, "ERROR_NO_MODEL", message="{reason}")
        spec.exit_code(302, "ERROR_CHUNK_FAILED", message="A chunk cannot be predicted: {reason}")
        spec.exit_code(303, "ERROR_NO_TABLE", message="{reason}")
        spec.exit_code(401, "WARNING_FEFF_FAILED", message="{count} sites that FEFF was to answer keep the model's answer, flagged.")

    @classmethod
    def get_builder_from_chunks(cls, chunks: Iterable[SinglefileData], **inputs: Any) -> ProcessBuilder:
        """Builder for chunks as `structure_chunks` makes them; other inputs by their names, plain values or nodes, None for the default."""
        return builder_from_chunks(cls, chunks, inputs)

    def setup(self) -> ExitCode | None:
        """Find the model."""
        try:
            family = find_family(self.inputs.family.value if "family" in self.inputs else None)
            self.ctx.model = family.get_model("forward", self.inputs.kind.value)
        except XastructError as error:
            return self.exit_codes.ERROR_NO_MODEL.format(reason=str(error))
        # One for all chunks: where a screening goes on under another, the next chunk is refused.
        self.ctx.version = ALGORITHM_VERSION["forward"]
        self.ctx.family = {"label": family.label, "model": self.ctx.model.content_hash}
        self.ctx.absorber = self.inputs.absorber.value if "absorber" in self.inputs else ""
        if not self.ctx.absorber and "target" in self.inputs:
            self.ctx.absorber = self.inputs.target.absorber
        self.ctx.done, self.ctx.sites, self.ctx.started = 0, 0, time.time()
        return None

    def has_chunks(self) -> bool:
        """Whether a chunk is left."""
        return self.ctx.done < len(self.inputs.structures)

    def predict_chunks(self) -> ExitCode | None:
        """The next chunk here, or the next few on another machine."""
        labels = sorted(self.inputs.structures)[self.ctx.done :]
        if "predict_code" in self.inputs:
            self.ctx.running = labels[: self.inputs.max_concurrent.value]
            for label in self.ctx.running:
                self.to_context(**{label: self._process_of(label) or self.submit(self._predict_builder(label))})
            return None
        self.ctx.running = labels[:1]
        if self._process_of(labels[0]) is None:
            self._predict_here(labels[0])
        return None

    def _predict_here(self, label: str) -> None:
        from aiida.manage.caching import enable_caching, get_use_cache

        means: dict[str, Any] = {"cores": self.inputs.cores}
        if "cache" in self.inputs:
            means["cache"] = Path(self.inputs.cache)
        # A screening that is begun anew takes what an earlier one has finished. AiiDA's context forgets, when it ends, what contexts
        # around it have set, and does not end where an error leaves it.
        identifier = "aiida.calculations:xastruct.functions.predict_batch"
        failure: BaseException | None = None
        with using(**means), nullcontext() if get_use_cache(identifier=identifier) else enable_caching(identifier=identifier):
            try:
                computed(
                    predict_batch, structures=self.inputs.structures[label], absorber=Str(self.ctx.absorber), kind=self.inputs.kind,
                    model=self.ctx.model, algorithm_version=Str(self.ctx.version), metadata={"call_link_label": label},
                )  # fmt: skip
            except BaseException as error:
                failure = error
        if failure is not None:
            raise failure

    def _predict_builder(self, label: str) -> ProcessBuilder:
        builder = PredictCalculation.get_builder()
        builder.code, builder.structures, builder.model = self.inputs.predict_code, self.inputs.structures[label], self.ctx.model
        builder.absorber, builder.kind = Str(self.ctx.absorber), self.inputs.kind
        builder.algorithm_version = Str(self.ctx.version)
        if "cache" in self.inputs:
            builder.cache = self.inputs.cache
        if "predict_options" in self.inputs:
            builder.metadata.options = self.inputs.predict_options.get_dict()
        builder.metadata.call_link_label = label
        return builder

    def inspect_chunks(self) -> ExitCode | None:
        """Say how far it is; stop where a chunk has no answer."""
        for label in self.ctx.running:
            node = self._process_of(label)
            if node is None or not node.is_finished_ok:
                words = "it did not end" if node is None else node.exit_message or f"{node.process_label}<{node.pk}> failed"
                return self.exit_codes.ERROR_CHUNK_FAILED.format(reason=f"{label}: {words}")
            self.ctx.done += 1
            self.ctx.sites += node.outputs.table.base.attributes.get("n_spectra")
            left = (time.time() - self.ctx.started) / self.ctx.done * (len(self.inputs.structures) - self.ctx.done)
            self.report(f"chunk {self.ctx.done} of {len(self.inputs.structures)}: {self.ctx.sites} spectra so far, {left:.0f} s left")
        return None

    def _process_of(self, label: str) -> ProcessNode | None:
        """`process_of` this screening. A step looks here first: it is run again where the engine was killed before it noted its end."""
        # A query costs AiiDA 15 ms, and what has ended does not change.
        ended: dict[str, ProcessNode] = vars(self).setdefault("_ended", {})
        if label in ended:
            return ended[label]
        found = process_of(self.node, label)
        if found is not None and found.is_terminated:
            ended[label] = found
        return found

    def _answers(self) -> dict[str, dict[str, Data]]:
        """`table` and `spectra` of each chunk, by one query for all."""
        chunks = {"type": {"in": [link.value for link in _CALLS]}, "label": {"in": list(self.inputs.structures)}}
        builder = QueryBuilder().append(WorkChainNode, filters={"id": self.node.pk}, tag="screening")
        builder.append(
            ProcessNode,
            with_incoming="screening",
            filters={"attributes.exit_status": 0},
            edge_filters=chunks,
            edge_project="label",
            tag="batch",
        )
        names = {"label": {"in": ["table", "spectra"]}}
        builder.append(Data, with_incoming="batch", edge_filters=names, edge_project="label", project="*", tag="output")
        found: dict[str, dict[str, Data]] = {}
        for row in builder.dict():
            found.setdefault(row["screening--batch"]["label"], {})[row["batch--output"]["label"]] = row["output"]["*"]
        return found

    def choose(self) -> None:
        """Which sites FEFF is to answer, and in which jobs."""
        from ..engine.screening import COLUMNS, jobs, neediest

        self.ctx.jobs, self.ctx.started_jobs = [], 0
        most = self.inputs.max_reference_runs.value
        if not most or "code" not in self.inputs:
            return
        wanted = neediest(((label, self._process_of(label).outputs.table.read(COLUMNS)) for label in sorted(self.inputs.structures)), most)
        overrides = self.inputs.feff.get_dict() if "feff" in self.inputs else {}
        self.ctx.jobs = jobs(wanted, overrides.get("sites_per_job", SITES_PER_JOB[self.inputs.kind.value]))
        self.report(f"FEFF: {len(wanted)} sites in {len(self.ctx.jobs)} jobs")

    def has_jobs(self) -> bool:
        """Whether a job of FEFF is left."""
        return self.ctx.started_jobs < len(self.ctx.jobs)

    def run_feff(self) -> None:
        """The next few jobs of FEFF, side by side.

        AiiDA takes up a work chain when all that it waits for have ended. So jobs go in waves, and a slow one holds the next wave, at most
        until its wall time is up. Which job ends first is told to AiiDA's own callbacks alone, and a work chain with a queue for each place
        would hold back what is in the queue of the slow one. Where a scheduler keeps the queue, one wave may hold all jobs.
        """
        self.ctx.running = self.ctx.jobs[self.ctx.started_jobs :][: self.inputs.max_concurrent.value]
        for job in self.ctx.running:
            self.to_context(**{f"feff_{job['label']}": self._process_of(f"feff_{job['label']}") or self.submit(self._feff_builder(job))})

    def _feff_builder(self, job: Mapping[str, Any]) -> ProcessBuilder:
        from .feff.base import FeffBaseWorkChain

        chosen, _ = FeffBaseWorkChain.choose_protocol(self.inputs.protocol.value, None)
        overrides = self.inputs.feff.get_dict() if "feff" in self.inputs else {}
        seconds = overrides.get("max_wallclock_seconds", chosen["max_wallclock_seconds"])
        options = {"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}, **overrides.get("options", {})}
        sites = sum(map(len, job["sites"].values()))
        builder = FeffBatchCalculation.get_builder()
        builder.code, builder.structures = self.inputs.code, self.inputs.structures[job["chunk"]]
        builder.sites = List([[name, list(own)] for name, own in job["sites"].items()])  # names of files have dots, keys of a Dict none
        builder.parameters = Dict({**chosen["parameters"], "kind": self.inputs.kind.value, **overrides.get("parameters", {})})
        builder.site_seconds = Int(max(1, seconds // 4))
        builder.metadata.options = {**options, "max_wallclock_seconds": pack_seconds(seconds, sites, options["resources"])}
        builder.metadata.call_link_label = f"feff_{job['label']}"
        return builder

    def inspect_feff(self) -> None:
        """Say how it went; what failed keeps the model's answer."""
        self.ctx.started_jobs += len(self.ctx.running)
        for job in self.ctx.running:
            node = self._process_of(f"feff_{job['label']}")
            if node is not None and not node.is_finished_ok:
                self.report(f"FEFF {job['label']}: {node.process_label}<{node.pk}> {node.exit_message or node.process_state}")
        self.report(f"FEFF: {self.ctx.started_jobs} of {len(self.ctx.jobs)} jobs")

    def merge(self) -> ExitCode | None:
        """All rows in one table, with the ranking; and who answered."""
        node, answers = self._process_of("merge"), self._answers()
        if node is None:
            _, node = computed(merge_batches, **self._merge_inputs(answers), metadata={"call_link_label": "merge"})
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_NO_TABLE.format(reason=node.exit_message)
        for name in ("table", "summary", "reference"):
            if name in node.outputs:
                self.out(name, node.outputs[name])
        for label, outputs in answers.items():
            self.out(f"spectra.{label}", outputs["spectra"])
        asked = sum(len(sites) for job in self.ctx.jobs for sites in job["sites"].values())
        answered = node.outputs.table.base.attributes.get("methods").get("feff", 0)
        if answered < asked:
            return self.exit_codes.WARNING_FEFF_FAILED.format(count=asked - answered)
        return None

    def _merge_inputs(self, answers: Mapping[str, Mapping[str, Data]]) -> dict[str, Any]:
        from ..engine.ranking import RANKING_VERSION

        given = set(self.raw_inputs or {})
        values = {
            name: self.inputs[name].value for name in ("kind", "protocol", "max_reference_runs", "max_concurrent") if name not in given
        }
        inputs: dict[str, Any] = {}
        for label, own in sorted(answers.items()):
            inputs[f"table_{label}"] = own["table"]
            if "target" in self.inputs:
                inputs[f"spectra_{label}"] = own["spectra"]
        for job in self.ctx.jobs:
            node = self._process_of(f"feff_{job['label']}")
            outputs = node.outputs if node is not None else {}  # None where somebody killed the job
            inputs |= {f"{name}_{job['label']}": outputs[name] for name in ("collection", "statuses") if name in outputs}
        if "target" in self.inputs:
            inputs["target"] = self.inputs.target
        versions = {"algorithm_version": self.ctx.version, "ranking_version": RANKING_VERSION}
        facts = {"family": self.ctx.family, "absorber": self.ctx.absorber, **versions}
        return {**inputs, "facts": Dict({**facts, "defaults": values})}


def _check_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Refuse what no chunk could be computed with, before anything is stored."""
    from ..calculations.predict import PredictCalculation
    from .crystal import check_protocol
    from .feff.checks import refused

    if not inputs.get("structures"):
        return "there are no chunks of structures; make some with `structure_chunks`."
    for name, least in (("max_reference_runs", 0), ("max_concurrent", 1)):
        if name in inputs and inputs[name].value < least:
            return f"{name} is {inputs[name].value}; give {least} or more."
    if words := check_protocol(inputs.get("protocol"), None):
        return words
    if "max_reference_runs" in inputs and inputs["max_reference_runs"].value and "code" not in inputs:
        return "FEFF is to compute sites, but there is no code for it; give code, or leave max_reference_runs out."
    kind = inputs["kind"].value if "kind" in inputs else "XANES"
    feff, options = (inputs[name].get_dict() if name in inputs else {} for name in ("feff", "predict_options"))
    if words := refused(feff, FEFF, kind) or refused_options(PredictCalculation, options, "predict_options"):
        return words
    if "target" not in inputs:
        return None
    target = inputs["target"]
    if "absorber" in inputs and inputs["absorber"].value not in ("", target.absorber):
        return f"the target is a spectrum of {target.absorber}, and {inputs['absorber'].value} is asked for; leave absorber out."
    return _check_target(target, kind)


def _check_target(target: SpectrumData, kind: str) -> str | None:
    """Refuse a target that covers too little, or of another edge than models know."""
    import numpy as np

    from ..engine.dataset import GRIDS
    from ..engine.ranking import distances
    from ..engine.spectrum import edge_of

    try:
        if target.edge != edge_of(target.absorber):
            return f"the models know the {edge_of(target.absorber)} edge of {target.absorber}, not its {target.edge} edge."
        distances(target.to_engine(), np.ones((1, len(GRIDS[kind]))), kind)  # type: ignore[arg-type]
    except XastructError as error:
        return str(error)
    return None

"""Which of these crystals, or of these spectra, is the measured one?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, while_
from aiida.orm import AbstractCode, Dict, Int, Str, StructureData, to_aiida_type

from ..calculations.checks import refusal
from ..calculations.functions.rank_candidates import read_settings
from ..data.spectrum import SpectrumData
from ..engine.spectrum import edge_of
from .predict import PredictWorkChain
from .predict_checks import REFERENCES, beyond_xspectra
from .steps import computed, fill

#: Inputs that are passed on to `xastruct.predict`.
_PREDICTION = ("family", "code", "fallback", "protocol", "reference", "pw_code", "xspectra_code", "core_hole_family")

#: Asked for as a reference: each of them, side by side.
BOTH = "both"


class CompareWorkChain(WorkChain):
    """Candidates in order of how much their spectra look like a target.

    Crystals get their spectra from `xastruct.predict`: a learned model answers, FEFF where it is unsure, or always if asked to. With
    `reference` both, each crystal is two candidates, `<name>_feff` and `<name>_xspectra`, and both programs compute it, whatever the model
    says.

    Inputs:
        target: a spectrum, measured as a rule; its absorber is asked for.
        structures: crystals, by the names of the candidates.
        spectra: spectra of candidates that there are already, by FEFF, by a model or measured, by their names.
        parameters: `kind` (the target's if left out), `largest_shift` and `broadest` in eV; see `engine.candidates.Settings`.
        family: label of the models to ask; the family that ships with the package if left out.
        code: FEFF (`xastruct-feff`).
        fallback: `on` (FEFF where the model is unsure), `off` (never) or `always`.
        protocol: fast, balanced or stringent, for the reference.
        reference: `feff`, `xspectra` or `both`; with `pw_code`, `xspectra_code` and `core_hole_family` as `xastruct.predict` takes them.
        max_concurrent: crystals at a time.

    Outputs:
        ranking: see `rank_candidates`; candidates that got no spectrum are under `refused`, each with the reason.
        spectra: spectrum of each crystal, by the name of the candidate.
        answers: what `xastruct.predict` says of each.
    """

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Ports, outline and exit codes."""
        super().define(spec)
        spec.input("target", valid_type=SpectrumData, help="Spectrum that the candidates are compared with.")
        spec.input_namespace("structures", valid_type=StructureData, dynamic=True, required=False, help="Crystals.")
        spec.input_namespace("spectra", valid_type=SpectrumData, dynamic=True, required=False, help="Spectra of candidates.")
        spec.input("parameters", valid_type=Dict, required=False, serializer=to_aiida_type, validator=_check_parameters, help="How.")
        spec.input("family", valid_type=Str, required=False, serializer=to_aiida_type, help="Label of the model family.")
        spec.input("code", valid_type=AbstractCode, required=False, help="FEFF, for what the model is unsure about.")
        spec.input("fallback", valid_type=Str, required=False, serializer=to_aiida_type, help="on, off or always.")
        spec.input("protocol", valid_type=Str, required=False, serializer=to_aiida_type, help="fast, balanced or stringent.")
        spec.input("reference", valid_type=Str, required=False, serializer=to_aiida_type, help="feff, xspectra or both.")
        spec.input("pw_code", valid_type=AbstractCode, required=False, help="`pw.x`, for XSpectra.")
        spec.input("xspectra_code", valid_type=AbstractCode, required=False, help="`xspectra.x`, for XSpectra.")
        spec.input("core_hole_family", valid_type=Str, required=False, serializer=to_aiida_type, help="Label of XSpectra's family.")
        spec.input("max_concurrent", valid_type=Int, default=lambda: Int(2), serializer=to_aiida_type, help="Crystals at a time.")
        spec.inputs.validator = _check_inputs
        spec.outline(cls.setup, while_(cls.has_crystals)(cls.predict, cls.inspect), cls.rank)
        spec.output("ranking", valid_type=Dict, required=False)
        spec.output_namespace("spectra", valid_type=SpectrumData, dynamic=True)
        spec.output_namespace("answers", valid_type=Dict, dynamic=True)
        spec.exit_code(303, "ERROR_NO_RANKING", "{reason}")
        spec.exit_code(401, "WARNING_CANDIDATES_LOST", "{reason}")

    @classmethod
    def get_builder_for(
        cls,
        target: SpectrumData,
        structures: Mapping[str, StructureData] | None = None,
        spectra: Mapping[str, SpectrumData] | None = None,
        **inputs: Any,
    ) -> ProcessBuilder:
        """Builder from nodes; other inputs by their names, plain values or nodes, None for the default."""
        given = {"target": target, "structures": dict(structures or {}), "spectra": dict(spectra or {})}
        return fill(cls.get_builder(), {**given, **inputs})

    def setup(self) -> None:
        """What is asked, and of whom."""
        given = self.inputs.parameters.get_dict() if "parameters" in self.inputs else {}
        self.ctx.parameters = {"kind": self.inputs.target.kind, **given}
        self.ctx.crystals = _candidates(self.inputs)
        self.ctx.left = sorted(self.ctx.crystals)
        self.ctx.running, self.ctx.spectra, self.ctx.answers, self.ctx.lost = [], {}, {}, {}

    def has_crystals(self) -> bool:
        """Whether a crystal is left."""
        return bool(self.ctx.left)

    def predict(self) -> Any:
        """The next few crystals, side by side."""
        count = max(1, self.inputs.max_concurrent.value)
        self.ctx.running, self.ctx.left = self.ctx.left[:count], self.ctx.left[count:]
        submitted = {}
        for name in self.ctx.running:
            crystal, reference = self.ctx.crystals[name]
            inputs: dict[str, Any] = {key: self.inputs[key] for key in _PREDICTION if key in self.inputs}
            if reference is not None:
                inputs |= {"reference": Str(reference), "fallback": Str("always")}
            builder = PredictWorkChain.get_builder()
            builder.structure = self.inputs.structures[crystal]
            builder.absorber = Str(self.inputs.target.absorber)
            builder.kind = Str(self.ctx.parameters["kind"])
            fill(builder, inputs)
            builder.metadata.call_link_label = name
            try:
                submitted[f"crystal_{name}"] = self.submit(builder)
            except ValueError as error:  # an input validator's sentence, such as that the crystal holds no such element
                self.ctx.lost[name] = str(error).rpartition("': ")[2]
        self.ctx.running = [name for name in self.ctx.running if f"crystal_{name}" in submitted]
        return ToContext(**submitted)

    def inspect(self) -> None:
        """Keep the spectra, and why others are missing."""
        for name in self.ctx.running:
            node = self.ctx[f"crystal_{name}"]
            _, reference = self.ctx.crystals[name]
            answered = "spectrum" in node.outputs and "answer" in node.outputs
            # Under the name of a program stands nothing else.
            if answered and (reference is None or node.outputs.answer["method"] == reference):
                self.ctx.spectra[name], self.ctx.answers[name] = node.outputs.spectrum, node.outputs.answer
                if not node.is_finished_ok:
                    self.report(f"{name}: {node.exit_message}")
            else:
                self.ctx.lost[name] = node.exit_message or f"its prediction ended with exit status {node.exit_status}."
                self.report(f"{name}: {self.ctx.lost[name]}")

    def rank(self) -> ExitCode | None:
        """Put all of them in order."""
        from ..calculations.functions.rank_candidates import rank_candidates

        self.out("spectra", dict(self.ctx.spectra))
        self.out("answers", dict(self.ctx.answers))
        given = dict(self.inputs.spectra) if "spectra" in self.inputs else {}
        if not self.ctx.spectra and not given:
            name, why = next(iter(self.ctx.lost.items()))
            return self.exit_codes.ERROR_NO_RANKING.format(reason=f"no candidate has a spectrum; {name}: {why}")
        parameters = Dict({**self.ctx.parameters, "lost": dict(self.ctx.lost)})
        outputs, node = computed(
            rank_candidates,
            target=self.inputs.target,
            parameters=parameters,
            spectra={**self.ctx.spectra, **given},
            answers=dict(self.ctx.answers),
        )
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_NO_RANKING.format(reason=node.exit_message)
        self.out("ranking", outputs)
        if refused := outputs.get_dict()["refused"]:
            name, why = next(iter(refused.items()))
            more = f" ({len(refused) - 1} more in the ranking)" if len(refused) > 1 else ""
            return self.exit_codes.WARNING_CANDIDATES_LOST.format(reason=f"{name} is not ranked: {why}{more}")
        return None


def _candidates(inputs: Mapping[str, Any]) -> dict[str, tuple[str, str | None]]:
    """By the name of each candidate that is a crystal: name of the crystal, and the reference that is to compute it if both are."""
    names = list(inputs.get("structures") or {})
    if "reference" not in inputs or inputs["reference"].value != BOTH:
        return {name: (name, None) for name in names}
    return {f"{name}_{reference}": (name, reference) for name in names for reference in REFERENCES}


def _check_parameters(value: Dict | None, _: Any) -> str | None:
    """Refuse bounds that the engine does."""
    from functools import partial

    from ..engine.candidates import Settings

    return refusal(partial(read_settings, Settings), value)


def _check_inputs(inputs: Mapping[str, Any], _: Any) -> str | None:
    """Refuse what leaves nothing to compare."""
    structures, spectra = inputs.get("structures") or {}, inputs.get("spectra") or {}
    if not structures and not spectra:
        return "there is no candidate; give structures or spectra."
    if structures and "target" in inputs and inputs["target"].edge != edge_of(inputs["target"].absorber):
        target = inputs["target"]
        usual = edge_of(target.absorber)
        return f"the target is of {target.absorber} {target.edge}, and crystals get spectra of {usual}; give spectra of {target.edge}."
    if "reference" in inputs and (words := _check_reference(inputs, inputs["reference"].value)):
        return words
    if both := sorted(set(_candidates(inputs)) & set(spectra)):
        return f"{both[0]} names a crystal and a spectrum; give each candidate a name of its own."
    return None


def _check_reference(inputs: Mapping[str, Any], reference: str) -> str | None:
    """Refuse an unknown reference, and of both what only one of them computes, or what would have a model answer."""
    if reference not in (*REFERENCES, BOTH):
        return f"reference is {reference!r}; use one of {', '.join((*REFERENCES, BOTH))}."
    if reference != BOTH:
        return None
    if "fallback" in inputs and inputs["fallback"].value != "always":
        return f"reference is {BOTH}, so that FEFF and XSpectra compute every crystal; leave fallback out."
    if not inputs.get("structures") or "target" not in inputs:
        return None
    given = inputs["parameters"].get_dict() if "parameters" in inputs else {}
    return beyond_xspectra(inputs["target"].absorber, given.get("kind", inputs["target"].kind))

"""Which X-ray absorption spectrum does this crystal have?"""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, if_
from aiida.orm import AbstractCode, Dict, List, Str, StructureData

from ..calculations.checks import check_kind
from ..data.spectrum import SpectrumData
from ..engine.errors import XastructError
from .crystal import check_protocol, site_name
from .inputs import crystal_of, find_family
from .predict_checks import (
    CODES,
    REFERENCES,
    check_fallback,
    check_inputs,
    check_reference,
    check_xspectra,
)
from .steps import computed


class PredictWorkChain(WorkChain):
    """Spectrum of one element in a crystal: a learned model answers where it is sure of itself, a reference where it is not.

    The reference is FEFF, or XSpectra for XANES at K edges if asked for.

    Inputs:
        structure: an ordered crystal.
        absorber: element whose inequivalent sites are all answered; or
        sites: indices of inequivalent sites of one element, from 0.
        kind: XANES or EXAFS.
        family: label of the models to ask; the family that ships with the package if left out.
        code: FEFF (`xastruct-feff`), for sites that the model is unsure about.
        fallback: `on` (the reference where the model is unsure), `off` (never) or `always`.
        reference: `feff` or `xspectra`.
        protocol: fast, balanced or stringent, for the reference.
        feff: further inputs of `xastruct.feff.base`, as overrides.
        pw_code: `pw.x`, for XSpectra.
        xspectra_code: `xspectra.x`, for XSpectra.
        core_hole_family: label of its pseudopotentials; the one in the profile if left out and there is but one.
        xspectra: overrides of the protocol of `xastruct.xspectra.crystal`.

    Outputs:
        spectrum: mean over the sites, weighted by multiplicity, flat.
        spectra: what stands for each site, by `site_<index>`: the model's, or that of the reference where it was asked.
        model_spectra: what the model said of each site, also where a reference was asked.
        answer: method (ml, feff, xspectra, mixed), uncertainty, threshold and reason; the same of each site under `sites`; `flagged` sites
            whose model was unsure and got no reference; `reference`, protocol, models, and `defaults`, the inputs that were left out, with
            the values they had.
    """

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Ports, outline and exit codes."""
        super().define(spec)
        spec.input("structure", valid_type=StructureData)
        spec.input("absorber", valid_type=Str, required=False, help="Element whose inequivalent sites are answered.")
        spec.input("sites", valid_type=List, required=False, help="Indices of inequivalent sites of one element, from 0.")
        spec.input("kind", valid_type=Str, default=lambda: Str("XANES"), validator=check_kind, help="XANES or EXAFS.")
        spec.input("family", valid_type=Str, required=False, help="Label of the model family; the shipped one if left out.")
        spec.input("code", valid_type=AbstractCode, required=False, help="FEFF, for what the model is unsure about.")
        spec.input("fallback", valid_type=Str, default=lambda: Str("on"), validator=check_fallback, help="on, off or always.")
        spec.input("protocol", valid_type=Str, default=lambda: Str("fast"), validator=check_protocol, help="fast, balanced or stringent.")
        spec.input("feff", valid_type=Dict, required=False, help="Overrides for `xastruct.feff.base`.")
        spec.input("reference", valid_type=Str, default=lambda: Str("feff"), validator=check_reference, help="feff or xspectra.")
        spec.input("pw_code", valid_type=AbstractCode, required=False, help="`pw.x`, for XSpectra.")
        spec.input("xspectra_code", valid_type=AbstractCode, required=False, help="`xspectra.x`, for XSpectra.")
        spec.input("core_hole_family", valid_type=Str, required=False, help="Label of the pseudopotentials of XSpectra.")
        spec.input("xspectra", valid_type=Dict, required=False, validator=check_xspectra, help="Overrides for `xastruct.xspectra.crystal`.")
        spec.inputs.validator = check_inputs
        references = if_(cls.should_run_reference)(cls.run_reference, cls.inspect_reference)
        spec.outline(cls.setup, cls.predict, references, cls.combine, cls.conclude)
        spec.output("spectrum", valid_type=SpectrumData, required=False)
        spec.output_namespace("spectra", valid_type=SpectrumData, dynamic=True)
        spec.output_namespace("model_spectra", valid_type=SpectrumData, dynamic=True)
        spec.output("answer", valid_type=Dict, required=False)
        spec.exit_code(301, "ERROR_INVALID_SITES", "{reason}")
        spec.exit_code(302, "ERROR_NO_MODEL", "{reason}")
        spec.exit_code(303, "ERROR_NO_ANSWER", "{reason}")
        spec.exit_code(401, "WARNING_NO_FEFF_CODE", "{reason}")
        spec.exit_code(402, "WARNING_FEFF_FAILED", "{reason}")

    @classmethod
    def get_builder_from_protocol(
        cls,
        structure: StructureData,
        absorber: str | None = None,
        sites: list[int] | None = None,
        kind: str | None = None,
        protocol: str | None = None,
        code: AbstractCode | None = None,
        fallback: str | None = None,
        family: str | None = None,
        overrides: dict[str, Any] | None = None,
        reference: str | None = None,
        pw_code: AbstractCode | None = None,
        xspectra_code: AbstractCode | None = None,
        core_hole_family: str | None = None,
    ) -> ProcessBuilder:
        """Builder from plain values; what is None is left to the defaults, and the answer says so.

        Args:
            structure: an ordered crystal.
            absorber: element whose inequivalent sites are all answered; or
            sites: indices of inequivalent sites of one element.
            kind: XANES or EXAFS.
            protocol: fast, balanced or stringent, for the reference.
            code: FEFF.
            fallback: on, off or always.
            family: label of the models.
            overrides: of the protocol of `xastruct.feff.base`, or of `xastruct.xspectra.crystal` for that reference.
            reference: feff or xspectra.
            pw_code: `pw.x`, for XSpectra.
            xspectra_code: `xspectra.x`, for XSpectra.
            core_hole_family: label of the pseudopotentials of XSpectra.
        """
        builder = cls.get_builder()
        builder.structure = structure
        plain = {"absorber": (Str, absorber), "sites": (List, sites), "kind": (Str, kind), "protocol": (Str, protocol)}
        plain |= {"fallback": (Str, fallback), "family": (Str, family), "reference": (Str, reference)}
        plain |= {"core_hole_family": (Str, core_hole_family), "xspectra" if reference == "xspectra" else "feff": (Dict, overrides)}
        for name, (node, value) in plain.items():
            if value is not None:
                setattr(builder, name, node(value))
        for name, given in (("code", code), ("pw_code", pw_code), ("xspectra_code", xspectra_code)):
            if given is not None:
                setattr(builder, name, given)
        return builder

    def setup(self) -> ExitCode | None:
        """Find the sites and the model."""
        from ..engine.structure import check_structure, inequivalent_absorbers, multiplicities

        try:
            crystal = crystal_of(self.inputs.structure)
            check_structure(crystal)
            if "sites" in self.inputs:
                sites = [int(site) for site in self.inputs.sites.get_list()]
            else:
                sites = [site.site for site in inequivalent_absorbers(crystal, self.inputs.absorber.value)]
            self.ctx.multiplicity = {site_name(site): n for site, n in zip(sites, multiplicities(crystal, sites), strict=True)}
        except XastructError as error:
            return self.exit_codes.ERROR_INVALID_SITES.format(reason=str(error))
        self.ctx.sites = {site_name(site): site for site in sites}
        try:
            family = find_family(self.inputs.family.value if "family" in self.inputs else None)
        except XastructError as error:
            return self.exit_codes.ERROR_NO_MODEL.format(reason=str(error))
        self.ctx.failures = {}
        self.ctx.model = family.models.get(("forward", self.inputs.kind.value))
        if self.ctx.model is None and self.inputs.fallback.value == "off":
            words = f"the family {family.label!r} has no forward model for {self.inputs.kind.value}; choose another."
            return self.exit_codes.ERROR_NO_MODEL.format(reason=words)
        self.ctx.family = {"label": family.label, "model": self.ctx.model.content_hash if self.ctx.model else None}
        return None

    def predict(self) -> ExitCode | None:
        """Ask the model about all sites; where it has no answer at all, or there is no model, that is a reason to ask the reference."""
        self.ctx.model_answer, self.ctx.spectra, said = None, {}, {}
        if self.ctx.model is None:
            refused = f"the family {self.ctx.family['label']!r} has no forward model for {self.inputs.kind.value}."
        elif (refused := self._ask_model()) is None:
            said = self.ctx.model_answer.get_dict()
        elif self.inputs.fallback.value == "off":
            return self.exit_codes.ERROR_NO_ANSWER.format(reason=refused)
        self.ctx.reasons = {name: said[name]["reason"] if name in said else refused for name in self.ctx.sites}
        self.ctx.unsure = [name for name in self.ctx.sites if name not in said or said[name]["needs_reference"]]
        for name in self.ctx.unsure:
            self.report(f"{name}: the model is not enough: {self.ctx.reasons[name]}")
        return None

    def _ask_model(self) -> str | None:
        """Keep the model's spectra of all sites and what it says about them; a sentence where it has none."""
        from ..calculations.functions.predict_spectra import predict_spectra

        outputs, node = computed(
            predict_spectra,
            structure=self.inputs.structure,
            sites=List(list(self.ctx.sites.values())),
            kind=self.inputs.kind,
            model=self.ctx.model,
        )
        if not node.is_finished_ok:
            return f"the model has no answer: {node.exit_message or 'see its report.'}"
        self.ctx.model_answer = outputs["answer"]
        self.ctx.spectra = dict(outputs["spectra"])
        self.out("model_spectra", dict(self.ctx.spectra))
        return None

    @property
    def _reference(self) -> str:
        """Name of the reference, as people say it."""
        return REFERENCES[self.inputs.reference.value]

    def should_run_reference(self) -> bool:
        """Whether any site goes to the reference."""
        fallback = self.inputs.fallback.value
        wanted = {"off": [], "on": self.ctx.unsure, "always": list(self.ctx.sites)}[fallback]
        self.ctx.asked = list(wanted)
        self.ctx.no_code = bool(wanted) and any(code not in self.inputs for code in CODES[self.inputs.reference.value])
        self.ctx.wanted = [] if self.ctx.no_code else list(wanted)
        return bool(self.ctx.wanted)

    def run_reference(self) -> Any:
        """One FEFF workflow a site, side by side; or one of XSpectra for all sites, which puts them on one scale of energy."""
        running = {}
        if self.inputs.reference.value == "xspectra":
            builder = self._xspectra_builder()
            builder.metadata.call_link_label = "xspectra"
            running["xspectra"] = self.submit(builder)
            self.report(f"{', '.join(self.ctx.wanted)}: XSpectra, {running['xspectra'].process_label}<{running['xspectra'].pk}>")
            return ToContext(**running)
        for name in self.ctx.wanted:
            builder = self._feff_builder(self.ctx.sites[name])
            builder.metadata.call_link_label = name
            running[f"feff_{name}"] = self.submit(builder)
            self.report(f"{name}: FEFF, {running[f'feff_{name}'].process_label}<{running[f'feff_{name}'].pk}>")
        return ToContext(**running)

    def _feff_builder(self, site: int) -> ProcessBuilder:
        from .feff.base import FeffBaseWorkChain

        return FeffBaseWorkChain.get_builder_from_protocol(
            code=self.inputs.code,
            structure=self.inputs.structure,
            site=site,
            kind=self.inputs.kind.value,
            protocol=self.inputs.protocol.value,
            overrides=self.inputs.feff.get_dict() if "feff" in self.inputs else None,
        )

    def _xspectra_builder(self) -> ProcessBuilder:
        from .xspectra.crystal import XspectraCrystalWorkChain

        return XspectraCrystalWorkChain.get_builder_from_protocol(
            self.inputs.pw_code,
            self.inputs.xspectra_code,
            self.inputs.structure,
            sites=[self.ctx.sites[name] for name in self.ctx.wanted],
            protocol=self.inputs.protocol.value,
            overrides=self.inputs.xspectra.get_dict() if "xspectra" in self.inputs else None,
            family=self.inputs.core_hole_family.value if "core_hole_family" in self.inputs else None,
        )

    def inspect_reference(self) -> None:
        """Take the reference's spectra; keep the model's, flagged, where it failed."""
        for name in self.ctx.wanted:
            if self.inputs.reference.value == "xspectra":
                node = self.ctx.xspectra
                spectrum = node.outputs.spectra[name] if "spectra" in node.outputs and name in node.outputs.spectra else None
            else:
                node = self.ctx[f"feff_{name}"]
                spectrum = node.outputs.spectrum if "spectrum" in node.outputs else None
            words = node.exit_message or ("it was killed" if node.is_killed else f"exit status {node.exit_status}")
            # A 4xx status comes with a spectrum and says what it lacks; that another site of XSpectra's failed takes nothing from this one.
            warned = 400 <= (node.exit_status or 0) < 500
            if spectrum is not None and (warned or node.is_finished_ok or node.exit_status == 302):
                self.ctx.spectra[name] = spectrum
                if warned:
                    self.ctx.reasons[name] = f"{_sentence(self.ctx.reasons[name])} {self._reference} warns: {words}"
            else:
                self.ctx.failures[name] = f"{self._reference} failed: {words}"
                self.report(f"{name}: {self.ctx.failures[name]}")

    def combine(self) -> ExitCode | None:
        """One spectrum and one record of who answered and why."""
        from ..calculations.functions.combine_answers import combine_answers

        self.out("spectra", dict(self.ctx.spectra))
        missing = [name for name in self.ctx.sites if name not in self.ctx.spectra]
        if missing:
            words = self.ctx.failures.get(missing[0], f"no {self._reference} code was given")
            return self.exit_codes.ERROR_NO_ANSWER.format(reason=f"{', '.join(missing)}: {self.ctx.reasons[missing[0]]} {_sentence(words)}")
        inputs: dict[str, Any] = {"decision": Dict(self._decision()), **self.ctx.spectra}
        if self.ctx.model_answer is not None:
            inputs["model_answer"] = self.ctx.model_answer
        outputs, node = computed(combine_answers, **inputs)
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_NO_ANSWER.format(reason=node.exit_message)
        self.out("spectrum", outputs["spectrum"])
        self.out("answer", outputs["answer"])
        return None

    def _decision(self) -> dict[str, Any]:
        """Who answered for each site and why, and what was asked."""
        from ..engine import ALGORITHM_VERSION

        sites = {}
        for name in self.ctx.sites:
            method = self.ctx.spectra[name].method
            reason = self.ctx.reasons[name]
            if name in self.ctx.wanted and name not in self.ctx.unsure:
                reason = f"{self._reference} was asked for, whatever the model says; it says: {_sentence(reason)}"
            if name in self.ctx.failures:
                reason = f"{_sentence(reason)} {_sentence(self.ctx.failures[name])}"
            sites[name] = {
                "method": method,
                "multiplicity": self.ctx.multiplicity[name],
                "reason": reason,
                "flagged": method == "ml" and name in {*self.ctx.unsure, *self.ctx.asked},
            }
        return {
            "sites": sites,
            "fallback": self.inputs.fallback.value,
            "reference": self.inputs.reference.value,
            "protocol": self.inputs.protocol.value if self.ctx.wanted else None,
            "family": self.ctx.family,
            "algorithm_version": ALGORITHM_VERSION["forward"],
            "defaults": self._defaults(),
        }

    def _defaults(self) -> dict[str, str]:
        """Inputs that the caller left out, with the values they had."""
        given = set(self.raw_inputs or {})
        values = {name: self.inputs[name].value for name in ("kind", "fallback", "reference", "protocol") if name not in given}
        return values if "family" in given else values | {"family": self.ctx.family["label"]}

    def conclude(self) -> ExitCode | None:
        """Say so where an answer is usable but not what was asked for."""
        if self.ctx.failures:
            name, words = next(iter(self.ctx.failures.items()))
            return self.exit_codes.WARNING_FEFF_FAILED.format(reason=f"{name}: {_sentence(words)} The model's answer is kept, flagged.")
        if self.ctx.no_code:
            names = ", ".join(self.ctx.asked)
            return self.exit_codes.WARNING_NO_FEFF_CODE.format(
                reason=f"{names}: {self._reference} is to answer but no code was given; the model's answer is kept, flagged."
            )
        return None


def _sentence(text: str) -> str:
    """The text with a full stop at its end."""
    return text if text.endswith((".", "!", "?")) else f"{text}."

"""Which X-ray absorption spectrum does this crystal have?"""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, if_
from aiida.orm import AbstractCode, Dict, List, Str, StructureData

from ..calculations.checks import check_kind
from ..data.spectrum import SpectrumData
from ..engine.errors import XastructError
from .inputs import find_family

FALLBACKS = ("on", "off", "always")
PROTOCOLS = ("fast", "balanced", "stringent")

#: What `FeffBaseWorkChain.get_builder_from_protocol` takes as overrides.
OVERRIDES = ("parameters", "max_wallclock_seconds", "max_iterations", "options")


class PredictWorkChain(WorkChain):
    """Spectrum of one element in a crystal: a learned model answers where it is sure of itself, FEFF where it is not.

    Inputs:
        structure: an ordered crystal.
        absorber: element whose inequivalent sites are all answered; or
        sites: indices of inequivalent sites of one element, from 0.
        kind: XANES or EXAFS.
        family: label of the models to ask; the family that ships with the package if left out.
        code: FEFF (`xastruct-feff`), for sites that the model is unsure about.
        fallback: `on` (FEFF where the model is unsure), `off` (never) or `always`.
        protocol: fast, balanced or stringent, for FEFF.
        feff: further inputs of `xastruct.feff.base`, as overrides.

    Outputs:
        spectrum: mean over the sites, weighted by multiplicity, flat.
        spectra: what stands for each site, by `site_<index>`: the model's, or FEFF's where it was asked.
        model_spectra: what the model said of each site, also where FEFF was asked.
        answer: method (ml, feff, mixed), uncertainty, threshold and reason; the same of each site under `sites`; `flagged` sites whose
            model was unsure and got no FEFF; protocol, models, and `defaults`, the inputs that were left out, with the values they had.
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
        spec.input("fallback", valid_type=Str, default=lambda: Str("on"), validator=_check_fallback, help="on, off or always.")
        spec.input("protocol", valid_type=Str, default=lambda: Str("fast"), validator=_check_protocol, help="fast, balanced or stringent.")
        spec.input("feff", valid_type=Dict, required=False, validator=_check_overrides, help="Overrides for `xastruct.feff.base`.")
        spec.inputs.validator = _check_inputs
        spec.outline(cls.setup, cls.predict, if_(cls.should_run_feff)(cls.run_feff, cls.inspect_feff), cls.combine, cls.conclude)
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
    ) -> ProcessBuilder:
        """Builder from plain values; what is None is left to the defaults, and the answer says so.

        Args:
            structure: an ordered crystal.
            absorber: element whose inequivalent sites are all answered; or
            sites: indices of inequivalent sites of one element.
            kind: XANES or EXAFS.
            protocol: fast, balanced or stringent, for FEFF.
            code: FEFF.
            fallback: on, off or always.
            family: label of the models.
            overrides: of the protocol of `xastruct.feff.base`.
        """
        builder = cls.get_builder()
        builder.structure = structure
        plain = {"absorber": (Str, absorber), "sites": (List, sites), "kind": (Str, kind), "protocol": (Str, protocol)}
        plain |= {"fallback": (Str, fallback), "family": (Str, family), "feff": (Dict, overrides)}
        for name, (node, value) in plain.items():
            if value is not None:
                setattr(builder, name, node(value))
        if code is not None:
            builder.code = code
        return builder

    def setup(self) -> ExitCode | None:
        """Find the sites and the model."""
        from ..engine.structure import check_structure, inequivalent_absorbers, multiplicities

        try:
            crystal = self.inputs.structure.get_pymatgen()
            check_structure(crystal)
            if "sites" in self.inputs:
                sites = [int(site) for site in self.inputs.sites.get_list()]
            else:
                sites = [site.site for site in inequivalent_absorbers(crystal, self.inputs.absorber.value)]
            self.ctx.multiplicity = {_name(site): n for site, n in zip(sites, multiplicities(crystal, sites), strict=True)}
        except XastructError as error:
            return self.exit_codes.ERROR_INVALID_SITES.format(reason=str(error))
        self.ctx.sites = {_name(site): site for site in sites}
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
        """Ask the model about all sites; where it has no answer at all, or there is no model, that is a reason for FEFF."""
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

        outputs, node = predict_spectra.run_get_node(
            structure=self.inputs.structure, sites=List(list(self.ctx.sites.values())), kind=self.inputs.kind, model=self.ctx.model
        )
        if not node.is_finished_ok:
            return f"the model has no answer: {node.exit_message or 'see its report.'}"
        self.ctx.model_answer = outputs["answer"]
        self.ctx.spectra = dict(outputs["spectra"])
        self.out("model_spectra", dict(self.ctx.spectra))
        return None

    def should_run_feff(self) -> bool:
        """Whether any site goes to FEFF."""
        fallback = self.inputs.fallback.value
        wanted = {"off": [], "on": self.ctx.unsure, "always": list(self.ctx.sites)}[fallback]
        self.ctx.asked = list(wanted)
        self.ctx.no_code = bool(wanted) and "code" not in self.inputs
        self.ctx.wanted = [] if self.ctx.no_code else list(wanted)
        return bool(self.ctx.wanted)

    def run_feff(self) -> Any:
        """One FEFF workflow a site, side by side."""
        running = {}
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

    def inspect_feff(self) -> None:
        """Take FEFF's spectra; keep the model's, flagged, where FEFF failed."""
        for name in self.ctx.wanted:
            node = self.ctx[f"feff_{name}"]
            words = node.exit_message or f"exit status {node.exit_status}"
            if "spectrum" in node.outputs and (node.is_finished_ok or 400 <= (node.exit_status or 0) < 500):
                self.ctx.spectra[name] = node.outputs.spectrum
                if not node.is_finished_ok:
                    self.ctx.reasons[name] = f"{_sentence(self.ctx.reasons[name])} FEFF warns: {words}"
            else:
                self.ctx.failures[name] = f"FEFF failed: {words}"
                self.report(f"{name}: {self.ctx.failures[name]}")

    def combine(self) -> ExitCode | None:
        """One spectrum and one record of who answered and why."""
        from ..calculations.functions.combine_answers import combine_answers

        self.out("spectra", dict(self.ctx.spectra))
        missing = [name for name in self.ctx.sites if name not in self.ctx.spectra]
        if missing:
            words = self.ctx.failures.get(missing[0], "no FEFF code was given")
            return self.exit_codes.ERROR_NO_ANSWER.format(reason=f"{', '.join(missing)}: {self.ctx.reasons[missing[0]]} {_sentence(words)}")
        inputs: dict[str, Any] = {"decision": Dict(self._decision()), **self.ctx.spectra}
        if self.ctx.model_answer is not None:
            inputs["model_answer"] = self.ctx.model_answer
        outputs, node = combine_answers.run_get_node(**inputs)
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
            by_feff = self.ctx.spectra[name].method == "feff"
            reason = self.ctx.reasons[name]
            if name in self.ctx.wanted and name not in self.ctx.unsure:
                reason = f"FEFF was asked for, whatever the model says; it says: {_sentence(reason)}"
            if name in self.ctx.failures:
                reason = f"{_sentence(reason)} {_sentence(self.ctx.failures[name])}"
            sites[name] = {
                "method": "feff" if by_feff else "ml",
                "multiplicity": self.ctx.multiplicity[name],
                "reason": reason,
                "flagged": not by_feff and name in {*self.ctx.unsure, *self.ctx.asked},
            }
        return {
            "sites": sites,
            "fallback": self.inputs.fallback.value,
            "protocol": self.inputs.protocol.value if self.ctx.wanted else None,
            "family": self.ctx.family,
            "algorithm_version": ALGORITHM_VERSION["forward"],
            "defaults": self._defaults(),
        }

    def _defaults(self) -> dict[str, str]:
        """Inputs that the caller left out, with the values they had."""
        given = set(self.raw_inputs or {})
        values = {name: self.inputs[name].value for name in ("kind", "fallback", "protocol") if name not in given}
        return values if "family" in given else values | {"family": self.ctx.family["label"]}

    def conclude(self) -> ExitCode | None:
        """Say so where an answer is usable but not what was asked for."""
        if self.ctx.failures:
            name, words = next(iter(self.ctx.failures.items()))
            return self.exit_codes.WARNING_FEFF_FAILED.format(reason=f"{name}: {_sentence(words)} The model's answer is kept, flagged.")
        if self.ctx.no_code:
            names = ", ".join(self.ctx.asked)
            return self.exit_codes.WARNING_NO_FEFF_CODE.format(
                reason=f"{names}: FEFF is to answer but no code was given; the model's answer is kept, flagged."
            )
        return None


def _name(site: int) -> str:
    """Link label of a site."""
    return f"site_{site}"


def _sentence(text: str) -> str:
    """The text with a full stop at its end."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _check_fallback(value: Str, _: Any) -> str | None:
    """Refuse other fallbacks than those there are."""
    return None if value.value in FALLBACKS else f"fallback is {value.value!r}; use one of {', '.join(FALLBACKS)}."


def _check_protocol(value: Str, _: Any) -> str | None:
    """Refuse other protocols than those there are."""
    return None if value.value in PROTOCOLS else f"protocol is {value.value!r}; use one of {', '.join(PROTOCOLS)}."


def _check_overrides(value: Dict | None, _: Any) -> str | None:
    """Refuse overrides that the FEFF workflow does not know, and parameters that FEFF would misread."""
    from ..engine.feff.parameters import FeffParameters

    content = {} if value is None else value.get_dict()
    if unknown := sorted(set(content) - set(OVERRIDES)):
        return f"feff overrides {unknown[0]!r}; what can be overridden is {', '.join(OVERRIDES)}."
    try:
        FeffParameters.from_dict(content.get("parameters", {}))
    except XastructError as error:
        return str(error)
    return None


def _check_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Refuse structures and sites that no answer can be given for, before anything is stored."""
    if "structure" not in inputs:
        return None  # the port itself says that it is missing
    structure = inputs["structure"]
    if tuple(structure.pbc) != (True, True, True):
        return "the structure is not periodic in three dimensions; put a molecule or slab into a box and set pbc in all three."
    if structure.is_alloy or structure.has_vacancies:
        return "the structure is disordered; give an ordered supercell or pick one occupation."
    if ("absorber" in inputs) == ("sites" in inputs):
        return "give either absorber (an element) or sites (indices), not both and not neither."
    symbols = [structure.get_kind(name).symbol for name in structure.get_site_kindnames()]
    if "absorber" in inputs:
        absorber = inputs["absorber"].value
        if absorber not in symbols:
            return f"{absorber} is not in the structure ({structure.get_formula()}); choose one of {', '.join(sorted(set(symbols)))}."
        return None
    return _check_sites(inputs["sites"].get_list(), symbols)


def _check_sites(sites: list[Any], symbols: list[str]) -> str | None:
    """Refuse what are not distinct indices of one element."""
    if not sites:
        return "sites is empty; give at least one index."
    for site in sites:
        if isinstance(site, bool) or not isinstance(site, int) or not 0 <= site < len(symbols):
            return f"site {site!r} does not exist; the structure has sites 0 to {len(symbols) - 1}."
    if len(set(sites)) < len(sites):
        return "sites names a site twice; give each once."
    if len(elements := sorted({symbols[site] for site in sites})) > 1:
        return f"the sites are of different elements ({', '.join(elements)}); ask once for each element."
    return None

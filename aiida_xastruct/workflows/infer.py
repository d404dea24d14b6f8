"""Which local structure made this spectrum?"""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, WorkChain
from aiida.orm import Dict, List, Str

from ..data.model import KINDS
from ..data.spectrum import SpectrumData
from ..engine.errors import XastructError
from .inputs import find_family
from .steps import computed


class InferWorkChain(WorkChain):
    """Neighbour elements with probabilities, and the mean distance of the first shell with its interval, behind a spectrum.

    Inputs:
        spectrum: measured, by FEFF or learned.
        other: a second spectrum of the same site, where `kind` is both and each holds one of them; a measured scan that covers both needs
            none.
        kind: the part to read, XANES, EXAFS or both; the spectrum's own kind if left out, both if `other` is given.
        elements: symbols of the elements that the sample is known to hold; any if left out.
        family: label of the models to ask; the family that ships with the package if left out.
    """

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Ports, outline and exit codes."""
        super().define(spec)
        spec.input("spectrum", valid_type=SpectrumData)
        spec.input("other", valid_type=SpectrumData, required=False, help="XANES where the spectrum is EXAFS, or EXAFS where it is XANES.")
        spec.input("kind", valid_type=Str, required=False, validator=_check_kind, help="XANES, EXAFS or both; by the spectra if left out.")
        spec.input("elements", valid_type=List, required=False, validator=_check_elements, help="Elements the sample is known to hold.")
        spec.input("family", valid_type=Str, required=False, help="Label of the model family; the shipped one if left out.")
        spec.inputs.validator = _check_inputs
        spec.outline(cls.setup, cls.infer)
        spec.output("answer", valid_type=Dict, help="Keys: `infer_local_structure.describe`.")
        spec.exit_code(302, "ERROR_NO_MODEL", "{reason}")
        spec.exit_code(303, "ERROR_NO_ANSWER", "{reason}")

    @classmethod
    def get_builder_for(
        cls,
        spectrum: SpectrumData,
        kind: str | None = None,
        elements: list[str] | None = None,
        family: str | None = None,
        other: SpectrumData | None = None,
    ) -> ProcessBuilder:
        """Builder from plain values; what is None is left to the defaults."""
        builder = cls.get_builder()
        builder.spectrum = spectrum
        if other is not None:
            builder.other = other
        if kind is not None:
            builder.kind = Str(kind)
        if elements is not None:
            builder.elements = List(list(elements))
        if family is not None:
            builder.family = Str(family)
        return builder

    def setup(self) -> ExitCode | None:
        """Find the models."""
        usual = "both" if "other" in self.inputs else self.inputs.spectrum.kind
        kind = self.ctx.kind = self.inputs.kind.value if "kind" in self.inputs else usual
        try:
            family = find_family(self.inputs.family.value if "family" in self.inputs else None)
            tasks = ("neighbours", "distance")
            self.ctx.models = {task: family.get_model(task, "EXAFS" if kind == "both" else kind) for task in tasks}
            if kind == "both":
                self.ctx.models |= {f"{task}_xanes": family.get_model(task, "XANES") for task in tasks}
        except XastructError as error:
            return self.exit_codes.ERROR_NO_MODEL.format(reason=str(error))
        named = "XANES and EXAFS" if kind == "both" else kind
        self.report(f"asking family {family.label!r} which neighbours made the {self.inputs.spectrum.absorber} {named}")
        return None

    def infer(self) -> ExitCode | None:
        """Ask them."""
        from ..calculations.functions.infer_local_structure import infer_local_structure

        inputs: dict[str, Any] = {"spectrum": self.inputs.spectrum, "kind": Str(self.ctx.kind), **self.ctx.models}
        inputs |= {name: self.inputs[name] for name in ("elements", "other") if name in self.inputs}
        outputs, node = computed(infer_local_structure, **inputs)
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_NO_ANSWER.format(reason=node.exit_message)
        self.out("answer", outputs)
        return None


def _check_elements(value: List | None, _: Any) -> str | None:
    """Refuse what is no list of element symbols."""
    from ..engine.spectrum import atomic_number

    if value is None:
        return None
    elements = value.get_list()
    if not elements:
        return "elements is empty; name the elements of the sample, or leave it out."
    try:
        for element in elements:
            atomic_number(element)
    except XastructError as error:
        return str(error)
    return None


def _check_kind(value: Str | None, _: Any) -> str | None:
    """Refuse another kind than XANES, EXAFS and both."""
    if value is not None and value.value not in (*KINDS, "both"):
        return f"kind is {value.value!r}; use one of {', '.join(KINDS)}, both."
    return None


def _check_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Refuse a damaged spectrum, a computed one that is to be read as the other kind, and a second one that nobody would read."""
    if "spectrum" not in inputs:
        return None
    spectrum, other = inputs["spectrum"], inputs.get("other")
    try:
        for own in filter(None, (spectrum, other)):
            own.to_engine()
    except XastructError as error:
        return str(error)
    kind = inputs["kind"].value if "kind" in inputs else "both" if other is not None else spectrum.kind
    if kind == "both":
        spectra = [spectrum] if other is None else [spectrum, other]
        lacking = {"XANES", "EXAFS"} - {own.kind for own in spectra}
        if lacking and not any(own.method == "measured" for own in spectra):
            return f"both are to be read, and the spectrum was computed as {spectrum.kind}; give its {lacking.pop()} as other."
        return None
    if other is not None:
        return f"other is given, and only {kind} is to be read; leave one of the two out."
    if kind in KINDS and kind != spectrum.kind and spectrum.method != "measured":
        return f"the spectrum was computed as {spectrum.kind}; read it as that, or compute {kind}."
    return None

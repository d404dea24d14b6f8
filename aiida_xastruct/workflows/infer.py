"""Which local structure made this spectrum?"""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, WorkChain
from aiida.orm import Dict, List, Str

from ..data.spectrum import SpectrumData
from ..engine.errors import XastructError
from .inputs import KINDS, check_kind, find_family


class InferWorkChain(WorkChain):
    """Neighbour elements with probabilities, and the mean distance of the first shell with its interval, behind a spectrum.

    Inputs:
        spectrum: measured, by FEFF or learned.
        kind: the part to read, XANES or EXAFS; the spectrum's own kind if left out.
        elements: symbols of the elements that the sample is known to hold; any if left out.
        family: label of the models to ask; the family that ships with the package if left out.
    """

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Ports, outline and exit codes."""
        super().define(spec)
        spec.input("spectrum", valid_type=SpectrumData)
        spec.input("kind", valid_type=Str, required=False, validator=check_kind, help="XANES or EXAFS; the spectrum's own if left out.")
        spec.input("elements", valid_type=List, required=False, validator=_check_elements, help="Elements the sample is known to hold.")
        spec.input("family", valid_type=Str, required=False, help="Label of the model family; the shipped one if left out.")
        spec.inputs.validator = _check_inputs
        spec.outline(cls.setup, cls.infer)
        spec.output("answer", valid_type=Dict, help="Keys: `infer_local_structure.describe`.")
        spec.exit_code(302, "ERROR_NO_MODEL", "{reason}")
        spec.exit_code(303, "ERROR_NO_ANSWER", "{reason}")

    @classmethod
    def get_builder_for(
        cls, spectrum: SpectrumData, kind: str | None = None, elements: list[str] | None = None, family: str | None = None
    ) -> ProcessBuilder:
        """Builder from plain values; what is None is left to the defaults."""
        builder = cls.get_builder()
        builder.spectrum = spectrum
        if kind is not None:
            builder.kind = Str(kind)
        if elements is not None:
            builder.elements = List(list(elements))
        if family is not None:
            builder.family = Str(family)
        return builder

    def setup(self) -> ExitCode | None:
        """Find the models."""
        self.ctx.kind = self.inputs.kind.value if "kind" in self.inputs else self.inputs.spectrum.kind
        try:
            family = find_family(self.inputs.family.value if "family" in self.inputs else None)
            self.ctx.models = {task: family.get_model(task, self.ctx.kind) for task in ("neighbours", "distance")}
        except XastructError as error:
            return self.exit_codes.ERROR_NO_MODEL.format(reason=str(error))
        self.report(f"asking family {family.label!r} which neighbours made the {self.inputs.spectrum.absorber} {self.ctx.kind}")
        return None

    def infer(self) -> ExitCode | None:
        """Ask them."""
        from ..calculations.functions.infer_local_structure import infer_local_structure

        inputs: dict[str, Any] = {"spectrum": self.inputs.spectrum, "kind": Str(self.ctx.kind), **self.ctx.models}
        if "elements" in self.inputs:
            inputs["elements"] = self.inputs.elements
        outputs, node = infer_local_structure.run_get_node(**inputs)
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


def _check_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Refuse a computed spectrum that is to be read as the other kind."""
    if "spectrum" in inputs and "kind" in inputs and inputs["kind"].value in KINDS:
        spectrum, kind = inputs["spectrum"], inputs["kind"].value
        if kind != spectrum.kind and spectrum.method != "measured":
            return f"the spectrum was computed as {spectrum.kind}; read it as that, or compute {kind}."
    return None

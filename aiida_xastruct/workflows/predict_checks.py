"""What `xastruct.predict` refuses before anything is stored: validators that return one sentence."""

from __future__ import annotations

from typing import Any

from aiida.orm import Dict, Str, StructureData

from ..engine.errors import XastructError
from ..engine.spectrum import edge_of
from .crystal import check_question, symbols_of
from .inputs import DAMAGED_NODE, unreadable

FALLBACKS = ("on", "off", "always")

#: Who can be asked where the model is not enough, and the codes that each needs.
REFERENCES = {"feff": "FEFF", "xspectra": "XSpectra"}
CODES = {"feff": ("code",), "xspectra": ("pw_code", "xspectra_code")}


def check_fallback(value: Str, _: Any) -> str | None:
    """Refuse other fallbacks than those there are."""
    return None if value.value in FALLBACKS else f"fallback is {value.value!r}; use one of {', '.join(FALLBACKS)}."


def check_reference(value: Str, _: Any) -> str | None:
    """Refuse other references than those there are."""
    return None if value.value in REFERENCES else f"reference is {value.value!r}; use one of {', '.join(REFERENCES)}."


def check_xspectra(value: Dict | None, _: Any) -> str | None:
    """Refuse overrides that the workflow of XSpectra does not know, and values that it would misread."""
    from .xspectra.base import XspectraBaseWorkChain

    try:
        XspectraBaseWorkChain.settings(None, {} if value is None else value.get_dict())
    except ValueError as error:
        return str(error)
    return None


def check_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Refuse structures and sites that no answer can be given for, and what FEFF would refuse or misread, before anything is stored."""
    from .feff.base import FeffBaseWorkChain
    from .feff.checks import refused

    if "structure" not in inputs:
        return None  # the port itself says that it is missing
    try:
        if words := _check_question(inputs, inputs["structure"]):
            return words
    except XastructError as error:
        return str(error)
    except DAMAGED_NODE as error:
        return unreadable(error)
    reference = inputs["reference"].value if "reference" in inputs else "feff"
    other = "feff" if reference == "xspectra" else "xspectra"
    if other in inputs:
        return f"{other} is given, but reference is {reference}; give overrides as {reference}, or set reference to {other}."
    given = inputs["feff"].get_dict() if "feff" in inputs else {}
    return refused(given, FeffBaseWorkChain.OVERRIDES, inputs["kind"].value if "kind" in inputs else "XANES")


def _check_question(inputs: dict[str, Any], structure: StructureData) -> str | None:
    """Refuse what `check_inputs` does, of a node that can be read."""
    if words := check_question(inputs):
        return words
    symbols = symbols_of(structure)
    absorber = inputs["absorber"].value if "absorber" in inputs else symbols[inputs["sites"].get_list()[0]]
    if absorber not in symbols:
        return f"{absorber} is not in the structure ({structure.get_formula()}); choose one of {', '.join(sorted(set(symbols)))}."
    return _check_reach(inputs, absorber)


def _check_reach(inputs: dict[str, Any], absorber: str) -> str | None:
    """Refuse to ask XSpectra what it does not compute."""
    if "reference" not in inputs or inputs["reference"].value != "xspectra":
        return None
    return beyond_xspectra(absorber, inputs["kind"].value if "kind" in inputs else "XANES")


def beyond_xspectra(absorber: str, kind: str) -> str | None:
    """A sentence where XSpectra does not compute spectra of this kind, or of the edge of this element that people measure."""
    if kind != "XANES":
        return f"XSpectra computes XANES, not {kind}; leave reference out, for FEFF."
    if (edge := edge_of(absorber)) != "K":
        return f"XSpectra computes K edges here, and spectra of {absorber} are of {edge}; leave reference out, for FEFF."
    return None

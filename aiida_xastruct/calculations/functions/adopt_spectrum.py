"""From the spectra of other plugins to spectra of this one."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.engine import ExitCode, calcfunction
from aiida.orm import ArrayData, Dict, XyData

from ...data.spectrum import SpectrumData
from ...engine.errors import SpectrumError, XastructError


@calcfunction
def adopt_spectrum(node: ArrayData, parameters: Dict) -> Any:
    """A spectrum of another plugin as `SpectrumData`; the plugin itself need not be installed.

    Args:
        node: aiida-feff's `XasData`, whose absorber is known and whose chi(k) is taken where it has one, else mu(E); or `XyData` of
            XSpectra (aiida-quantumespresso, aiida-qe-xspec): energies in eV from the Fermi level, and one absorption.
        parameters: fields of `engine.adoption.AdoptionParameters`: what the node does not say.

    Returns:
        `SpectrumData`; exit status 310 with one sentence where the node is no spectrum.
    """
    from ...engine.adoption import AdoptionParameters

    try:
        given = parameters.get_dict()
        own: dict[str, Any] = {"method": "xspectra"} if isinstance(node, XyData) else _said(node)
        adopted = _xy(node, AdoptionParameters.from_dict(own | given)) if isinstance(node, XyData) else _xas(node, own | given)
        return SpectrumData.from_engine(adopted, label=node.label)
    except XastructError as error:
        return ExitCode(310, str(error))


def _said(node: ArrayData) -> dict[str, Any]:
    """What `XasData` knows of itself."""
    attributes = node.base.attributes
    feff = str(attributes.get("chi_source", "")).startswith("feff") or "feff_version" in attributes.all
    said: dict[str, Any] = {"absorber": attributes.get("absorber_element", ""), "method": "feff" if feff else "measured"}
    if e0 := float(attributes.get("e0", 0.0)):  # zero is what a run of FEFF has
        said["e0"] = e0
    return said


def _xas(node: ArrayData, values: dict[str, Any]) -> Any:
    """The spectrum of an `XasData`."""
    from ...engine.adoption import AdoptionParameters, adopt_chi, adopt_curve

    options = AdoptionParameters.from_dict(values)
    names = set(node.get_arraynames())
    if {"k", "chi_k"} <= names and options.kind != "XANES":
        return adopt_chi(np.asarray(node.get_array("k"), float), np.asarray(node.get_array("chi_k"), float), options, node.uuid)
    if {"energy", "mu"} <= names:
        return adopt_curve(np.asarray(node.get_array("energy"), float), np.asarray(node.get_array("mu"), float), options)
    raise SpectrumError(f"the node holds {', '.join(sorted(names)) or 'nothing'}; a spectrum is k and chi_k, or energy and mu.")


def _xy(node: XyData, options: Any) -> Any:
    """The spectrum of an `XyData`."""
    from ...engine.adoption import adopt_curve

    name, energy, unit = node.get_x()
    curves = node.get_y()
    if unit.lower() != "ev":
        raise SpectrumError(f"the x of the node is {name} in {unit}; a spectrum has energies in eV.")
    if len(curves) != 1:
        raise SpectrumError(f"the node holds {len(curves)} curves; give one, such as the powder spectrum.")
    return adopt_curve(np.asarray(energy, float), np.asarray(curves[0][1], float), options)

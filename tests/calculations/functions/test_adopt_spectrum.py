"""Spectra of other plugins become spectra of this one, with energies and steps that are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida.orm import ArrayData, Dict, XyData

from aiida_xastruct.calculations.functions.adopt_spectrum import adopt_spectrum
from aiida_xastruct.engine.feff.output import read_xmu
from aiida_xastruct.engine.spectrum import chi_k, energy_to_k, find_e0

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")

RECORDED = Path(__file__).parents[2] / "fixtures" / "feff"


@pytest.fixture(scope="module")
def exafs() -> Any:
    """EXAFS of magnesium in MgO, by FEFF."""
    return read_xmu((RECORDED / "exafs" / "xmu.dat").read_text(), "Mg", "K", "EXAFS")


def xas_data(**arrays: Any) -> ArrayData:
    """The layout of aiida-feff's `XasData`, and its class where that is installed."""
    try:
        from aiida_feff.data.xasdata import XasData
    except ImportError:
        XasData = ArrayData
    node = XasData()
    for name, array in arrays.items():
        node.set_array(name, np.asarray(array, dtype=float))
    return node


def refusal(node: Any, **parameters: Any) -> str:
    """The sentence with which a node is refused."""
    _, process = adopt_spectrum.run_get_node(node=node, parameters=Dict(parameters))
    assert process.exit_status == 310
    return str(process.exit_message)


def test_chi_of_a_feff_run(exafs: Any) -> None:
    k, chi = chi_k(exafs)
    node = xas_data(k=k, chi_k=np.where(k < 1.0, np.nan, chi))
    node.base.attributes.set_many({"chi_source": "feff.chi.dat", "absorber_element": "Mg", "e0": 0.0})
    spectrum = adopt_spectrum(node=node, parameters=Dict({}))
    assert (spectrum.absorber, spectrum.edge, spectrum.kind, spectrum.method) == ("Mg", "K", "EXAFS", "feff")
    found_k, found = chi_k(spectrum.to_engine())
    np.testing.assert_allclose(
        np.interp(np.arange(2.0, 15.0, 0.05), found_k, found), np.interp(np.arange(2.0, 15.0, 0.05), k, chi), atol=1e-3
    )
    assert spectrum.creator.inputs.node.uuid == node.uuid


def test_an_imported_measurement_has_absolute_energies() -> None:
    energy = np.arange(-150.0, 400.0, 1.0)
    mu = 0.2 + 0.5 * np.arctan(energy / 1.5) / np.pi + 1e-4 * energy
    node = xas_data(energy=energy, mu=mu)
    node.base.attributes.set_many({"absorber_element": "Fe", "e0": 7124.5})
    spectrum = adopt_spectrum(node=node, parameters=Dict({}))
    assert (spectrum.method, spectrum.normalisation, spectrum.kind) == ("measured", "raw", "EXAFS")
    assert spectrum.energy[0] == pytest.approx(6974.5)
    assert find_e0(spectrum.to_engine()) == pytest.approx(7124.5, abs=1.0)


def test_an_xspectra_result_is_normalised_and_placed() -> None:
    relative = np.arange(-10.0, 40.0, 0.2)
    node = XyData()
    node.set_x(relative, "energy", "eV")
    node.set_y(3e-5 * (0.5 + np.arctan((relative - 2.0) / 0.8) / np.pi), "sigma", "n/a")
    spectrum = adopt_spectrum(node=node, parameters=Dict({"absorber": "C", "e0": 285.0}))
    assert (spectrum.method, spectrum.normalisation, spectrum.edge) == ("xspectra", "flat", "K")
    assert spectrum.energy[0] == pytest.approx(275.0)
    assert spectrum.mu[-1] == pytest.approx(1.0, abs=0.01)
    assert "its mean over the last 10 eV" in spectrum.settings["normalised_by"]
    assert adopt_spectrum(node=node, parameters=Dict({"absorber": "C"})).energy[0] == pytest.approx(284.2 - 10.0)


def test_what_is_no_spectrum_is_refused() -> None:
    curve = np.linspace(0.0, 1.0, 50)
    assert "which element absorbs" in refusal(xas_data(k=curve, chi_k=curve))
    assert "a spectrum is k and chi_k, or energy and mu" in refusal(xas_data(r=curve), absorber="Fe")
    assert "did you mean 'absorber'" in refusal(xas_data(k=curve, chi_k=curve), absorbr="Fe")
    assert "known at 0 points" in refusal(xas_data(k=curve, chi_k=np.full(50, np.nan)), absorber="Fe")
    assert "finite numbers" in refusal(xas_data(energy=curve, mu=np.full(50, np.nan)), absorber="Fe")
    lengths = XyData()
    lengths.set_x(curve, "length", "angstrom")
    lengths.set_y(curve, "density", "n/a")
    assert "length in angstrom" in refusal(lengths, absorber="Fe")
    two = XyData()
    two.set_x(curve, "energy", "eV")
    two.set_y([curve, curve], ["up", "down"], ["n/a", "n/a"])
    assert "2 curves" in refusal(two, absorber="Fe")
    falling = XyData()
    falling.set_x(curve, "energy", "eV")
    falling.set_y(-curve, "sigma", "n/a")
    assert "no absorption" in refusal(falling, absorber="Fe")


def test_k_is_what_the_energies_say(exafs: Any) -> None:
    k, chi = chi_k(exafs)
    spectrum = adopt_spectrum(node=xas_data(k=k, chi_k=chi), parameters=Dict({"absorber": "Mg", "e0": 1305.0, "method": "feff"}))
    np.testing.assert_allclose(energy_to_k(spectrum.energy - 1305.0), k[k > 0], atol=1e-9)

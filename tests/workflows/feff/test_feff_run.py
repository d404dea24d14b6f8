"""Real FEFF runs through AiiDA: small, but nothing is replaced."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.orm import StructureData
from aiida.plugins import WorkflowFactory
from pymatgen.core import Lattice, Structure

from aiida_xastruct.tools.codes import bundled_feff_code

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")


@pytest.fixture
def rock_salt() -> StructureData:
    """MgO, conventional cell."""
    return StructureData(pymatgen=Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.212), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]))


def test_xanes_by_feff10(rock_salt):
    chain = WorkflowFactory("xastruct.feff.base")
    builder = chain.get_builder_from_protocol(
        bundled_feff_code(), rock_salt, 0, overrides={"parameters": {"scf_radius": 2.2, "fms_radius": 3.1, "energy_step": 1.0}}
    )
    results, node = run_get_node(builder)
    assert node.is_finished_ok, (node.exit_status, node.exit_message)
    spectrum = results["spectrum"]
    assert (spectrum.absorber, spectrum.edge, spectrum.kind, spectrum.method, spectrum.site) == ("Mg", "K", "XANES", "feff", 0)
    # mu/mu0 oscillates about one far from the edge, and the edge is Mg's.
    above = spectrum.energy > spectrum.energy[-1] - 20
    assert np.mean(spectrum.mu[above] / spectrum.mu0[above]) == pytest.approx(1.0, abs=0.1)
    assert 1290 < spectrum.energy[np.argmax(np.gradient(spectrum.mu, spectrum.energy))] < 1320
    facts = results["output_parameters"].get_dict()
    assert facts["scf_converged"] is True
    assert facts["engine"] == "feff10"
    assert facts["cpu_seconds"] > 1.0
    assert spectrum.settings["program"].startswith("FEFF 10")
    assert spectrum.creator.process_type == "aiida.calculations:xastruct.feff"


def test_exafs_by_feff8l(rock_salt):
    chain = WorkflowFactory("xastruct.feff.base")
    results, node = run_get_node(chain.get_builder_from_protocol(bundled_feff_code(), rock_salt, 4, kind="EXAFS"))
    assert node.is_finished_ok, (node.exit_status, node.exit_message)
    spectrum = results["spectrum"]
    assert (spectrum.absorber, spectrum.kind) == ("O", "EXAFS")
    assert spectrum.settings["program"].startswith("FEFF 8.5L")
    # The distance to magnesium, 2.106 angstrom, is where the Fourier transform of chi peaks, less the phase shift of about 0.4.
    k = np.sqrt(0.26246842 * np.clip(spectrum.energy - spectrum.e0, 0, None))
    grid = np.arange(3, 14, 0.05)
    chi = np.interp(grid, k, spectrum.mu / spectrum.mu0 - 1) * grid**2 * np.hanning(len(grid))
    r = np.linspace(1.0, 2.4, 141)
    transform = np.abs(np.exp(2j * np.outer(r, grid)) @ chi)
    assert r[np.argmax(transform)] == pytest.approx(1.7, abs=0.25)


def test_own_deck(rock_salt):
    from aiida_xastruct.engine.feff import FeffParameters, write_deck

    deck = write_deck(rock_salt.get_pymatgen_structure(), 0, FeffParameters(kind="EXAFS"))
    builder = WorkflowFactory("xastruct.feff.base").get_builder()
    builder.feff.code = bundled_feff_code()
    builder.feff.feff_input = orm.SinglefileData.from_string(deck, filename="feff.inp")
    results, node = run_get_node(builder)
    assert node.is_finished_ok, (node.exit_status, node.exit_message)
    assert results["spectrum"].absorber == "Mg"
    assert results["spectrum"].settings["deck"] == "own"


def test_bundled_code_is_made_once():
    assert bundled_feff_code().uuid == bundled_feff_code().uuid
    assert bundled_feff_code().computer.is_configured


def test_refusal_names_the_reason(rock_salt):
    chain = WorkflowFactory("xastruct.feff.base")
    builder = chain.get_builder_from_protocol(
        bundled_feff_code(), rock_salt, 0, overrides={"parameters": {"edge": "L3", "fms_radius": 14.9}}
    )
    builder.feff.parameters = orm.Dict({"fms_radius": 14.9, "max_atoms": 100})
    _, node = run_get_node(builder)
    assert node.exit_status == 303
    assert "more than 100" in node.exit_message
    assert not node.called

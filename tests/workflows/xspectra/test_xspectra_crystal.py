"""XSpectra on all sites of an element; really run where Quantum ESPRESSO is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from pymatgen.core import Lattice, Structure

from aiida_xastruct.groups.core_hole import CoreHolePseudoFamily
from aiida_xastruct.tools.codes import quantum_espresso_code
from aiida_xastruct.workflows.xspectra.base import XspectraBaseWorkChain
from aiida_xastruct.workflows.xspectra.crystal import XspectraCrystalWorkChain

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")

ARCHIVE = Path(__file__).parents[3] / "examples" / "data" / "core_hole.tar.gz"

#: As small as it can be: two atoms, few waves and points.
TINY = {
    "image_distance": 2.5,
    "kpoints_spacing": 1.3,
    "spectrum_spacing": 1.3,
    "cutoff_wfc": 24.0,
    "cutoff_rho": 96.0,
    "conv_thr_per_atom": 1e-7,
    "parameters": {"tolerance": 0.01, "points": 301},
}

needs_programs = pytest.mark.skipif(
    not (shutil.which("pw.x") and shutil.which("xspectra.x")), reason="Quantum ESPRESSO (pw.x, xspectra.x) is not installed"
)


@pytest.fixture
def diamond():
    cell = Structure.from_spacegroup("Fd-3m", Lattice.cubic(3.567), ["C"], [[0.0, 0.0, 0.0]])
    return orm.StructureData(pymatgen=cell.get_primitive_structure())


@pytest.fixture
def code(aiida_code_installed):
    """A program that does nothing: what is refused before a job needs none."""
    return aiida_code_installed(filepath_executable="/bin/true", label="nothing")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "either absorber"),
        ({"absorber": "C", "sites": [0]}, "either absorber"),
        ({"absorber": "C", "protocol": "quick"}, "protocol is 'quick'; use one of"),
        ({"absorber": "C", "overrides": {"distance": 7.0}}, "'distance' is unknown"),
        ({"absorber": "C", "overrides": {"image_distance": -1.0}}, "image_distance is -1.0"),
        ({"absorber": "C", "overrides": {"cutoff_wfc": 40.0}}, "give cutoff_wfc and cutoff_rho together"),
        ({"absorber": "C", "overrides": {"parameters": {"broadning": 1.0}}}, "did you mean 'broadening'"),
        ({"absorber": "C", "overrides": {"parameters": [1.0]}}, "no mapping"),
        ({"absorber": "C", "overrides": {"max_iterations": 2.5}}, "max_iterations is 2.5; give a whole number"),
        ({"absorber": "C", "overrides": {"options": {"queue": "long"}}}, "options"),
    ],
)
def test_unfit_inputs_are_refused(code, diamond, inputs, message):
    with pytest.raises(ValueError, match=message):
        run_get_node(XspectraCrystalWorkChain.get_builder_from_protocol(code, code, diamond, **inputs))


def test_other_edges_and_kinds_are_refused(code, diamond):
    builder = XspectraCrystalWorkChain.get_builder_from_protocol(code, code, diamond, "C")
    with pytest.raises(ValueError, match=r"`xastruct\.feff\.crystal`"):
        builder.kind = orm.Str("EXAFS")
    with pytest.raises(ValueError, match="computes K edges"):
        builder.edge = orm.Str("L3")


def test_protocols():
    assert set(XspectraBaseWorkChain.get_protocols()) == {"fast", "balanced", "stringent"}
    distances = [XspectraBaseWorkChain.settings(name)["image_distance"] for name in ("fast", "balanced", "stringent")]
    assert distances == sorted(distances)
    assert XspectraBaseWorkChain.settings(None, {"image_distance": 5})["image_distance"] == 5


def run(code, structure, absorber, **inputs):
    _, node = run_get_node(XspectraCrystalWorkChain.get_builder_from_protocol(code, code, structure, absorber, **inputs))
    return node.exit_status, node.exit_message


def test_what_is_lacking_is_said(code, diamond):
    assert run(code, diamond, "C") == (
        306, "this profile has 0 core-hole families (none); install one (`aiida-xastruct core-hole install`).",
    )  # fmt: skip
    CoreHolePseudoFamily.install(ARCHIVE, "pbe")
    status, words = run(code, diamond, "Fe")
    assert (status, "Fe is not in the structure" in words) == (301, True)
    status, words = run(code, diamond, "C", family="other")
    assert (status, "no core-hole family 'other'" in words) == (306, True)
    status, words = run(code, diamond, "C", overrides={"image_distance": 100.0})
    assert (status, "more than 1000 atoms" in words) == (301, True)
    CoreHolePseudoFamily.install(ARCHIVE, "second")
    status, words = run(code, diamond, "C")
    assert (status, "has 2 core-hole families (pbe, second); name one." in words) == (306, True)
    oxide = orm.StructureData(pymatgen=Structure(Lattice.cubic(4.2), ["Mg", "C"], [[0, 0, 0], [0.5, 0.5, 0.5]]))
    status, words = run(code, oxide, "C", family="pbe")
    assert (status, "no pseudopotential of Mg" in words) == (306, True)


@needs_programs
@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_real_run(diamond):
    """pw.x and xspectra.x of this machine; XSpectra runs out of its time at first, and goes on."""
    CoreHolePseudoFamily.install(ARCHIVE, "pbe")
    overrides = {**TINY, "parameters": {**TINY["parameters"], "iterations": 20}}
    results, node = run_get_node(
        XspectraCrystalWorkChain.get_builder_from_protocol(
            quantum_espresso_code("pw.x"), quantum_espresso_code("xspectra.x"), diamond, "C", overrides=overrides
        )
    )
    assert node.exit_status in (0, 410), (node.exit_status, node.exit_message)
    site = results["spectra"]["site_0"]
    assert (site.method, site.absorber, site.edge, site.kind, site.multiplicity) == ("xspectra", "C", "K", "XANES", 2)
    assert site.settings["supercell"] == {"multiples": [1, 1, 1], "atoms": 2, "image_distance": pytest.approx(2.5223, abs=1e-3)}
    assert (site.settings["family"]["functional"], site.settings["polarisations"]) == ("PBE", 3)
    attributes = site.base.attributes
    assert (attributes.get("neighbours"), attributes.get("mean_distance")) == (["C"], pytest.approx(1.5446, abs=1e-3))
    assert site.mu[site.energy >= site.energy[-1] - 10.0].mean() == pytest.approx(1.0)
    assert results["spectrum"].method == "xspectra"
    # 20 Lanczos vectors are too few for any of the polarisations, so a handler gave it more.
    counts = [
        child.inputs.parameters["iterations"]
        for child in sorted(node.called_descendants, key=lambda child: child.pk)
        if isinstance(child, orm.CalcJobNode) and child.process_type.endswith("xastruct.xspectra")
    ]
    assert sorted(counts) == [20] * 3 + [60] * 3
    (scf,) = [child for child in node.called_descendants if child.process_type == "aiida.calculations:quantumespresso.pw"]
    assert scf.inputs.pseudos.C1.core_level == "1s"
    assert scf.inputs.parameters["SYSTEM"]["tot_charge"] == 1.0


@needs_programs
@pytest.mark.slow
def test_a_metal_counts_from_the_fermi_level_of_pw():
    """Silicon, closely packed; XSpectra's own guess is its highest level with electrons, another energy."""
    CoreHolePseudoFamily.install(ARCHIVE, "pbe")
    metal = orm.StructureData(pymatgen=Structure(3.85 / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]), ["Si"], [[0.0, 0.0, 0.0]]))
    results, node = run_get_node(
        XspectraCrystalWorkChain.get_builder_from_protocol(
            quantum_espresso_code("pw.x"), quantum_espresso_code("xspectra.x"), metal, "Si", overrides={**TINY, "kpoints_spacing": 0.8}
        )
    )
    assert node.is_finished_ok, (node.exit_status, node.exit_message)
    (scf,) = [child for child in node.called_descendants if child.process_type == "aiida.calculations:quantumespresso.pw"]
    levels = results["output_parameters"]["site_0"]
    assert levels["zero_ev"] == pytest.approx(scf.outputs.output_parameters["fermi_energy"], abs=1e-3)
    assert levels["highest_occupied_ev"] != pytest.approx(levels["zero_ev"], abs=1e-3)


@needs_programs
@pytest.mark.slow
@pytest.mark.exhaustive
def test_it_goes_on_from_where_it_was(diamond):
    """A job that ended in time is continued, and what the program refuses is not run again."""
    CoreHolePseudoFamily.install(ARCHIVE, "pbe")
    chain = XspectraCrystalWorkChain.get_builder_from_protocol(
        quantum_espresso_code("pw.x"), quantum_espresso_code("xspectra.x"), diamond, "C",
        overrides={**TINY, "spectrum_spacing": 0.5, "parameters": {**TINY["parameters"], "time_limit": 1.0}},
    )  # fmt: skip
    _, node = run_get_node(chain)
    (first, *_) = (child for child in node.called if child.process_type == "aiida.workflows:xastruct.xspectra.base")
    jobs = sorted(first.called, key=lambda child: child.pk)
    assert [job.exit_status for job in jobs[:-1]] == [312] * (len(jobs) - 1)
    assert len(jobs) > 1
    assert jobs[1].inputs.previous.uuid == jobs[0].outputs.remote_folder.uuid


def ended(status):
    """A finished workflow without outputs."""
    node = orm.WorkChainNode()
    node.set_process_state("finished")
    node.set_exit_status(status)
    return node.store()


def test_a_site_that_fails_takes_no_other_with_it(code, graphite):
    from aiida.engine.utils import instantiate_process
    from aiida.manage import get_manager

    CoreHolePseudoFamily.install(ARCHIVE, "pbe")
    builder = XspectraCrystalWorkChain.get_builder_from_protocol(code, code, graphite, "C", overrides={"image_distance": 2.4})
    process = instantiate_process(get_manager().get_runner(), builder)
    assert process.find_sites() is None
    process.ctx.site_0_scf, process.ctx.site_2_scf = ended(401), ended(0)
    assert process.inspect_scf() is None
    assert process._left() == [2]
    for number in range(3):
        process.ctx[f"site_2_polarisation_{number}"] = ended(304)
    answer = process.inspect_xspectra()
    assert answer.status == 302
    assert "site 0: pw.x: exit status 401 site_2_polarisation_0: exit status 304" in answer.message
    process.ctx.site_2_scf = ended(401)
    assert process.inspect_scf().status == 302


@needs_programs
@pytest.mark.slow
@pytest.mark.exhaustive
def test_two_sites_of_low_symmetry(graphite):
    """Graphite: a cell for each of two sites, three polarisations, one scale of energy; the pi bands only along the axis."""
    CoreHolePseudoFamily.install(ARCHIVE, "pbe")
    results, node = run_get_node(
        XspectraCrystalWorkChain.get_builder_from_protocol(
            quantum_espresso_code("pw.x"), quantum_espresso_code("xspectra.x"), graphite, "C",
            overrides={**TINY, "image_distance": 2.4, "kpoints_spacing": 0.9, "spectrum_spacing": 0.9},
        )
    )  # fmt: skip
    assert node.exit_status in (0, 410), (node.exit_status, node.exit_message)
    spectra = results["spectra"]
    assert [(name, spectra[name].multiplicity, spectra[name].settings["polarisations"]) for name in sorted(spectra)] == [
        ("site_0", 2, 3), ("site_2", 2, 3),
    ]  # fmt: skip
    shifts = [spectrum.settings["shift_ev"] for spectrum in spectra.values()]
    assert min(shifts) == 0.0
    assert 0.0 < max(shifts) < 2.0
    mean = results["spectrum"]
    expected = np.mean([np.interp(mean.energy, one.energy, one.mu) for one in spectra.values()], axis=0)
    inside = mean.energy < min(one.energy[-1] for one in spectra.values())
    assert mean.mu[inside] == pytest.approx(expected[inside], abs=0.05)
    for site in spectra:
        links = [link for link in node.base.links.get_outgoing().all() if link.link_label.startswith(f"{site}_polarisation")]
        curves = {tuple(link.node.inputs.xspectra.polarisation): link.node.outputs.spectrum for link in links}
        energy = curves[1.0, 0.0, 0.0].get_x()[1]
        near = (energy > 0.0) & (energy < 4.0)
        shares = [curves[axis].get_y()[0][1][near].sum() / curves[axis].get_y()[0][1].sum() for axis in sorted(curves)]
        assert sorted(curves) == [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)]
        assert shares[0] > 3 * max(shares[1:])

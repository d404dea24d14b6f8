"""FEFF on all sites of an element, really run (EXAFS: seconds)."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from pymatgen.core import Lattice, Structure

from aiida_xastruct.tools.codes import bundled_feff_code
from aiida_xastruct.workflows.feff.crystal import FeffCrystalWorkChain

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")


@pytest.fixture
def mixed() -> orm.StructureData:
    """MgO with one oxygen of the conventional cell exchanged for sulphur: three magnesium atoms beside it, one away from it."""
    crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.4), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    crystal.replace(4, "S")
    return orm.StructureData(pymatgen=crystal)


def test_mean_over_sites(mixed):
    from aiida_xastruct.engine.structure import inequivalent_absorbers

    sites = inequivalent_absorbers(mixed.get_pymatgen_structure(), "Mg")
    assert sorted(item.multiplicity for item in sites) == [1, 3]
    results, node = run_get_node(FeffCrystalWorkChain.get_builder_from_protocol(bundled_feff_code(), mixed, "Mg", kind="EXAFS"))
    assert node.is_finished_ok, (node.exit_status, node.exit_message)
    assert set(results["spectra"]) == {f"site_{item.site}" for item in sites}
    assert {item.site: item.multiplicity for item in sites} == {s.site: s.multiplicity for s in results["spectra"].values()}
    mean = results["spectrum"]
    assert (mean.absorber, mean.method, mean.normalisation) == ("Mg", "feff", "flat")
    # At one k, the mean of chi is the weighted mean of the sites' chi.
    k = np.arange(4.0, 12.0, 0.05)
    curves = [np.interp(k**2 / 0.26246842, s.energy - s.e0, s.mu / s.mu0 - 1) for s in results["spectra"].values()]
    weights = [s.multiplicity for s in results["spectra"].values()]
    expected = np.average(curves, axis=0, weights=weights)
    assert np.std(curves[0] - curves[1]) > 0.01
    np.testing.assert_allclose(np.interp(k**2 / 0.26246842, mean.energy - mean.e0, mean.mu) - 1, expected, atol=3e-3)


def test_some_of_the_sites(mixed):
    build = FeffCrystalWorkChain.get_builder_from_protocol
    results, node = run_get_node(build(bundled_feff_code(), mixed, kind="EXAFS", sites=[1]))
    assert node.is_finished_ok, (node.exit_status, node.exit_message)
    (spectrum,) = results["spectra"].values()
    assert (spectrum.absorber, spectrum.site, spectrum.multiplicity) == ("Mg", 1, 3)
    assert results["spectrum"].multiplicity == 3


def test_an_element_that_is_not_there(mixed):
    _, node = run_get_node(FeffCrystalWorkChain.get_builder_from_protocol(bundled_feff_code(), mixed, "Cu"))
    assert node.exit_status == 301
    assert "Cu is not in the structure" in node.exit_message


def test_unknown_kind_and_protocol_are_refused(mixed):
    build = FeffCrystalWorkChain.get_builder_from_protocol
    with pytest.raises(ValueError, match="use one of XANES, EXAFS"):
        build(bundled_feff_code(), mixed, "Mg", kind="ELNES")
    with pytest.raises(ValueError, match="use one of fast, balanced, stringent"):
        build(bundled_feff_code(), mixed, "Mg", protocol="quick")


def packed(node) -> list[orm.CalcJobNode]:
    return [child for child in node.called if child.process_type == "aiida.calculations:xastruct.feff_batch"]


def alone(node) -> list[orm.WorkChainNode]:
    return [child for child in node.called if child.process_type == "aiida.workflows:xastruct.feff.base"]


def test_packed_gives_what_the_sites_give_alone(mixed):
    build = FeffCrystalWorkChain.get_builder_from_protocol
    results = {}
    for limit in (1, 2):
        results[limit], node = run_get_node(build(bundled_feff_code(), mixed, "Mg", kind="EXAFS", sites_per_job=limit))
        assert node.is_finished_ok, (node.exit_status, node.exit_message)
        assert (len(packed(node)), len(alone(node))) == ((0, 2) if limit == 1 else (1, 0))
    for name, spectrum in results[1]["spectra"].items():
        other = results[2]["spectra"][name]
        np.testing.assert_array_equal(spectrum.get_array("spectrum"), other.get_array("spectrum"))
        assert dict(spectrum.base.attributes.all) == dict(other.base.attributes.all)
        assert other.creator.process_type == "aiida.calculations:xastruct.feff_batch"
    np.testing.assert_array_equal(results[1]["spectrum"].mu, results[2]["spectrum"].mu)
    assert set(results[2]["output_parameters"]) == {"pack_0"}


def test_a_packed_site_that_fails_runs_again_alone():
    # UH3 under pressure: of one site's overlapping spheres there are too many for FEFF 8.5L, and for FEFF10, which the handler tries.
    from aiida_xastruct.engine.reference import read_structure

    hydride = orm.StructureData(pymatgen=read_structure("amcsd", "16520"))
    build = FeffCrystalWorkChain.get_builder_from_protocol
    results, node = run_get_node(build(bundled_feff_code(), hydride, "U", kind="EXAFS"))
    (job,), (again,) = packed(node), alone(node)
    assert job.exit_status == 410
    assert {row["site"]: row["label"] for row in job.outputs.statuses["sites"] if row["label"]} == {1: "ERROR_POTENTIALS_FAILED"}
    assert [child.inputs.parameters.get_dict().get("engine", "") for child in again.called] == ["", "feff10"]
    assert node.exit_status == 302
    assert "site 1" in node.exit_message
    assert len(results["spectra"]) == len(job.outputs.statuses["sites"]) - 1 == 3


@pytest.mark.exhaustive
def test_packed_sites_whose_scf_does_not_settle_run_again_alone(mixed):
    overrides = {"parameters": {"scf_radius": 2.3, "fms_radius": 2.5, "energy_step": 2.0, "scf_iterations": 2}}
    build = FeffCrystalWorkChain.get_builder_from_protocol
    results, node = run_get_node(build(bundled_feff_code(), mixed, "Mg", overrides=overrides, sites_per_job=2))
    (job,) = packed(node)
    assert job.exit_status == 410
    unsettled = [row for row in job.outputs.statuses["sites"] if row["label"] == "WARNING_SCF_NOT_CONVERGED"]
    assert unsettled
    assert all(row["output"] for row in unsettled)
    assert len(alone(node)) == len(unsettled)
    for child in alone(node):
        assert child.called[-1].inputs.parameters["scf_iterations"] == 4
    assert node.exit_status in (0, 410)
    assert len(results["spectra"]) == 2


def test_another_code_runs_its_sites_alone(mixed, tmp_path):
    """A FEFF that knows no batches: here a script around xastruct-feff that refuses arguments."""
    bundled = bundled_feff_code()
    script = tmp_path / "feff8"
    script.write_text(f'#!/bin/sh\n[ $# -eq 0 ] || {{ echo "no arguments, please" >&2; exit 3; }}\nexec {bundled.filepath_executable}\n')
    script.chmod(0o755)
    code = orm.InstalledCode(computer=bundled.computer, filepath_executable=str(script), label="feff8").store()
    _, node = run_get_node(FeffCrystalWorkChain.get_builder_from_protocol(code, mixed, "Mg", kind="EXAFS"))
    assert node.is_finished_ok, (node.exit_status, node.exit_message)
    (job,) = packed(node)
    assert job.exit_status == 302
    assert "only xastruct-feff" in job.exit_message
    assert len(alone(node)) == 2


def test_packed_jobs_come_from_the_cache(mixed):
    from aiida.manage.caching import enable_caching

    build = FeffCrystalWorkChain.get_builder_from_protocol
    _, first = run_get_node(build(bundled_feff_code(), mixed, "Mg", kind="EXAFS"))
    with enable_caching():
        results, second = run_get_node(build(bundled_feff_code(), mixed, "Mg", kind="EXAFS"))
    (source,), (job,) = packed(first), packed(second)
    assert job.base.caching.get_cache_source() == source.uuid
    assert second.is_finished_ok
    assert len(results["spectra"]) == 2


def test_what_a_workflow_remembers_survives_the_daemon(mixed):
    """A daemon that restarts loads the context from its checkpoint."""
    from aiida.engine.utils import instantiate_process
    from aiida.manage import get_manager
    from aiida.orm.utils.serialize import deserialize_unsafe, serialize

    builder = FeffCrystalWorkChain.get_builder_from_protocol(bundled_feff_code(), mixed, "Mg", edge="K")
    process = instantiate_process(get_manager().get_runner(), builder)
    assert process.find_sites() is None
    loaded = deserialize_unsafe(serialize(process.ctx))
    assert loaded.alone == process.ctx.alone
    assert loaded.overrides == process.ctx.overrides


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"edge": "M1"}, "use one of K, L1, L2, L3, M4, M5, L2,3"),
        ({"edge": "K", "overrides": {"parameters": {"edge": "K"}}}, "given twice"),
        ({"overrides": {"parameters": {"kind": "EXAFS"}}}, "the parameters of feff ask for EXAFS, and XANES is wanted"),
        ({"edge": "L2,3", "kind": "EXAFS"}, "edge by edge"),
        ({"sites_per_job": 0}, "give 1 or more"),
    ],
)
def test_what_cannot_be_asked_is_refused(mixed, asked, words):
    with pytest.raises(ValueError, match=words):
        run_get_node(FeffCrystalWorkChain.get_builder_from_protocol(bundled_feff_code(), mixed, "Mg", **asked))


def test_edges_that_are_not_there_or_too_far_apart():
    copper = orm.StructureData(pymatgen=Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.615), ["Cu"], [[0, 0, 0]]))
    tungsten = orm.StructureData(pymatgen=Structure.from_spacegroup("Im-3m", Lattice.cubic(3.165), ["W"], [[0, 0, 0]]))
    build = FeffCrystalWorkChain.get_builder_from_protocol
    _, node = run_get_node(build(bundled_feff_code(), copper, "Cu", edge="M5"))
    assert node.exit_status == 304
    assert "no core level" in node.exit_message
    _, node = run_get_node(build(bundled_feff_code(), tungsten, "W", edge="L2,3"))
    assert node.exit_status == 304
    assert "ask for each alone" in node.exit_message


@pytest.mark.slow
def test_l3_and_l2_and_their_sum():
    iron = orm.StructureData(pymatgen=Structure.from_spacegroup("Im-3m", Lattice.cubic(2.866), ["Fe"], [[0, 0, 0]]))
    overrides = {"parameters": {"scf_radius": 2.6, "fms_radius": 3.0, "energy_step": 1.0}}
    results, node = run_get_node(
        FeffCrystalWorkChain.get_builder_from_protocol(bundled_feff_code(), iron, "Fe", edge="L2,3", overrides=overrides)
    )
    assert node.exit_status in (0, 410), node.exit_message
    l3, l2 = (results["edge_spectra"][edge]["site_0"] for edge in ("L3", "L2"))
    total = results["spectra"]["site_0"]
    assert (l3.edge, l2.edge, total.edge, results["spectrum"].edge) == ("L3", "L2", "L2,3", "L2,3")
    assert l3.energy[-1] > l2.energy[-1] - 10
    summed = total.settings["summed"]
    assert summed["L2"]["edge_energy_ev"] - summed["L3"]["edge_energy_ev"] == pytest.approx(13.1, abs=1.0)
    assert summed["L3"]["share"] == pytest.approx(2 / 3, abs=0.02)
    assert any("multiplets of the 3d shell" in line for line in results["spectrum"].settings["warnings"])
    assert {link.link_label for link in total.creator.base.links.get_incoming().all()} >= {"l3", "l2"}

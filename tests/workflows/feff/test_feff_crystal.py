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

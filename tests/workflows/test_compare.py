"""`xastruct.compare`: crystals and spectra in order of how much they look like a target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.orm import ArrayData, Dict, Str, StructureData

from aiida_xastruct.calculations.functions.fit_combination import fit_combination
from aiida_xastruct.calculations.functions.rank_candidates import rank_candidates
from aiida_xastruct.data.spectrum import SpectrumData
from aiida_xastruct.engine.feff import read_xmu
from aiida_xastruct.engine.reference.sources import AmcsdSource
from aiida_xastruct.workflows.compare import CompareWorkChain

ROOT = Path(__file__).parents[2]
SCAN = ROOT / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"
MINERALS = {"goethite": "10471", "hematite": "143", "lepidocrocite": "11833", "pyrite": "6"}


def crystals(*names: str) -> dict[str, StructureData]:
    return {name: StructureData(pymatgen=AmcsdSource().structure(MINERALS[name])[0], label=name) for name in names}


@pytest.fixture
def goethite(aiida_profile_clean: Any) -> SpectrumData:
    """The measured scan."""
    from aiida_xastruct.engine.scans import ScanParameters
    from aiida_xastruct.engine.spectrum_file import read_spectrum

    return SpectrumData.from_engine(read_spectrum(SCAN.read_bytes(), SCAN.name, ScanParameters(absorber="Fe"))).store()


@pytest.fixture
def feff_xanes(aiida_profile_clean: Any) -> SpectrumData:
    text = (ROOT / "tests" / "fixtures" / "feff" / "xanes" / "xmu.dat").read_text()
    return SpectrumData.from_engine(read_xmu(text, "Mg", "K", "XANES")).store()


@pytest.mark.slow
def test_a_measurement_finds_its_mineral(goethite: SpectrumData) -> None:
    builder = CompareWorkChain.get_builder_for(goethite, crystals(*MINERALS), fallback="off")
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    ranking = outputs["ranking"].get_dict()
    assert (ranking["absorber"], ranking["edge"], ranking["kind"], ranking["refused"]) == ("Fe", "K", "EXAFS", {})
    rows = ranking["candidates"]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert (rows[0]["name"], rows[0]["method"], rows[0]["inside"]) == ("goethite", "ml", True)
    assert 2 * rows[0]["distance"] < rows[1]["distance"]
    assert sorted(outputs["spectra"]) == sorted(outputs["answers"]) == sorted(MINERALS)
    # The bound is the models' own, of the mean over the sites.
    site = outputs["answers"]["goethite"].get_dict()["sites"].values()
    assert rows[0]["error_bound"] == pytest.approx(rows[0]["amplitude"] * next(iter(site))["error_bound"])
    links = node.base.links.get_outgoing(link_type=(LinkType.CALL_CALC, LinkType.CALL_WORK)).all()
    assert sorted(link.node.process_label for link in links) == ["PredictWorkChain"] * 4 + ["rank_candidates"]
    creator = outputs["ranking"].creator
    assert creator.inputs.spectra.goethite.uuid == outputs["spectra"]["goethite"].uuid


@pytest.mark.slow
def test_feff_on_demand_and_spectra_beside_crystals(goethite: SpectrumData) -> None:
    from aiida_xastruct.tools.codes import bundled_feff_code

    builder = CompareWorkChain.get_builder_for(
        goethite, crystals("goethite"), {"itself": goethite}, code=bundled_feff_code(), fallback="always", parameters={"largest_shift": 8.0}
    )
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    first, second = outputs["ranking"].get_dict()["candidates"]
    assert (first["name"], first["method"], first["rank"]) == ("itself", "measured", 1)
    assert first["distance"] < 1e-6
    assert (second["name"], second["method"], second["error_bound"]) == ("goethite", "feff", 0.0)
    assert second["r2"] > 0.8
    assert outputs["spectra"]["goethite"].method == "feff"


def test_a_crystal_by_each_reference_is_two_candidates(goethite: SpectrumData) -> None:
    """Neither program is there: the model's spectrum does not pass for theirs. Both are really run in `tests/cli/test_core_hole.py`."""
    asked = {"reference": "both", "parameters": {"kind": "XANES"}}
    outputs, node = run_get_node(CompareWorkChain.get_builder_for(goethite, crystals("goethite"), **asked))
    assert node.exit_status == 303
    assert "no candidate has a spectrum; goethite_feff: site_0: FEFF is to answer but no code was given" in node.exit_message
    predictions = {link.link_label: link.node for link in node.base.links.get_outgoing(link_type=LinkType.CALL_WORK).all()}
    assert {name: child.inputs.reference.value for name, child in predictions.items()} == {
        "goethite_feff": "feff", "goethite_xspectra": "xspectra",
    }  # fmt: skip
    assert {(child.exit_status, child.outputs.spectrum.method) for child in predictions.values()} == {(401, "ml")}
    assert "ranking" not in outputs


def test_a_crystal_without_the_absorber_is_lost_and_said_so(goethite: SpectrumData, feff_xanes: SpectrumData) -> None:
    from pymatgen.core import Lattice, Structure

    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    lost = {"salt": StructureData(pymatgen=salt)}
    outputs, node = run_get_node(CompareWorkChain.get_builder_for(goethite, lost, {"itself": goethite}, fallback="off"))
    assert node.exit_status == 401
    assert "salt is not ranked: Fe is not in the structure" in node.exit_message
    ranking = outputs["ranking"].get_dict()
    assert [row["name"] for row in ranking["candidates"]] == ["itself"]
    assert list(ranking["refused"]) == ["salt"]
    _, node = run_get_node(CompareWorkChain.get_builder_for(goethite, lost, fallback="off"))
    assert node.exit_status == 303
    assert "no candidate has a spectrum; salt: Fe is not in the structure" in node.exit_message
    _, node = run_get_node(CompareWorkChain.get_builder_for(goethite, None, {"magnesium": feff_xanes}))
    assert node.exit_status == 303
    assert "it is of Mg K and the target of Fe K" in node.exit_message


def test_inputs_that_make_no_sense_are_refused(goethite: SpectrumData) -> None:
    lead = SpectrumData.from_engine(replace(goethite.to_engine(), edge="L3", energy=goethite.energy - 6405.0, e0=707.0))
    for target, structures, spectra, inputs, words in [
        (goethite, {}, {}, {}, "there is no candidate"),
        (goethite, crystals("pyrite"), {"pyrite": goethite}, {}, "pyrite names a crystal and a spectrum"),
        (lead, crystals("pyrite"), {}, {}, "crystals get spectra of K; give spectra of L3"),
        (goethite, crystals("pyrite"), {}, {"reference": "vasp"}, "reference is 'vasp'; use one of feff, xspectra, both"),
        (goethite, crystals("pyrite"), {}, {"reference": "both", "fallback": "off"}, "leave fallback out"),
        (goethite, crystals("pyrite"), {}, {"reference": "both"}, "XSpectra computes XANES, not EXAFS"),
        (
            goethite,
            crystals("pyrite"),
            {"pyrite_feff": goethite},
            {"reference": "both", "parameters": {"kind": "XANES"}},
            "pyrite_feff names a crystal and a spectrum",
        ),
        (goethite, {}, {"itself": goethite}, {"parameters": {"shift": 3}}, "parameters holds 'shift'"),
        (goethite, {}, {"itself": goethite}, {"parameters": {"largest_shift": 30.0}}, "give a number of eV from 0 to 10"),
    ]:
        with pytest.raises(ValueError, match=words):
            run_get_node(CompareWorkChain.get_builder_for(target, structures, spectra, **inputs))


def test_a_ranking_alone(feff_xanes: SpectrumData) -> None:
    other = SpectrumData.from_engine(replace(feff_xanes.to_engine(), mu=feff_xanes.mu * 0.9 + 0.1))
    spectra = {"same": feff_xanes, "other": other}
    found, node = rank_candidates.run_get_node(target=feff_xanes, parameters=Dict({"kind": "XANES"}), spectra=spectra)
    assert node.is_finished_ok, node.exit_message
    assert [row["name"] for row in found.get_dict()["candidates"]] == ["same", "other"]
    _, node = rank_candidates.run_get_node(target=feff_xanes, parameters=Dict({"kind": "EXAFS"}), spectra=spectra)
    assert node.exit_status == 310
    assert "the target is of no use: it was computed as XANES" in node.exit_message
    _, node = rank_candidates.run_get_node(target=feff_xanes, parameters=Dict({"kind": "XANES"}), spectra=spectra, ranking_version=Str("0"))
    assert node.exit_status == 310
    assert "ranking version '0' was asked for" in node.exit_message


def test_a_fit(aiida_profile_clean: Any) -> None:
    energy = np.arange(7012.0, 7312.0, 0.5)
    made = [
        SpectrumData(
            energy, 0.5 + np.arctan((energy - edge) / 1.5) / np.pi, "Fe", "K", "XANES",
            normalisation="flat", energy_reference="calibrated", e0=edge,
        )
        for edge in (7112.0, 7117.0)
    ]  # fmt: skip
    mixed = SpectrumData(
        energy, 0.3 * made[0].mu + 0.7 * made[1].mu, "Fe", "K", "XANES",
        normalisation="flat", energy_reference="calibrated", e0=7115.0,
    )  # fmt: skip
    outputs, node = fit_combination.run_get_node(target=mixed, parameters=Dict({}), ferrous=made[0], ferric=made[1])
    assert node.is_finished_ok, node.exit_message
    fit = outputs["fit"].get_dict()
    assert [(row["name"], round(row["weight"], 4)) for row in fit["components"]] == [("ferric", 0.7), ("ferrous", 0.3)]
    assert (fit["absorber"], fit["sum_to_one"], fit["total"]) == ("Fe", True, pytest.approx(1.0))
    curves = outputs["curves"]
    assert isinstance(curves, ArrayData)
    assert sorted(curves.get_arraynames()) == ["fit", "part_ferric", "part_ferrous", "target", "x"]
    assert curves.get_array("fit") == pytest.approx(curves.get_array("target"), abs=1e-6)
    for parameters, words in [({"width": 2}, "parameters holds 'width'"), ({"kind": "EXAFS", "low": 40.0, "high": 50.0}, "share 0 points")]:
        _, node = fit_combination.run_get_node(target=mixed, parameters=Dict(parameters), ferrous=made[0], ferric=made[1])
        assert node.exit_status == 310
        assert words in node.exit_message

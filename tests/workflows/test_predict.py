"""`xastruct.predict`: the model where it is sure, FEFF where it is not, and never a silent change from one to the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.orm import InstalledCode, Str, StructureData, to_aiida_type
from pymatgen.core import Lattice, Structure

from aiida_xastruct.workflows.predict import PredictWorkChain

build = PredictWorkChain.get_builder_from_protocol


def called(node: Any) -> list[str]:
    """Labels of the processes that a workflow called."""
    return [link.node.process_label for link in node.base.links.get_outgoing(link_type=(LinkType.CALL_CALC, LinkType.CALL_WORK)).all()]


def test_the_model_answers_where_it_is_sure(trusted: Any, feff: Any) -> None:
    structure, absorber = trusted
    outputs, node = run_get_node(build(structure, absorber, kind="EXAFS", code=feff))
    assert node.is_finished_ok
    assert sorted(called(node)) == ["combine_answers", "predict_spectra"]
    answer = outputs["answer"].get_dict()
    assert (answer["method"], answer["flagged"], answer["protocol"]) == ("ml", [], None)
    assert 0 < answer["uncertainty"] <= answer["threshold"]
    spectrum = outputs["spectrum"]
    assert (spectrum.method, spectrum.absorber, spectrum.kind, spectrum.normalisation) == ("ml", absorber, "EXAFS", "flat")
    assert spectrum.band.shape == (len(spectrum.energy), 2)
    assert (spectrum.band[:, 0] < spectrum.band[:, 1]).all()
    (site,) = outputs["spectra"].values()
    assert site.multiplicity == 4


def test_feff_answers_where_the_model_is_not_and_the_answer_says_so(doubted: Any, feff: Any) -> None:
    structure, absorber = doubted
    outputs, node = run_get_node(build(structure, absorber, kind="EXAFS", code=feff))
    assert node.is_finished_ok, node.exit_message
    assert sorted(called(node)) == ["FeffBaseWorkChain", "combine_answers", "predict_spectra"]
    answer = outputs["answer"].get_dict()
    assert (answer["method"], answer["flagged"], answer["protocol"], answer["uncertainty"]) == ("feff", [], "fast", None)
    (name, site), *_ = answer["sites"].items()
    assert site["needs_reference"]
    assert site["reason"]
    assert answer["reason"] == site["reason"]
    assert outputs["spectra"][name].method == "feff"
    # What the model said stays, beside what stands.
    assert outputs["model_spectra"][name].method == "ml"
    assert outputs["spectrum"].method == "feff"
    assert outputs["spectrum"].band is None
    # The answer's provenance reaches the structure through FEFF's job.
    creator = outputs["spectra"][name].creator
    assert creator.process_label == "FeffCalculation"
    assert creator.inputs.structure.uuid == structure.uuid


def test_without_a_code_the_models_answer_is_kept_and_flagged(doubted: Any) -> None:
    structure, absorber = doubted
    outputs, node = run_get_node(build(structure, absorber, kind="EXAFS"))
    assert node.exit_status == 401
    assert "no code was given" in node.exit_message
    answer = outputs["answer"].get_dict()
    assert answer["method"] == "ml"
    assert answer["flagged"] == sorted(outputs["spectra"])
    assert outputs["spectrum"].method == "ml"


def test_where_feff_fails_the_models_answer_is_kept_and_flagged(doubted: Any, feff: Any) -> None:
    structure, absorber = doubted
    broken = InstalledCode(computer=feff.computer, filepath_executable="/bin/false", label="broken").store()
    outputs, node = run_get_node(build(structure, absorber, kind="EXAFS", code=broken))
    assert node.exit_status == 402
    assert "FEFF failed" in node.exit_message
    answer = outputs["answer"].get_dict()
    assert answer["method"] == "ml"
    assert answer["flagged"] == sorted(outputs["spectra"])
    assert "FEFF failed" in answer["reason"]


def test_fallback_can_be_switched_off(doubted: Any, feff: Any) -> None:
    structure, absorber = doubted
    outputs, node = run_get_node(build(structure, absorber, kind="EXAFS", code=feff, fallback="off"))
    assert node.is_finished_ok
    answer = outputs["answer"].get_dict()
    assert (answer["method"], answer["fallback"]) == ("ml", "off")
    assert answer["flagged"] == sorted(outputs["spectra"])


def test_fallback_can_be_forced(trusted: Any, feff: Any) -> None:
    structure, absorber = trusted
    outputs, node = run_get_node(build(structure, absorber, kind="EXAFS", code=feff, fallback="always"))
    assert node.is_finished_ok, node.exit_message
    answer = outputs["answer"].get_dict()
    assert answer["method"] == "feff"
    assert "whatever the model says" in answer["reason"]


def test_every_default_is_named(trusted: Any) -> None:
    structure, absorber = trusted
    outputs, _ = run_get_node(build(structure, absorber, fallback="off"))
    defaults = outputs["answer"]["defaults"]
    assert (defaults["kind"], defaults["protocol"]) == ("XANES", "fast")
    assert defaults["family"].startswith("xastruct/default/")
    assert "fallback" not in defaults


def test_sites_are_weighted_by_multiplicity(aiida_profile_clean: Any) -> None:
    crystal = Structure(
        Lattice.cubic(4.4),
        ["Mg"] * 4 + ["S", "O", "O", "O"],
        [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.5, 0.5, 0.5], [0, 0, 0.5], [0, 0.5, 0], [0.5, 0, 0]],
    )
    outputs, node = run_get_node(build(StructureData(pymatgen=crystal), "Mg", kind="EXAFS", fallback="off"))
    assert node.is_finished_ok
    spectra = outputs["spectra"]
    assert sorted(spectrum.multiplicity for spectrum in spectra.values()) == [1, 3]
    mean = outputs["spectrum"]
    assert mean.multiplicity == 4
    expected = sum(s.multiplicity * np.interp(mean.energy, s.energy, s.mu) for s in spectra.values()) / 4
    np.testing.assert_allclose(mean.mu, expected, atol=5e-3)


def test_equivalent_sites_are_refused(aiida_profile_clean: Any, trusted: Any) -> None:
    structure, _ = trusted
    _, node = run_get_node(build(structure, sites=[0, 1], kind="EXAFS", fallback="off"))
    assert node.exit_status == 301
    assert "sites 0 and 1 are equivalent by symmetry" in node.exit_message


def test_an_unknown_family_is_named(trusted: Any) -> None:
    structure, absorber = trusted
    _, node = run_get_node(build(structure, absorber, family="mine"))
    assert node.exit_status == 302
    assert "there is no model family 'mine'" in node.exit_message


@pytest.fixture
def inverse_only(aiida_profile_clean: Any, tmp_path: Any) -> str:
    """Label of a family that has no forward model."""
    import shutil

    from aiida_xastruct.groups.family import SHIPPED, ModelFamily

    folder = shutil.copytree(SHIPPED, tmp_path / "inverse", ignore=shutil.ignore_patterns("forward-*"))
    return str(ModelFamily.install(folder, "inverse").label)


def test_without_a_model_feff_answers(trusted: Any, inverse_only: str, feff: Any) -> None:
    structure, absorber = trusted
    outputs, node = run_get_node(build(structure, absorber, kind="EXAFS", code=feff, family=inverse_only))
    assert node.is_finished_ok, node.exit_message
    answer = outputs["answer"].get_dict()
    assert (answer["method"], answer["family"]["model"]) == ("feff", None)
    assert "no forward model for EXAFS" in answer["reason"]
    assert "model_spectra" not in outputs


def test_with_neither_model_nor_feff_there_is_no_answer(trusted: Any, inverse_only: str) -> None:
    structure, absorber = trusted
    outputs, node = run_get_node(build(structure, absorber, kind="EXAFS", family=inverse_only))
    assert node.exit_status == 303
    assert "no FEFF code was given" in node.exit_message
    assert not outputs.get("spectra")
    assert "spectrum" not in outputs
    _, node = run_get_node(build(structure, absorber, kind="EXAFS", family=inverse_only, fallback="off"))
    assert node.exit_status == 302


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "give either absorber"),
        ({"absorber": "Cu", "sites": [0]}, "give either absorber"),
        ({"absorber": "Xe"}, "Xe is not in the structure"),
        ({"sites": []}, "sites is empty"),
        ({"sites": [99]}, "site 99 does not exist"),
        ({"sites": [True]}, "site True does not exist"),
        ({"sites": [0, 0]}, "names a site twice"),
        ({"sites": [0, 4]}, "of different elements"),
        ({"absorber": "Na", "kind": "XES"}, "kind is 'XES'"),
        ({"absorber": "Na", "fallback": "maybe"}, "fallback is 'maybe'"),
        ({"absorber": "Na", "protocol": "quick"}, "protocol is 'quick'"),
        ({"absorber": "Na", "feff": {"radius": 1}}, "feff holds 'radius'"),
        ({"absorber": "Na", "feff": {}, "reference": "xspectra"}, "feff is given, but reference is xspectra"),
        ({"absorber": "Na", "xspectra": {}}, "xspectra is given, but reference is feff"),
        ({"absorber": "Na", "feff": {"parameters": {"kind": "EXAFS"}}}, "ask for EXAFS, and XANES is wanted"),
        ({"absorber": "Na", "feff": {"parameters": {"energy_range": 5}}}, "energy_range is 5"),
        ({"absorber": "Na", "feff": {"parameters": {"path_legs": 2.5}}}, "path_legs is 2.5"),
        ({"absorber": "Na", "feff": {"parameters": {"scf_iterations": None}}}, "scf_iterations is None"),
        ({"absorber": "Na", "feff": {"parameters": 5}}, "5 is no mapping of FEFF parameters"),
        ({"absorber": "Na", "feff": {"options": 5}}, "feff.options is 5"),
        ({"absorber": "Na", "feff": {"options": {"resources": 5}}}, "feff.options: value 'resources'"),
        ({"absorber": "Na", "feff": {"max_wallclock_seconds": "1 h"}}, "max_wallclock_seconds is '1 h'"),
        ({"absorber": "Na", "feff": {"max_iterations": 0}}, "max_iterations is 0"),
        ({"absorber": "Na", "feff": {"parameters": {"k_max": 1000}}}, "k_max is 1000"),
    ],
)
def test_bad_inputs_are_refused_in_a_sentence(inputs: dict[str, Any], words: str, aiida_profile_clean: Any) -> None:
    from .conftest import CASES

    structure = StructureData(pymatgen=CASES["NaCl"][0])
    with pytest.raises(ValueError, match=words):
        run_get_node(PredictWorkChain, structure=structure, **{name: to_aiida_type(value) for name, value in inputs.items()})


def test_disorder_is_refused(aiida_profile_clean: Any) -> None:
    structure = StructureData(cell=[[4, 0, 0], [0, 4, 0], [0, 0, 4]])
    structure.append_atom(symbols=["Fe", "Ni"], weights=[0.5, 0.5], position=(0, 0, 0), name="M")
    with pytest.raises(ValueError, match="disordered"):
        run_get_node(PredictWorkChain, structure=structure, absorber=Str("Fe"))


def test_overlapping_atoms_are_refused(aiida_profile_clean: Any) -> None:
    crystal = Structure(Lattice.cubic(4.0), ["Fe", "Fe"], [[0, 0, 0], [0.05, 0, 0]])
    _, node = run_get_node(build(StructureData(pymatgen=crystal), "Fe"))
    assert node.exit_status == 301
    assert "angstrom apart" in node.exit_message

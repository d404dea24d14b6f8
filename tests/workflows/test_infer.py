"""`xastruct.infer`: a measured spectrum in, the first shell out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiida.engine import run_get_node
from aiida.orm import Dict, SinglefileData, Str, to_aiida_type

from aiida_xastruct.calculations.functions.import_scans import import_scans
from aiida_xastruct.data.spectrum import SpectrumData
from aiida_xastruct.workflows.infer import InferWorkChain

GOETHITE = Path(__file__).parents[2] / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"


@pytest.fixture
def goethite(aiida_profile_clean: Any) -> SpectrumData:
    """The measured iron edge of goethite, which has oxygen at 2.01 angstrom (AMCSD 10471)."""
    return import_scans(parameters=Dict({"absorber": "Fe"}), scan=SinglefileData(GOETHITE))


@pytest.mark.parametrize("kind", ["EXAFS", "XANES"])
def test_goethite_is_read(goethite: SpectrumData, kind: str) -> None:
    outputs, node = run_get_node(InferWorkChain.get_builder_for(goethite, kind=kind))
    assert node.is_finished_ok, node.exit_message
    answer = outputs["answer"].get_dict()
    assert answer["kind"] == kind
    probabilities = list(answer["neighbours"].values())
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(0 <= probability <= 1 for probability in probabilities)
    low, high = answer["interval"]
    assert 0 < low < answer["mean_distance"] < high < 8
    assert isinstance(answer["in_domain"], bool)
    assert answer["reason"]
    # The provenance reaches the raw file.
    origin = outputs["answer"].creator.inputs.spectrum.creator
    assert origin.inputs.scan.filename == GOETHITE.name


def test_both_kinds_are_read_together(goethite: SpectrumData) -> None:
    """A scan that covers both is enough; each model's answer alone is another."""
    answers = {}
    for kind in ("both", "EXAFS", "XANES"):
        outputs, node = run_get_node(InferWorkChain.get_builder_for(goethite, kind=kind, elements=["Fe", "O", "H"]))
        assert node.is_finished_ok, node.exit_message
        answers[kind] = outputs["answer"].get_dict()
    both = answers["both"]
    assert both["kind"] == "both"
    assert "O" in both["conformal_set"]
    if "EXAFS alone" not in both["reason"]:
        between = sorted(answers[kind]["mean_distance"] for kind in ("EXAFS", "XANES"))
        assert between[0] <= both["mean_distance"] <= between[1]


def test_two_computed_spectra_of_a_site_are_read_together(aiida_profile_clean: Any) -> None:
    """The order does not matter; one of them twice, or a second that nobody would read, is refused."""
    from pymatgen.core import Lattice, Structure

    from aiida_xastruct.engine.bundle import FamilyBundle

    crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.177), ["Ni", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    family = FamilyBundle.load()
    xanes, exafs = (SpectrumData.from_engine(family.predict(crystal, [0], kind)[0].spectrum) for kind in ("XANES", "EXAFS"))
    answers = []
    for first, second in ((xanes, exafs), (exafs, xanes)):
        outputs, node = run_get_node(InferWorkChain.get_builder_for(first, other=second))
        assert node.is_finished_ok, node.exit_message
        answers.append(outputs["answer"].get_dict())
    assert answers[0] == answers[1]
    assert answers[0]["kind"] == "both"
    with pytest.raises(ValueError, match="give its EXAFS as other"):
        run_get_node(InferWorkChain.get_builder_for(xanes, kind="both"))
    with pytest.raises(ValueError, match="give its EXAFS as other"):
        run_get_node(InferWorkChain.get_builder_for(xanes, other=xanes))
    with pytest.raises(ValueError, match="leave one of the two out"):
        run_get_node(InferWorkChain.get_builder_for(xanes, other=exafs, kind="XANES"))


def test_known_elements_narrow_the_answer(goethite: SpectrumData) -> None:
    outputs, _ = run_get_node(InferWorkChain.get_builder_for(goethite, elements=["Fe", "O", "H"]))
    answer = outputs["answer"].get_dict()
    assert set(answer["neighbours"]) <= {"Fe", "O", "H"}
    assert answer["elements_given"] == ["Fe", "O", "H"]


def test_an_unknown_family_is_named(goethite: SpectrumData) -> None:
    _, node = run_get_node(InferWorkChain.get_builder_for(goethite, family="mine"))
    assert node.exit_status == 302
    assert "there is no model family 'mine'" in node.exit_message


def test_a_spectrum_that_ends_too_early_has_no_answer(aiida_profile_clean: Any, spectrum: Any) -> None:
    from dataclasses import replace

    short = SpectrumData.from_engine(replace(spectrum, energy=spectrum.energy[:80], mu=spectrum.mu[:80]))
    _, node = run_get_node(InferWorkChain.get_builder_for(short, kind="EXAFS"))
    assert node.exit_status == 303
    assert node.exit_message.count(".") >= 1


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"kind": "XES"}, "kind is 'XES'"),
        ({"elements": ["Qq"]}, "'Qq' is not the symbol"),
        ({"elements": [26]}, "26 is not the symbol"),
        ({"elements": []}, "elements is empty"),
    ],
)
def test_bad_inputs_are_refused_in_a_sentence(inputs: dict[str, Any], words: str, aiida_profile_clean: Any, spectrum: Any) -> None:
    nodes = {name: to_aiida_type(value) for name, value in inputs.items()}
    with pytest.raises(ValueError, match=words):
        run_get_node(InferWorkChain, spectrum=SpectrumData.from_engine(spectrum), **nodes)


@pytest.mark.parametrize("port", ["spectrum", "other"])
def test_a_damaged_spectrum_is_refused(port: str, aiida_profile_clean: Any, spectrum: Any) -> None:
    damaged, sound = SpectrumData.from_engine(spectrum), SpectrumData.from_engine(spectrum)
    damaged.base.attributes.delete("kind")
    with pytest.raises(ValueError, match="node is damaged"):
        run_get_node(InferWorkChain, **{"spectrum": sound, port: damaged})


def test_a_computed_spectrum_is_read_as_what_it_is(aiida_profile_clean: Any, ml_spectrum: Any) -> None:
    with pytest.raises(ValueError, match="was computed as EXAFS"):
        run_get_node(InferWorkChain, spectrum=SpectrumData.from_engine(ml_spectrum), kind=Str("XANES"))

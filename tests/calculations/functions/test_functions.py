"""The calculation functions, run as processes on stored nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida.orm import Dict, FolderData, List, SinglefileData, StructureData
from pymatgen.core import Lattice, Structure

from aiida_xastruct.calculations.functions.combine_answers import combine_answers
from aiida_xastruct.calculations.functions.import_scans import import_scans
from aiida_xastruct.calculations.functions.infer_local_structure import infer_local_structure
from aiida_xastruct.calculations.functions.normalise_spectrum import normalise_spectrum
from aiida_xastruct.calculations.functions.predict_batch import predict_batch, read_structures, structures_node, using
from aiida_xastruct.calculations.functions.predict_spectra import predict_spectra
from aiida_xastruct.calculations.functions.process_spectrum import process_spectrum
from aiida_xastruct.calculations.functions.train_family import train_family
from aiida_xastruct.data.dataset import DatasetData
from aiida_xastruct.data.spectrum import SpectrumData
from aiida_xastruct.engine import ALGORITHM_VERSION
from aiida_xastruct.engine.sitecache import structure_hash

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")

GOETHITE = Path(__file__).parents[3] / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"
ROCK_SALT = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.5, 0.5, 0.5], [0, 0, 0.5], [0, 0.5, 0], [0.5, 0, 0]]


def rock_salt(length: float, first: str, second: str) -> Structure:
    """Conventional cell; length in angstrom."""
    return Structure(Lattice.cubic(length), [first] * 4 + [second] * 4, ROCK_SALT)


@pytest.fixture
def family() -> Any:
    """The family that ships with the package."""
    from aiida_xastruct.groups.family import load_default_family

    return load_default_family()


def test_scans_become_a_spectrum_whose_provenance_is_the_files() -> None:
    files = {name: SinglefileData(GOETHITE) for name in ("first", "second")}
    spectrum, node = import_scans.run_get_node(parameters=Dict({"absorber": "Fe"}), **files)
    assert node.is_finished_ok
    assert spectrum.settings["n_scans"] == 2
    assert (spectrum.kind, spectrum.edge, spectrum.normalisation) == ("EXAFS", "K", "raw")
    assert sorted(spectrum.creator.inputs) == ["first", "parameters", "second"]


def test_a_spectrum_is_processed_with_every_parameter_on_record() -> None:
    raw = import_scans(parameters=Dict({"absorber": "Fe"}), scan=SinglefileData(GOETHITE))
    given = {"deglitch": True, "k_range": [3, 11], "reference_energy": 7124.0}
    outputs, node = process_spectrum.run_get_node(spectrum=raw, parameters=Dict(given), reference=raw)
    assert node.is_finished_ok
    flat, record = outputs["spectrum"], outputs["record"].get_dict()
    assert (flat.normalisation, flat.energy_reference) == ("flat", "calibrated")
    assert flat.e0 == pytest.approx(7124.0)
    assert record["parameters"]["k_range"] == [3.0, 11.0]
    assert flat.settings["processing"] == record
    fine = outputs["fine_structure"]
    assert fine.get_array("chi").shape == fine.get_array("k").shape
    assert fine.get_array("r")[np.argmax(np.hypot(*(fine.get_array(f"chi_r_{part}") for part in ("real", "imaginary"))))] < 2.0
    # The raw spectrum is an input, and what came out can be asked for the first shell.
    assert {"spectrum", "reference", "parameters"} == set(flat.creator.inputs)
    _, node = process_spectrum.run_get_node(spectrum=flat, parameters=Dict({}))
    assert (node.exit_status, "only raw measurements" in node.exit_message) == (310, True)
    _, node = process_spectrum.run_get_node(spectrum=raw, parameters=Dict({"k_rnage": [3, 11]}))
    assert (node.exit_status, "did you mean 'k_range'" in node.exit_message) == (310, True)


def test_a_folder_of_scans_is_merged(tmp_path: Path) -> None:
    for name in ("a.xdi", "b.xdi"):
        (tmp_path / name).write_text(GOETHITE.read_text())
    spectrum = import_scans(parameters=Dict({"absorber": "Fe"}), scans=FolderData(tree=str(tmp_path)))
    assert spectrum.settings["files"] == ["a.xdi", "b.xdi"]


@pytest.mark.parametrize(
    ("parameters", "text", "words"),
    [
        ({"absorber": "Fe"}, "no numbers here", "is no table of numbers"),
        ({"absorber": "Cu"}, None, "Cu K edge"),
        ({}, None, "which element absorbs"),
        ({"absorbr": "Fe"}, None, "did you mean 'absorber'"),
    ],
)
def test_scans_that_cannot_be_used_end_with_a_sentence(parameters: dict[str, str], text: str | None, words: str) -> None:
    node = SinglefileData.from_string(GOETHITE.read_text() if text is None else text, filename="scan.xdi")
    _, process = import_scans.run_get_node(parameters=Dict(parameters), scan=node)
    assert process.exit_status == 310
    assert words in process.exit_message


def test_only_files_are_scans() -> None:
    _, process = import_scans.run_get_node(parameters=Dict({}), scan=Dict({"a": 1}))
    assert process.exit_status == 310
    assert "SinglefileData or FolderData" in process.exit_message


def test_normalising_gives_one_edge_step(spectrum: Any) -> None:
    flat = normalise_spectrum(SpectrumData.from_engine(spectrum))
    assert (flat.normalisation, flat.method) == ("flat", "measured")
    assert flat.e0 == pytest.approx(7119.0, abs=3.0)
    assert flat.mu[flat.energy > 7250].mean() == pytest.approx(1.0, abs=0.02)


def test_a_scan_too_short_to_normalise_ends_with_a_sentence(spectrum: Any) -> None:
    from dataclasses import replace

    short = replace(spectrum, energy=spectrum.energy[45:80], mu=spectrum.mu[45:80])
    _, process = normalise_spectrum.run_get_node(SpectrumData.from_engine(short))
    assert process.exit_status == 310
    assert "normalising needs" in process.exit_message


def test_predictions_carry_band_site_and_version(family: Any) -> None:
    structure, model = StructureData(pymatgen=rock_salt(4.177, "Ni", "O")), family.get_model("forward", "XANES")
    outputs, process = predict_spectra.run_get_node(structure=structure, sites=[0, 4], kind="XANES", model=model)
    assert process.is_finished_ok, process.exit_message
    assert process.inputs.algorithm_version.value == ALGORITHM_VERSION["forward"]
    nickel, oxygen = outputs["spectra"]["site_0"], outputs["spectra"]["site_4"]
    assert (nickel.absorber, nickel.site, nickel.multiplicity) == ("Ni", 0, 4)
    assert (oxygen.absorber, oxygen.site) == ("O", 4)
    assert nickel.band.shape == (len(nickel.mu), 2)
    # Whole spectra need a wider band than single points do, by what the card says of each.
    calibration = model.card["calibration"]
    narrower = np.diff(nickel.point_band) / np.diff(nickel.band)
    np.testing.assert_allclose(narrower, calibration["pointwise"] / calibration["simultaneous"])
    assert 0.1 < narrower.mean() < 0.9
    answer = outputs["answer"]["site_0"]
    assert answer["uncertainty"] > 0
    assert answer["needs_reference"] == (answer["uncertainty"] > answer["threshold"] or not answer["in_domain"])


def test_predictions_under_another_version_are_refused(family: Any) -> None:
    _, process = predict_spectra.run_get_node(
        structure=StructureData(pymatgen=rock_salt(4.177, "Ni", "O")),
        sites=[0],
        kind="XANES",
        model=family.get_model("forward", "XANES"),
        algorithm_version="0",
    )
    assert process.exit_status == 310
    assert "version '0' of forward was asked for" in process.exit_message


def test_a_model_is_not_asked_another_models_question(family: Any) -> None:
    _, process = predict_spectra.run_get_node(
        structure=StructureData(pymatgen=rock_salt(4.177, "Ni", "O")), sites=[0], kind="XANES", model=family.get_model("forward", "EXAFS")
    )
    assert process.exit_status == 310
    assert "no forward-XANES model" in process.exit_message


def test_a_batch_gives_what_single_predictions_give(family: Any) -> None:
    crystals = {"NiO": rock_salt(4.177, "Ni", "O"), "MgO": rock_salt(4.212, "Mg", "O"), "FeO": rock_salt(4.31, "Fe", "O")}
    model = family.get_model("forward", "EXAFS")
    outputs, process = predict_batch.run_get_node(structures=structures_node(crystals), absorber="O", kind="EXAFS", model=model)
    assert process.is_finished_ok, process.exit_message
    rows = outputs["table"].read().to_pylist()
    assert [(row["id"], row["absorber"], row["multiplicity"], row["row"]) for row in rows] == [
        (name, "O", 4, i) for i, name in enumerate(crystals)
    ]
    assert rows[1]["hash"] == structure_hash(crystals["MgO"])
    single = predict_spectra(structure=StructureData(pymatgen=crystals["MgO"]), sites=[rows[1]["site"]], kind="EXAFS", model=model)
    ((name, spectrum),) = single["spectra"].items()
    arrays = outputs["spectra"]
    np.testing.assert_allclose(arrays.get_array("mu")[1], spectrum.mu, atol=1e-5)
    np.testing.assert_allclose(rows[1]["e0"] + arrays.get_array("grid"), spectrum.energy)
    np.testing.assert_allclose(arrays.get_array("half_band")[1], np.diff(spectrum.band)[:, 0] / 2, atol=1e-5)
    said = single["answer"][name]
    for key in ("needs_reference", "in_domain"):
        assert rows[1][key] == said[key]
    for key in ("threshold", "uncertainty", "error_bound", "domain_score"):
        assert rows[1][key] == pytest.approx(said[key], rel=1e-2)


def test_a_batch_loses_no_crystal(family: Any, tmp_path: Path) -> None:
    crystals: dict[str, Any] = {
        "LiF": rock_salt(4.026, "Li", "F"),
        "broken": Structure(Lattice.cubic(4.0), ["Ni", "O"], [[0, 0, 0], [0.05, 0, 0]]),
        "NiO": rock_salt(4.177, "Ni", "O"),
        "unread.cif": "unread.cif cannot be read; give a CIF.",
    }
    inputs = {"structures": structures_node(crystals), "absorber": "Ni", "kind": "EXAFS", "model": family.get_model("forward", "EXAFS")}
    outputs = predict_batch(**inputs)
    rows = outputs["table"].read().to_pylist()
    assert [(row["id"], row["row"], row["method"]) for row in rows] == [
        ("LiF", None, None), ("broken", None, None), ("NiO", 0, "ml"), ("unread.cif", None, None),
    ]  # fmt: skip
    for row, words in zip(rows, ("Ni is not in the structure (LiF)", "apart", "threshold", "cannot be read"), strict=True):
        assert words in row["reason"]
    attributes = outputs["table"].base.attributes.all
    assert (attributes["n_rows"], attributes["n_structures"], attributes["n_spectra"], attributes["n_refused"]) == (4, 4, 1, 3)
    assert (attributes["absorbers"], attributes["methods"], attributes["kind"]) == (["Ni"], {"ml": 1}, "EXAFS")
    # With features that are kept, and read again, the numbers are the same to the last bit.
    for _ in range(2):
        with using(cache=tmp_path / "cache.sqlite"):
            again = predict_batch(**inputs)
        assert again["table"].content == outputs["table"].content
        for name in ("grid", "mu", "half_band"):
            np.testing.assert_array_equal(again["spectra"].get_array(name), outputs["spectra"].get_array(name))


def test_a_batch_of_an_unusable_file_fails(family: Any) -> None:
    model = family.get_model("forward", "EXAFS")
    _, process = predict_batch.run_get_node(structures=SinglefileData(GOETHITE), absorber="Ni", kind="EXAFS", model=model)
    assert process.exit_status == 310
    assert "structures_node" in process.exit_message
    good = structures_node({"NiO": rock_salt(4.177, "Ni", "O")})
    _, process = predict_batch.run_get_node(structures=good, absorber="Ni", kind="XANES", model=model)
    assert process.exit_status == 310
    assert "no forward-XANES model" in process.exit_message


def test_the_same_crystals_make_the_same_node() -> None:
    crystals = {"NiO": rock_salt(4.177, "Ni", "O")}
    first, second = structures_node(crystals).store(), structures_node(crystals).store()
    assert first.base.caching.get_hash() == second.base.caching.get_hash()
    ((name, back),) = read_structures(first)
    assert name == "NiO"
    assert back.matches(crystals["NiO"])


def test_inference_versions_are_checked(family: Any, spectrum: Any) -> None:
    models = {task: family.get_model(task, "XANES") for task in ("neighbours", "distance")}
    node = SpectrumData.from_engine(spectrum)
    _, process = infer_local_structure.run_get_node(spectrum=node, kind="XANES", algorithm_version="old", **models)
    assert process.exit_status == 310
    assert "'old' was asked for" in process.exit_message


@pytest.mark.parametrize("sites", [[1.7], [True], ["0"], [], [[0]]])
def test_only_indices_are_sites(family: Any, sites: list[Any]) -> None:
    structure, model = StructureData(pymatgen=rock_salt(4.21, "Mg", "O")), family.get_model("forward", "XANES")
    _, process = predict_spectra.run_get_node(structure=structure, sites=List(sites), kind="XANES", model=model)
    assert process.exit_status == 310
    assert "give whole numbers from 0 on" in process.exit_message


def test_both_kinds_need_models_of_both(family: Any, spectrum: Any) -> None:
    models = {task: family.get_model(task, "EXAFS") for task in ("neighbours", "distance")}
    _, process = infer_local_structure.run_get_node(spectrum=SpectrumData.from_engine(spectrum), kind="both", **models)
    assert process.exit_status == 310
    assert "give neighbours_xanes and distance_xanes" in process.exit_message


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"training": 5}, "training must be a mapping"),
        ({"training_of": {"forward-XANES": 5}}, "training_of.forward-XANES must be a mapping"),
        ({"epochs": 1}, "unknown key epochs"),
    ],
)
def test_a_training_is_refused_in_a_sentence(make_dataset: Any, tmp_path: Path, config: dict[str, Any], words: str) -> None:
    make_dataset(n=40).save(tmp_path / "set.h5")
    _, process = train_family.run_get_node(dataset=DatasetData.from_file(tmp_path / "set.h5"), config=Dict(config))
    assert process.exit_status == 310
    assert words in process.exit_message


def test_combining_keeps_who_answered_and_why(ml_spectrum: Any) -> None:
    node = SpectrumData.from_engine(ml_spectrum)
    sites = {
        "site_0": {"method": "ml", "multiplicity": 3, "reason": "sure.", "flagged": False},
        "site_3": {"method": "ml", "multiplicity": 1, "reason": "unsure.", "flagged": True},
    }
    said = {name: {"uncertainty": value, "threshold": 0.5} for name, value in (("site_0", 0.1), ("site_3", 0.9))}
    outputs = combine_answers(decision=Dict({"sites": sites, "fallback": "on"}), model_answer=Dict(said), site_0=node, site_3=node)
    answer = outputs["answer"].get_dict()
    assert answer["uncertainty"] == pytest.approx(0.3)
    assert answer["reason"] == "site_0: sure. site_3: unsure."
    assert (answer["flagged"], answer["method"], answer["fallback"], answer["threshold"]) == (["site_3"], "ml", "on", 0.5)
    assert outputs["spectrum"].multiplicity == 4

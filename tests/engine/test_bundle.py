"""What a family answers, and what it refuses to be asked."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from aiida_xastruct.engine.answers import merge_inverse
from aiida_xastruct.engine.bundle import FamilyBundle, ModelBundle
from aiida_xastruct.engine.errors import ModelError, SpectrumError, StructureError
from aiida_xastruct.engine.sevennet import SevenNetFeatures
from aiida_xastruct.engine.spectrum import XANES_GRID, Spectrum, tabulated_edge


@pytest.fixture(scope="module")
def family(tiny_family):
    return FamilyBundle.load(tiny_family[0])


@pytest.fixture(scope="module")
def table(tiny_family):
    return tiny_family[1].tables["XANES"]


def spectrum_of(table, row, element):
    """The curve of a row as a flat spectrum at absolute energies."""
    e0 = tabulated_edge(element, "K")
    return Spectrum(e0 + XANES_GRID, table.curve[row], element, "K", "XANES", "ml", "feff", "flat", None, e0)


@pytest.fixture
def copy(tiny_family, tmp_path):
    """A family of one's own to damage."""
    folder = tmp_path / "family"
    shutil.copytree(tiny_family[0], folder)
    return folder


# ---------------------------------------------------------------- loading


def test_names_and_hash(family, copy):
    assert family.labels == ["distance-XANES", "forward-XANES", "neighbours-XANES"]
    other = FamilyBundle.load(copy)
    assert other.content_hash == family.content_hash  # the folder's name does not count
    (copy / "family.json").write_text((copy / "family.json").read_text() + " ")
    assert FamilyBundle.load(copy).content_hash != family.content_hash


def test_a_model_is_read_once(family):
    assert family.model("forward", "XANES") is family.model("forward", "XANES")


def test_a_missing_model_is_named(family, refused):
    with refused(ModelError, "no forward-EXAFS model", "it has distance-XANES, forward-XANES, neighbours-XANES"):
        family.model("forward", "EXAFS")


@pytest.mark.parametrize("content", [None, "", "{", "[1"])
def test_what_is_no_family_is_refused(tmp_path, refused, content):
    if content is not None:
        (tmp_path / "family.json").write_text(content)
    with refused(ModelError, "does not hold a model family"):
        FamilyBundle.load(tmp_path)


@pytest.mark.parametrize("task", ["forward", "neighbours", "distance"])
def test_another_algorithm_version_is_refused(copy, refused, task):
    card = copy / f"{task}-XANES" / "card.json"
    content = json.loads(card.read_text())
    card.write_text(json.dumps({**content, "algorithm_version": "0"}))
    with refused(ModelError, "algorithm 0", "train it again"):
        FamilyBundle.load(copy).model(task, "XANES")


def test_other_sevennet_weights_are_refused(copy, refused):
    card = copy / "forward-XANES" / "card.json"
    content = json.loads(card.read_text())
    card.write_text(json.dumps({**content, "features": "0" * 64}))
    with refused(ModelError, "other SevenNet weights"):
        FamilyBundle.load(copy).model("forward", "XANES")


@pytest.mark.parametrize(
    "harm",
    [
        "no card",
        "empty card",
        "card is a list",
        "unknown task",
        "no sites",
        "no calibration",
        "calibration of another version",
        "weights cut",
        "no domain",
    ],
)
def test_damaged_models_are_refused(copy, refused, harm):
    folder = copy / "distance-XANES"
    card = folder / "card.json"
    content = json.loads(card.read_text())
    if harm == "no card":
        card.unlink()
    elif harm == "empty card":
        card.write_text("")
    elif harm == "card is a list":
        card.write_text("[]")
    elif harm == "unknown task":
        card.write_text(json.dumps({**content, "task": "sideways"}))
    elif harm in ("no sites", "no calibration"):
        del content["training_sites" if harm == "no sites" else "calibration"]
        card.write_text(json.dumps(content))
    elif harm == "calibration of another version":
        card.write_text(json.dumps({**content, "calibration": {"factors": [1.0, 1.0, 1.0]}}))
    elif harm == "weights cut":
        weights = folder / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:-10])
    else:
        (folder / "domain.safetensors").unlink()
    with refused(ModelError):
        FamilyBundle.load(copy).model("distance", "XANES")


def test_what_is_saved_answers_the_same(family, table, tmp_path):
    bundle = family.model("forward", "XANES")
    bundle.save(tmp_path / "forward-XANES")
    found = ModelBundle.load(tmp_path / "forward-XANES")
    before, after = (model.predict_from_features(table.features[:4], ["Fe", "Cu", "Fe", "Cu"]) for model in (bundle, found))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.spectrum.mu, other.spectrum.mu)
        np.testing.assert_array_equal(one.band, other.band)
        assert (one.uncertainty, one.reason) == (other.uncertainty, other.reason)


# ---------------------------------------------------------------- forward


def test_a_prediction_is_a_spectrum_with_a_band(family, table):
    (answer,) = family.model("forward", "XANES").predict_from_features(table.features[:1], ["Fe"])
    spectrum = answer.spectrum
    assert (spectrum.absorber, spectrum.edge, spectrum.kind, spectrum.method) == ("Fe", "K", "XANES", "ml")
    assert (spectrum.normalisation, spectrum.energy_reference) == ("flat", "feff")
    assert spectrum.e0 == pytest.approx(tabulated_edge("Fe", "K") + 15.0, abs=0.01)  # where FEFF puts it in the training set
    np.testing.assert_allclose(spectrum.energy - spectrum.e0, XANES_GRID, atol=1e-6)
    assert answer.band.shape == (137, 2)
    assert (answer.band[:, 0] < spectrum.mu).all()
    assert (spectrum.mu < answer.band[:, 1]).all()
    assert answer.uncertainty > 0


def test_bands_hold_about_90_percent_of_new_spectra(family, tiny_family):
    """The report part of the training set: nothing in the model has seen it."""
    dataset = tiny_family[1]
    part = dataset.tables["XANES"].take(dataset.parts("XANES")["report"])
    elements = [{26: "Fe", 29: "Cu"}[z] for z in part.absorber]
    answers = family.model("forward", "XANES").predict_from_features(part.features, elements)
    inside = [
        ((answer.band[:, 0] <= truth) & (truth <= answer.band[:, 1])).all() for answer, truth in zip(answers, part.target, strict=True)
    ]
    assert len(part) > 15
    assert np.mean(inside) > 0.7


def test_promises_are_those_of_the_card(copy, table):
    """Nothing about coverage is written into the answers: another calibration, another promise."""
    for task, changes in (("forward", {"coverage": 0.7, "bound": 3.0}), ("distance", {"coverage": 0.7}), ("neighbours", {"coverage": 0.6})):
        card = copy / f"{task}-XANES" / "card.json"
        content = json.loads(card.read_text())
        content["calibration"] |= changes
        card.write_text(json.dumps(content))
    family = FamilyBundle.load(copy)
    (spectrum,) = family.model("forward", "XANES").predict_from_features(table.features[:1], ["Fe"])
    assert spectrum.coverage == 0.7
    assert spectrum.error_bound == pytest.approx(3.0 * spectrum.uncertainty)
    assert family.infer(spectrum_of(table, 0, "Fe")).coverage == 0.6


def test_feff_is_asked_for_where_the_model_is_unsure_or_outside(copy, table):
    """One decision, two causes, and the reason names the one that applies."""
    elements = ["Fe", "Cu"]
    card = copy / "forward-XANES" / "card.json"
    content = json.loads(card.read_text())
    features = table.features[:2].copy()
    for threshold, word in ((1e9, "is within"), (1e-9, "exceeds")):
        content["calibration"]["threshold"] = threshold
        card.write_text(json.dumps(content))
        for answer in FamilyBundle.load(copy).model("forward", "XANES").predict_from_features(features, elements):
            assert answer.needs_reference is (word == "exceeds" or not answer.in_domain)
            assert word in answer.reason
            assert answer.threshold == threshold
    content["calibration"]["threshold"] = 1e9
    card.write_text(json.dumps(content))
    features[:, : SevenNetFeatures.size] *= 100.0
    far = FamilyBundle.load(copy).model("forward", "XANES").predict_from_features(features, elements)[0]
    assert far.domain_score > 1.0
    assert not far.in_domain
    assert far.needs_reference
    assert "outside the domain: it lies" in far.reason


def test_an_absorber_that_was_not_trained_on_goes_to_feff(family, crystal):
    answers = family.predict(crystal("NaCl"), [0, 4], "XANES")
    assert [answer.spectrum.absorber for answer in answers] == ["Na", "Cl"]
    for answer in answers:
        assert answer.needs_reference
        assert "the model saw 0 spectra of this absorber" in answer.reason


def test_a_structure_in_two_cells_gives_one_spectrum(family, crystal):
    copper = crystal("Cu")
    one, other = (family.predict(cell, [0], "XANES")[0] for cell in (copper, copper.get_primitive_structure()))
    np.testing.assert_allclose(one.spectrum.mu, other.spectrum.mu, atol=1e-3)
    assert one.uncertainty == pytest.approx(other.uncertainty, rel=1e-2)


def test_bad_structures_and_sites_are_refused(family, crystal, refused):
    from pymatgen.core import Lattice, Structure

    with refused(StructureError, "disordered"):
        family.predict(Structure(Lattice.cubic(4.0), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]]), [0], "XANES")
    with refused(StructureError, "site 9 does not exist"):
        family.predict(crystal("Cu"), [9], "XANES")


def test_no_sites_no_answers(family, crystal):
    assert family.predict(crystal("Cu"), [], "XANES") == []


# ---------------------------------------------------------------- inverse


def test_an_inference_is_whole(family, table):
    answer = family.infer(spectrum_of(table, 0, "Fe"))
    assert answer.neighbours
    assert list(answer.neighbours.values()) == sorted(answer.neighbours.values(), reverse=True)
    assert all(0.01 <= value <= 1 for value in answer.neighbours.values())
    assert answer.neighbour_set
    assert answer.conformal_set
    assert answer.interval[0] < answer.mean_distance < answer.interval[1]
    assert 1.0 < answer.nearest_distance < 4.0
    assert answer.coordination > 1
    assert answer.reason


def test_the_gain_of_a_detector_changes_nothing(family):
    """Raw data are normalised before any model sees them."""
    energy = np.linspace(7000.0, 7400.0, 801)
    mu = 0.3 + 1.2 * (0.5 + np.arctan((energy - 7120.0) / 2.0) / np.pi + 0.3 * np.exp(-(((energy - 7126.0) / 4.0) ** 2)))
    one = Spectrum(energy, mu, "Fe", "K", "XANES")
    other = replace(one, mu=7.0 * mu + 2.0)
    first, second = family.infer(one), family.infer(other)
    assert first.mean_distance == pytest.approx(second.mean_distance, abs=1e-3)
    assert first.neighbour_set == second.neighbour_set


def test_elements_that_are_not_in_the_sample_get_nothing(family, table):
    spectrum = spectrum_of(table, 0, "Fe")
    free = family.infer(spectrum)
    (likely, *_), present = free.neighbours, ["Fe", "S"]
    assert likely not in present
    bound = family.infer(spectrum, present)
    assert set(bound.neighbours) <= set(present)
    assert set(bound.neighbour_set) <= set(present)
    assert set(bound.conformal_set) <= set(present)
    assert bound.neighbour_set
    assert bound.mean_distance == free.mean_distance


@pytest.mark.parametrize("present", [[], ["Xx"]])
def test_elements_present_must_be_elements(family, table, refused, present):
    with refused(SpectrumError):
        family.infer(spectrum_of(table, 0, "Fe"), present)


def test_spectra_of_another_kind_or_edge_are_refused(family, table, refused):
    spectrum = spectrum_of(table, 0, "Fe")
    with refused(ModelError, "no neighbours-EXAFS model"):
        family.infer(replace(spectrum, kind="EXAFS"))
    with refused(SpectrumError, "choose the other model"):
        family.model("distance", "XANES").distances([replace(spectrum, kind="EXAFS")])
    with refused(SpectrumError, "the K edge of Fe, not its L3 edge"):
        energy = spectrum.energy - spectrum.energy[0] + 700.0
        family.model("distance", "XANES").distances([replace(spectrum, energy=energy, edge="L3", e0=710.0)])


def test_a_spectrum_that_covers_too_little_is_refused(family, table, refused):
    whole = spectrum_of(table, 0, "Fe")
    keep = whole.energy < whole.e0 + 1.0
    with refused(SpectrumError, "covers too little"):
        family.infer(replace(whole, energy=whole.energy[keep], mu=whole.mu[keep]))


def test_a_question_for_another_model_is_refused(family, table, refused):
    spectrum = spectrum_of(table, 0, "Fe")
    with refused(ModelError, "asked a neighbours question"):
        family.model("distance", "XANES").neighbours([spectrum])
    with refused(ModelError, "asked a distance question"):
        family.model("forward", "XANES").distances([spectrum])
    with refused(ModelError, "asked a forward question"):
        family.model("distance", "XANES").predict_from_features(table.features[:1], ["Fe"])


def test_a_batch_gives_what_single_spectra_give(family, table):
    spectra = [spectrum_of(table, row, element) for row, element in ((0, "Fe"), (1, "Cu"), (2, "Fe"))]
    bundle = family.model("distance", "XANES")
    together = bundle.distances(spectra)
    for spectrum, answer in zip(spectra, together, strict=True):
        alone = bundle.distances([spectrum])[0]
        assert alone.mean_distance == pytest.approx(answer.mean_distance, abs=1e-5)
        assert alone.reason == answer.reason


def test_noise_is_out_of_the_domain(family, table):
    noise = np.random.default_rng(0).normal(0.0, 3.0, 137)
    answer = family.infer(replace(spectrum_of(table, 0, "Fe"), mu=noise))
    assert not answer.in_domain
    assert "outside the domain" in answer.reason


def test_an_answer_is_in_the_domain_only_if_both_models_say_so(family, table):
    spectrum = spectrum_of(table, 0, "Fe")
    near = family.model("neighbours", "XANES").neighbours([spectrum])[0]
    far = family.model("distance", "XANES").distances([spectrum])[0]
    for one, other in ((True, True), (True, False), (False, True)):
        merged = merge_inverse(replace(near, in_domain=one, reason="near"), replace(far, in_domain=other, reason="far", coverage=0.8))
        assert merged.in_domain is (one and other)
        assert merged.coverage == 0.8  # of the less sure
        assert (merged.neighbour_set, merged.interval) == (near.neighbour_set, far.interval)
        assert merged.reason == ("near" if not one else "far")


def test_answers_need_no_gradients(family, table):
    """A family that is asked a million times must not keep the graph of every answer."""
    bundle = family.model("distance", "XANES")
    said = bundle.ensemble(bundle.task.inputs(bundle.task.source(table.take(np.arange(3)))), torch.as_tensor(table.absorber[:3]))
    assert not said.value.requires_grad

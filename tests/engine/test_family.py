"""A family from a dataset, end to end: what is written, what the cards say, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from aiida_xastruct.engine import ALGORITHM_VERSION
from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.configuration import FamilyConfig
from aiida_xastruct.engine.content import hash_file
from aiida_xastruct.engine.crystals import Crystals
from aiida_xastruct.engine.dataset import part_of
from aiida_xastruct.engine.errors import DatasetError, ModelError, XastructError
from aiida_xastruct.engine.family import make_family
from aiida_xastruct.engine.models.calibration import NeighbourCalibration
from aiida_xastruct.engine.paths import PATHS_SIZE

LABELS = ["distance-XANES", "forward-XANES", "neighbours-XANES"]


def test_what_is_written(tiny_family):
    folder, dataset, card, said = tiny_family
    assert {path.name for path in folder.iterdir()} == {*LABELS, "family.json", "materials.txt"}
    for label in LABELS:
        assert sorted(path.name for path in (folder / label).iterdir()) == ["card.json", "domain.safetensors", "weights.safetensors"]
    written = json.loads((folder / "family.json").read_text())
    assert written["models"] == card["models"] == LABELS
    assert written["name"] == "tiny"
    assert written["training_data_hash"] == dataset.content_hash()
    assert [line.split(":")[0] for line in said] == ["forward-XANES", "neighbours-XANES", "distance-XANES"]


@pytest.mark.parametrize("label", LABELS)
def test_a_card_says_what_a_model_rests_on(tiny_family, label):
    folder, dataset, _, _ = tiny_family
    card = json.loads((folder / label / "card.json").read_text())
    assert f"{card['task']}-{card['kind']}" == label
    assert card["training_data_hash"] == dataset.content_hash()
    assert card["algorithm_version"] == ALGORITHM_VERSION[card["task"]]
    assert card["elements"] == ["Fe", "Cu"]
    assert card["edges"] == ["K"]
    parts = dataset.parts("XANES")
    assert {name: card["split"][name] for name in parts} == {name: int(mask.sum()) for name, mask in parts.items()}
    assert sum(card["training_sites"].values()) == card["split"]["train"]
    assert card["metrics"]["report"]["sites"] == card["split"]["report"]
    assert card["calibration"]["coverage"] == 0.9
    assert card["edge_shift"] == {"Fe": 15.0, "Cu": 15.0}
    assert len(card["training"]["best_select_loss"]) == 2


@pytest.mark.parametrize("label", LABELS)
def test_a_card_has_a_column_for_each_sort_of_material(tiny_family, label):
    """One structure type, which training has seen, and no formula twice."""
    columns = json.loads((tiny_family[0] / label / "card.json").read_text())["metrics"]
    sites = columns["report"]["sites"]
    assert columns["seen_prototype"]["sites"] == columns["new_formula"]["sites"] == sites
    assert "new_prototype" not in columns
    assert not [name for name in columns if name.startswith("block")]  # fewer than 150 sites
    assert columns["report"]["materials_of_known_formula"] == 0
    assert ("computed" in columns) is not label.startswith("forward")


def test_the_report_part_is_seen_by_nothing_but_the_report(make_dataset, tiny_config, tiny_family, tmp_path):
    """Change every report row: the weights, the domain and the calibration stay as they were."""
    folder, dataset, _, _ = tiny_family
    changed = make_dataset()
    report = changed.parts("XANES")["report"]
    for name in ("curve", "wide", "edge_shift", "features"):
        getattr(changed.tables["XANES"], name)[report] *= -3.0
    make_family(changed, FamilyConfig(**{**vars(tiny_config), "tasks": ("forward-XANES",)}), tmp_path)
    for name in ("weights.safetensors", "domain.safetensors"):
        assert hash_file(tmp_path / "forward-XANES" / name) == hash_file(folder / "forward-XANES" / name), name
    before, after = (json.loads((path / "forward-XANES" / "card.json").read_text()) for path in (folder, tmp_path))
    assert before["calibration"] == after["calibration"]
    assert before["edge_shift_by_engine"] == after["edge_shift_by_engine"]
    assert before["metrics"] != after["metrics"]
    assert before["training_data_hash"] != after["training_data_hash"] == changed.content_hash()
    assert dataset.content_hash() == before["training_data_hash"]


def test_exafs_models_are_made_and_answer(make_dataset, tiny_config, tmp_path):
    dataset = make_dataset(kinds=("EXAFS",))
    card = make_family(dataset, FamilyConfig(**{**vars(tiny_config), "tasks": ("forward-EXAFS",)}), tmp_path)
    assert card["models"] == ["forward-EXAFS"]
    features = dataset.tables["EXAFS"].features[:3]
    answers = FamilyBundle.load(tmp_path).model("forward", "EXAFS").predict_from_features(features, ["Fe", "Cu", "Fe"])
    assert [answer.spectrum.absorber for answer in answers] == ["Fe", "Cu", "Fe"]
    assert all(answer.spectrum.kind == "EXAFS" and len(answer.spectrum) == 261 for answer in answers)


def test_a_task_without_spectra_is_refused(make_dataset, tiny_config, tmp_path, refused):
    with refused(DatasetError, "no EXAFS spectra", "forward-EXAFS"):
        make_family(make_dataset(n=40), FamilyConfig(**{**vars(tiny_config), "tasks": ("forward-EXAFS",)}), tmp_path)


@pytest.mark.parametrize("label", ["backward-XANES", "shell-XANES", "forward-XES"])
def test_an_unknown_task_is_refused(make_dataset, tiny_config, tmp_path, refused, label):
    with refused(ModelError, "is no task"):
        make_family(make_dataset(n=40), FamilyConfig(**{**vars(tiny_config), "tasks": (label,)}), tmp_path)


def test_inverse_exafs_learns_from_crystals_of_the_training_part_too(make_dataset, tiny_config, tmp_path):
    """Simulated spectra of crystals change the weights; those of crystals of other parts do not."""
    dataset = make_dataset(kinds=("EXAFS",))
    table = dataset.tables["EXAFS"]
    hashes = {}
    for name in ("none", "train", "report"):
        crystals = None
        if name != "none":
            groups = [f"Fe{i}Al" for i in range(1000) if part_of(f"Fe{i}Al|AB-225", 0) == name][:20]
            materials = [{"source": "npz", "source_id": f, "formula": f, "space_group": 225, "prototype": "AB-225"} for f in groups]
            rows = np.arange(20)
            crystals = Crystals(
                materials,
                rows,
                rows,
                table.absorber[rows],
                table.shell[rows],
                table.mean_distance[rows],
                table.nearest_distance[rows],
                table.features[rows, -PATHS_SIZE:],
            )
        tasks = ("forward-EXAFS", "distance-EXAFS", "neighbours-EXAFS")
        card = make_family(dataset, FamilyConfig(**{**vars(tiny_config), "tasks": tasks}), tmp_path / name, crystals=crystals)
        assert card["crystals_hash"] == (crystals.content_hash() if crystals is not None else "")
        hashes[name] = {label: hash_file(tmp_path / name / label / "weights.safetensors") for label in tasks}
        listed = (tmp_path / name / "materials.txt").read_text().splitlines()
        assert len(listed) == len(dataset.materials) + (0 if crystals is None else 20)
    assert hashes["none"] == hashes["report"]
    assert hashes["none"]["forward-EXAFS"] == hashes["train"]["forward-EXAFS"]
    assert hashes["none"]["distance-EXAFS"] != hashes["train"]["distance-EXAFS"]
    assert hashes["none"]["neighbours-EXAFS"] != hashes["train"]["neighbours-EXAFS"]


def test_kept_networks_are_calibrated_anew_on_a_dataset_that_grew(make_dataset, tiny_config, tiny_family, tmp_path, refused):
    folder, dataset, _, _ = tiny_family
    shutil.copytree(folder, tmp_path / "family")
    # What the kept networks have seen stays told, crystals without spectra among it.
    (tmp_path / "family" / "materials.txt").write_text("npz mp-1 Cs 229\n")
    card = json.loads((folder / "family.json").read_text()) | {"crystals_hash": "c" * 64}
    (tmp_path / "family" / "family.json").write_text(json.dumps(card))
    grown = make_dataset(n=300)
    config = FamilyConfig(**{**vars(tiny_config), "tasks": ("forward-XANES", "distance-XANES")})
    make_family(grown, config, tmp_path / "family", keep=("forward-XANES", "distance-XANES"))
    listed = (tmp_path / "family" / "materials.txt").read_text().splitlines()
    assert len(listed) == len(set(listed)) == len(grown.materials) + 1
    assert "npz mp-1 Cs 229" in listed
    assert json.loads((tmp_path / "family" / "family.json").read_text())["crystals_hash"] == "c" * 64
    for label in ("forward-XANES", "distance-XANES"):
        before, after = (json.loads((path / label / "card.json").read_text()) for path in (folder, tmp_path / "family"))
        assert hash_file(tmp_path / "family" / label / "weights.safetensors") == hash_file(folder / label / "weights.safetensors")
        assert after["training_data_hash"] == before["training_data_hash"] == dataset.content_hash()
        assert after["training_sites"] == before["training_sites"]
        assert after["calibration_data_hash"] == grown.content_hash()
        assert after["metrics"]["report"]["sites"] == int(grown.parts("XANES")["report"].sum()) > before["metrics"]["report"]["sites"]
        assert after["calibration"] != before["calibration"]
    with refused(DatasetError, "split 0, not 1"):
        make_family(grown, FamilyConfig(**{**vars(config), "split_seed": 1}), tmp_path / "family", keep=("forward-XANES",))
    with refused(ModelError, "no model to keep"):
        make_family(grown, config, tmp_path / "empty", keep=("forward-XANES",))
    with refused(DatasetError, "none of the tasks"):
        make_family(grown, config, tmp_path / "family", keep=("forward-EXAFS",))
    card = tmp_path / "family" / "forward-XANES" / "card.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"algorithm_version": "3"}))
    with refused(ModelError, "was made for algorithm 3 of the engine"):
        make_family(grown, config, tmp_path / "family", keep=("forward-XANES",))


def test_named_elements_are_chosen_on_several_draws(tiny_family, tiny_config, tmp_path, monkeypatch):
    """Each row of probabilities beside the truth of its own site, and as many sites to count an element as one draw would need."""
    folder, dataset, _, _ = tiny_family
    label = "neighbours-XANES"
    shutil.copytree(folder / label, tmp_path / label)
    asked = []
    fit = NeighbourCalibration.fit
    monkeypatch.setattr(NeighbourCalibration, "fit", lambda *given: asked.append(given) or fit(*given))
    make_family(dataset, replace(tiny_config, tasks=(label,), training_of={}), tmp_path, keep=(label,))
    select = dataset.split("XANES", tiny_config.split_seed)["select"]
    (probability, truth, draws) = next((given[3], given[4], given[7]) for given in asked if len(given) == 8)
    assert draws == 4
    assert len(probability) == 4 * len(select)
    for own in np.split(truth, 4):
        np.testing.assert_array_equal(own, select.neighbours)
    assert len({part.tobytes() for part in np.split(probability, 4)}) == 4


def test_networks_go_on_learning(tiny_config, tiny_family, tmp_path, refused):
    """At a rate of next to nothing they stay what they were, which random ones are not."""
    folder, dataset, _, _ = tiny_family
    labels = ("neighbours-XANES", "distance-XANES")
    (tmp_path / "family").mkdir()
    for label in labels:
        shutil.copytree(folder / label, tmp_path / "family" / label)
    (tmp_path / "family" / "materials.txt").write_text("npz mp-1 Cs 229\n")
    shutil.copy(folder / "family.json", tmp_path / "family")
    training = replace(tiny_config.training, epochs=1, learning_rate=1e-9)
    config = replace(tiny_config, tasks=labels, training=training, training_of={})
    make_family(dataset, config, tmp_path / "family", begin=labels)
    assert "npz mp-1 Cs 229" in (tmp_path / "family" / "materials.txt").read_text()
    for label in labels:
        before, after = (load_file(path / label / "weights.safetensors") for path in (folder, tmp_path / "family"))
        assert set(before) == set(after)
        for name in set(before) - {name for name in before if name.startswith("doubt")}:
            torch.testing.assert_close(after[name], before[name], atol=1e-3, rtol=0.0)
        first, second = (json.loads((path / label / "card.json").read_text())["training"] for path in (folder, tmp_path / "family"))
        assert second["epochs"] == 1
        assert second["before"] == {**first, "training_data_hash": dataset.content_hash()}

    def begin(*labels, **changes):
        make_family(dataset, replace(config, **changes), tmp_path / "family", begin=labels)

    with refused(ModelError, "learned together; begin from both or from neither"):
        begin("distance-XANES")
    with refused(ModelError, "they must agree"):
        begin(*labels, architecture=replace(config.architecture, width=8))
    with refused(DatasetError, "split 0, not 1; begin from another"):
        begin(*labels, split_seed=1)
    with refused(ModelError, "has 2 networks to begin from, not 3"):
        begin(*labels, training=replace(training, members=3))
    with refused(ModelError, "no model to begin from"):
        make_family(dataset, config, tmp_path / "empty", begin=labels)
    with refused(DatasetError, "none of the tasks"):
        begin("forward-XANES")
    with refused(DatasetError, "both to be kept and to go on"):
        make_family(dataset, config, tmp_path / "family", begin=labels, keep=labels)
    shutil.rmtree(tmp_path / "family" / "distance-XANES")
    make_family(dataset, replace(config, training=replace(training, learning_rate=1e-2)), tmp_path / "other")
    shutil.copytree(tmp_path / "other" / "distance-XANES", tmp_path / "family" / "distance-XANES")
    with refused(ModelError, "were not learned together"):
        begin(*labels)
    card = tmp_path / "family" / "neighbours-XANES" / "card.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"algorithm_version": "0"}))
    with refused(ModelError, "was made for algorithm 0 of the engine"):
        begin(*labels)


# ---------------------------------------------------------------- the configuration


def test_a_configuration_is_read():
    config = FamilyConfig.from_dict(
        {"name": "mine", "tasks": ["forward-XANES"], "architecture": {"width": 32}, "training": {"epochs": 7}, "split_seed": 5}
    )
    assert (config.name, config.tasks, config.split_seed) == ("mine", ("forward-XANES",), 5)
    assert (config.architecture.width, config.architecture.depth) == (32, 2)
    assert (config.training.epochs, config.training.members) == (7, 4)
    assert FamilyConfig.from_dict({}) == FamilyConfig()
    assert FamilyConfig.from_dict({"version": 2}).version == "2"
    assert FamilyConfig.from_dict({"architecture": {"dropout": 0}}).architecture.dropout == 0
    own = {"training": {"weight_decay": 0}, "training_of": {"forward-XANES": {"weight_decay": 0.02}}}
    assert FamilyConfig.from_dict(own).options("forward-XANES").weight_decay == 0.02
    assert isinstance(FamilyConfig.from_dict(own).training.weight_decay, float)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"epochs": 3}, "unknown key epochs"),
        ({"training": {"epoch": 3}}, "unknown key training.epoch"),
        ({"architecture": {"layers": 3}}, "unknown key architecture.layers"),
        ({"training": 3}, "training must be a mapping"),
        (["name"], "must be a mapping"),
        ({"training": {"epochs": "many"}}, "training.epochs"),
        ({"training": {"epochs": 0}}, "training.epochs"),
        ({"architecture": {"width": -16}}, "architecture.width"),
        ({"training": {"learning_rate": "2e-3"}}, "2.0e-3"),  # what YAML 1.1 makes of 2e-3
        ({"training": {"progress": "no"}}, "true or false"),
        ({"split_seed": 1.5}, "split_seed"),
        ({"tasks": "forward-XANES"}, "give a list"),
    ],
)
def test_mistakes_in_a_configuration_are_named(refused, data, words):
    with refused(XastructError, words):
        FamilyConfig.from_dict(data)

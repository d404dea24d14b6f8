"""The family that ships: complete, readable without a network, small, and innocent of the exam."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from aiida_xastruct.engine.bundle import DEFAULT_FAMILY, FamilyBundle
from aiida_xastruct.engine.dataset import Holdout
from aiida_xastruct.engine.family import MATERIALS

SHARED = Path(__file__).parents[2] / "shared" / "data"

LABELS = {f"{task}-{kind}" for task in ("forward", "neighbours", "distance") for kind in ("XANES", "EXAFS")}


def seen_materials() -> list[tuple[str, str, str, int]]:
    rows = [line.split() for line in (DEFAULT_FAMILY / MATERIALS).read_text().splitlines()]
    return [(source, source_id, formula, int(number)) for source, source_id, formula, number in rows]


def test_all_models_load_without_a_network(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a model reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    family = FamilyBundle.load("default")
    assert set(family.labels) == LABELS
    for label in LABELS:
        task, kind = label.split("-")
        card = family.model(task, kind).card
        assert card.get("calibration_data_hash", card["training_data_hash"]) == family.card["training_data_hash"]


def test_weights_fit_into_a_wheel():
    size = sum(path.stat().st_size for path in DEFAULT_FAMILY.parent.rglob("*") if path.is_file())
    assert size <= 30e6


def test_every_model_beats_what_the_absorber_alone_tells():
    better_when_lower = {"forward": "mse", "distance": "mae"}
    for label in LABELS:
        metrics = json.loads((DEFAULT_FAMILY / label / "card.json").read_text())["metrics"]["report"]
        task = label.split("-")[0]
        if task in better_when_lower:
            name = better_when_lower[task]
            assert metrics[name] < metrics[f"baseline_{name}"], label
        else:
            assert metrics["macro_f1"] > metrics["baseline_macro_f1"], label


@pytest.mark.skipif(not SHARED.is_dir(), reason="the list of held-out materials lies in ../shared/data")
def test_no_held_out_material_was_seen():
    holdout = Holdout.read(SHARED)
    materials = seen_materials()
    assert len(materials) > 5000
    assert [material for material in materials if holdout.excludes(*material)] == []


@pytest.mark.skipif(not SHARED.is_dir(), reason="the list of held-out materials lies in ../shared/data")
def test_the_check_sees_a_planted_twin():
    holdout = Holdout.read(SHARED)
    formula, number = sorted(holdout.twins)[0]
    held_out = sorted(holdout.ids)[0]
    assert holdout.excludes("amcsd", "1", formula, number)
    assert not holdout.excludes("omnixas_feff", "mp-0", formula, number)
    assert holdout.excludes("omnixas_feff", held_out, "X", 1)

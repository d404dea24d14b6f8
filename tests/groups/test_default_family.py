"""The family that ships with the package: installed once, by content, and loaded by the engine from its nodes."""

from __future__ import annotations

import pytest
from aiida.orm import QueryBuilder

from aiida_xastruct.data.model import ModelData
from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.content import content_hash
from aiida_xastruct.groups.family import SHIPPED, ModelFamily, load_default_family

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")


def test_first_use_installs_and_second_finds():
    family = load_default_family()
    assert load_default_family().uuid == family.uuid
    assert QueryBuilder().append(ModelFamily).count() == 1
    assert QueryBuilder().append(ModelData).count() == len(family.models)
    assert family.label.endswith(content_hash(SHIPPED)[:8])


def test_both_questions_have_a_model():
    family = load_default_family()
    for task in ("forward", "neighbours", "distance"):
        for kind in ("XANES", "EXAFS"):
            model = family.get_model(task, kind)
            assert len(model.elements) > 60
            assert model.metrics


def test_engine_loads_what_the_nodes_hold():
    with load_default_family().as_folder() as folder:
        assert content_hash(folder) == content_hash(SHIPPED)
        bundle = FamilyBundle.load(folder)
        assert bundle.content_hash == FamilyBundle.load("default").content_hash
        for label in bundle.labels:
            task, _, kind = label.partition("-")
            assert bundle.model(task, kind).task.label == label

from __future__ import annotations

import json

import pytest
from aiida.common.exceptions import ValidationError
from aiida.orm import load_node

from aiida_xastruct.data.model import ModelData
from aiida_xastruct.engine.content import content_hash
from aiida_xastruct.engine.errors import ModelError


def test_attributes_are_the_cards(model_folder):
    node = load_node(ModelData.from_folder(model_folder).store().pk)
    assert (node.task, node.kind, node.edges, node.elements) == ("forward", "XANES", ["K", "L3"], ["Fe", "Cu"])
    assert node.metrics == {"r2": 0.9}
    assert node.card["note"] == "forward of XANES"
    assert node.content_hash == content_hash(model_folder)
    assert node.name == "forward-XANES"


def test_folder_comes_back(model_folder):
    node = ModelData.from_folder(model_folder).store()
    with node.as_folder() as folder:
        assert content_hash(folder) == node.content_hash
        from safetensors.numpy import load_file

        assert load_file(folder / "weights.safetensors")["weight"].shape == (4, 3)
    assert not folder.exists()


def test_equal_models_have_equal_hashes(tmp_path, write_model):
    one = ModelData.from_folder(write_model(tmp_path / "a", "forward", "XANES"), label="one").store()
    two = ModelData.from_folder(write_model(tmp_path / "b", "forward", "XANES")).store()
    three = ModelData.from_folder(write_model(tmp_path / "c", "forward", "XANES", seed=1)).store()
    assert one.content_hash == two.content_hash != three.content_hash
    assert one.base.caching.compute_hash() == two.base.caching.compute_hash() != three.base.caching.compute_hash()


def test_shared_files_belong_to_the_content(tmp_path, model_folder):
    shared = tmp_path / "grid.json"
    shared.write_text("[1, 2]")
    node = ModelData.from_folder(model_folder, shared={"grid.json": shared}).store()
    assert "shared/grid.json" in node.file_names()
    assert node.content_hash != content_hash(model_folder)


def test_nothing_that_could_be_unpickled_gets_in(model_folder):
    (model_folder / "model.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="may hold code"):
        ModelData.from_folder(model_folder)


@pytest.mark.parametrize("damage", ["cut", "longer", "garbage", "header"])
def test_damaged_weights_are_refused(model_folder, damage):
    path = model_folder / "weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(
        {"cut": content[:-4], "longer": content + b"xx", "garbage": b"hello", "header": content[:8] + b"!" + content[9:]}[damage]
    )
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        ModelData.from_folder(model_folder)


@pytest.mark.parametrize(
    ("card", "message"),
    [(None, "no card"), ("nonsense", "not JSON"), ("[]", "no JSON object"), ("{}", "'task'")],
)
def test_bad_cards_are_refused(model_folder, card, message):
    path = model_folder / "card.json"
    if card is None:
        path.unlink()
    else:
        path.write_text(card)
    with pytest.raises(ModelError, match=message):
        ModelData.from_folder(model_folder)


def test_unknown_task_is_refused(model_folder):
    card = json.loads((model_folder / "card.json").read_text())
    (model_folder / "card.json").write_text(json.dumps(card | {"task": "charge"}))
    with pytest.raises(ModelError, match="charge"):
        ModelData.from_folder(model_folder)


def test_attributes_that_are_not_the_cards_are_refused(model_folder):
    node = ModelData.from_folder(model_folder)
    node.base.attributes.set("elements", ["Au"])
    with pytest.raises(ValidationError, match="elements"):
        node.store()
    with pytest.raises(ValidationError, match="card"):
        ModelData().store()

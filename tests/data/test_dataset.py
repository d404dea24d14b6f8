from __future__ import annotations

import pytest
from aiida.common.exceptions import ValidationError
from aiida.orm import load_node

from aiida_xastruct.data.dataset import DatasetData
from aiida_xastruct.engine.dataset import Dataset
from aiida_xastruct.engine.errors import DatasetError


def test_attributes_follow_from_the_file(dataset_file):
    node = load_node(DatasetData.from_file(dataset_file).store().pk)
    dataset = Dataset.load(dataset_file)
    assert node.content_hash == dataset.content_hash() == node.load().content_hash()
    assert node.n_records == {"EXAFS": 6}
    assert node.n_materials == 4
    assert node.kinds == ["EXAFS"]
    assert node.elements == ["Fe", "Cu", "U"]
    assert node.engines == ["FEFF 8.5L"]
    assert sum(node.split["counts"]["EXAFS"].values()) == 6
    with node.as_path() as path:
        assert path.name == "dataset.h5"


def test_file_name_is_no_part_of_the_hash(tmp_path, dataset_file):
    copy = tmp_path / "other-name.h5"
    copy.write_bytes(dataset_file.read_bytes())
    one, two = DatasetData.from_file(dataset_file).store(), DatasetData.from_file(copy).store()
    assert one.base.caching.compute_hash() == two.base.caching.compute_hash()


def test_what_is_no_dataset_is_refused(tmp_path):
    path = tmp_path / "notes.h5"
    path.write_text("not HDF5")
    with pytest.raises(DatasetError, match="cannot be read"):
        DatasetData.from_file(path)
    with pytest.raises(DatasetError):
        DatasetData.from_file(tmp_path / "missing.h5")


def test_attributes_that_are_not_the_files_are_refused(dataset_file):
    node = DatasetData.from_file(dataset_file)
    node.base.attributes.set("elements", ["Au"])
    with pytest.raises(ValidationError, match="elements"):
        node.store()
    with pytest.raises(ValidationError, match="content_hash"):
        DatasetData(str(dataset_file), filename="dataset.h5").store()
    with pytest.raises(ValidationError, match="named"):
        DatasetData(str(dataset_file)).store()

from __future__ import annotations

import shutil

import numpy as np
import pytest
from aiida.common.exceptions import ValidationError
from aiida.orm import load_node

from aiida_xastruct.data.dataset import DatasetData
from aiida_xastruct.engine.dataset import Dataset
from aiida_xastruct.engine.errors import DatasetError
from aiida_xastruct.engine.reference.library import export, shards
from aiida_xastruct.engine.reference.scattering import _write, make_paths, read_paths
from aiida_xastruct.engine.reference.state import RECORDS, State


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


@pytest.fixture(scope="module")
def library(built, tmp_path_factory):
    """The smallest real library: EXAFS of four sites in one shard."""
    folder = tmp_path_factory.mktemp("library")
    export(built, folder)
    return folder


def test_library_becomes_a_node(library, built, tmp_path):
    seen = []
    cache = tmp_path / "sites.sqlite"
    node = load_node(DatasetData.from_library(library, cache=cache, progress=lambda *step: seen.append(step), label="library").store().pk)
    assert node.n_records == {"EXAFS": 4}
    assert node.n_materials == 2
    assert node.elements == ["O", "Na", "Mg", "Cl"]
    assert node.label == "library"
    assert seen[-1] == (2, 2)
    table = node.load().tables["EXAFS"]
    assert np.isfinite(table.thermal).all()
    assert (table.coordination == 6).all()
    np.testing.assert_allclose(sorted(set(np.round(table.mean_distance, 3))), [2.106, 2.82], atol=1e-3)
    (shard,) = shards(library)
    assert node.source["extras"] == {"shards": [shard.name], "left_out": {}}
    assert "Downs" in node.source["description"]

    # The same sites spread over two shards, three of them twice, are the same training set.
    other = tmp_path / "other"
    part = State(tmp_path / "state")
    part.create()
    for record in list(built.lines(RECORDS))[1:]:
        part.append(RECORDS, record)
    export(part, other)
    shutil.copy(shard, other)
    assert len(shards(other)) == 2
    again = DatasetData.from_library(other, cache=cache)
    assert again.content_hash == node.content_hash
    assert again.n_records == {"EXAFS": 4}


def test_scattering_paths_come_with_the_library(library, tmp_path):
    cache, other = tmp_path / "sites.sqlite", tmp_path / "other"
    bare = DatasetData.from_library(library, cache=cache)
    assert bare.load().paths is None
    shutil.copytree(library, other)
    (written,) = make_paths(other, per_element=1)
    with_paths = DatasetData.from_library(other, cache=cache)
    assert set(with_paths.load().paths.site) == {0, 1, 2, 3}
    assert with_paths.content_hash != bare.content_hash
    assert written.name in with_paths.source["extras"]["shards"]
    # A second shard with the paths of two of the sites adds nothing.
    _write(list(read_paths(other))[:2], other)
    assert DatasetData.from_library(other, cache=cache).content_hash == with_paths.content_hash


def test_crystals_that_read_differently_today_are_left_out(built, tmp_path):
    """Another version of larixite or pymatgen may read a CIF otherwise than the one that the spectrum was computed with."""
    changed = State(tmp_path / "state")
    changed.create()
    for record in built.lines(RECORDS):
        if record["absorber"] == "Cl":
            record = {name: value for name, value in record.items() if name != "structure"} | {"source": "amcsd", "source_id": "3"}
        changed.append(RECORDS, record)
    export(changed, tmp_path / "library")
    node = DatasetData.from_library(tmp_path / "library", cache=tmp_path / "sites.sqlite")
    assert node.n_records == {"EXAFS": 3}
    ((reason, count),) = node.source["extras"]["left_out"].items()
    assert reason.startswith("amcsd 3 now reads differently")
    assert count == 1


def test_library_without_what_is_held_out(library, tmp_path):
    (tmp_path / "holdout_ids.txt").write_text("mp-1\n")
    (tmp_path / "holdout_formulas.txt").write_text("MgO 225\nNaCl 62\n")
    node = DatasetData.from_library(library, tmp_path)
    assert node.elements == ["Na", "Cl"]
    assert node.source["extras"]["left_out"] == {"held out": 2}
    (tmp_path / "holdout_formulas.txt").write_text("MgO 225\nNaCl 225\n")
    with pytest.raises(DatasetError, match="no site of the library"):
        DatasetData.from_library(library, tmp_path)
    with pytest.raises(DatasetError, match="there is no reference library"):
        DatasetData.from_library(tmp_path)
    with pytest.raises(DatasetError, match="held-out"):
        DatasetData.from_library(library, library)

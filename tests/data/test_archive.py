"""Every node type survives an archive: exported, the profile emptied, imported."""

from __future__ import annotations

import numpy as np
from aiida.orm import QueryBuilder, load_node
from aiida.tools.archive import create_archive, import_archive

from aiida_xastruct.data.dataset import DatasetData
from aiida_xastruct.data.model import ModelData
from aiida_xastruct.data.spectrum import SpectrumData
from aiida_xastruct.engine.content import content_hash
from aiida_xastruct.groups.family import ModelFamily


def test_every_node_type_comes_back(tmp_path, aiida_profile_clean, ml_spectrum, dataset_file, model_folder):
    nodes = [
        SpectrumData.from_engine(ml_spectrum, site=0, multiplicity=2, band=np.column_stack([ml_spectrum.mu - 0.1, ml_spectrum.mu + 0.1])),
        DatasetData.from_file(dataset_file),
        ModelData.from_folder(model_folder),
    ]
    before = {}
    for node in nodes:
        node.store()
        before[node.uuid] = (node.base.attributes.all, node.base.repository.hash(), node.base.caching.compute_hash())
    create_archive(nodes, filename=tmp_path / "nodes.aiida")
    aiida_profile_clean.reset_storage()
    assert QueryBuilder().append((SpectrumData, DatasetData, ModelData)).count() == 0
    import_archive(tmp_path / "nodes.aiida")
    for uuid, (attributes, repository, digest) in before.items():
        node = load_node(uuid)
        assert type(node) in (SpectrumData, DatasetData, ModelData)
        assert node.base.attributes.all == attributes
        assert node.base.repository.hash() == repository
        assert node.base.caching.compute_hash() == digest


def test_family_comes_back(tmp_path, aiida_profile_clean, family_folder):
    family = ModelFamily.install(family_folder, "tiny", "A family for tests.")
    create_archive([family], filename=tmp_path / "family.aiida")
    aiida_profile_clean.reset_storage()
    import_archive(tmp_path / "family.aiida", create_group=False)
    found = QueryBuilder().append(ModelFamily).one()[0]
    assert (found.label, found.description) == ("tiny", "A family for tests.")
    assert found.get_model("distance", "EXAFS").task == "distance"
    with found.as_folder() as folder:
        assert content_hash(folder) == content_hash(family_folder) == found.content_hash
    assert ModelFamily.install(family_folder, "tiny").uuid == found.uuid

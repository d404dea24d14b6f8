"""A profile's content goes on in another one: the same answers to queries, and the same numbers from what is computed there.

The first profile is on SQLite always, the second on the store of the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.orm import Group, Node, QueryBuilder, StructureData, load_group, load_node
from aiida.tools.archive import create_archive, import_archive
from pymatgen.core import Lattice, Structure

from aiida_xastruct.data.model import ModelData
from aiida_xastruct.data.spectrum import SpectrumData
from aiida_xastruct.groups.family import ModelFamily, load_default_family
from aiida_xastruct.workflows.predict import PredictWorkChain

pytestmark = pytest.mark.usefixtures("aiida_profile")

#: What a prediction in another profile may differ by.
TOLERANCE = 1e-6


def predict(structure: StructureData, family: ModelFamily) -> tuple[dict[str, np.ndarray], Node]:
    """EXAFS of the first site, by workchain; the values of mu by label, and the node."""
    build = PredictWorkChain.get_builder_from_protocol
    outputs, node = run_get_node(build(structure, sites=[0], kind="EXAFS", fallback="off", family=family.label))
    assert node.is_finished_ok, node.exit_message
    return {name: spectrum.to_engine().mu for name, spectrum in outputs["spectra"].items()}, node


def answers() -> dict[str, Any]:
    """What a profile says about all that it holds, by UUID: nodes with hashes and attributes, links, groups, and found spectra."""
    nodes = QueryBuilder().append(Node).all(flat=True)
    return {
        "nodes": {
            node.uuid: (node.node_type, node.base.caching.compute_hash(), node.base.repository.hash(), node.base.attributes.all)
            for node in nodes
        },
        "links": sorted(
            (node.uuid, link.node.uuid, link.link_type.value, link.link_label)
            for node in nodes
            for link in node.base.links.get_incoming().all()
        ),
        "groups": {group.uuid: sorted(node.uuid for node in group.nodes) for group in QueryBuilder().append(Group).all(flat=True)},
        "spectra": sorted(
            QueryBuilder()
            .append(SpectrumData, filters={"attributes.absorber": "Mg", "attributes.kind": "EXAFS"}, project="uuid")
            .all(flat=True)
        ),
        "forward": sorted(QueryBuilder().append(ModelData, filters={"attributes.task": "forward"}, project="uuid").all(flat=True)),
    }


@pytest.fixture
def profiles(aiida_config: Any, aiida_profile_factory: Any, new_store: Any) -> tuple[Any, Any]:
    """Context managers of two new profiles, each of which is loaded while its context lasts."""
    return aiida_profile_factory(aiida_config), aiida_profile_factory(aiida_config, **new_store())


def test_what_is_exported_answers_and_goes_on_elsewhere(profiles: tuple[Any, Any], tmp_path: Path) -> None:
    archive = tmp_path / "all.aiida"
    rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.212), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    first, second = profiles
    with first:
        family = load_default_family()
        structure = StructureData(pymatgen=rock_salt).store()
        expected, node = predict(structure, family)
        create_archive(None, filename=archive, include_comments=True, include_logs=True)
        before, family_uuid, node_uuid = answers(), family.uuid, node.uuid
    assert before["spectra"]
    assert before["forward"]
    with second:
        assert answers()["nodes"] == {}
        import_archive(archive, create_group=False)
        assert answers() == before
        # What was computed is still what it was computed from.
        imported = load_node(node_uuid)
        assert imported.base.links.get_outgoing(link_type=LinkType.RETURN).all()
        family = load_group(uuid=family_uuid)
        assert isinstance(family, ModelFamily)
        copy = StructureData(pymatgen=rock_salt.copy()).store()
        found, again = predict(copy, family)
        assert again.uuid != node_uuid
    assert set(found) == set(expected)
    for name, mu in expected.items():
        np.testing.assert_allclose(found[name], mu, rtol=0, atol=TOLERANCE)

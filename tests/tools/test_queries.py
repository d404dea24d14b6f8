"""The named questions, asked of what the package's own processes made of one crystal, and of another beside it."""

from __future__ import annotations

from typing import Any

import pytest
from aiida.orm import Group, QueryBuilder, StructureData

from aiida_xastruct.data.dataset import DatasetData
from aiida_xastruct.data.spectrum import SpectrumData
from aiida_xastruct.data.table import TableData
from aiida_xastruct.engine.errors import XastructError
from aiida_xastruct.tools import queries


def pks(builder: QueryBuilder, tag: str) -> set[int]:
    builder.add_projection(tag, "id")
    return set(builder.all(flat=True))


@pytest.mark.parametrize("name", ["family", "pk", "uuid", "hash", "digits"])
def test_a_model_is_found_by_any_of_its_names(provenance: Any, name: str) -> None:
    model = provenance.model
    word = {
        "family": provenance.family.label,
        "pk": str(model.pk),
        "uuid": model.uuid,
        "hash": model.content_hash,
        "digits": model.content_hash[:8],
    }
    found = queries.find_models(word[name])
    assert model.pk in {node.pk for node in found}
    assert (len(found) > 1) == (name == "family")


@pytest.mark.parametrize("word", ["nothing of the kind", "999999", "f" * 64])
def test_what_names_no_model_is_refused(provenance: Any, word: str) -> None:
    with pytest.raises(XastructError, match="neither a family nor a model"):
        queries.find_models(word)
    with pytest.raises(XastructError, match="neither a family nor a model"):
        queries.find_models(str(provenance.structure.pk))


def test_predictions_of_a_model(provenance: Any) -> None:
    mine = {provenance.predicted.pk, provenance.predicted_other.pk}
    assert pks(queries.predicted_spectra(provenance.model), "spectrum") == mine
    assert pks(queries.predicted_spectra(), "spectrum") == mine
    assert pks(queries.predicted_spectra(provenance.model, TableData), "table") == {provenance.table.pk}
    assert pks(queries.predicted_spectra(provenance.learned), "spectrum") == set()


def test_a_builder_can_be_extended(provenance: Any) -> None:
    builder = queries.predicted_spectra(provenance.model)
    builder.add_filter("spectrum", {"attributes.absorber": "Mg"})
    group = Group(label="kept").store()
    group.add_nodes(provenance.predicted)
    builder.append(Group, with_node="spectrum", project="label")
    builder.append(StructureData, with_outgoing="process", project="id")
    assert builder.all() == [["kept", provenance.structure.pk]]


def test_feff_runs_behind_a_model(provenance: Any) -> None:
    assert pks(queries.feff_runs(provenance.learned), "run") == {provenance.batch.pk}
    sets = {node.pk for node in queries.training_sets(provenance.learned)}
    assert sets == {provenance.grown.pk, provenance.imported.pk}
    # The family that ships was trained elsewhere: its set is not here.
    assert (queries.training_sets(provenance.model), queries.feff_runs(provenance.model).count()) == ([], 0)


@pytest.mark.parametrize(
    ("neighbours", "distance", "found"),
    [([], None, True), (["O"], (2.1, 2.11), True), (["O"], (2.2, 2.3), False), (["Cl"], None, False), (["Cl", "O"], None, False)],
)
def test_known_neighbours(provenance: Any, neighbours: list[str], distance: Any, found: bool) -> None:
    mine = {provenance.predicted.pk, provenance.run.outputs.spectrum.pk}
    assert pks(queries.known_neighbours("Mg", neighbours, distance), "spectrum") == (mine if found else set())
    assert pks(queries.known_neighbours("Mg", neighbours, distance, "ml"), "spectrum") == ({provenance.predicted.pk} if found else set())


def test_inferred_neighbours(provenance: Any) -> None:
    answer = provenance.answer.get_dict()
    mean, read = answer["mean_distance"], {provenance.run.outputs.spectrum.pk}
    assert pks(queries.inferred_neighbours("Mg", answer["neighbour_set"], (mean - 0.01, mean + 0.01)), "spectrum") == read
    assert pks(queries.inferred_neighbours("Mg", in_domain=answer["in_domain"]), "spectrum") == read
    for asked in (("Na",), ("Mg", ["Xe"]), ("Mg", [], (mean + 0.01, mean + 0.02)), ("Mg", [], None, not answer["in_domain"])):
        assert pks(queries.inferred_neighbours(*asked), "spectrum") == set()


def test_downstream_of_a_structure(provenance: Any) -> None:
    found = pks(queries.downstream(provenance.structure), "node")
    told = [provenance.predicted, provenance.predicted.creator, provenance.twin, provenance.run, provenance.run.outputs.spectrum]
    told += [provenance.answer, provenance.batch.outputs.collection, provenance.grown]
    assert {node.pk for node in told} <= found
    for other in (provenance.structure, provenance.other, provenance.predicted_other, provenance.imported, provenance.table):
        assert other.pk not in found
    assert pks(queries.downstream(provenance.other), "node") == {provenance.predicted_other.creator.pk} | {
        node.pk for node in provenance.predicted_other.creator.base.links.get_outgoing().all_nodes()
    }


def test_a_molecule_has_only_what_links_lead_to(provenance: Any) -> None:
    molecule = StructureData(cell=[[9, 0, 0], [0, 9, 0], [0, 0, 9]], pbc=False)
    molecule.append_atom(position=(0, 0, 0), symbols="Mg")
    assert queries.crystal_hash(molecule.store()) is None
    assert queries.downstream(molecule).count() == 0


def test_batches_are_chosen_by_their_attributes(provenance: Any) -> None:
    digest, other = queries.crystal_hash(provenance.structure), "0" * 64
    table, collection = {provenance.table.pk}, {provenance.batch.outputs.collection.pk}
    assert pks(queries.tables("Mg", "EXAFS", digest), "table") == table
    assert pks(queries.collections("Mg", "EXAFS", digest), "collection") == collection
    for asked in (("Xe",), (None, "XANES"), (None, None, other)):
        assert pks(queries.tables(*asked), "table") == set()
        assert pks(queries.collections(*asked), "collection") == set()


def test_only_spectra_of_known_crystals_say_so(provenance: Any, spectrum: Any) -> None:
    measured = SpectrumData.from_engine(spectrum).store()
    assert measured.pk not in pks(queries.spectra_of_crystals(), "spectrum")
    assert pks(queries.spectra_of_crystals("ml", "Mg", "EXAFS"), "spectrum") == {provenance.predicted.pk}


def test_contents_are_the_hashes_of_all_nodes_of_a_type(provenance: Any) -> None:
    nodes = (provenance.structure, provenance.twin, provenance.other)
    builder = queries.contents(StructureData)
    builder.add_filter("node", {"id": {"in": [node.pk for node in nodes]}})
    hashes = builder.order_by({"node": "id"}).all(flat=True)
    assert hashes == [node.base.caching.get_hash() for node in nodes]
    assert hashes[0] == hashes[1] != hashes[2]
    assert set(queries.contents(DatasetData).all(flat=True)) == {provenance.imported.content_hash, provenance.grown.content_hash}

"""Rows of batches, pairs and repetitions, of what the package's own processes made of one crystal, and of another beside it."""

from __future__ import annotations

from typing import Any

import pytest
from aiida.orm import StructureData

from aiida_xastruct.data.model import ModelData
from aiida_xastruct.engine.compare import compare
from aiida_xastruct.tools import queries, query_rows
from aiida_xastruct.tools.query_rows import Place


def test_rows_of_a_crystal(provenance: Any) -> None:
    found = query_rows.rows_of_crystal(queries.crystal_hash(provenance.structure)).to_pylist()
    assert [(row["pk"], row["id"], row["absorber"]) for row in found] == [
        (provenance.table.pk, "mgo", "Mg"),
        (provenance.table.pk, "mgo", "O"),
    ]
    for row in found:
        assert provenance.table.get_row(row["number"])["absorber"] == row["absorber"]
    assert query_rows.rows_of_crystal("0" * 64).num_rows == 0


def test_rows_that_share_a_prefix_only_are_not_of_the_crystal(provenance: Any) -> None:
    digest = queries.crystal_hash(provenance.structure)
    assert query_rows.rows_of_crystal(digest[:8] + "0" * 56).num_rows == 0


@pytest.mark.parametrize(
    ("asked", "count"),
    [(("Mg", ["O"], (2.1, 2.11)), 1), (("Mg", ["O"], (2.2, 2.3)), 0), (("Mg", ["Cl"]), 0), (("Mg", [], None, "XANES"), 0), (("Na",), 0)],
)
def test_rows_of_feff_with_neighbours(provenance: Any, asked: Any, count: int) -> None:
    found = query_rows.collection_rows(*asked)
    assert [(row["pk"], row["number"], row["structure"]) for row in found] == [(provenance.batch.outputs.collection.pk, 0, "mgo")] * count


def test_more_crystals_than_a_database_takes_at_a_time(provenance: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = query_rows.pairs(provenance.model)
    asked: list[Any] = []
    feff_spectra = queries.feff_spectra
    monkeypatch.setattr(queries, "feff_spectra", lambda: asked.append(builder := feff_spectra()) or builder)
    monkeypatch.setattr(query_rows, "ASKED", 1)
    assert set(query_rows.pairs(provenance.model)) == set(expected)
    assert len(asked) == 2


def test_a_place_reads_its_own_row_only(provenance: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from aiida_xastruct.data.spectra import SpectraData

    def every(self: Any) -> Any:
        raise AssertionError("the whole batch was read")

    expected = next(iter(provenance.batch.outputs.collection)).spectrum
    monkeypatch.setattr(SpectraData, "__iter__", every)
    found = Place(provenance.batch.outputs.collection.pk, 0).load()
    assert (found.mu.tolist(), found.settings) == (expected.mu.tolist(), expected.settings)


def test_differences_open_each_node_once(provenance: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    every = query_rows.pairs(provenance.model)
    opened: list[int] = []
    load = query_rows.load_node
    monkeypatch.setattr(query_rows, "load_node", lambda pk: opened.append(pk) or load(pk))
    found = list(query_rows.differences(every))
    assert len(opened) == len(set(opened)) == 4
    assert {pair: difference for pair, difference, _ in found} == {pair: pair.difference() for pair in every}
    lost = every[0]._replace(predicted=Place(provenance.batch.outputs.collection.pk, 7))
    ((_, difference, reason),) = query_rows.differences([lost])
    assert (difference, reason) == (None, "the node has spectra 0 to 0, not 7.")


def test_pairs_are_of_one_site(provenance: Any) -> None:
    number = next(row["number"] for row in provenance.table.find([("id", "=", "mgo"), ("absorber", "=", "Mg")]).to_pylist())
    predicted = {Place(provenance.predicted.pk), Place(provenance.table.pk, number)}
    feff = {Place(provenance.run.outputs.spectrum.pk), Place(provenance.batch.outputs.collection.pk, 0)}
    found = query_rows.pairs(provenance.model)
    assert {(pair.predicted, pair.feff) for pair in found} == {(one, other) for one in predicted for other in feff}
    assert len(found) == 4
    assert {pair.question[1:] for pair in found} == {(0, "Mg", "K", "EXAFS")}
    assert len(query_rows.pairs(provenance.model, "Mg", "EXAFS")) == 4
    for asked in ((provenance.learned,), (provenance.model, "Na"), (provenance.model, None, "XANES")):
        assert query_rows.pairs(*asked) == []


def test_the_difference_is_that_of_the_spectra(provenance: Any) -> None:
    expected = compare(provenance.predicted.to_engine(), provenance.run.outputs.spectrum.to_engine(), "EXAFS").mse
    assert expected > 0.0
    for pair in query_rows.pairs(provenance.model):
        # The table keeps single precision.
        assert pair.difference() == pytest.approx(expected, rel=1e-3)


def test_what_says_the_same_is_one_group(provenance: Any) -> None:
    assert list(query_rows.groups(StructureData).values()) == [[provenance.structure.pk, provenance.twin.pk]]
    assert query_rows.groups(StructureData, {"id": {"!==": provenance.twin.pk}}) == {}
    assert query_rows.groups(ModelData) == {}


def test_rows_of_two_batches_are_found_together(provenance: Any) -> None:
    from aiida.orm import Str

    from aiida_xastruct.calculations.functions.predict_batch import predict_batch, structures_node

    assert query_rows.repeated_rows().num_rows == 0
    again = structures_node({"the same": provenance.crystal})
    table = predict_batch(structures=again, absorber=Str("O"), kind=Str("EXAFS"), model=provenance.model)["table"]
    (row,) = query_rows.repeated_rows(provenance.model).to_pylist()
    assert (row["hash"], row["absorber"], row["pk"]) == (queries.crystal_hash(provenance.structure), "O", [provenance.table.pk, table.pk])
    assert query_rows.repeated_rows(provenance.learned).num_rows == 0
    # The same site as another kind of spectrum is another prediction.
    from aiida_xastruct.groups.family import load_default_family

    xanes = next(node for node in load_default_family().nodes if (node.task, node.kind) == ("forward", "XANES"))
    predict_batch(structures=again, absorber=Str("O"), kind=Str("XANES"), model=xanes)
    (row,) = query_rows.repeated_rows().to_pylist()
    assert (row["kind"], row["pk"]) == ("EXAFS", [provenance.table.pk, table.pk])

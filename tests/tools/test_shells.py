"""Rows of tables by the neighbours in their crystals, which are looked for once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from aiida.common import LinkType
from aiida.orm import CalcFunctionNode, QueryBuilder, Str
from aiida.tools import delete_nodes

from aiida_xastruct.calculations.functions.describe_shells import describe_shells
from aiida_xastruct.calculations.functions.merge_batches import merge_batches
from aiida_xastruct.calculations.functions.predict_batch import predict_batch, structures_node
from aiida_xastruct.data.table import TableData
from aiida_xastruct.engine.errors import XastructError
from aiida_xastruct.engine.origin import origin_of
from aiida_xastruct.engine.shells import find, may_hold, shells_table, summary
from aiida_xastruct.tools import shells
from aiida_xastruct.tools.query_rows import Place


@pytest.fixture(autouse=True)
def forgotten(provenance: Any) -> Iterator[None]:
    """Nobody has asked for neighbours before."""
    yield
    made = QueryBuilder().append(CalcFunctionNode, filters={"process_type": shells.DESCRIBE}, project="id").all(flat=True)
    delete_nodes(made, dry_run=False)


def count() -> int:
    """How often neighbours were looked for."""
    return int(QueryBuilder().append(CalcFunctionNode, filters={"process_type": shells.DESCRIBE}).count())


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (("Mg", ["O"], (2.1, 2.11)), ["mgo"]), (("O", ["Mg"]), ["mgo"]), (("Mg", ["O"], (2.2, 2.3)), []), (("Mg", ["Cl"]), []),
        (("Na",), ["nacl"]), (("Mg", [], None, "XANES"), []), (("Fe",), []),
    ],
)  # fmt: skip
def test_rows_of_tables_with_neighbours(provenance: Any, asked: Any, names: list[str], known: bool) -> None:
    if known:
        list(shells.table_rows(asked[0]))
    found = list(shells.table_rows(*asked))
    assert [(row["pk"], row["id"], row["absorber"]) for row in found] == [(provenance.table.pk, name, asked[0]) for name in names]
    for row in found:
        assert provenance.table.get_row(row["number"])["hash"] == row["hash"]
        assert row["neighbours"] == [{"Mg": "O", "O": "Mg", "Na": "Cl"}[asked[0]]]
        assert row["mean_distance"] == pytest.approx({"mgo": 2.106, "nacl": 2.82}[row["id"]])


def test_neighbours_are_looked_for_once(provenance: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[None] = []
    expected = list(shells.table_rows("Mg", progress=lambda: steps.append(None)))
    assert (len(expected), count(), len(steps)) == (1, 1, 1)

    def never(*_: Any) -> None:
        raise AssertionError("CrystalNN was asked again")

    monkeypatch.setattr("aiida_xastruct.engine.structure.first_shell", never)
    assert list(shells.table_rows("Mg", progress=lambda: steps.append(None))) == expected
    assert list(shells.table_rows("Mg", ["O"], describe=False)) == expected
    assert (count(), len(steps)) == (1, 1)
    # Another element is another question.
    assert shells.described("Mg").missing() == []
    assert len(shells.described("O").missing()) == 1
    assert list(shells.table_rows("O", describe=False)) == []


def test_both_kinds_and_the_screening_share_what_is_known_of_a_crystal(provenance: Any) -> None:
    from aiida_xastruct.groups.family import load_default_family

    structures = structures_node({"mgo": provenance.crystal}).store()
    xanes = load_default_family().get_model("forward", "XANES")
    made = [structures.pk]
    try:
        batches = [
            predict_batch(structures=structures, absorber=Str("Mg"), kind=Str(kind), model=model)["table"]
            for kind, model in (("EXAFS", provenance.model), ("XANES", xanes))
        ]
        merged = merge_batches(table_chunk_00000=batches[0])["table"]
        made += [batches[0].pk, merged.pk]
        found = list(shells.table_rows("Mg", ["O"]))
        assert [(row["pk"], row["kind"]) for row in found] == [
            (provenance.table.pk, "EXAFS"), (batches[0].pk, "EXAFS"), (batches[1].pk, "XANES"), (merged.pk, "EXAFS"),
        ]  # fmt: skip
        assert count() == 2
        # Of a screening of which a chunk came without its provenance, no row is found as if it had been searched.
        delete_nodes([batches[0].creator.pk], dry_run=False, create_forward=False)
        said: list[str] = []
        assert [row["pk"] for row in shells.table_rows("Mg", skipped=said.append)] == [provenance.table.pk, batches[1].pk]
        assert [words.split(" was made")[0] for words in said] == [f"the table <{table.pk}>" for table in (batches[0], merged)]
    finally:
        delete_nodes(made, dry_run=False)


@pytest.mark.parametrize("creator", [False, True])
def test_a_table_without_provenance_is_left_out_and_named(provenance: Any, creator: bool) -> None:
    """One that nothing made here, and one whose process came without its inputs."""
    with provenance.table.open(mode="rb") as stream:
        orphan = TableData.from_file(stream, "EXAFS")
    pks = []
    if creator:
        process = CalcFunctionNode().store()
        orphan.base.links.add_incoming(process, link_type=LinkType.CREATE, link_label="table")
        pks.append(process.pk)
    pks.append(orphan.store().pk)
    said: list[str] = []
    try:
        assert [row["pk"] for row in shells.table_rows("Mg", ["O"], skipped=said.append)] == [provenance.table.pk]
        assert said == [f"the table <{orphan.pk}> was made by no process whose crystals are here; import it with its provenance."]
        with pytest.raises(XastructError, match="import it with its provenance"):
            Place(orphan.pk, 0).load()
    finally:
        delete_nodes(pks, dry_run=False)


def test_a_damaged_file_of_crystals_is_left_out_and_named(provenance: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiida_xastruct.engine.structures_file.make_structure", lambda *_: {}["lattice"])
    said: list[str] = []
    assert list(shells.table_rows("Mg", skipped=said.append)) == []
    (words,) = said
    assert words.startswith(f"the table <{provenance.table.pk}>: structures.jsonl.gz is no file of structures")


def test_an_archive_that_is_looked_into_keeps_nothing(provenance: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(provenance.table.backend), "read_only", True)
    assert [row["id"] for row in shells.table_rows("Mg", ["O"])] == ["mgo"]
    monkeypatch.undo()
    assert count() == 0


def test_a_table_of_shells(provenance: Any) -> None:
    """Of every inequivalent site of the element; crystals without it, and sentences, have no row."""
    from pymatgen.core import Lattice, Structure

    other = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    table = shells_table([("a", provenance.crystal), ("b", "refused."), ("c", other)], "Mg")
    (row,) = table.to_pylist()
    known = origin_of(provenance.crystal, 0)
    assert row == {"hash": known["structure_hash"], "site": 0, "neighbours": "O", "mean_distance": known["mean_distance"]}
    said = summary(table)
    assert said == {"n_sites": 1, "neighbours": ["O"], "distances": [2.106, 2.106]}
    for asked, found in (
        ((["O"], (2.1, 2.2)), True),
        (([], (2.106, 2.106)), True),
        ((["O", "S"], (2.1, 2.2)), False),
        (([], (0, 2)), False),
    ):
        assert may_hold(said, *asked) is bool(find(table, *asked)) is found
    empty = shells_table([("c", other)], "Mg")
    assert find(empty, [], (0.0, 9.0)) == {}
    assert not may_hold(summary(empty), [], (0.0, 9.0))


def test_the_node_says_what_its_rows_hold(provenance: Any) -> None:
    structures = provenance.table.creator.inputs.structures
    node = describe_shells(structures=structures, absorber=Str("Na"))["shells"]
    said = {name: node.base.attributes.get(name) for name in ("absorber", "n_sites", "neighbours", "distances")}
    assert said == {"absorber": "Na", "n_sites": 1, "neighbours": ["Cl"], "distances": [2.82, 2.82]}

"""A table of sites as a node: what is in the file is in the attributes, and what is no table is not stored."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiida.common.exceptions import ValidationError

from aiida_xastruct.data.table import TableData
from aiida_xastruct.engine.batch import Batch, energy_grid, write_table
from aiida_xastruct.engine.errors import XastructError

ROWS = [
    {"row": 0, "structure": 0, "id": "a", "absorber": "Fe", "method": "ml", "needs_reference": True, "reason": "unsure."},
    {"row": 1, "structure": 0, "id": "a", "absorber": "O", "method": "ml", "needs_reference": False, "reason": "sure."},
    {"row": 0, "structure": 1, "id": "b", "absorber": "Fe", "method": "feff", "needs_reference": True, "reason": "unsure."},
    {"structure": 2, "id": "c", "reason": "no crystal."},
]


def stream_of(rows) -> io.BytesIO:
    stream = io.BytesIO()
    grid = energy_grid("XANES")
    write_table(Batch("XANES", rows, grid[None], grid[None]).table(), stream)
    stream.seek(0)
    return stream


def test_attributes_sum_up_the_rows(aiida_profile_clean):
    node = TableData.from_file(stream_of(ROWS), "XANES").store()
    attributes = node.base.attributes.all
    assert {name: attributes[name] for name in ("n_rows", "n_structures", "n_spectra", "n_refused", "needs_reference", "kind")} == {
        "n_rows": 4, "n_structures": 3, "n_spectra": 3, "n_refused": 1, "needs_reference": 1, "kind": "XANES",
    }  # fmt: skip
    assert (attributes["absorbers"], attributes["methods"]) == (["Fe", "O"], {"ml": 2, "feff": 1})
    assert node.read(["id"], [("absorber", "=", "Fe")])["id"].to_pylist() == ["a", "b"]
    assert len(node) == 4


def test_a_row_is_found_in_any_group_of_rows(aiida_profile_clean, tmp_path):
    table = pq.read_table(stream_of(ROWS))
    with pq.ParquetWriter(tmp_path / "groups.parquet", table.schema) as writer:
        writer.write_table(table.slice(0, 3))
        writer.write_table(table.slice(3, 1))
    node = TableData.from_file(tmp_path / "groups.parquet", "XANES").store()
    assert [node.get_row(number)["reason"] for number in range(4)] == [row["reason"] for row in ROWS]
    for number in (-1, 4):
        with pytest.raises(XastructError, match="rows 0 to 3"):
            node.get_row(number)


def test_rows_are_found_with_their_numbers(aiida_profile_clean, tmp_path):
    table = pq.read_table(stream_of(ROWS))
    with pq.ParquetWriter(tmp_path / "groups.parquet", table.schema) as writer:
        writer.write_table(table.slice(0, 2))
        writer.write_table(table.slice(2, 2))
    node = TableData.from_file(tmp_path / "groups.parquet", "XANES").store()
    assert node.find([("absorber", "=", "Fe")], ["id"]).to_pylist() == [{"id": "a", "number": 0}, {"id": "b", "number": 2}]
    # Of either of two conjunctions.
    either = [[("absorber", "=", "O")], [("id", "=", "c")]]
    assert node.find(either, ["id"])["number"].to_pylist() == [1, 3]
    assert node.find(columns=["id"])["number"].to_pylist() == [0, 1, 2, 3]
    assert node.find([("absorber", "=", "Xe")]).num_rows == 0
    assert node.find([("absorber", "=", "Xe")]).column_names == [*table.column_names, "number"]


def test_groups_that_hold_nothing_by_their_statistics_are_not_read(aiida_profile_clean, tmp_path, monkeypatch):
    table = pq.read_table(stream_of(ROWS))
    with pq.ParquetWriter(tmp_path / "groups.parquet", table.schema) as writer:
        for start in range(4):
            writer.write_table(table.slice(start, 1))
    node = TableData.from_file(tmp_path / "groups.parquet", "XANES").store()
    read, original = [], pq.ParquetFile.read_row_group

    def read_row_group(self, group, columns=None, **options):
        read.append((group, columns))
        return original(self, group, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", read_row_group)
    assert node.find([("structure", "=", 1)], ["id"])["number"].to_pylist() == [2]
    assert read == [(2, ["id", "structure"])]


def test_crystals_are_listed_by_the_first_digits_of_their_hashes(aiida_profile_clean):
    rows = [{**row, "hash": digest} for row, digest in zip(ROWS, ("b" * 64, "b" * 64, "a" * 64, None), strict=True)]
    assert TableData.from_file(stream_of(rows), "XANES").base.attributes.get("hash_prefixes") == ["a" * 8, "b" * 8]


def test_no_rows_are_a_table_too(aiida_profile_clean):
    assert len(TableData.from_file(stream_of([]), "XANES").store()) == 0


def test_what_is_no_table_is_not_stored(aiida_profile_clean):
    with pytest.raises(ValidationError, match="no table of sites"):
        TableData(io.BytesIO(b"text"), filename="table.parquet").store()
    other = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}), other)
    other.seek(0)
    with pytest.raises(ValidationError, match="from_file"):
        TableData(other, filename="table.parquet").store()


@pytest.mark.parametrize(
    ("name", "value"),
    [("absorbers", ["Fe"]), ("hash_prefixes", ["a" * 8]), ("methods", {"ml": 3}), ("n_spectra", 4), ("kind", "XAFS"), ("kind", None)],
)
def test_attributes_that_would_hide_rows_from_queries_are_not_stored(aiida_profile_clean, name, value):
    node = TableData.from_file(stream_of(ROWS), "XANES")
    node.base.attributes.set(name, value)
    with pytest.raises(ValidationError, match="from_file"):
        node.store()

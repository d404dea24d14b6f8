"""Spectra and tables go out; what cannot is said in one sentence."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from aiida.orm import Dict

from aiida_xastruct.cli.root import cli
from aiida_xastruct.data.spectrum import SpectrumData


def test_a_table_goes_out_as_it_is(run: Any, provenance: Any, tmp_path: Any) -> None:
    target = tmp_path / "table.parquet"
    said = json.loads(run(cli, "export", provenance.table.pk, "-o", target, "--json").output)
    assert said["rows"] == len(provenance.table)
    expected, found = provenance.table.read(), pq.read_table(target)
    assert found.drop_columns(["node_pk", "node_uuid"]).to_pylist() == expected.to_pylist()
    assert set(found["node_uuid"].to_pylist()) == {provenance.table.uuid}
    # By way of the process that made it, as csv.
    run(cli, "export", provenance.table.creator.pk, "-o", tmp_path / "table.csv")
    read = pacsv.read_csv(tmp_path / "table.csv")
    assert read["absorber"].to_pylist() == expected["absorber"].to_pylist()
    assert read["uncertainty"].to_pylist() == pytest.approx(expected["uncertainty"].to_pylist(), nan_ok=True)


def test_answers_become_rows(run: Any, provenance: Any) -> None:
    (row,) = json.loads(run(cli, "export", provenance.answer.pk, "--json").output)
    answer = provenance.answer.get_dict()
    assert row["node_pk"] == provenance.answer.pk
    assert row["mean_distance"] == answer["mean_distance"]
    assert row["neighbour_set"] == answer["neighbour_set"]
    table = pacsv.read_csv(io.BytesIO(run(cli, "export", provenance.answer.pk, provenance.answer.pk).output.encode()))
    assert len(table) == 2
    assert table["neighbour_set"].to_pylist() == [" ".join(answer["neighbour_set"])] * 2


def test_a_ranking_has_a_row_for_each_candidate(run: Any, aiida_profile_clean: Any) -> None:
    ranking = Dict(
        {"absorber": "Fe", "kind": "XANES", "candidates": [{"name": "a", "distance": 0.1}, {"name": "b", "distance": None}]}
    ).store()
    rows = json.loads(run(cli, "export", ranking.pk, "--json").output)
    assert [(row["absorber"], row["name"], row["distance"]) for row in rows] == [("Fe", "a", 0.1), ("Fe", "b", None)]


def test_what_cannot_go_out(run: Any, aiida_profile_clean: Any, spectrum: Any, tmp_path: Any) -> None:
    node, answer = SpectrumData.from_engine(spectrum).store(), Dict({"a": 1}).store()
    run(cli, "export", node.pk, "-o", tmp_path / "fe.nxs")
    for arguments, words in [
        ((node.pk, node.pk), "a file holds one spectrum"),
        ((node.pk, "-o", tmp_path / "fe.doc"), "no known format"),
        ((node.pk, "-o", tmp_path / "xmu.dat"), "mu0"),
        ((node.pk, "-f", "nexus"), "is no text"),
        ((node.pk, "-o", tmp_path / "fe.nxs"), "exists already"),
        ((answer.pk, "-o", tmp_path / "a.xls"), "csv or parquet"),
        ((answer.pk, "-f", "parquet"), "is no text"),
        ((Dict({}).store().pk,), "is empty"),
    ]:
        output = run(cli, "export", *arguments, status=1).output
        assert words in output
        assert "Traceback" not in output

"""Reports of what a batch has answered, on the database that queries are tested on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aiida_xastruct.data.table import TableData
from aiida_xastruct.engine.batch import schema
from aiida_xastruct.tools.report.gather import MOST_ROWS, gather


def test_a_report_of_a_table(provenance: Any) -> None:
    report = gather(provenance.table)
    assert [figure.title for figure in report.figures] == ["Expected errors"]
    (table,) = report.tables
    assert len(table.rows) == provenance.table.base.attributes.get("n_rows")
    line = report.figures[0].lines[0]
    errors = sorted(value for value in provenance.table.read()["uncertainty"].to_pylist() if value is not None)
    assert line.x.tolist() == errors
    assert line.y[-1] == 100.0


@pytest.mark.parametrize("ranked", [True, False])
def test_a_report_of_many_rows_shows_the_best(aiida_profile: Any, tmp_path: Path, ranked: bool) -> None:
    n = 2 * MOST_ROWS
    # The best come last, the surest are others, and the very first has no spectrum.
    rows = [
        {
            "row": None if i == 0 else i, "structure": i, "id": f"crystal-{i}", "hash": f"{i:064x}", "formula": "Cu", "site": 0,
            "absorber": "Cu", "edge": "K", "multiplicity": 1, "method": None if i == 0 else "ml", "in_domain": True,
            "uncertainty": None if i == 0 else abs(i - 30.2), "needs_reference": False, "reason": "made here",
        }
        for i in range(n)
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=schema())
    if ranked:
        table = table.append_column("rank", pa.array([None, *range(n - 1, 0, -1)], pa.int32()))
    pq.write_table(table, tmp_path / "table.parquet")
    (found,) = gather(TableData.from_file(tmp_path / "table.parquet", "XANES").store()).tables
    ids = [row[found.columns.index("id")] for row in found.rows]
    assert len(ids) == MOST_ROWS
    assert ids[:3] == (["crystal-99", "crystal-98", "crystal-97"] if ranked else ["crystal-30", "crystal-31", "crystal-29"])
    assert "crystal-0" not in ids
    which = "most like the target" if ranked else "with the smallest expected error"
    assert "100 rows in the table" in found.caption
    assert f"of which the {MOST_ROWS} {which} first" in found.caption

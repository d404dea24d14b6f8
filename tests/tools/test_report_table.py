"""Reports of what a batch has answered, on the database that queries are tested on."""

from __future__ import annotations

from typing import Any

from aiida_xastruct.tools.report.gather import gather


def test_a_report_of_a_table(provenance: Any) -> None:
    report = gather(provenance.table)
    assert [figure.title for figure in report.figures] == ["Expected errors"]
    (table,) = report.tables
    assert len(table.rows) == provenance.table.base.attributes.get("n_rows")
    line = report.figures[0].lines[0]
    errors = sorted(value for value in provenance.table.read()["uncertainty"].to_pylist() if value is not None)
    assert line.x.tolist() == errors
    assert line.y[-1] == 100.0

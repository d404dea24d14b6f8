"""What goes to FEFF first, and in which job."""

from __future__ import annotations

import pyarrow as pa

from aiida_xastruct.engine.screening import Wanted, jobs, neediest


def table(*rows):
    keys = ("id", "site", "absorber", "uncertainty", "threshold", "domain_score", "needs_reference")
    return pa.table({key: [row[i] for row in rows] for i, key in enumerate(keys)})


ROWS = [
    ("a", 0, "Fe", 0.1, 0.2, 0.5, False),
    ("b", 0, "Fe", 0.3, 0.2, 0.5, True),
    ("b", 4, "O", 0.9, 0.2, 0.5, True),
    ("c", 0, "Fe", 0.1, 0.2, 3.0, True),
    ("d", 0, "H", 9.0, 0.2, 0.5, True),
    ("e", 0, None, None, None, None, None),
]


def test_the_neediest_come_first_and_stay_in_order():
    tables = [("chunk_00000", table(*ROWS[:3])), ("chunk_00001", table(*ROWS[3:]))]
    b, o, c = Wanted("chunk_00000", "b", 0), Wanted("chunk_00000", "b", 4), Wanted("chunk_00001", "c", 0)
    # FEFF refuses hydrogen; a row without a spectrum needs nothing.
    assert neediest(tables, 9) == [b, o, c]
    assert neediest(tables, 2) == [o, c]
    assert neediest(tables, 1) == [o]
    assert neediest(tables, 0) == []


def test_a_job_has_one_chunk_and_names_that_folders_can_tell_apart():
    wanted = [Wanted("x", name, site) for name, site in (("a-1", 0), ("a-1", 3), ("a_1", 0), ("b", 0))] + [Wanted("y", "a-1", 0)]
    assert jobs(wanted, 10) == [
        {"label": "x_0", "chunk": "x", "sites": {"a-1": [0, 3]}},
        {"label": "x_1", "chunk": "x", "sites": {"a_1": [0], "b": [0]}},
        {"label": "y_2", "chunk": "y", "sites": {"a-1": [0]}},
    ]
    assert [list(job["sites"]) for job in jobs(wanted, 1)] == [["a-1"], ["a-1"], ["a_1"], ["b"], ["a-1"]]

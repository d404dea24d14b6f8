"""The soak's bookkeeping: what counts as lost, when it repairs and when it gives up. Nothing is started."""

from __future__ import annotations

import argparse

import pytest


class Machine:
    """Processes that go on only after so many repairs; never for None."""

    def __init__(self, needed: int | None) -> None:
        self.needed, self.repairs = needed, 0

    def unfinished(self) -> list[int]:
        return [1] if self.needed is None or self.repairs < self.needed else []

    def active(self, pks: list[int]) -> list[int]:
        return [pk for pk in pks if pk in self.unfinished()]

    def progress(self) -> tuple[int]:
        return (0,)

    def restart(self) -> None:
        self.repairs += 1


@pytest.mark.parametrize(("needed", "repairs"), [(0, 0), (2, 2), (None, 4)])
def test_repairs_are_counted_and_end_where_they_are_in_vain(script, monkeypatch, needed, repairs):
    soak = script("soak")
    monkeypatch.setattr(soak, "FAULTS", {"worker": lambda site, draw, pks: None})
    monkeypatch.setattr(soak, "soon", lambda condition, seconds: condition())
    options = argparse.Namespace(seed=0, rounds=1, minutes=0.0, doubt=0.0, patience=1.0)
    site = Machine(needed)
    told = soak.endure(site, [1], options)
    assert site.repairs == repairs  # one after the fault, and three in vain
    assert [one["repairs"] for one in told] == ([repairs] if needed != 0 else [])


def test_the_page_tells_what_was_lost(script):
    soak = script("soak")
    ended = [
        ("feff", "finished", 0, None), ("predict", "finished", 402, "calc<12> failed"), ("infer", "waiting", None, None),
        ("screen", "excepted", None,
         "Traceback (most recent call last):\n  File\nOSError: [Errno 30] Read-only: '/tmp/a'\n(Background on this error)"),
    ]  # fmt: skip
    processes = [dict(zip(("kind", "state", "status", "message"), one, strict=True)) for one in ended]
    run = {
        "broker": "zeromq", "commit": "0", "aiida": "2.9.4", "cpus": 2, "load": 1.0, "minutes": 2.0, "rounds": 1, "seed": 0, "doubt": 60.0,
        "seconds": 240.0, "stuck": 1, "orphans": ["7: verdi"], "processes": processes,
        "faults": [{"kind": "disk", "repairs": 2}, {"kind": "disk", "repairs": 0}],
        "after": {"faults": ["node 3: a file is lacking"], "nodes": 9},
    }  # fmt: skip
    page = soak.page({"runs": [run]})
    for line in (
        "| all | 4 | 1 | 1 | 1 | 1 |", "| disk | 2 | 1 | 2 |", "- 1 x predict, status 402: `calc failed`",
        "- 1 x infer, waiting: `no message`", "- 1 x screen, excepted: `OSError: [Errno 30] Read-only`",
        "- node 3: a file is lacking", "- 7: verdi",
    ):  # fmt: skip
        assert line in page

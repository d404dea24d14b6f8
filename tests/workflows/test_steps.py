"""Which process of a step counts as done where the step is run again."""

from __future__ import annotations

import errno
import sqlite3
import time
from io import BytesIO
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from aiida.common.links import LinkType
from aiida.engine import ProcessState, WorkChain, calcfunction, run_get_node
from aiida.manage import get_manager
from aiida.orm import CalcFunctionNode, CalcJobNode, Int, ProcessNode, SinglefileData, WorkflowNode
from disk_objectstore import Container

from aiida_xastruct.workflows import steps
from aiida_xastruct.workflows.steps import computed, process_of


@pytest.fixture
def called(aiida_profile_clean: Any) -> Any:
    """Function that makes a work chain that has called processes of a type under one label, in these states; both it and they."""

    def make(kind: type[ProcessNode], *states: ProcessState) -> tuple[ProcessNode, list[ProcessNode]]:
        parent, nodes = WorkflowNode().store(), []
        for state in states:
            node = kind()
            node.base.links.add_incoming(parent, LinkType.CALL_CALC, "chunk_00000")
            node.store()
            node.set_process_state(state)
            nodes.append(node)
        return parent, nodes

    return make


def test_a_calcfunction_that_ended_counts_and_one_that_was_cut_off_does_not(called: Any) -> None:
    parent, (first, second) = called(CalcFunctionNode, ProcessState.KILLED, ProcessState.FINISHED)
    assert process_of(parent, "chunk_00000") == second
    assert process_of(parent, "chunk_00001") is None
    assert first.is_killed

    # The engine died inside: nobody runs it any more.
    parent, (running,) = called(CalcFunctionNode, ProcessState.RUNNING)
    assert process_of(parent, "chunk_00000") is None
    assert (running.is_killed, running.is_sealed) == (True, True)

    # `verdi process repair` hands it to the daemon, which finds no checkpoint of it.
    parent, _ = called(CalcFunctionNode, ProcessState.EXCEPTED)
    assert process_of(parent, "chunk_00000") is None


def test_a_job_goes_on_by_itself_and_fails_for_good(called: Any) -> None:
    for state in (ProcessState.RUNNING, ProcessState.EXCEPTED, ProcessState.FINISHED):
        parent, (job,) = called(CalcJobNode, state)
        assert process_of(parent, "chunk_00000") == job


# ---------------------------------------------------------------- a repository that cannot be written to for a while


@calcfunction
def written(number: Any) -> Any:
    """A node with a file."""
    return SinglefileData(BytesIO(str(number.value).encode()))


class Writing(WorkChain):
    """Writes in a step."""

    @classmethod
    def define(cls, spec: Any) -> None:
        """One output."""
        super().define(spec)
        spec.output("file", valid_type=SinglefileData)
        spec.outline(cls.write)

    def write(self) -> None:
        """As the workflows do it."""
        self.out("file", computed(written, number=Int(7).store(), metadata={"call_link_label": "write"})[0])


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Function: the repository refuses so many files with this error; the waits between the tries, as they come."""

    def make(times: int, number: int) -> list[float]:
        store, left, waited = Container.add_streamed_object, [times], []

        def add(self: Container, stream: Any) -> str:
            if left[0]:
                left[0] -= 1
                raise OSError(number, "refused")
            return store(self, stream)

        monkeypatch.setattr(Container, "add_streamed_object", add)
        monkeypatch.setattr(steps.time, "sleep", waited.append)
        return waited

    return make


@pytest.mark.parametrize("times", [1, 4])
def test_a_step_waits_for_a_repository_that_refuses(aiida_profile_clean: Any, refuse: Any, times: int) -> None:
    waited = refuse(times, errno.EROFS)
    outputs, node = run_get_node(Writing)
    assert (node.is_finished_ok, outputs["file"].get_content()) == (True, "7")
    assert tuple(waited) == steps.WAITS[:times]
    assert process_of(node, "write") == outputs["file"].creator


@pytest.mark.parametrize(("times", "number", "waits"), [(9, errno.ENOSPC, steps.WAITS), (1, errno.ENOENT, ())])
def test_a_step_gives_up_after_the_last_wait_and_at_once_where_waiting_does_not_help(
    aiida_profile_clean: Any, refuse: Any, times: int, number: int, waits: tuple[float, ...]
) -> None:
    waited = refuse(times, number)
    with pytest.raises(OSError, match="refused"):
        run_get_node(Writing)
    assert tuple(waited) == waits


# ---------------------------------------------------------------- a database that is locked for a while

#: Seconds; AiiDA's own patience is 5.
LOCKED = 8.0


class Locked(Writing):
    """Writes in a step while the file of the database is locked, as by a backup."""

    def write(self) -> None:
        """Lock it, and write."""
        number, path = Int(7).store(), Path(get_manager().get_profile().storage_config["filepath"]) / "database.sqlite"
        backup = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        backup.execute("BEGIN EXCLUSIVE")
        timer = Timer(LOCKED, backup.rollback)
        timer.start()
        self.out("file", computed(written, number=number)[0])
        timer.join()
        backup.close()


def test_a_step_waits_for_a_database_that_is_locked(aiida_config: Any, aiida_profile_factory: Any) -> None:
    with aiida_profile_factory(aiida_config):  # on SQLite, wherever the run keeps its own
        began = time.monotonic()
        outputs, node = run_get_node(Locked)
        assert (node.is_finished_ok, outputs["file"].get_content()) == (True, "7")
        assert time.monotonic() - began > LOCKED

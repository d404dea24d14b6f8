"""Which process of a step counts as done where the step is run again."""

from __future__ import annotations

from typing import Any

import pytest
from aiida.common.links import LinkType
from aiida.engine import ProcessState
from aiida.orm import CalcFunctionNode, CalcJobNode, ProcessNode, WorkflowNode

from aiida_xastruct.workflows.steps import process_of


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

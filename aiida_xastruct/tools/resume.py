"""Going on with a workflow whose engine was killed, without a daemon."""

from __future__ import annotations

from typing import Any

from aiida.engine import ProcessState
from aiida.engine.runners import Runner
from aiida.orm import CalcJobNode, ProcessNode, WorkChainNode

from ..engine.errors import XastructError


def resume(node: ProcessNode) -> tuple[dict[str, Any], ProcessNode]:
    """Run a workflow on from its last checkpoint in this process, together with the workflows and jobs that it waits for.

    Where a daemon runs the workflow, the daemon goes on with it by itself; this is for one that was run here. Nobody else may be running
    it: two engines on one workflow do everything twice.

    Returns:
        outputs and node, once it has ended.

    Raises:
        XastructError: if it has ended already, or left no checkpoint.
    """
    from aiida.manage import get_manager

    if node.is_terminated:
        raise XastructError(f"{node.process_label}<{node.pk}> has ended already; there is nothing to resume.")
    if node.checkpoint is None:
        raise XastructError(f"{node.process_label}<{node.pk}> left no checkpoint; start it again.")
    manager = get_manager()
    runner: Runner = manager.create_runner(poll_interval=1.0)
    manager.set_runner(runner)

    def load(one: ProcessNode) -> Any:
        return runner.persister.load_checkpoint(one.pk).unbundle()  # type: ignore[union-attr]

    def revive(parent: ProcessNode) -> None:
        for child in parent.called:
            if child.is_terminated or not isinstance(child, (CalcJobNode, WorkChainNode)):
                continue
            if child.checkpoint is None:
                # Killed in the moment in which it was made: it never begins.
                child.set_process_state(ProcessState.KILLED)
                child.seal()
            else:
                runner.loop.create_task(load(child).step_until_terminated())
                revive(child)

    revive(node)
    outputs, ended = runner.run_get_node(load(node))
    return dict(outputs), ended

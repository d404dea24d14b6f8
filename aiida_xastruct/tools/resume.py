"""Going on with a workflow whose engine was killed, without a daemon."""

from __future__ import annotations

from typing import Any

from aiida.engine import ProcessState
from aiida.orm import CalcJobNode, ProcessNode, WorkChainNode

from ..engine.errors import XastructError
from .running import execute, own_runner


def resume(node: ProcessNode) -> tuple[dict[str, Any], ProcessNode]:
    """Run a workflow on from its last checkpoint in this process, together with the workflows and jobs that it waits for.

    Where a daemon runs the workflow, the daemon goes on with it by itself; this is for one that was run here. Nobody else may be running
    it: two engines on one workflow do everything twice.

    Returns:
        outputs and node, once it has ended.

    Raises:
        XastructError: if it has ended already, or left no checkpoint, or a signal stopped it again.
    """
    from aiida.manage import get_manager

    if node.is_terminated:
        raise XastructError(f"{node.process_label}<{node.pk}> has ended already; there is nothing to resume.")
    if node.checkpoint is None:
        raise XastructError(f"{node.process_label}<{node.pk}> left no checkpoint; start it again.")
    runner = own_runner()
    get_manager().set_runner(runner)

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
    return execute(load(node))

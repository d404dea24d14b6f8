"""Feeding the handlers of a restarting workflow with calculations that never ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiida import orm
from aiida.common import LinkType
from aiida.engine import BaseRestartWorkChain, ExitCode
from plumpy.process_states import ProcessState


def inspect_ended(
    process: BaseRestartWorkChain, code: ExitCode, node: orm.CalcJobNode, outputs: Callable[[orm.CalcJobNode], Mapping[str, Any]]
) -> ExitCode | None:
    """Let the workflow inspect a calculation that ended with an exit code; the exit code it returns, None to run again.

    Args:
        process: set up.
        code: of the calculation.
        node: of it, not stored.
        outputs: gives its outputs by label, once the node is stored.
    """
    node.set_process_state(ProcessState.FINISHED)
    node.set_exit_status(code.status)
    node.set_exit_message(code.message)
    node.store()
    for label, value in outputs(node).items():
        value.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label=label)
        value.store()
    process.ctx.children = [*process.ctx.get("children", []), node]
    process.ctx.iteration = len(process.ctx.children)
    answer = process.inspect_process()
    return None if answer is None or answer.status == 0 else answer

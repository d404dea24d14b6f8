"""Processes of AiiDA that have not ended; every function here runs in AiiDA's thread."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..engine.errors import XastructError

#: Processes that the page lists, the newest first.
MOST_LISTED = 50


@dataclass(frozen=True)
class Running:
    """A process that has not ended: what it is, how it is doing, when it began and what it last reported."""

    pk: int
    label: str
    state: str
    began: datetime
    report: str


def running() -> list[Running]:
    """The processes that nobody called and that have not ended."""
    from aiida.orm import ProcessNode, QueryBuilder

    builder = QueryBuilder()
    unfinished = {"attributes.process_state": {"in": ["created", "waiting", "running"]}}
    builder.append(ProcessNode, filters=unfinished, tag="process").order_by({"process": {"ctime": "desc"}})
    own = [node for node in builder.limit(4 * MOST_LISTED).all(flat=True) if node.caller is None][:MOST_LISTED]
    return [Running(node.pk, str(node.process_label), node.process_state.value, node.ctime, _last_report(node)) for node in own]


def _last_report(node: object) -> str:
    from aiida.orm import Log, QueryBuilder

    builder = QueryBuilder().append(Log, filters={"dbnode_id": node.pk}, project="message", tag="log")  # type: ignore[attr-defined]
    return str(builder.order_by({"log": {"time": "desc"}}).first(flat=True) or "")


def kill(pk: int) -> None:
    """Ask the daemon to kill a process.

    Raises:
        XastructError: if no daemon can be asked.
    """
    from aiida.common.exceptions import AiidaException
    from aiida.engine.processes import control
    from aiida.manage import get_manager
    from aiida.orm import ProcessNode, load_node

    if get_manager().get_broker() is None:
        raise XastructError(f"this profile has no broker: <{pk}> is run by the program that began it; end that.")
    node = load_node(pk)
    if not isinstance(node, ProcessNode):
        raise XastructError(f"<{pk}> is no process; choose another.")
    try:
        control.kill_processes([node], timeout=5)
    except AiidaException as error:
        raise XastructError(f"<{pk}> cannot be killed ({error}); `verdi process kill {pk}` may tell more.") from error

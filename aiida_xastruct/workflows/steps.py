"""Steps of work chains that are run again where the engine was killed, and find what they have done already."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from aiida.common.links import LinkType
from aiida.engine import ProcessBuilder, ProcessState, WorkChain
from aiida.manage import get_manager
from aiida.orm import CalcFunctionNode, ProcessNode, SinglefileData

LOGGER = logging.getLogger(__name__)

#: Why a file system may refuse to be written to for a while.
PASSING = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE})

#: Seconds between the tries to compute and store what it refuses.
WAITS = (5.0, 10.0, 20.0, 40.0)


def _wait_for_sqlite() -> None:
    """Let AiiDA's connection wait for SQLite's file, which a backup may lock, as long as for a repository; of itself it waits 5 s."""
    session = get_manager().get_profile_storage().get_session()
    if session.get_bind().dialect.name == "sqlite":
        session.connection().exec_driver_sql(f"PRAGMA busy_timeout = {1000 * sum(WAITS):.0f}")


def computed(function: Any, /, **inputs: Any) -> tuple[Any, ProcessNode]:
    """Outputs and node of a calcfunction, which is run again where the file system of AiiDA's repository refuses to be written to.

    A locked database of SQLite is waited for, here and in whatever the same worker does afterwards.

    It computes anew each time, so that what takes long, as a training, had better be called itself; and the worker waits, with all its
    other processes, for up to 75 s. AiiDA tries to send and fetch a job's files again; a calcfunction whose nodes cannot be stored takes
    the work chain with it.

    Raises:
        OSError: if the file system still refuses after the last of `WAITS`.
    """
    _wait_for_sqlite()
    for seconds in WAITS:
        try:
            return function.run_get_node(**inputs)
        except OSError as error:
            if error.errno not in PASSING:
                raise
            LOGGER.warning("%s cannot be stored, again in %g s: %s", function.__name__, seconds, error)
            time.sleep(seconds)
    return function.run_get_node(**inputs)


def fill(builder: ProcessBuilder, inputs: Mapping[str, Any]) -> ProcessBuilder:
    """The builder with these inputs, nodes or plain values, but those that are None, which are left to the defaults."""
    for name, value in inputs.items():
        if value is not None:
            setattr(builder, name, value)
    return builder


def builder_from_chunks(workflow: type[WorkChain], chunks: Iterable[SinglefileData], inputs: Mapping[str, Any]) -> ProcessBuilder:
    """Builder of a work chain over chunks as `structure_chunks` makes them; inputs that are None are left out."""
    from ..engine.screening import chunk_label

    return fill(workflow.get_builder(), {"structures": {chunk_label(number): node for number, node in enumerate(chunks)}, **inputs})


def process_of(parent: ProcessNode, label: str) -> ProcessNode | None:
    """The process that a work chain has called under a label, unless it was killed together with the work chain before it ended.

    A step is run again where the engine was killed before it noted the step's end; so each looks here first.
    """
    links = parent.base.links.get_outgoing(link_type=(LinkType.CALL_CALC, LinkType.CALL_WORK), link_label_filter=label)
    found = None
    for node in links.all_nodes():
        if node.is_terminated or not isinstance(node, CalcFunctionNode):
            # A calcfunction that raises takes the work chain with it. So one that has raised was ended from outside: by `verdi process
            # repair`, which finds no checkpoint of it, or with the connection to the database.
            found = found if node.is_killed or (node.is_excepted and isinstance(node, CalcFunctionNode)) else node
            continue
        # A calcfunction runs inside of the work chain's process: one that has not ended by now never will.
        node.set_process_state(ProcessState.KILLED)
        node.set_process_status("the engine was killed while it ran")
        node.seal()
    return found

"""A workflow that is run here and now, and ended by a signal with all that it began.

AiiDA's own way acts on a signal in the middle of whatever it was doing, a commit included, and ends the workflow only: neither the
workflows and calculations that it called, nor their jobs.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiida.common.exceptions import AiidaException
from aiida.engine import Process, ProcessBuilder, ProcessState
from aiida.engine.runners import Runner
from aiida.engine.utils import instantiate_process, loop_scope
from aiida.manage import get_manager
from aiida.orm import CalcJobNode, ProcessNode
from plumpy import KilledError

from ..engine.errors import XastructError

LOGGER = logging.getLogger(__name__)

#: Seconds between two looks whether a calculation has ended: nobody tells a runner without a broker, which by default looks once a minute.
POLL = 1.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_here(builder: ProcessBuilder) -> tuple[dict[str, Any], ProcessNode]:
    """Run a workflow in this process.

    Returns:
        its outputs and its node.

    Raises:
        XastructError: if SIGINT or SIGTERM stopped it; then nothing that it began is left.
        ValueError: if an input is refused.
    """
    return execute(instantiate_process(own_runner(), builder))


def own_runner() -> Runner:
    """A runner that asks no broker: everything that it begins runs in this process."""
    return get_manager().create_runner(communicator=None, poll_interval=POLL)


def execute(process: Process) -> tuple[dict[str, Any], ProcessNode]:
    """Run a process that an own runner has; returns and errors are those of `run_here`."""
    try:
        with loop_scope(process.loop), _ended_by_signals(process):
            process.execute()
    except KilledError as error:
        end_descendants(process.node)
        raise XastructError("the run was stopped; begin it again.") from error
    return dict(process.outputs), process.node


@contextmanager
def _ended_by_signals(process: Process) -> Iterator[None]:
    """Kill a process on a signal, when its event loop has finished what it is doing."""

    def kill() -> None:
        if not process.is_killing:
            process.kill(msg_text="Process was killed because the runner received an interrupt")

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        process.loop.add_signal_handler(number, kill)
    try:
        yield
    finally:
        for number, handler in before.items():
            process.loop.remove_signal_handler(number)
            signal.signal(number, handler)


def end_descendants(node: ProcessNode) -> list[ProcessNode]:
    """Kill the jobs that a killed workflow waited for, and record its unfinished children as killed.

    Only for a workflow that ran in this process, with all it called: nobody else goes on with them.

    Returns:
        the processes that were ended.
    """
    left = [child for child in node.called_descendants if not child.is_terminated]
    for child in left:
        if isinstance(child, CalcJobNode) and (job := child.get_job_id()) is not None:
            _kill(child, job)
        child.set_process_state(ProcessState.KILLED)
        child.set_process_status("Killed because the workflow that called it was killed.")
        child.delete_checkpoint()
        child.seal()
    return left


def _kill(node: CalcJobNode, job: str) -> None:
    """Ask the scheduler to end a job; of one that cannot be reached it is said so."""
    from psutil import NoSuchProcess

    try:
        with node.get_authinfo().get_transport() as transport:
            scheduler = node.computer.get_scheduler()
            scheduler.set_transport(transport)
            scheduler.kill_job(job)
    except NoSuchProcess:
        return  # it had ended already
    except (AiidaException, OSError) as error:
        LOGGER.warning("job %s of process %s could not be ended (%s); end it by the scheduler's own command.", job, node.pk, error)

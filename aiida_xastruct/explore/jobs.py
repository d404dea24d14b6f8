"""Processes that a page starts: each is an `aiida-xastruct` command of its own, so that it can be watched and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..engine.errors import XastructError

State = Literal["running", "done", "failed", "stopped"]

#: Jobs at once: each wants a core, and a page may be clicked often.
MOST_RUNNING = 4

#: Lines of a job's report that are kept, and seconds that a job has to stop by itself.
_MOST_LINES, _PATIENCE = 200, 20.0

_PROGRAM = "from aiida_xastruct.cli.root import cli; cli()"


@dataclass(eq=False)
class Job:
    """A command that runs, or ran.

    Attributes:
        number: of this run of the explorer, from 1.
        title: what it does.
        arguments: of `aiida-xastruct`.
        state: running, done, failed or stopped.
        started: seconds since 1970.
        ended: the same; None while it runs.
        lines: the last ones that it reported.
        answer: the JSON that it printed, once it is done.
        failure: why it failed, in a sentence.
    """

    number: int
    title: str
    arguments: tuple[str, ...]
    state: State = "running"
    started: float = field(default_factory=time.time)
    ended: float | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_LINES))
    answer: Any = None
    failure: str = ""
    _process: asyncio.subprocess.Process | None = None
    _finished: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return (self.ended or time.time()) - self.started

    async def result(self) -> Any:
        """What it printed as JSON, when it is done.

        Raises:
            XastructError: if it failed or was stopped.
        """
        await self._finished.wait()
        if self.state != "done":
            raise XastructError(self.failure)
        return self.answer


class Jobs:
    """The jobs of one explorer."""

    def __init__(self, profile: str, read_only: bool) -> None:
        """No job yet.

        Args:
            profile: name of AiiDA's profile.
            read_only: refuse to start or stop any.
        """
        self._profile, self._read_only = profile, read_only
        self.all: list[Job] = []
        #: What watches them; an event loop holds its tasks weakly.
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, title: str, arguments: Sequence[str]) -> Job:
        """Begin a command.

        Args:
            title: what it does.
            arguments: of `aiida-xastruct`; `--json` is added.

        Raises:
            XastructError: in read-only mode, or if `MOST_RUNNING` run already.
        """
        self._check()
        if sum(job.state == "running" for job in self.all) >= MOST_RUNNING:
            raise XastructError(f"{MOST_RUNNING} jobs run already; wait for one, or stop one on the page of jobs.")
        job = Job(len(self.all) + 1, title, tuple(arguments))
        # With a session of its own, so that Ctrl-C in the terminal does not reach it before `close`.
        job._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _PROGRAM, "--profile", self._profile, *arguments, "--json",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
            limit=1 << 24, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        self.all.append(job)
        task = asyncio.create_task(_watch(job, job._process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    async def stop(self, job: Job) -> None:
        """End a job, the processes of AiiDA in it, and what they run.

        Raises:
            XastructError: in read-only mode.
        """
        self._check()
        await _stop(job)

    async def close(self) -> None:
        """Stop everything."""
        await asyncio.gather(*(_stop(job) for job in self.all if job.state == "running"))

    def _check(self) -> None:
        if self._read_only:
            raise XastructError("the explorer is read only: it starts and stops nothing; start it without --read-only.")


async def _watch(job: Job, process: asyncio.subprocess.Process) -> None:
    """Take down what a job says until it ends."""
    assert process.stdout is not None
    assert process.stderr is not None
    output, _ = await asyncio.gather(process.stdout.read(), _read_lines(job, process.stderr))
    status = await process.wait()
    job.ended = time.time()
    if job.state == "running":
        job.state = "done" if status == 0 else "failed"
    if job.state == "done":
        try:
            job.answer = json.loads(output)
        except ValueError:
            job.state = "failed"
            job.lines.append(output.decode(errors="replace")[:500])
    if job.state == "failed":
        said = [line for line in job.lines if line.startswith("Error: ")]
        last = said[-1].removeprefix("Error: ") if said else job.lines[-1] if job.lines else f"exit status {status}"
        job.failure = f"{job.title} failed: {last}"
    job._finished.set()


async def _read_lines(job: Job, stream: asyncio.StreamReader) -> None:
    async for line in stream:
        text = line.decode(errors="replace").rstrip()
        if text:
            job.lines.append(text)


async def _stop(job: Job) -> None:
    process = job._process
    if process is None or job.state != "running":
        return
    job.state, job.failure = "stopped", f"{job.title} was stopped."
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(job._finished.wait(), _PATIENCE)
            return

"""Building the reference library: the processes that compute its sites."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ..errors import DatasetError, XastructError
from ..spectrum import atomic_number, element_symbol
from .compute import compute_record
from .library import default_library, library_keys, read_reference, shards
from .order import Excluded, RoundRobin, Task
from .sources import Source, open_source
from .state import FAILURES, RECORDS, REJECTED, Key, State, key_of


@dataclass(frozen=True)
class BuildOptions:
    """What a build computes.

    Attributes:
        source: see `open_source`; `path` is what it reads, where it reads a file or a folder.
        kinds: EXAFS, XANES or both.
        mix: share of the computing time that XANES gets where both are asked for.
        exafs_first: minutes at the start in which only EXAFS is computed.
        cores: worker processes. The whole build runs at the lowest priority.
        exclude: files of what to leave out; see `Excluded.read`.
        without: symbols of elements; structures that hold one of them are passed over.
        most_elements: structures of more elements are passed over; 1 leaves the elements themselves, None all.
        seed: order of elements and structures; random if None, so that two builds seldom meet.
        limit: stop after so many sites.
        library: folder whose sites are skipped like those of the state folder; None for no library.

    Raises:
        XastructError: for a value that makes no sense.
    """

    source: str = "amcsd"
    path: str = ""
    kinds: tuple[str, ...] = ("EXAFS", "XANES")
    mix: float = 0.5
    exafs_first: float = 0.0
    cores: int = 1
    exclude: tuple[Path, ...] = ()
    without: tuple[str, ...] = ()
    most_elements: int | None = None
    seed: int | None = None
    limit: int | None = None
    library: Path | None = field(default_factory=default_library)

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in ("EXAFS", "XANES"):
                raise XastructError(f"the kind {kind!r} is unknown; use EXAFS, XANES or both with a comma between them.")
        if not 0.0 <= self.mix <= 1.0:
            raise XastructError(f"mix is {self.mix}; give the share of the computing time for XANES, 0 to 1.")
        if self.cores < 1:
            raise XastructError(f"cores is {self.cores}; give at least 1.")
        for element in self.without:
            if element_symbol(atomic_number(element)) != element:
                raise XastructError(f"{element!r} is not the symbol of an element; give one such as 'O'.")
        if self.most_elements is not None and self.most_elements < 1:
            raise XastructError(f"most_elements is {self.most_elements}; give at least 1.")
        if self.library is not None and not self.library.is_dir():
            raise DatasetError(f"there is no library folder {self.library}; check the name, or leave it out.")


def _work(connection: Connection) -> None:
    """A worker: tasks in, records or reasons out, until the pipe closes. SIGTERM ends it with the FEFF it runs."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        started = time.process_time(), time.monotonic()
        try:
            answer: dict[str, Any] = compute_record(task)
        except Exception as error:  # whatever one structure provokes must not end the build; the reason is kept
            answer = {"reason": str(error) or type(error).__name__}
        answer["wall_seconds"] = round(time.monotonic() - started[1], 2)
        try:
            connection.send(answer)
        except BrokenPipeError:
            return


@dataclass
class Worker:
    """A worker process and the task that it is at."""

    process: multiprocessing.process.BaseProcess
    connection: Connection
    task: Task | None = None


@dataclass
class Progress:
    """What a build has done so far in this run; given to the caller after every site."""

    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    last: str = ""


def build(state: State, options: BuildOptions, report: Callable[[Progress], None] | None = None) -> Progress:
    """Compute sites until the source is exhausted, `limit` is reached, or the process is told to stop (SIGTERM, SIGINT).

    Where both kinds are asked for, a site with XANES gets its EXAFS too, which costs little beside it: only sites that have both say what
    the two tell together.

    Args:
        state: the folder that records go to; what it holds already is skipped, failures too.
        options: what to compute.
        report: called after every site.

    Raises:
        XastructError: if the source or the library cannot be read.
    """
    state.create()
    _yield_processor()
    open_source.cache_clear()  # files and folders may have changed since this process read them last
    known = _known(state, options)
    streams = _streams(state, options, known)
    both = len(options.kinds) == 2
    companions = _companions(state, options, known) if both else deque()
    progress = Progress()
    stopping = _stop_flag()
    workers = [_start() for _ in range(options.cores)]
    started = time.monotonic()
    limit = options.limit
    launched = 0
    try:
        while not stopping:
            for worker in workers:
                if worker.task is None and (streams or companions) and (limit is None or launched < limit):
                    if companions:
                        task: Task | None = companions.popleft()
                    else:
                        kind = _choose(streams, progress, workers, options.mix, time.monotonic() - started < 60.0 * options.exafs_first)
                        task = next(streams[kind], None)
                        if task is None:
                            del streams[kind]
                            continue
                    assert task is not None
                    worker.task = task
                    worker.connection.send(task)
                    launched += 1
            busy = [worker for worker in workers if worker.task is not None]
            if not busy and (not (streams or companions) or (limit is not None and launched >= limit)):
                break
            for ready in wait([worker.connection for worker in busy], timeout=1.0):
                index = next(i for i, worker in enumerate(workers) if worker.connection is ready)
                finished, computed = workers[index].task, progress.done["XANES"]
                workers[index] = _collect(workers[index], state, progress)
                if both and finished is not None and progress.done["XANES"] > computed:
                    companions.extend(_companion(finished, known))
                if report is not None:
                    report(progress)
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(10)
            if worker.process.is_alive():
                worker.process.kill()
    return progress


def _known(state: State, options: BuildOptions) -> set[Key]:
    """Keys of what the state folder and the library hold, failures too."""
    done, failed = state.known()
    return done | failed | (set(library_keys(options.library)) if options.library is not None else set())


def _streams(state: State, options: BuildOptions, known: set[Key]) -> dict[str, Iterator[Task]]:
    """The tasks of each kind, without those in `known`, to which each is added as it comes."""
    excluded = Excluded.read(list(options.exclude))
    rejected = {str(value["source_id"]) for value in state.lines(REJECTED) if value["source"] == options.source}
    seed = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed

    def reject(source_id: str, reason: str) -> None:
        state.append(REJECTED, {"source": options.source, "source_id": source_id, "reason": reason})

    return {
        kind: RoundRobin(
            options.source, options.path, seed + number, excluded, reject, rejected, options.without, options.most_elements
        ).tasks(kind, known)
        for number, kind in enumerate(options.kinds)
    }


def _companion(task: Task, known: set[Key]) -> list[Task]:
    """The EXAFS of the site of a XANES task, unless it is in `known`, to which it is added."""
    exafs = replace(task, kind="EXAFS")
    if exafs.key in known:
        return []
    known.add(exafs.key)
    return [exafs]


def _companions(state: State, options: BuildOptions, known: set[Key]) -> deque[Task]:
    """The EXAFS of sites of the AMCSD that have a XANES in the library or the state folder and no EXAFS, but those to leave out.

    Ids of other sources mean what they say in one folder or table only, which may not be the one at hand.
    """
    found: deque[Task] = deque()
    if options.source != "amcsd":
        return found
    alone = {key for key in known if key[4] == "XANES" and (*key[:4], "EXAFS") not in known}
    if not alone:
        return found
    collection, excluded = open_source(options.source), Excluded.read(list(options.exclude))
    held = read_reference(options.library, ("XANES",)) if options.library is not None and shards(options.library) else iter(())
    for record in [vars(record) for record in held] + [value for value in state.lines(RECORDS) if value["kind"] == "XANES"]:
        if key_of(record) in alone and not _left_out(str(record["source_id"]), collection, excluded):
            site = {name: record[name] for name in ("source_id", "site", "multiplicity", "absorber", "edge", "kind")}
            found.extend(_companion(Task(source=options.source, path=options.path, **site), known))
    return found


def _left_out(source_id: str, collection: Source, excluded: Excluded) -> bool:
    """Whether a crystal is not to be computed, or cannot be read any more."""
    try:
        return bool(excluded.reason(source_id, collection.structure(source_id)[0]))
    except XastructError:
        return True


def _choose(streams: dict[str, Iterator[Task]], progress: Progress, workers: list[Worker], mix: float, exafs_only: bool) -> str:
    """The kind to compute next, so that XANES gets the share `mix` of the computing time."""
    if len(streams) == 1 or (exafs_only and "EXAFS" in streams):
        return "EXAFS" if exafs_only and "EXAFS" in streams else next(iter(streams))
    # A XANES site under way counts with the mean of those before it, or 60 s, so that all workers do not start one at once.
    mean = progress.seconds["XANES"] / max(1, progress.done["XANES"] + progress.failed["XANES"]) or 60.0
    running = mean * sum(worker.task is not None and worker.task.kind == "XANES" for worker in workers)
    xanes = progress.seconds["XANES"] + running
    total = xanes + progress.seconds["EXAFS"] + 1e-9
    return "XANES" if xanes / total < mix else "EXAFS"


def _start() -> Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=False)
    process.start()
    theirs.close()
    return Worker(process, ours)


def _collect(worker: Worker, state: State, progress: Progress) -> Worker:
    """Take a worker's answer; a worker that died is replaced, and its task kept as a failure."""
    task = worker.task
    assert task is not None
    try:
        answer = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join(5)
        answer = {"reason": f"the worker died with status {worker.process.exitcode}.", "wall_seconds": 0.0}
        worker = _start()
    worker.task = None
    progress.seconds[task.kind] += answer["wall_seconds"]
    if "reason" in answer:
        progress.failed[task.kind] += 1
        identity = {
            "source": task.source,
            "source_id": task.source_id,
            "site": task.site,
            "absorber": task.absorber,
            "edge": task.edge,
            "kind": task.kind,
        }
        state.append(FAILURES, {**identity, **answer})
        progress.last = f"{task.source} {task.source_id} {task.absorber} {task.kind}: {answer['reason']}"
    else:
        progress.done[task.kind] += 1
        state.append(RECORDS, answer)
        progress.last = f"{task.source} {task.source_id} {task.absorber} {task.kind} {answer['wall_seconds']:.1f} s"
    return worker


def _yield_processor() -> None:
    """Take the lowest priority; where Linux shares the processor out by session, for the session too if it is this process's own."""
    os.nice(19)
    autogroup = Path("/proc/self/autogroup")
    if autogroup.exists() and os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            autogroup.write_text("19")


def _stop_flag() -> list[int]:
    """A list that is empty until the process is told to stop."""
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda value, _frame: received.append(value))
    return received

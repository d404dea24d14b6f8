"""Building the reference library: which site next, and the processes that compute it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import XastructError
from ..feff.deck import FeffParameters, resolve_edge, write_deck
from ..feff.output import read_folder
from ..feff.runner import run
from ..structure import inequivalent_absorbers, space_group
from .sources import MAX_ATOMS, fingerprint, open_source, structure_to_dict
from .state import FAILURES, RECORDS, REJECTED, Key, State, pack
from .thermal import draw_conditions, thermal_chi

#: Wall seconds a site may take on a machine that others use too; EXAFS takes 1 to 5 CPU seconds, XANES 10 to 60.
TIMEOUT = {"EXAFS": 600.0, "XANES": 3000.0}

#: FEFF settings of the library.
LIBRARY_PARAMETERS = {"EXAFS": FeffParameters(kind="EXAFS"), "XANES": FeffParameters(kind="XANES", protocol="fast")}


#: Facts of a run that its record keeps.
_NOTED = ("scf_converged", "scf_settled", "scf_iterations")


@dataclass(frozen=True)
class Task:
    """One site to compute."""

    source: str
    path: str
    source_id: str
    site: int
    multiplicity: int
    absorber: str
    edge: str
    kind: str

    @property
    def key(self) -> Key:
        """The key of the record that this task makes."""
        return (self.source, self.source_id, self.site, self.edge, self.kind)


class RoundRobin:
    """Sites of a source, one element after the other, so that any prefix is balanced.

    Each element has its structures in random order; a structure is read when its turn comes and gives all its inequivalent sites of that
    element, one a round. Structures that cannot be used are reported to `reject` with the reason, once.
    """

    def __init__(
        self, source: str, path: str, seed: int, excluded: Excluded, reject: Callable[[str, str], None], rejected: set[str]
    ) -> None:
        self._source, self._path = source, path
        self._collection = open_source(source, path)
        generator = random.Random(seed)
        self._structures: dict[str, deque[str]] = {}
        for element, ids in self._collection.ids_by_element().items():
            try:
                resolve_edge(element)
            except XastructError:
                continue
            shuffled = [value for value in ids if value not in rejected]
            generator.shuffle(shuffled)
            self._structures[element] = deque(shuffled)
        self._order = list(self._structures)
        generator.shuffle(self._order)
        self._sites: dict[str, deque[tuple[str, int, int]]] = {element: deque() for element in self._order}
        self._excluded, self._reject, self._rejected = excluded, reject, rejected

    def sites(self) -> Iterator[tuple[str, str, int, int]]:
        """(element, source id, site, multiplicity) for ever new sites, until no element has any."""
        while self._order:
            for element in list(self._order):
                found = self._next(element)
                if found is None:
                    self._order.remove(element)
                else:
                    yield (element, *found)

    def _next(self, element: str) -> tuple[str, int, int] | None:
        queue = self._sites[element]
        while not queue and self._structures[element]:
            queue.extend(self._read(self._structures[element].popleft(), element))
        return queue.popleft() if queue else None

    def _read(self, source_id: str, element: str) -> list[tuple[str, int, int]]:
        if source_id in self._rejected:
            return []
        try:
            structure, _ = self._collection.structure(source_id)
            if reason := self._excluded.reason(source_id, structure):
                raise XastructError(reason)
            return [(source_id, found.site, found.multiplicity) for found in inequivalent_absorbers(structure, element)]
        except XastructError as error:
            self._rejected.add(source_id)
            self._reject(source_id, str(error))
            return []


@dataclass(frozen=True)
class Excluded:
    """What must not be computed because it would be useless for training: ids, and reduced formula with space-group number."""

    ids: frozenset[str] = frozenset()
    formulas: frozenset[tuple[str, int]] = frozenset()

    @classmethod
    def read(cls, paths: list[Path]) -> Excluded:
        """From text files with one id, or one reduced formula and space-group number, a line."""
        ids, formulas = set(), set()
        for path in paths:
            for line in path.read_text().splitlines():
                words = line.split()
                if len(words) == 1:
                    ids.add(words[0])
                elif len(words) == 2 and words[1].isdigit():
                    formulas.add((words[0], int(words[1])))
                elif words:
                    raise XastructError(f"{path} holds {line!r}; give one id, or a formula and a space-group number, a line.")
        return cls(frozenset(ids), frozenset(formulas))

    def reason(self, source_id: str, structure: Any) -> str:
        """Why a structure is left out; empty if it is not."""
        if source_id in self.ids:
            return "excluded by id."
        formula = structure.composition.element_composition.reduced_formula
        if any(formula == name for name, _ in self.formulas) and (formula, space_group(structure)) in self.formulas:
            return f"excluded: {formula} in this space group is held out."
        return ""


def compute_record(task: Task) -> dict[str, Any]:
    """Compute one site: a JSON record for `State`.

    Raises:
        XastructError: if it cannot be computed, or the result fails the sanity check.
    """
    collection = open_source(task.source, task.path)
    structure, notes = collection.structure(task.source_id)
    parameters = LIBRARY_PARAMETERS[task.kind]
    with tempfile.TemporaryDirectory(prefix="xastruct-reference-") as scratch:
        folder = Path(scratch)
        (folder / "feff.inp").write_text(write_deck(structure, task.site, parameters))
        facts = run(folder, timeout=TIMEOUT[task.kind])
        result = read_folder(folder, task.absorber, task.edge, parameters.kind)
        if result.problems:
            raise XastructError("; ".join(result.problems))
        spectrum = result.spectrum
        record = {
            "source": task.source,
            "source_id": task.source_id,
            "source_version": collection.version,
            "fingerprint": fingerprint(structure),
            "site": task.site,
            "multiplicity": task.multiplicity,
            "absorber": task.absorber,
            "edge": task.edge,
            "kind": task.kind,
            "program": facts["version"],
            "settings": parameters.to_dict(),
            "notes": {**notes, **{name: value for name, value in result.facts.items() if name in _NOTED}},
            "uuid": str(uuid.uuid4()),
            "cpu_seconds": facts["cpu_seconds"],
            "e0": spectrum.e0,
            "energy": pack(spectrum.energy),
            "mu": pack(spectrum.mu.astype(np.float32)),
            "mu0": pack(np.asarray(spectrum.mu0, dtype=np.float32)),
        }
        if task.source != "amcsd":
            record["structure"] = structure_to_dict(structure)
        if task.kind == "EXAFS":
            conditions = draw_conditions(structure, f"{task.source}:{task.source_id}:{task.site}")
            record["conditions"] = conditions
            record["chi"] = pack(thermal_chi(folder, conditions).astype(np.float32))
    return record


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


def build(
    state: State,
    source: str = "amcsd",
    path: str = "",
    kinds: tuple[str, ...] = ("EXAFS", "XANES"),
    mix: float = 0.5,
    exafs_first: float = 0.0,
    cores: int = 1,
    excluded: Excluded | None = None,
    seed: int | None = None,
    limit: int | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Progress:
    """Compute sites until the source is exhausted, `limit` is reached, or the process is told to stop (SIGTERM, SIGINT).

    Args:
        state: the folder that records go to; what it holds already is skipped, failures too.
        source: see `open_source`.
        path: table of an npz source.
        kinds: EXAFS, XANES or both.
        mix: share of the computing time that XANES gets where both are asked for.
        exafs_first: minutes at the start in which only EXAFS is computed.
        cores: worker processes. The whole build runs at the lowest priority.
        excluded: what to leave out.
        seed: order of elements and structures; random if None, so that two builds seldom meet.
        limit: stop after so many sites.
        report: called after every site.
    """
    state.create()
    _yield_processor()
    done, failed = state.known()
    skip = done | failed
    rejected = {str(value["source_id"]) for value in state.lines(REJECTED) if value["source"] == source}
    seed = random.SystemRandom().randrange(2**31) if seed is None else seed

    def reject(source_id: str, reason: str) -> None:
        state.append(REJECTED, {"source": source, "source_id": source_id, "reason": reason})

    streams = {
        kind: _tasks(RoundRobin(source, path, seed + number, excluded or Excluded(), reject, rejected), source, path, kind, skip)
        for number, kind in enumerate(kinds)
    }
    progress = Progress()
    stopping = _stop_flag()
    workers = [_start() for _ in range(cores)]
    started = time.monotonic()
    launched = 0
    try:
        while not stopping:
            for worker in workers:
                if worker.task is None and streams and (limit is None or launched < limit):
                    kind = _choose(streams, progress, workers, mix, time.monotonic() - started < 60.0 * exafs_first)
                    task = next(streams[kind], None)
                    if task is None:
                        del streams[kind]
                        continue
                    worker.task = task
                    worker.connection.send(task)
                    launched += 1
            busy = [worker for worker in workers if worker.task is not None]
            if not busy and (not streams or (limit is not None and launched >= limit)):
                break
            for ready in wait([worker.connection for worker in busy], timeout=1.0):
                index = next(i for i, worker in enumerate(workers) if worker.connection is ready)
                workers[index] = _collect(workers[index], state, progress)
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


def _tasks(sites: RoundRobin, source: str, path: str, kind: str, skip: set[Key]) -> Iterator[Task]:
    for element, source_id, site, multiplicity in sites.sites():
        task = Task(source, path, source_id, site, multiplicity, element, resolve_edge(element), kind)
        if task.key not in skip:
            skip.add(task.key)
            yield task


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


__all__ = ["MAX_ATOMS", "Excluded", "Progress", "Task", "build", "compute_record"]

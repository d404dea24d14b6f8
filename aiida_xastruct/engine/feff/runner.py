"""Running FEFF: console script `xastruct-feff` on the feff.inp of the current folder, and one call from structure to spectrum.

The script holds its FEFF processes in one process group, and they end with it however it ends, so that a killed job leaves none.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import FeffError, XastructError
from .diagnose import diagnose
from .programs import ENGINE_MARK, FEFF8L_MODULES, FEFF8L_PRODUCTS, FEFF10_STAGES, engine_version, environment, executable

# Nothing else at the top: the script starts, and forks for each site, faster without pymatgen and numpy.
if TYPE_CHECKING:
    from pymatgen.core import Structure

    from .output import FeffResult
    from .parameters import FeffParameters

#: Exit statuses of `xastruct-feff`. 128 + signal when it was told to stop.
EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT = 0, 1, 2

#: Facts of a run that came to an end, beside FEFF's own files: engine, version, CPU seconds, and the error of one that failed.
RUN_FILE = "xastruct-feff.json"

#: Standard error of FEFF's programs. Where it is there and `RUN_FILE` is not, the run was killed: see `cut_short`.
ERROR_FILE = "xastruct-feff.err"

#: Locked by the `xastruct-feff` that is at work in a folder.
LOCK_FILE = ".xastruct-feff.lock"

#: CPU seconds after which a program hangs. FEFF 8.5L's potentials take one second, or, for some rare-earth metals, never end.
CPU_LIMITS = {"feff8l_pot": 15, "feff8l_xsph": 120}


def engine_of(deck: str) -> str | None:
    """The engine a deck was written for, from its mark; None for a deck that a user wrote."""
    for line in deck.splitlines()[:5]:
        if line.startswith(ENGINE_MARK):
            return line[len(ENGINE_MARK) :].strip()
    return None


def run(
    folder: Path | str,
    engine: str | None = None,
    modules: Sequence[str] | None = None,
    timeout: float | None = None,
    cpu_limit: int | None = None,
) -> dict[str, Any]:
    """Run FEFF on `folder`/feff.inp, in this folder.

    Args:
        folder: where feff.inp is and the output goes.
        engine: feff10 or feff8l; the deck's mark if None, FEFF10 where it has none.
        modules: modules of FEFF 8.5L or stages of FEFF10 to run; all that make a spectrum if None.
        timeout: seconds of wall time after which FEFF is stopped.
        cpu_limit: processor seconds that each stage may take, which a machine that others use as well does not shorten.

    Returns:
        engine, version, cpu_seconds, wall_seconds; also written to `RUN_FILE`, with the error if FEFF fails.

    Raises:
        FeffError: if there is no feff.inp, the engine is unknown or not installed, FEFF fails or runs out of time.
    """
    folder = Path(folder).resolve()
    path = folder / "feff.inp"
    if not path.is_file():
        raise FeffError(f"there is no feff.inp in {folder}; write one or change to its folder.")
    marked = engine_of(path.read_text(errors="replace"))
    chosen = engine or marked or "feff10"
    if chosen not in ("feff10", "feff8l"):
        raise FeffError(f"the engine {chosen!r} is unknown; use feff10 or feff8l.")
    version = engine_version(chosen)
    started, cpu = time.monotonic(), _children_cpu()
    for stale in ("xmu.dat", RUN_FILE):  # what an earlier run left must never pass for this one's
        (folder / stale).unlink(missing_ok=True)

    def facts() -> dict[str, Any]:
        seconds = {"cpu_seconds": round(_children_cpu() - cpu, 3), "wall_seconds": round(time.monotonic() - started, 3)}
        return {"engine": chosen, "version": version, **seconds}

    try:
        with process_group() as guard:
            for command in _commands(chosen, modules, own_deck=marked is None):
                left = None if timeout is None else timeout - (time.monotonic() - started)
                _execute(command, folder, left, guard.group, cpu_limit)
                _check_product(command, folder)
    except FeffError as error:
        _write_facts(folder, {**facts(), "error": str(error)})
        raise
    return _write_facts(folder, facts())


def _write_facts(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Write `RUN_FILE` at once or not at all."""
    scratch = folder / f".{RUN_FILE}"
    scratch.write_text(json.dumps(facts, indent=1) + "\n")
    scratch.replace(folder / RUN_FILE)
    return facts


def cut_short(folder: Path) -> bool:
    """Whether a run of `xastruct-feff` began in `folder` and was killed before it could say how it ended."""
    return (folder / ERROR_FILE).is_file() and not (folder / RUN_FILE).is_file()


def _commands(engine: str, modules: Sequence[str] | None, own_deck: bool) -> list[list[str]]:
    if engine == "feff8l":
        return [[str(executable(f"feff8l_{module}"))] for module in (modules or FEFF8L_MODULES)]
    # A user's deck may hold cards (LDOS, DANES, ...) that need the stages left out for decks of ours.
    stages = modules or (() if own_deck else FEFF10_STAGES)
    return [[sys.executable, "-c", _FEFF10_PROGRAM, *stages]]


#: FEFF10 runs its stages in worker processes of its own. An interpreter around them can be stopped as a group, which a thread cannot.
_FEFF10_PROGRAM = """
import sys
import feff10
stages = [feff10.Stage.from_name(name) for name in sys.argv[1:]] or None
try:
    feff10.FeffPipeline(feff10.FeffConfig.from_file(".", "feff.inp", stages=stages)).run()
except feff10.FeffError as error:
    sys.exit(str(error).splitlines()[0])
"""

#: The leader of the process group. Its standard input is never written to: that it ends is the sign that we are gone, even by SIGKILL.
_GUARD = ("/bin/sh", "-c", "trap '' HUP INT TERM; read nothing; kill -KILL 0")


class Guard(NamedTuple):
    """What ends a process group with the process that made it.

    Attributes:
        group: id of the group.
        pipe: whose end the guard learns by that this process is gone; one that it forks must close its own copy.
    """

    group: int
    pipe: int


@contextlib.contextmanager
def process_group() -> Iterator[Guard]:
    """A process group for FEFF's programs, all of which end with the block, or with this process if that is killed in it."""
    # Not a session of its own: Linux's autogroup scheduling shares the processor out by session, where nice would have no effect.
    quiet = subprocess.DEVNULL
    guard = subprocess.Popen(_GUARD, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, preexec_fn=os.setpgrp)  # nosec B603
    try:
        assert guard.stdin is not None  # a pipe
        yield Guard(guard.pid, guard.stdin.fileno())
    finally:
        # Also on KeyboardInterrupt and on the signals that `main` turns into SystemExit. The id is the guard's until `wait` has returned.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(guard.pid, signal.SIGKILL)
        guard.wait()
        if guard.stdin is not None:
            guard.stdin.close()


def _execute(command: list[str], folder: Path, timeout: float | None, group: int, cpu_limit: int | None = None) -> None:
    """Run one program in a process group, its output appended to xastruct-feff.out and `ERROR_FILE` in the folder.

    Raises:
        FeffError: if it ends with another status than 0, runs longer than `timeout` seconds or takes more processor time than it may.
    """
    name = "FEFF10" if command[0] == sys.executable else Path(command[0]).stem
    if timeout is not None and timeout <= 0:
        raise FeffError(f"FEFF ran out of time before {name}; allow more or use a faster protocol.")
    hangs = CPU_LIMITS.get(name)
    limit = min((seconds for seconds in (hangs, cpu_limit) if seconds is not None), default=None)
    with (folder / "xastruct-feff.out").open("ab") as out, (folder / ERROR_FILE).open("ab") as err:
        process = subprocess.Popen(  # nosec B603
            command,
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            preexec_fn=partial(_prepare, group, limit),
        )
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise FeffError(f"FEFF ran out of time in {name} after {timeout:.0f} s; allow more or use a faster protocol.") from error
        finally:
            process.kill()  # without effect on one that has ended; what it started ends with the group
            process.wait()
    if status == 0:
        return
    if status == -signal.SIGXCPU and hangs is not None and limit == hangs:
        raise FeffError(f"{name} hangs: it was stopped after {limit} CPU seconds where it takes few; use engine feff10.")
    lines = [line for line in (folder / ERROR_FILE).read_text(errors="replace").splitlines() if line.strip()]
    # FEFF10's stages are processes of its own, each with the limit; it says by which signal one ended.
    if limit is not None and (status == -signal.SIGXCPU or any("SIGXCPU" in line for line in lines)):
        raise FeffError(f"{name} was stopped after {limit} CPU seconds in one stage; allow more or use a faster protocol.")
    words = f": {lines[-1].strip()[:300]}" if lines else ""
    found = diagnose({path.name: path.read_text(errors="replace") for path in sorted(folder.glob("log*.dat"))})
    raise FeffError(f"{name} failed with status {status}{words}." + (f" {found}" if found.cause != "unknown" else ""))


def _prepare(group: int, cpu_limit: int | None) -> None:
    """In the new process: the process group, and an end to its CPU time where it has a limit."""
    os.setpgid(0, group)
    if cpu_limit is not None:
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        bound = cpu_limit + 5 if most == resource.RLIM_INFINITY else min(most, cpu_limit + 5)  # a queue's own limit can only be lowered
        resource.setrlimit(resource.RLIMIT_CPU, (min(cpu_limit, bound), bound))


def _check_product(command: list[str], folder: Path) -> None:
    """Raise FeffError if a module of FEFF 8.5L ended without its file."""
    module = Path(command[0]).stem.removeprefix("feff8l_")
    product = FEFF8L_PRODUCTS.get(module)
    if product is not None and not (folder / product).is_file():
        from .output import last_words

        raise FeffError(f"feff8l_{module} wrote no {product}; {last_words(folder)}")


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def compute(
    structure: Structure,
    site: int,
    parameters: FeffParameters | None = None,
    workdir: Path | str | None = None,
    timeout: float | None = None,
) -> FeffResult:
    """The FEFF spectrum of one absorber: deck, run, reading and sanity check in one call.

    Args:
        structure: an ordered crystal.
        site: 0-based index of the absorber.
        parameters: what to compute; a fast XANES at the edge people measure if None.
        workdir: folder to run in and keep; a temporary one if None.
        timeout: seconds of wall time.

    Raises:
        StructureError: if the structure cannot be used.
        FeffError: if FEFF cannot compute it, fails, or gives no usable output.
    """
    from ..structure import symbol
    from .deck import FeffParameters, resolve_edge, write_deck
    from .output import FeffResult, read_folder

    parameters = parameters or FeffParameters()
    if workdir is None:
        with tempfile.TemporaryDirectory(prefix="xastruct-feff-") as scratch:
            return compute(structure, site, parameters, scratch, timeout)
    folder = Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    absorber = symbol(structure, site)
    (folder / "feff.inp").write_text(write_deck(structure, site, parameters))
    facts = run(folder, timeout=timeout)
    settings = {**parameters.to_dict(), "version": facts["version"]}
    result = read_folder(folder, absorber, resolve_edge(absorber, parameters.edge), parameters.kind, settings)
    return FeffResult(result.spectrum, {**result.facts, **facts}, result.problems)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Wait until no other `xastruct-feff` is at work in `folder`, and keep others waiting; gives whether there was one."""
    import fcntl

    try:
        lock = (folder / LOCK_FILE).open("w")
    except OSError:  # no such folder, or none to write to: `run` says so
        yield False
        return
    with lock:
        followed = False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("xastruct-feff: another one is at work in this folder; waiting for it.", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
            followed = True
        except OSError:  # a file system without locks
            pass
        yield followed


def _ended_well(folder: Path) -> dict[str, Any] | None:
    """Facts of the run in `folder` if it came to a good end."""
    try:
        facts: dict[str, Any] = json.loads((folder / RUN_FILE).read_text())
    except (OSError, ValueError):
        return None
    return facts if "error" not in facts and (folder / "xmu.dat").is_file() else None


def _stop(number: int, _frame: object) -> None:
    """End with the status that a shell gives to a program that a signal ended; FEFF's programs end on the way out."""
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.write(2, f"xastruct-feff: stopped by {signal.Signals(number).name}.\n".encode())
    sys.exit(128 + number)


def _stop_at_once(number: int, _frame: object) -> None:
    """`_stop` without an exception, which Python ignores where a signal meets it in a destructor; the guard ends FEFF's programs."""
    with contextlib.suppress(OSError):
        os.write(2, f"xastruct-feff: stopped by {signal.Signals(number).name}.\n".encode())
    os._exit(128 + number)


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    found = argparse.ArgumentParser(
        prog="xastruct-feff",
        description="Run the FEFF that came with aiida-xastruct on feff.inp in a folder.",
        epilog="`xastruct-feff batch --help`: on many folders, some at a time.",
    )
    found.add_argument("folder", nargs="?", default=".", help="folder with feff.inp (default: the current one)")
    found.add_argument("--engine", choices=("feff10", "feff8l"), help="default: as the deck says, else feff10")
    found.add_argument("--timeout", type=float, help="stop after so many seconds")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Console script `xastruct-feff [--engine NAME] [FOLDER]`: run the bundled FEFF; the exit status is 0, 1 (failed) or 2 (bad input).

    `xastruct-feff batch ...` runs many sites, see `batch.batch_main`.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    several = arguments[:1] == ["batch"]
    for number in (signal.SIGTERM, signal.SIGHUP) if several else (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup asks to ignore SIGHUP
            signal.signal(number, _stop if several else _stop_at_once)
    if several:
        from .batch import batch_main

        return batch_main(arguments[1:])
    options = parser().parse_args(arguments)
    try:
        with _alone(Path(options.folder)) as followed:
            # A daemon that is killed while it submits a job submits it again: two of them in one folder.
            done = _ended_well(Path(options.folder)) if followed else None
            facts = done or run(options.folder, options.engine, timeout=options.timeout)
    except XastructError as error:
        print(f"xastruct-feff: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT if "feff.inp in" in str(error) else EXIT_FAILED
    print(f"{facts['version']}: {facts['cpu_seconds']:.1f} CPU s, {facts['wall_seconds']:.1f} s")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

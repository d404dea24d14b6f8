"""Running FEFF: console script `xastruct-feff` on the feff.inp of the current folder, and one call from structure to spectrum.

The script holds its FEFF processes in one process group and takes them with it when it is told to stop, so that a killed job leaves none.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from ..errors import FeffError, XastructError
from ..structure import symbol
from .deck import ENGINE_MARK, FeffParameters, resolve_edge, write_deck
from .diagnose import diagnose
from .output import FeffResult, last_words, read_folder
from .programs import FEFF8L_MODULES, FEFF8L_PRODUCTS, FEFF10_STAGES, engine_version, environment, executable

#: Exit statuses of `xastruct-feff`. 128 + signal when it was told to stop.
EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT = 0, 1, 2

#: Facts of the run beside FEFF's own files: engine, version, CPU seconds, stages.
RUN_FILE = "xastruct-feff.json"

#: CPU seconds after which a program hangs. FEFF 8.5L's potentials take one second, or, for some rare-earth metals, never end.
CPU_LIMITS = {"feff8l_pot": 60, "feff8l_xsph": 120}


def engine_of(deck: str) -> str | None:
    """The engine a deck was written for, from its mark; None for a deck that a user wrote."""
    for line in deck.splitlines()[:5]:
        if line.startswith(ENGINE_MARK):
            return line[len(ENGINE_MARK) :].strip()
    return None


def run(
    folder: Path | str, engine: str | None = None, modules: Sequence[str] | None = None, timeout: float | None = None
) -> dict[str, Any]:
    """Run FEFF on `folder`/feff.inp, in this folder.

    Args:
        folder: where feff.inp is and the output goes.
        engine: feff10 or feff8l; the deck's mark if None, FEFF10 where it has none.
        modules: modules of FEFF 8.5L or stages of FEFF10 to run; all that make a spectrum if None.
        timeout: seconds of wall time after which FEFF is stopped.

    Returns:
        engine, version, cpu_seconds, wall_seconds; also written to `RUN_FILE`.

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
    (folder / "xmu.dat").unlink(missing_ok=True)  # what an earlier run left must never pass for this one's
    for command in _commands(chosen, modules, own_deck=marked is None):
        left = None if timeout is None else timeout - (time.monotonic() - started)
        _execute(command, folder, left)
        _check_product(command, folder)
    facts = {
        "engine": chosen,
        "version": version,
        "cpu_seconds": round(_children_cpu() - cpu, 3),
        "wall_seconds": round(time.monotonic() - started, 3),
    }
    (folder / RUN_FILE).write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def _commands(engine: str, modules: Sequence[str] | None, own_deck: bool) -> list[list[str]]:
    if engine == "feff8l":
        return [[str(executable(f"feff8l_{module}"))] for module in (modules or FEFF8L_MODULES)]
    # A user's deck may hold cards (LDOS, DANES, ...) that need the stages left out for decks of ours.
    stages = modules or (() if own_deck else FEFF10_STAGES)
    return [[sys.executable, "-c", _FEFF10_PROGRAM, *stages]]


#: FEFF10 runs its stages in worker processes of its own. An interpreter around them can be stopped as a group, which a thread cannot; and
#: when its parent is gone, even by SIGKILL, its standard input ends, and it takes its workers with it.
_FEFF10_PROGRAM = """
import os, signal, sys, threading
import feff10

def watch():
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)

threading.Thread(target=watch, daemon=True).start()
stages = [feff10.Stage.from_name(name) for name in sys.argv[1:]] or None
try:
    feff10.FeffPipeline(feff10.FeffConfig.from_file(".", "feff.inp", stages=stages)).run()
except feff10.FeffError as error:
    sys.exit(str(error).splitlines()[0])
"""


def _execute(command: list[str], folder: Path, timeout: float | None) -> None:
    """Run one program in its own process group, its output appended to xastruct-feff.out and xastruct-feff.err in the folder.

    Raises:
        FeffError: if it ends with another status than 0 or runs longer than `timeout` seconds.
    """
    name = "FEFF10" if command[0] == sys.executable else Path(command[0]).stem
    if timeout is not None and timeout <= 0:
        raise FeffError(f"FEFF ran out of time before {name}; allow more or use a faster protocol.")
    with (folder / "xastruct-feff.out").open("ab") as out, (folder / "xastruct-feff.err").open("ab") as err:
        # The pipe to its standard input is never written to; that it ends is the sign that we are gone. A process group of its own, but not
        # a session of its own: Linux's autogroup scheduling shares the processor out by session, where nice would have no effect.
        limit = CPU_LIMITS.get(name)
        process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdin=subprocess.PIPE, stdout=out, stderr=err, preexec_fn=partial(_prepare, limit)
        )
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise FeffError(f"FEFF ran out of time in {name} after {timeout:.0f} s; allow more or use a faster protocol.") from error
        finally:
            # Also on KeyboardInterrupt and on SIGTERM, which `main` turns into SystemExit.
            _kill_group(process)
    if status == -signal.SIGXCPU:
        raise FeffError(f"{name} hangs: it was stopped after {limit} CPU seconds where it takes one; use engine feff10.")
    if status != 0:
        lines = [line for line in (folder / "xastruct-feff.err").read_text(errors="replace").splitlines() if line.strip()]
        words = f": {lines[-1].strip()[:300]}" if lines else ""
        found = diagnose({path.name: path.read_text(errors="replace") for path in sorted(folder.glob("log*.dat"))})
        raise FeffError(f"{name} failed with status {status}{words}." + (f" {found}" if found.cause != "unknown" else ""))


def _prepare(cpu_limit: int | None) -> None:
    """In the new process: a process group of its own, and an end to its CPU time where it has a limit."""
    os.setpgrp()
    if cpu_limit is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_limit, cpu_limit + 5))


def _check_product(command: list[str], folder: Path) -> None:
    """Raise FeffError if a module of FEFF 8.5L ended without its file."""
    module = Path(command[0]).stem.removeprefix("feff8l_")
    product = FEFF8L_PRODUCTS.get(module)
    if product is not None and not (folder / product).is_file():
        raise FeffError(f"feff8l_{module} wrote no {product}; {last_words(folder)}")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Console script `xastruct-feff [--engine NAME] [FOLDER]`: run the bundled FEFF; the exit status is 0, 1 (failed) or 2 (bad input)."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="xastruct-feff", description="Run the FEFF that came with aiida-xastruct on feff.inp in a folder."
    )
    parser.add_argument("folder", nargs="?", default=".", help="folder with feff.inp (default: the current one)")
    parser.add_argument("--engine", choices=("feff10", "feff8l"), help="default: as the deck says, else feff10")
    parser.add_argument("--timeout", type=float, help="stop after so many seconds")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        facts = run(options.folder, options.engine, timeout=options.timeout)
    except XastructError as error:
        print(f"xastruct-feff: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT if "feff.inp in" in str(error) else EXIT_FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    print(f"{facts['version']}: {facts['cpu_seconds']:.1f} CPU s, {facts['wall_seconds']:.1f} s")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

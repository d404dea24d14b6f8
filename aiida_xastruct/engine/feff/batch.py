"""Many FEFF runs in one job: `xastruct-feff batch` runs every sub-folder that holds a feff.inp, one after the other or some at a time.

Each runs in a forked process of its own, so that one that fails, hangs or is killed leaves the others alone, and so that Python starts
once for all of them (1 s, where FEFF 8.5L takes as long for a site).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import sys
import tarfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import FeffError
from .programs import engine_version
from .runner import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_OK, Guard, main, process_group

#: What became of each site: `{"wall_seconds": ..., "cores": ..., "sites": {sub-folder: Ran}}`, written at the start and after each.
REPORT_FILE = "xastruct-feff-batch.json"

#: What each site wrote that is read again, under `sub-folder/file`; a site is added when it has ended. One file, for a remote computer and
#: AiiDA's repository take as long for a small file as for a large one; not compressed, so that one that is cut off can be read up to there.
ARCHIVE_FILE = "xastruct-feff-batch.tar"

#: What a member of it is called: site and file, neither of them hidden or a way out of the folder.
_MEMBER = re.compile(r"([\w#:-][\w.#:+-]{0,200})/([\w-][\w.+-]{0,100})")

#: Bytes of one output of FEFF at most.
_MOST_BYTES = 100_000_000

#: Files of a site that go into the archive.
KEPT = ("xmu.dat", "log*.dat", "xastruct-feff.json", "xastruct-feff.err", "xastruct-feff.stderr")

#: Status in the report of a site that was not started because the time of the batch was over.
NOT_STARTED = 254


@dataclass(frozen=True)
class Ran:
    """How the run of a site ended.

    Attributes:
        status: as `xastruct-feff` ends; minus the signal's number if it was killed; `NOT_STARTED`.
        wall_seconds, cpu_seconds: its own and those of the programs that it ran.
    """

    status: int
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0


def run_batch(
    folder: Path | str,
    cores: int = 1,
    timeout: float | None = None,
    total: float | None = None,
    report: Callable[[str, Ran], None] | None = None,
) -> dict[str, Ran]:
    """Run FEFF in every sub-folder of `folder` that holds a feff.inp, in alphabetical order.

    Each sub-folder gets the files that `xastruct-feff` would leave there, its messages in xastruct-feff.log and xastruct-feff.stderr. All
    of FEFF ends with this process, however that ends.

    Args:
        folder: the sub-folders are in it; `REPORT_FILE` and `ARCHIVE_FILE` are written to it.
        cores: sites that run at a time.
        timeout: seconds of wall time for each site.
        total: seconds of wall time for all; what runs then is stopped, what waits is not started.
        report: called after each site.

    Returns:
        how each ended, by the name of its sub-folder.

    Raises:
        FeffError: if no sub-folder holds a feff.inp, or a limit is not positive.
    """
    folder = Path(folder).resolve()
    for name, value in (("cores", cores), ("timeout", timeout), ("total", total)):
        if value is not None and not value > 0:
            raise FeffError(f"{name} is {value:g}; give a positive number.")
    (folder / ARCHIVE_FILE).unlink(missing_ok=True)
    waiting = deque(sorted(path.parent for path in folder.glob("*/feff.inp")))
    if not waiting:
        raise FeffError(f"there is no sub-folder with a feff.inp in {folder}; write one for each site.")
    started = time.monotonic()
    ended: dict[str, Ran] = {}
    running: dict[int, tuple[Path, float]] = {}

    # At once: that it is there says that this script, and no other program, was run.
    _write_report(folder, ended, cores, 0.0)

    def note(site: Path, ran: Ran) -> None:
        ended[site.name] = ran
        _archive(folder, site)
        _write_report(folder, ended, cores, time.monotonic() - started)
        if report is not None:
            report(site.name, ran)

    for engine in ("feff8l", "feff10"):
        with contextlib.suppress(FeffError):  # a site that needs it says so
            engine_version(engine)  # found once, before the sites fork, not once in each

    with process_group() as guard:
        while waiting or running:
            left = None if total is None else total - (time.monotonic() - started)
            while waiting and len(running) < cores and (left is None or left > 0):
                site = waiting.popleft()
                limits = [limit for limit in (timeout, left) if limit is not None]
                running[_fork(site, guard, min(limits, default=None))] = (site, time.monotonic())
            if not running:
                for site in waiting:
                    _say(site, "FEFF ran out of time before this site was started; allow the job more or put fewer sites into it.")
                    note(site, Ran(NOT_STARTED))
                break
            pid, status, usage = os.wait3(0)
            if pid in running:
                site, since = running.pop(pid)
                code = os.waitstatus_to_exitcode(status)
                if code < 0:
                    _say(site, f"the process of this site was killed by {signal.Signals(-code).name}.")
                note(site, Ran(code, round(time.monotonic() - since, 3), round(usage.ru_utime + usage.ru_stime, 3)))
    return ended


def read_report(folder: Path) -> dict[str, Ran]:
    """How the sites of a batch in `folder` ended; those that were still running or waiting when it was killed are not in it."""
    try:
        return {name: Ran(**values) for name, values in json.loads((folder / REPORT_FILE).read_text())["sites"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of an archive to sub-folders of `folder`; where the archive is cut off, those of the sites before.

    Only plain files `SITE/NAME` of plain names are written, none that is larger than any output of FEFF. The archive is not compressed:
    one that is could ask for any memory.
    """
    if not archive.is_file():
        return
    with contextlib.suppress(tarfile.TarError, EOFError, OSError, ValueError, OverflowError), tarfile.open(archive, "r:") as tar:
        for member in tar:
            place = _MEMBER.fullmatch(member.name)
            if place is None or not member.isfile() or member.size > _MOST_BYTES or (folder / place[1]).is_file():
                continue
            content = tar.extractfile(member)
            if content is not None:
                (folder / place[1]).mkdir(exist_ok=True)
                (folder / place[1] / place[2]).write_bytes(content.read())


def _archive(folder: Path, site: Path) -> None:
    """Add the files of a site to the archive."""
    with tarfile.open(folder / ARCHIVE_FILE, "a") as tar:
        for pattern in KEPT:
            for path in sorted(site.glob(pattern)):
                tar.add(path, f"{site.name}/{path.name}")


def _fork(site: Path, guard: Guard, timeout: float | None) -> int:
    """Process id of a process of the group that runs `xastruct-feff` in the folder of a site."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    pid = os.fork()
    if pid:
        return pid
    status = EXIT_FAILED
    try:
        os.setpgid(0, guard.group)
        # No other file is closed: libraries that this process has loaded hold theirs, and pyarrow aborts where they are gone.
        os.close(guard.pipe)
        for number, name in ((1, "xastruct-feff.log"), (2, "xastruct-feff.stderr")):
            os.dup2(os.open(site / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        # Python's own streams may be others than 1 and 2, in a notebook for instance.
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        status = main([str(site), *([] if timeout is None else ["--timeout", str(timeout)])])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else EXIT_FAILED
    except BaseException as error:  # whatever a site provokes, the process must not return into the batch
        print(f"xastruct-feff: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _say(site: Path, words: str) -> None:
    with (site / "xastruct-feff.stderr").open("a") as stream:
        stream.write(f"xastruct-feff: {words}\n")


def _write_report(folder: Path, ended: dict[str, Ran], cores: int, seconds: float) -> None:
    """Write `REPORT_FILE` at once or not at all."""
    content = {"cores": cores, "wall_seconds": round(seconds, 3), "sites": {name: asdict(ran) for name, ran in ended.items()}}
    scratch = folder / f".{REPORT_FILE}"
    scratch.write_text(json.dumps(content, indent=1) + "\n")
    scratch.replace(folder / REPORT_FILE)


def parser() -> argparse.ArgumentParser:
    """What the command line of `batch` may say."""
    found = argparse.ArgumentParser(prog="xastruct-feff batch", description="Run FEFF in every sub-folder that holds a feff.inp.")
    found.add_argument("folder", nargs="?", default=".", help="folder of the sub-folders (default: the current one)")
    found.add_argument("--cores", type=int, default=1, help="sites that run at a time (default: 1)")
    found.add_argument("--timeout", type=float, help="stop a site after so many seconds")
    found.add_argument("--total", type=float, help="stop the batch after so many seconds")
    return found


def batch_main(arguments: Sequence[str]) -> int:
    """`xastruct-feff batch [FOLDER]`: the exit status is 0 (all sites well), 1 (some or all failed) or 2 (bad input)."""
    options = parser().parse_args(arguments)

    def report(name: str, ran: Ran) -> None:
        words = "ok" if ran.status == EXIT_OK else "not started" if ran.status == NOT_STARTED else f"failed ({ran.status})"
        print(f"{name}: {words}, {ran.cpu_seconds:.1f} CPU s, {ran.wall_seconds:.1f} s", flush=True)

    try:
        ended = run_batch(options.folder, options.cores, options.timeout, options.total, report)
    except FeffError as error:
        print(f"xastruct-feff: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("xastruct-feff: stopped by SIGINT.", file=sys.stderr)
        return 128 + signal.SIGINT
    return EXIT_OK if all(ran.status == EXIT_OK for ran in ended.values()) else EXIT_FAILED

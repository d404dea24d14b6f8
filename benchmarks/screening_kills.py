"""A screening under the daemon that is killed again and again, and whether it ends with the rows of one that was left alone.

    python benchmarks/screening_kills.py --n 10000 --crystals 10000 --absorber Mg --cache features.sqlite --json kills.json
    python benchmarks/screening_kills.py --table kills.json > docs/reference/screening_kills.md

Crystals as in `benchmarks/screening.py`. The undisturbed run is one by `run`, in a profile of its own (SQLite, no services). The disturbed
one is submitted to a real daemon of one worker, broker `core.zeromq`, on SQLite or on a PostgreSQL server of its own (`--backend`). At
`--kills` moments drawn with `--seed`, of kinds drawn so that all come, something dies:

- *engine*: the worker, by SIGKILL;
- *daemon*: all of it at once, by SIGKILL: circus, worker and broker;
- *database*: every connection to the database, by `pg_terminate_backend` (PostgreSQL only).

A moment is uniform between the screening at work and the time that the undisturbed run took, divided by twice the number of kills. What is
done then is what the guide says (docs/howto/screening.md): start a daemon that is gone; where nothing goes on then, `verdi daemon stop`,
`verdi process repair`, `verdi daemon start`; where the screening has ended for good without a table, begin it again. Compared are the bytes
of the table's file and of all arrays. Nothing of this asks AiiDA in the process that kills: it reads the database itself.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import profiles
import psutil
from pages import described, parse
from screening import SHARED, entries

BIN = Path(sys.executable).parent

#: Beside a server that another benchmark runs.
PORT = 5443

#: Seconds after which what was killed does not go on by itself, and after which nothing is to be waited for.
DOUBT, PATIENCE = 60.0, 3600.0

#: A screening's state, and what changes wherever it goes on.
STATE = "SELECT attributes FROM db_dbnode WHERE id = {pk}"
ENDED, DONE = ("finished", "excepted", "killed"), ("finished", 0)
CHILDREN = "SELECT COUNT(*), MAX(mtime) FROM db_dbnode WHERE id >= {pk}"


class Killed:
    """The profile whose daemon is killed."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.folder, self.backend = folder, backend

    def ask(self, question: str) -> tuple[Any, ...]:
        """First row of an answer of the database."""
        if self.backend == "sqlite":
            with contextlib.closing(sqlite3.connect(self.folder / "storage" / "database.sqlite", timeout=60)) as database:
                return tuple(database.execute(question).fetchone())
        import psycopg

        with psycopg.connect(host="127.0.0.1", port=PORT, user="postgres", dbname="benchmark", application_name="looks on") as connection:
            row = connection.execute(question).fetchone()
            return tuple(row) if row is not None else ()

    def state(self, pk: int) -> tuple[str, int | None]:
        """Process state and exit status."""
        (found,) = self.ask(STATE.format(pk=pk))
        attributes = json.loads(found) if isinstance(found, str) else found
        return attributes["process_state"], attributes.get("exit_status")

    def verdi(self, *arguments: str) -> None:
        """Run `verdi` as a user does."""
        # A home of its own: a shell killed while it reads the user's profile may leave a lock there that each later one waits for.
        own = {"AIIDA_PATH": str(self.folder), "HOME": str(self.folder), "PATH": f"{BIN}:{os.environ['PATH']}"}
        environment = {**os.environ, **own}
        command = [str(BIN / "verdi"), "-p", "benchmark", *arguments]
        done = subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode:
            raise SystemExit(f"verdi {' '.join(arguments)}: {done.stdout}{done.stderr}")

    def start(self) -> None:
        """The daemon, with one worker."""
        self.verdi("daemon", "start", "1", "--timeout", "600")

    def restart(self) -> None:
        """What the guide says."""
        self.verdi("daemon", "stop", "--timeout", "600")
        self.verdi("process", "repair")
        self.start()

    def processes(self, *words: str) -> list[psutil.Process]:
        """The daemon's, whose command holds all of the words."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process.environ().get("AIIDA_PATH", "").startswith(str(self.folder)) and process.pid != os.getpid()
                command = process.cmdline()
                if ours and process.status() != psutil.STATUS_ZOMBIE and all(word in command for word in words):
                    found.append(process)
        return found

    def kill(self, kind: str) -> None:
        """See the head of this file."""
        if kind == "database":
            others = "datname = 'benchmark' AND application_name <> 'looks on'"
            self.ask(f"SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {others}")
            return
        # Circus first, and the others when it is gone: it would start them anew.
        for words in [("daemon", "worker")] if kind == "engine" else [("start-circus",), ()]:
            for process in self.processes(*words):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def soon(condition: Callable[[], Any], seconds: float) -> Any:
    """The first true value of a condition, asked once a second, or its last."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(1.0)
    return value


def disturb(site: Killed, options: argparse.Namespace, pk: int, seconds: float) -> tuple[int, list[dict[str, Any]]]:
    """Kill, and do what the guide says; the screening that ends, and what was done."""
    draw = random.Random(options.seed)
    kinds = ["engine", "daemon"] + (["database"] if site.backend == "postgresql" else [])
    order = [kinds[number % len(kinds)] for number in range(options.kills)]
    draw.shuffle(order)
    told = []
    for kind in order:
        moment = draw.uniform(0.0, seconds / (2 * options.kills))
        soon(lambda: site.processes("daemon", "worker"), DOUBT)
        time.sleep(moment)
        if site.state(pk) == DONE:
            break
        pk = mended(site, options, pk, told)
        began = time.monotonic()
        site.kill(kind)
        before = site.ask(CHILDREN.format(pk=pk))
        changed = lambda old=before, now=pk: site.ask(CHILDREN.format(pk=now)) != old  # noqa: E731
        recovery = "by itself"
        if kind == "daemon":
            recovery = "daemon start"
            site.start()
        if not soon(changed, DOUBT):
            recovery = "daemon stop, process repair, daemon start"
            site.restart()
            if not soon(changed, PATIENCE):
                raise SystemExit(f"the screening does not go on after a kill of the {kind}.")
        told.append({"kind": kind, "after_s": moment, "recovery": recovery, "recovered_s": time.monotonic() - began})
        print(told[-1], flush=True)
    while True:
        if not soon(lambda now=pk: site.state(now)[0] in ENDED, PATIENCE):
            raise SystemExit("the screening does not end.")
        if site.state(pk) == DONE:
            return pk, told
        pk = mended(site, options, pk, told)


def mended(site: Killed, options: argparse.Namespace, pk: int, told: list[dict[str, Any]]) -> int:
    """The screening, begun again where it has ended for good without its table."""
    state = site.state(pk)
    if state[0] not in ENDED or state == DONE:
        return pk
    told[-1]["recovery"] += f"; {state[0]} ({state[1]}), begun again"
    return int(driver(options, site.folder, "submit")["pk"])


def load(folder: Path, backend: str, broker: str | None) -> None:
    """Make and load a profile in the folder; nothing of the user's own is touched."""
    os.environ["AIIDA_PATH"] = str(folder)
    (folder / ".aiida").mkdir(parents=True, exist_ok=True)
    from aiida import load_profile
    from aiida.manage.configuration import create_profile, get_config

    storage: dict[str, Any] = {"filepath": str(folder / "storage")}
    if backend == "postgresql":
        storage = {
            "database_engine": "postgresql_psycopg", "database_hostname": "127.0.0.1", "database_port": PORT,
            "database_username": "postgres", "database_password": "",
            "database_name": "benchmark", "repository_uri": (folder / "repository").as_uri(),
        }  # fmt: skip
    config = get_config(create=True)
    if "benchmark" not in config.profile_names:
        create_profile(
            config, name="benchmark", email="benchmark@localhost", storage_config=storage,
            storage_backend=f"core.{'sqlite' if backend == 'sqlite' else 'psql'}_dos", broker_backend=broker,
            broker_config={} if broker else None,
        )  # fmt: skip
        config.set_default_profile("benchmark")
        config.store()
    load_profile("benchmark")


def builder(options: argparse.Namespace) -> Any:
    """Of the screening."""
    from aiida_xastruct.tools.structures import structure_chunks
    from aiida_xastruct.workflows.screen import ScreenWorkChain

    chunks = structure_chunks(entries(options, options.n, {"reading": 0.0}), options.chunk_size)
    return ScreenWorkChain.get_builder_from_chunks(
        chunks, kind=options.kind, absorber=options.absorber, cache=str(options.cache.absolute())
    )


def answer(node: Any) -> dict[str, str]:
    """What is compared of a screening: hashes of the table's file and of each array."""
    found = {"table": hashlib.sha256(node.outputs.table.get_content(mode="rb")).hexdigest()}
    for label in sorted(node.outputs.spectra):
        for name in ("grid", "mu", "half_band"):
            array = node.outputs.spectra[label].get_array(name)
            found[f"{label} {name}"] = hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()
    return found


def part(options: argparse.Namespace) -> Any:
    """What a process of its own does, in which AiiDA is loaded: run undisturbed, make a profile, submit, or look at an answer."""
    if options.part == "quiet":
        load(options.folder, "sqlite", None)
        from aiida.engine import run_get_node

        began = time.perf_counter()
        _, node = run_get_node(builder(options))
        return {"seconds": time.perf_counter() - began, "status": node.exit_status, "rows": len(node.outputs.table), **_spectra(node)}
    load(options.folder, options.backend, "core.zeromq")
    from aiida.engine import submit
    from aiida.manage import get_manager
    from aiida.orm import load_node

    if options.part == "profile":
        return {}
    if options.part == "submit":
        if not soon(lambda: get_manager().get_broker().check_service_reachable(), DOUBT):
            raise SystemExit("the daemon's broker does not answer.")
        get_manager().reset_broker()
        return {"pk": submit(builder(options)).pk}
    node = load_node(int(options.part))
    batches = [one for one in node.called if one.process_label == "predict_batch"]
    finished = sum(one.is_finished_ok for one in batches)
    return {"status": node.exit_status, "rows": len(node.outputs.table), "finished": finished, **_spectra(node)}


def _spectra(node: Any) -> dict[str, Any]:
    return {"spectra": node.outputs.table.base.attributes.get("n_spectra"), "answer": answer(node)}


def driver(options: argparse.Namespace, folder: Path, what: object) -> dict[str, Any]:
    """A part in a process of its own; its result."""
    names = ("n", "structures", "kind", "absorber", "crystals", "cache", "chunk_size", "backend")
    given = {name.replace("_", "-"): value for name in names if (value := getattr(options, name)) is not None}
    arguments = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        command = [sys.executable, __file__, *arguments, "--part", str(what), "--folder", str(folder), "--json", result.name]
        subprocess.run(command, check=True)
        found: dict[str, Any] = json.loads(Path(result.name).read_text())
    return found


@contextlib.contextmanager
def server(folder: Path, backend: str) -> Iterator[None]:
    """The database's, where it has one."""
    if backend == "sqlite":
        yield
        return
    profiles.PORT = PORT
    with profiles.postgresql(folder):
        subprocess.run(["createdb", "-h", "127.0.0.1", "-p", str(PORT), "-U", "postgres", "benchmark"], check=True)
        yield


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both runs, and whether they end alike."""
    with tempfile.TemporaryDirectory(prefix="xastruct-kills-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)  # the server's user has to get to its cluster
        quiet = driver(options, folder / "quiet", "quiet")
        with server(folder, options.backend):
            site = Killed(folder / "killed", options.backend)
            site.folder.mkdir()
            driver(options, site.folder, "profile")
            try:
                site.start()
                pk = int(driver(options, site.folder, "submit")["pk"])
                began = time.perf_counter()
                pk, kills = disturb(site, options, pk, quiet["seconds"])
                seconds = time.perf_counter() - began
                killed = driver(options, site.folder, pk)
            finally:
                site.kill("daemon")
    same = quiet.pop("answer") == killed.pop("answer")
    return {"backend": options.backend, "structures": options.n, "seed": options.seed, "same": same, "quiet": quiet,
            "killed": {**killed, "seconds": seconds}, "kills": kills}  # fmt: skip


def page(found: dict[str, Any]) -> str:
    """The page of the documentation."""
    lines = [
        "# Screenings that are killed",
        "",
        "Printed by `python benchmarks/screening_kills.py --table kills.json` from what the same script measured; its head says how.",
    ]
    for run in found["runs"]:
        quiet, killed = run["quiet"], run["killed"]
        lines += [
            "",
            f"## {run['structures']:,} structures, {'SQLite' if run['backend'] == 'sqlite' else 'PostgreSQL'}",
            "",
            f"{quiet['rows']:,} rows, {quiet['spectra']:,} spectra. Table and arrays are {'' if run['same'] else 'NOT '}those of the "
            f"undisturbed run, byte for byte; exit status {killed['status']}. {killed['finished']} chunks were predicted once each. "
            f"Undisturbed {quiet['seconds']:,.0f} s, with all kills and "
            f"restarts {killed['seconds']:,.0f} s.",
            "",
            "| kill | seconds after the worker was there | went on by | seconds until then |",
            "|---|---|---|---|",
        ]
        lines += [f"| {one['kind']} | {one['after_s']:.1f} | {one['recovery']} | {one['recovered_s']:.0f} |" for one in run["kills"]]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = described(__doc__)
    parser.add_argument("--n", type=int, help="structures")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--backend", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--structures", type=Path, default=SHARED, help="npz table")
    parser.add_argument("--kind", choices=("XANES", "EXAFS"), default="EXAFS")
    parser.add_argument("--absorber", help="element; all if left out")
    parser.add_argument("--crystals", type=int, help="different ones among the structures; all if left out")
    parser.add_argument("--cache", type=Path, help="SQLite file of features, read and filled")
    parser.add_argument("--chunk-size", type=int, default=1000, help="crystals in a chunk (1000)")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parse(parser, page, "n", "cache")
    if options.part:
        options.json.write_text(json.dumps(part(options)))
        return
    run = measure(options)
    print(json.dumps(run, indent=1))
    runs = json.loads(options.json.read_text())["runs"] if options.json.exists() else []
    options.json.write_text(json.dumps({"runs": [*runs, run]}, indent=1) + "\n")


if __name__ == "__main__":
    main()

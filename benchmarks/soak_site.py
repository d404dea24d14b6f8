"""The profile of `benchmarks/soak.py`, its daemon, and what can be broken about it as by an ordinary user or a bad day."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from screening_kills import Killed
from services import PostgreSQL

#: Seconds for which a full disk, a locked database or a repository that cannot be written to last.
HELD = 20.0

#: States of a process that has not ended.
ACTIVE = ("created", "running", "waiting")


class Site(Killed):
    """The profile, its daemon, and what can be broken about it."""

    def __init__(self, folder: Path, store: dict[str, Any], server: PostgreSQL | None, workers: int) -> None:
        super().__init__(folder, "sqlite" if server is None else "postgresql")
        self.store, self.server, self.workers = store, server, workers
        self.scratch = folder / "scratch"

    @contextlib.contextmanager
    def database(self) -> Iterator[Any]:
        """A connection to the profile's database."""
        configuration = self.store["storage_config"]
        if self.server is None:
            with contextlib.closing(sqlite3.connect(Path(configuration["filepath"]) / "database.sqlite", timeout=120)) as connection:
                yield connection
            return
        import psycopg

        address = {"host": configuration["database_hostname"], "port": configuration["database_port"], "user": "postgres"}
        with psycopg.connect(**address, dbname=configuration["database_name"], autocommit=True) as connection:
            yield connection

    def rows(self, question: str) -> list[tuple[Any, ...]]:
        """Answer of the database."""
        with self.database() as connection:
            return list(connection.execute(question))

    def progress(self) -> tuple[Any, ...]:
        """What changes wherever anything goes on."""
        return self.rows("SELECT COUNT(*), MAX(mtime) FROM db_dbnode")[0]

    def states(self, pks: list[int]) -> list[dict[str, Any]]:
        """State, exit status and message of processes; one that is not there is `missing`."""
        listed = ", ".join(map(str, pks))
        found = dict(self.rows(f"SELECT id, attributes FROM db_dbnode WHERE id IN ({listed})"))
        states = []
        for pk in pks:
            attributes = found.get(pk, {"process_state": "missing"})
            attributes = json.loads(attributes) if isinstance(attributes, str) else attributes
            states.append(
                {
                    "state": attributes["process_state"], "status": attributes.get("exit_status"),
                    "message": attributes.get("exit_message") or attributes.get("exception") or attributes.get("process_status"),
                    "paused": bool(attributes.get("paused")),
                }
            )  # fmt: skip
        return states

    def active(self, pks: list[int]) -> list[int]:
        """Those that have not ended."""
        return [pk for pk, state in zip(pks, self.states(pks), strict=True) if state["state"] in ACTIVE]

    def unfinished(self) -> list[int]:
        """All processes, called ones included, that have not ended."""
        found = self.rows("SELECT id, attributes FROM db_dbnode WHERE node_type LIKE 'process.%' ORDER BY id")
        return [pk for pk, row in found if (json.loads(row) if isinstance(row, str) else row).get("process_state") in ACTIVE]

    def commands(self) -> list[str]:
        """Of the daemon's processes and its jobs."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                found.append(f"{process.pid}: {' '.join(process.cmdline())}")
        return found

    def start(self) -> None:
        """The daemon, with its workers."""
        self.verdi("daemon", "start", str(self.workers), "--timeout", "600")

    def worker_dies(self, draw: random.Random, pks: list[int]) -> None:
        """One, by SIGKILL."""
        workers = self.processes("daemon", "worker")
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(draw.choice(workers).pid, 9)

    def daemon_dies(self, draw: random.Random, pks: list[int]) -> None:
        """All of it and its jobs; it is started again."""
        self.kill("daemon")
        self.start()

    def database_restarts(self, draw: random.Random, pks: list[int]) -> None:
        """PostgreSQL is restarted, SQLite's file is locked."""
        if self.server is not None:
            self.server.restart()
            return
        with self.database() as connection:
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(HELD)
            connection.rollback()

    def disk_is_full(self, draw: random.Random, pks: list[int]) -> None:
        """No job can write."""
        filler = self.scratch / "filler"
        try:
            with contextlib.suppress(OSError), filler.open("wb") as file:
                while True:
                    file.write(bytes(1 << 20))
                    file.flush()
            time.sleep(HELD)
        finally:
            filler.unlink()

    def repository_is_read_only(self, draw: random.Random, pks: list[int]) -> None:
        """No node with files can be stored."""
        sandbox = self.container / "sandbox"  # where every new object is written at first
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", sandbox], check=True)
        try:
            time.sleep(HELD)
        finally:
            subprocess.run(["umount", "-l", sandbox], check=True)

    def checkpoint_is_damaged(self, draw: random.Random, pks: list[int]) -> None:
        """AiiDA cannot read how far one process was, when the daemon is started again."""
        self.kill("daemon")
        if active := self.active(pks):
            damage = (
                "jsonb_set(attributes, '{checkpoints}', '\"damaged\"')"
                if self.server
                else "json_set(attributes, '$.checkpoints', 'damaged')"
            )
            with self.database() as connection:
                connection.execute(f"UPDATE db_dbnode SET attributes = {damage} WHERE id = {draw.choice(active)}")
                connection.commit()
        self.start()

    @property
    def container(self) -> Path:
        """Folder of the repository's files."""
        configuration = self.store["storage_config"]
        return Path(configuration.get("filepath") or configuration["repository_uri"].removeprefix("file://")) / "container"


FAULTS: dict[str, Callable[[Site, random.Random, list[int]], None]] = {
    "worker": Site.worker_dies, "daemon": Site.daemon_dies, "database": Site.database_restarts, "disk": Site.disk_is_full,
    "repository": Site.repository_is_read_only, "checkpoint": Site.checkpoint_is_damaged,
}  # fmt: skip

"""PostgreSQL and RabbitMQ servers of one's own that live as long as a `with` block: for the tests on all stores, and for benchmarks.

Each has a temporary folder and free ports, so that nothing of the machine's own servers is touched, and runs as root too. Debian's
packages `postgresql` and `rabbitmq-server` bring the programs; no service of the system has to run.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from pgtest.pgtest import PGTest

#: Where Debian keeps the programs.
POSTGRESQL, RABBITMQ = Path("/usr/lib/postgresql"), Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

#: Seconds in which a server starts or stops, on a machine that is busy with other things.
PATIENCE = 180.0

#: RabbitMQ takes a message back whose job has run for 30 minutes, unless it is told otherwise: a FEFF run would be started twice.
CONSUMER_TIMEOUT_MS = 30 * 24 * 3600 * 1000


class _Cluster(PGTest):
    """Waits longer than the 5 s of its parent, in which a busy machine starts no server."""

    def _wait_for_server_ready(self, wait: float) -> None:
        super()._wait_for_server_ready(max(wait, PATIENCE))


class PostgreSQL:
    """A running server."""

    def __init__(self, cluster: PGTest) -> None:
        self.cluster = cluster

    def create_database(self, repository: Path) -> dict[str, Any]:
        """A new database; the configuration of AiiDA's storage `core.psql_dos` for it, with this folder as repository.

        Its locale is C.UTF-8, which every Debian has; AiiDA's own way asks for en_US.UTF-8.
        """
        import psycopg

        name = f"aiida_{uuid4().hex}"
        with psycopg.connect(host="127.0.0.1", port=self.cluster.port, user="postgres", dbname="postgres", autocommit=True) as server:
            server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'")
        return {
            "database_engine": "postgresql_psycopg", "database_hostname": "127.0.0.1", "database_port": self.cluster.port,
            "database_username": "postgres", "database_password": "", "database_name": name, "repository_uri": repository.as_uri(),
        }  # fmt: skip

    def restart(self) -> None:
        """Stop and start it, as an administrator does: whoever is connected is cut off."""
        command = [self.cluster.pg_ctl, "restart", "-w", "-m", "fast", "-D", self.cluster.cluster, "-l", self.cluster.log_file]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """A server whose cluster is made here and removed at the end."""
    programs = max(POSTGRESQL.glob("*/bin"), key=lambda path: int(path.parent.name), default=None)
    if programs is None:
        sys.exit("PostgreSQL is not installed here: apt-get install postgresql.")
    with tempfile.TemporaryDirectory(prefix="xastruct-postgresql-") as name, stopped_by_sigterm():
        folder = Path(name).resolve()
        folder.chmod(0o755)  # the server's user has to get to its cluster
        control = folder / "pg_ctl"
        # The server refuses to be root's, and it says so when it may not enter the folder that it is called in.
        own = (
            f'chown -R postgres {folder}/cluster\nexec runuser -u postgres -- "$program" "$@"\n'
            if os.geteuid() == 0
            else 'exec "$program" "$@"\n'
        )
        control.write_text(f"#!/bin/sh\ncd /\nprogram={programs}/pg_ctl\n{own}")
        control.chmod(0o755)
        (folder / "cluster").mkdir()
        cluster = _Cluster(pg_ctl=str(control), base_dir=str(folder / "cluster"), max_connections=200)
        try:
            yield PostgreSQL(cluster)
        finally:
            cluster.close()


@contextmanager
def rabbitmq() -> Iterator[dict[str, Any]]:
    """A broker; the configuration of AiiDA's `core.rabbitmq` for it. Erlang's port mapper is its own too, and ends with it."""
    if not RABBITMQ.is_file():
        sys.exit("RabbitMQ is not installed here: apt-get install rabbitmq-server.")
    with tempfile.TemporaryDirectory(prefix="xastruct-rabbitmq-") as name, stopped_by_sigterm():
        folder = Path(name).resolve()
        port, between, mapper = _free_ports(3)
        (folder / "rabbitmq.conf").write_text(f"listeners.tcp.default = 127.0.0.1:{port}\nconsumer_timeout = {CONSUMER_TIMEOUT_MS}\n")
        (folder / "plugins").write_text("[].\n")
        environment = {
            **os.environ, "HOME": name, "ERL_EPMD_PORT": str(mapper), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"xastruct{port}@localhost", "RABBITMQ_NODE_PORT": str(port), "RABBITMQ_DIST_PORT": str(between),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"), "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"), "RABBITMQ_LOG_BASE": str(folder / "log"),
        }  # fmt: skip
        address = {
            "broker_protocol": "amqp", "broker_username": "guest", "broker_password": "guest", "broker_host": "127.0.0.1",
            "broker_port": port, "broker_virtual_host": "",
        }  # fmt: skip
        with (folder / "output").open("wb") as output:
            started = [
                subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output, start_new_session=True)
                for command in (["epmd", "-address", "127.0.0.1", "-port", str(mapper)], [str(RABBITMQ)])
            ]
        try:
            _await_broker(started[1], address, folder / "output")
            yield address
        finally:
            for process in reversed(started):
                _end(process)


def storage_faults(configuration: dict[str, Any]) -> list[str]:
    """What is damaged or lacking in the storage of a profile; nothing may be at work in it.

    Looked at are the database (SQLite's integrity check; PostgreSQL's `amcheck` of all tables and indices), every file of the repository
    against its hash, and whether each file that a node names is there.

    Args:
        configuration: of AiiDA's storage `core.sqlite_dos` or `core.psql_dos`.
    """
    from disk_objectstore import Container

    names = "SELECT id, repository_metadata FROM db_dbnode"
    if "filepath" in configuration:
        folder = Path(configuration["filepath"])
        with closing(sqlite3.connect(folder / "database.sqlite")) as database:
            faults = [text for (text,) in database.execute("PRAGMA integrity_check") if text != "ok"]
            nodes = [(pk, json.loads(files or "{}")) for pk, files in database.execute(names)]
    else:
        import psycopg

        folder = Path(urlsplit(configuration["repository_uri"]).path)
        address = {"host": configuration["database_hostname"], "port": configuration["database_port"]}
        with psycopg.connect(**address, user="postgres", dbname=configuration["database_name"], autocommit=True) as server:
            server.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
            own = "FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'public'"
            tables, indices = (
                [oid for (oid,) in server.execute(f"SELECT c.oid {own} AND {condition}")]
                for condition in ("c.relkind = 'r'", "c.relkind = 'i' AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')")
            )
            faults = [text for oid in tables for (text,) in server.execute("SELECT msg FROM verify_heapam(%s)", [oid])]
            for oid in indices:
                try:
                    server.execute("SELECT bt_index_check(%s, true)", [oid])
                except psycopg.Error as error:
                    faults.append(str(error))
            nodes = [(pk, files or {}) for pk, files in server.execute(names)]
    with Container(folder / "container") as container:
        faults += [f"repository: {name}" for name, found in vars(container.validate()).items() if found]
        kept = set(container.list_all_objects())
    return faults + [f"node {pk}: a file is lacking" for pk, files in nodes if not _hashes(files) <= kept]


def _hashes(files: dict[str, Any]) -> set[str]:
    """Keys of all files of a node, from AiiDA's serialised tree: `k` is a file's key, `o` what a folder holds."""
    found = {files["k"]} if "k" in files else set()
    return found.union(*(_hashes(one) for one in files.get("o", {}).values()))


def _await_broker(process: subprocess.Popen[bytes], address: dict[str, Any], output: Path) -> None:
    from aiida.brokers.rabbitmq.defaults import detect_rabbitmq_config

    deadline = time.monotonic() + PATIENCE
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"RabbitMQ does not start: {output.read_text(errors='replace')}")
        try:
            detect_rabbitmq_config(host=address["broker_host"], port=address["broker_port"])
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and whatever it started, gently at first."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM, such as that of `timeout`, is taken as Ctrl-C, so that servers are stopped then too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports

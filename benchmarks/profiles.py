"""Temporary AiiDA profiles of the benchmarks, on SQLite or on a PostgreSQL server of their own."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Where Debian keeps PostgreSQL's programs, newest last.
PROGRAMS = Path("/usr/lib/postgresql")

PORT = 5439


@contextmanager
def postgresql(folder: Path) -> Iterator[None]:
    """A PostgreSQL server whose cluster is in `folder`, made there if missing; stopped when the context ends."""
    programs = max(PROGRAMS.glob("*/bin"), key=lambda path: int(path.parent.name), default=None)
    if programs is None:
        sys.exit("PostgreSQL is not installed here; install it, or use --backend sqlite.")
    cluster = folder / "cluster"
    # The server refuses to be root's.
    own = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if not cluster.exists():
        cluster.mkdir(parents=True)
        if own:
            shutil.chown(cluster, "postgres")
        subprocess.run([*own, programs / "initdb", "-D", cluster, "-E", "UTF8", "--locale=C.UTF-8", "-A", "trust"], check=True, cwd="/")
    control = [*own, programs / "pg_ctl", "-D", cluster, "-w"]
    options = f"-p {PORT} -k /tmp -c listen_addresses=127.0.0.1 -c shared_buffers=1GB"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped then, too
    subprocess.run([*control, "-l", cluster / "log", "-o", options, "start"], check=True, cwd="/", stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run([*control, "-m", "fast", "stop"], check=True, cwd="/", stdout=subprocess.DEVNULL)


@contextmanager
def profile(folder: Path, backend: str) -> Iterator[None]:
    """A loaded profile in `folder`, made there if missing; nothing of the user's own is touched.

    Args:
        folder: for AiiDA's configuration, its database and repository.
        backend: sqlite or postgresql.
    """
    os.environ["AIIDA_PATH"] = str(folder)
    (folder / ".aiida").mkdir(parents=True, exist_ok=True)
    if backend == "sqlite":
        _load("core.sqlite_dos", {"filepath": str(folder / "storage")})
        yield
        return
    with postgresql(folder):
        names = subprocess.run(["psql", *_server(), "-Atc", "SELECT datname FROM pg_database"], check=True, capture_output=True, text=True)
        if "benchmark" not in names.stdout.split():
            subprocess.run(["createdb", *_server()[:-2], "benchmark"], check=True)
        address = {"database_hostname": "127.0.0.1", "database_port": PORT, "database_username": "postgres", "database_password": ""}
        _load(
            "core.psql_dos",
            {
                "database_engine": "postgresql_psycopg", **address, "database_name": "benchmark",
                "repository_uri": (folder / "repository").as_uri(),
            },
        )  # fmt: skip
        try:
            yield
        finally:
            from aiida.manage import get_manager

            get_manager().reset_profile_storage()


#: Tables in the order in which they refer to each other.
TABLES = (
    "db_dbuser", "db_dbcomputer", "db_dbauthinfo", "db_dbgroup", "db_dbnode", "db_dblink", "db_dbgroup_dbnodes", "db_dbcomment", "db_dblog",
)  # fmt: skip


def copy_profile(source: Path, folder: Path) -> None:
    """Fill the loaded PostgreSQL profile in `folder` with the rows and files of the SQLite profile in `source`, by COPY.

    The tables of both have the same columns, so that both are asked about the very same nodes.
    """
    import psycopg

    old = sqlite3.connect(source / "storage" / "database.sqlite")
    with psycopg.connect(host="127.0.0.1", port=PORT, user="postgres", dbname="benchmark", autocommit=True) as new:
        new.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
        for table in TABLES:
            names = [row[1] for row in old.execute(f"PRAGMA table_info({table})")]
            listed = ", ".join(f'"{name}"' for name in names)
            with new.cursor().copy(f"COPY {table} ({listed}) FROM STDIN") as copy:
                for row in old.execute(f"SELECT {listed} FROM {table}"):
                    copy.write_row(row)
            new.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), COALESCE((SELECT max(id) FROM {table}), 1))")
        new.execute("VACUUM ANALYZE")  # as autovacuum does in a database that has been in use for a while
    old.close()
    for name in ("loose", "packs", "packs.idx"):
        place = source / "storage" / "container" / name
        target = folder / "repository" / "container" / name
        if place.is_dir():
            shutil.copytree(place, target, dirs_exist_ok=True)
        elif place.exists():
            shutil.copy(place, target)


def _server() -> list[str]:
    return ["-h", "127.0.0.1", "-p", str(PORT), "-U", "postgres", "-d", "postgres"]


def _load(plugin: str, configuration: dict[str, object]) -> None:
    from aiida import load_profile
    from aiida.manage.configuration import create_profile, get_config

    config = get_config(create=True)
    if "benchmark" not in config.profile_names:
        create_profile(config, name="benchmark", email="benchmark@localhost", storage_backend=plugin, storage_config=configuration)
        config.set_default_profile("benchmark")
        config.set_option("runner.poll.interval", 1)
        config.set_option("logging.aiida_loglevel", "ERROR")
        config.store()
    load_profile("benchmark")

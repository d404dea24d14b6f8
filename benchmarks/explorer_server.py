"""An explorer of its own for tests and benchmarks: a fresh profile without services, and the command that serves the pages."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROGRAM = Path(sys.executable).parent


@dataclass(frozen=True)
class Server:
    """A running explorer.

    Attributes:
        home: folder of its AiiDA profile.
        url: address with the token.
        port: of 127.0.0.1.
        process: what serves it.
    """

    home: Path
    url: str
    port: int
    process: subprocess.Popen[str]

    def address(self, path: str) -> str:
        """Address of a page, for a browser that has been let in."""
        return f"http://127.0.0.1:{self.port}{path}"

    def command(self, *arguments: object) -> Any:
        """What an `aiida-xastruct` command says as JSON, in the same profile."""
        command = [str(_PROGRAM / "aiida-xastruct"), *map(str, arguments), "--json"]
        done = subprocess.run(command, env=_environment(self.home), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return json.loads(done.stdout)


def _environment(home: Path) -> dict[str, str]:
    # NiceGUI serves nothing where it finds pytest's own variables.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return {**kept, "AIIDA_PATH": str(home)}


@contextmanager
def explorer(home: Path, *options: str) -> Iterator[Server]:
    """Serve the pages of a profile in `home`, which is made there if missing, until the context ends; begins when they answer.

    Args:
        home: for AiiDA's configuration, its database and repository.
        options: of `aiida-xastruct explore`.
    """
    if not (home / ".aiida" / "config.json").exists():
        (home / ".aiida").mkdir(parents=True, exist_ok=True)
        subprocess.run([str(_PROGRAM / "verdi"), "presto"], env=_environment(home), check=True, capture_output=True)
    command = [str(_PROGRAM / "aiida-xastruct"), "explore", "--no-browser", "--json", *options]
    with (home / "explorer.log").open("w") as log:
        process = subprocess.Popen(command, env=_environment(home), stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        try:
            said = json.loads(process.stdout.readline())
            _wait_for(said["port"])
            yield Server(home, said["url"], said["port"], process)
        finally:
            process.terminate()
            process.wait(timeout=300)  # it ends when the networks that it was loading are there


def _wait_for(port: int) -> None:
    """Return when somebody listens on a port of this machine."""
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nobody listens on port {port}.")

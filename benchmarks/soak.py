"""Mixed processes under a daemon on a machine on which things break: what finishes, what ends with a code, what is lost.

    python benchmarks/soak.py --broker rabbitmq --n 80 --minutes 15 --json rabbitmq.json
    python benchmarks/soak.py --broker zeromq --n 80 --minutes 15 --json zeromq.json
    python benchmarks/soak.py --join rabbitmq.json zeromq.json --json soak.json
    python benchmarks/soak.py --table soak.json > docs/reference/soak.md

`rabbitmq` is production: PostgreSQL, RabbitMQ, 2 workers. `zeromq` is SQLite with `core.zeromq`, 1 worker. Servers, profile and scratch are
of the run alone. All processes are submitted at first, in turn FEFF, prediction, inference, screening and training, while no worker is
there. Then `--minutes` are divided by the number of faults, and in each part one comes, of a kind and at a moment that are drawn with
`--seed`, each kind `--rounds` times, until everything has ended:

- *worker*: one worker is killed by SIGKILL;
- *daemon*: all of it and its jobs, by SIGKILL; it is started again;
- *database*: PostgreSQL is restarted; SQLite's file is locked for 20 s, as by a backup;
- *disk*: the file system of the jobs, a small tmpfs, is full for 20 s;
- *repository*: AiiDA's repository cannot be written to for 20 s;
- *checkpoint*: the daemon is killed, and AiiDA's checkpoint of one process is overwritten before it is started again. This process cannot
  go on, and has to except.

Where nothing has changed in the database for `--doubt` seconds, what the guide says is done: `verdi daemon stop`, `verdi process repair`,
`verdi daemon start`; it is counted with the fault that came last, whatever the cause. A process that has not ended after three of these in
a row without a change, or after `--patience` minutes, is lost. Mounts need root. No clock jumps: under libfaketime 0.9.10 a wait of Python
3.11's threads does not end. What is looked at in the end is said in `services.storage_faults`; `verdi storage info` and `verdi storage
maintain --dry-run` run too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pages import described, parse
from screening_kills import soon
from services import postgresql, rabbitmq, stopped_by_sigterm, storage_faults
from soak_processes import PROCESSES, load, submit_all
from soak_site import FAULTS, Site

#: Repairs in a row, after each of which nothing has changed, that show that nothing will.
VAIN = 3

#: What differs in the message of each process: its number and the file.
VARIES = re.compile("<[0-9]+>|: '/[^']*'")

#: Line of a traceback that says what was raised.
ERROR = re.compile(r"[\w.]+: ")

#: Options that the page names.
GIVEN = ("minutes", "rounds", "doubt", "seed")


def endure(site: Site, pks: list[int], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Let things break until all have ended or the patience is over; what broke, and how often it had to be repaired."""
    draw = random.Random(options.seed)
    kinds = list(FAULTS) * options.rounds
    moments = [60.0 * options.minutes * (number + draw.random()) / len(kinds) for number in range(len(kinds))]
    draw.shuffle(kinds)
    began, told = time.monotonic(), []
    for kind, moment in zip(kinds, moments, strict=True):
        while time.monotonic() - began < moment and site.active(pks):
            time.sleep(1.0)
        if not site.active(pks):
            break
        told.append({"kind": kind, "after_s": time.monotonic() - began, "active": len(site.active(pks)), "repairs": 0})
        FAULTS[kind](site, draw, pks)
        settle(site, pks, options, told[-1])
        print(told[-1], flush=True)
    last, idle = told[-1] if told else {"repairs": 0}, 0
    while site.unfinished() and idle < VAIN and time.monotonic() - began < 60.0 * options.patience:
        idle = 0 if settle(site, pks, options, last) else idle + 1
    return told


def settle(site: Site, pks: list[int], options: argparse.Namespace, last: dict[str, Any]) -> bool:
    """Wait until something changes, which is the result; where nothing does, do what the guide says."""
    before = site.progress()
    if soon(lambda: site.progress() != before or not site.unfinished(), options.doubt):
        return True
    last["repairs"] += 1
    print(f"nothing changes: {site.active(pks)} of {site.unfinished()}", flush=True)
    site.restart()
    return False


@contextlib.contextmanager
def place(folder: Path, broker: str, megabytes: int) -> Iterator[Site]:
    """The servers, and the file system of the jobs with this room; at the end nothing of them is left."""
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopped_by_sigterm())
        server = None
        store: dict[str, Any] = {"storage_backend": "core.sqlite_dos", "storage_config": {"filepath": str(folder / "storage")}}
        store |= {"broker_backend": "core.zeromq", "broker_config": {}}
        if broker == "rabbitmq":
            server = stack.enter_context(postgresql())
            (folder / "repository").mkdir()
            store = {
                "storage_backend": "core.psql_dos", "storage_config": server.create_database(folder / "repository"),
                "broker_backend": "core.rabbitmq", "broker_config": stack.enter_context(rabbitmq()),
            }  # fmt: skip
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", scratch], check=True)
        stack.callback(subprocess.run, ["umount", "-l", scratch], check=True)
        site = Site(folder, store, server, workers=2 if broker == "rabbitmq" else 1)
        stack.callback(site.kill, "daemon")
        yield site


def integrity(site: Site) -> dict[str, Any]:
    """Of a storage that nobody works in: faults, and whether `verdi storage` has anything to say against it."""
    site.verdi("storage", "info")
    site.verdi("storage", "maintain", "--dry-run")
    return {"faults": storage_faults(site.store["storage_config"]), "nodes": site.progress()[0]}


def driver(site: Site, part: str, number: int = 0) -> Any:
    """`load` or `submit` in a process of its own, which holds no connection that breaks; its result."""
    with tempfile.NamedTemporaryFile("w+", suffix=".json") as told:
        json.dump({"folder": str(site.folder), "store": site.store, "number": number}, told)
        told.flush()
        subprocess.run([sys.executable, __file__, "--part", part, "--json", told.name], check=True)
        return json.loads(Path(told.name).read_text())


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One soak."""
    busy = os.getloadavg()[0]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    with tempfile.TemporaryDirectory(prefix="xastruct-soak-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        # A folder of FEFF takes 5 MB, each fifth process has one, and some have a second.
        with place(folder, options.broker, 64 + 3 * options.n) as site:
            driver(site, "load")
            before = integrity(site)
            site.start()
            site.verdi("daemon", "decr", str(site.workers))  # or most have ended before anything breaks
            pks = driver(site, "submit", options.n)
            site.verdi("daemon", "incr", str(site.workers))
            began = time.monotonic()
            faults = endure(site, pks, options)
            seconds = time.monotonic() - began
            site.verdi("daemon", "stop", "--timeout", "600")
            soon(lambda: not site.processes(), options.doubt)
            orphans = site.commands()
            ended = [{"kind": PROCESSES[index % len(PROCESSES)], **state} for index, state in enumerate(site.states(pks))]
            stuck = len(site.unfinished())
            after = integrity(site)
    return {
        "broker": options.broker, **{name: getattr(options, name) for name in GIVEN},
        "commit": commit.stdout.strip(), "aiida": version("aiida-core"), "cpus": os.cpu_count(), "load": busy, "seconds": seconds,
        "before": before, "after": after, "faults": faults, "processes": ended, "stuck": stuck, "orphans": orphans,
    }  # fmt: skip


def page(found: dict[str, Any]) -> str:
    """The page of the documentation."""
    lines = ["# Processes on a machine on which things break", ""]
    lines += ["Printed by `python benchmarks/soak.py --table soak.json` from what the same script measured, which says of itself:", ""]
    lines += [(__doc__ or "").split("\n\n", 2)[2].strip(), ""]
    for run in found["runs"]:
        production = run["broker"] == "rabbitmq"
        lines += [
            f"## {'PostgreSQL and RabbitMQ, 2 workers' if production else 'SQLite and core.zeromq, 1 worker'}", "",
            f"`--n {len(run['processes'])} " + " ".join(f"--{name} {run[name]:g}" for name in GIVEN) + f"`, commit {run['commit']}, "
            f"aiida-core {run['aiida']}, {run['cpus']} logical CPUs with a load average of {run['load']:.0f} before it began: "
            f"{len(run['faults'])} faults came, and everything took {run['seconds'] / 60:.0f} minutes.", "",
            "| process | submitted | finished | ended with a code | excepted or killed | lost |", "|---|---|---|---|---|---|",
        ]  # fmt: skip
        for kind in (*PROCESSES, "all"):
            chosen = [one for one in run["processes"] if kind in (one["kind"], "all")]
            count = Counter(outcome(one) for one in chosen)
            lines.append(
                f"| {kind} | {len(chosen)} | " + " | ".join(str(count[name]) for name in ("finished", "code", "excepted", "lost")) + " |"
            )
        lines += ["", "| fault | times | went on by itself | repairs: stop, repair, start |", "|---|---|---|---|"]
        for kind in FAULTS:
            chosen = [one for one in run["faults"] if one["kind"] == kind]
            alone = sum(not one["repairs"] for one in chosen)
            lines.append(f"| {kind} | {len(chosen)} | {alone} | {sum(one['repairs'] for one in chosen)} |")
        told = Counter(reason(one) for one in run["processes"] if outcome(one) != "finished")
        lines += ["", *(f"- {count} x {text}" for text, count in told.most_common())] if told else []
        after = run["after"]
        lines += [
            "", f"{run['stuck']} processes stuck, called ones included; {len(run['orphans'])} left running without a daemon; "
            f"{len(after['faults'])} faults in the storage of {after['nodes']:,} nodes.", "",
        ]  # fmt: skip
        lines += [f"- {text}" for text in after["faults"] + run["orphans"]]
    return "\n".join(lines)


def reason(process: dict[str, Any]) -> str:
    """Why a process has not finished with 0, in one line without what differs from one to the next."""
    lines = (process["message"] or "no message").strip().splitlines()
    text = lines[0]
    if text.startswith("Traceback"):
        text = next((line for line in reversed(lines) if ERROR.match(line)), lines[-1])
    code = process["state"] if process["status"] is None else f"status {process['status']}"
    return f"{process['kind']}, {code}: `{VARIES.sub('', text)[:200]}`"


def outcome(process: dict[str, Any]) -> str:
    """How a process ended."""
    if process["state"] == "finished":
        return "finished" if process["status"] == 0 else "code"
    return "excepted" if process["state"] in ("excepted", "killed") else "lost"


def main() -> int:
    """Command line; exit code 1 if anything was lost, stuck, orphaned or damaged."""
    parser = described(__doc__)
    parser.add_argument("--broker", choices=("rabbitmq", "zeromq"), default="rabbitmq")
    parser.add_argument("--n", type=int, default=80, help="number of processes")
    parser.add_argument("--minutes", type=float, default=15.0, help="over which the faults are spread")
    parser.add_argument("--rounds", type=int, default=3, help="times that each fault comes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--doubt", type=float, default=60.0, help="seconds without a change after which the guide's steps are done")
    parser.add_argument("--patience", type=float, default=180.0, help="minutes after which what has not ended is lost")
    parser.add_argument("--join", type=Path, nargs="+", help="results to put into one")
    parser.add_argument("--part", choices=("load", "submit"), help=argparse.SUPPRESS)
    options = parse(parser, page)
    if options.part:
        given = json.loads(options.json.read_text())
        found: Any = None
        if options.part == "load":
            load(Path(given["folder"]), given["store"])
        else:
            found = submit_all(Path(given["folder"]), given["store"], given["number"])
        options.json.write_text(json.dumps(found))
        return 0
    if options.join:
        options.json.write_text(json.dumps({"runs": [json.loads(path.read_text()) for path in options.join]}, indent=1))
        return 0
    run = measure(options)
    options.json.write_text(json.dumps(run, indent=1))
    lost = sum(outcome(one) == "lost" for one in run["processes"])
    return int(bool(lost or run["stuck"] or run["orphans"] or run["before"]["faults"] or run["after"]["faults"]))


if __name__ == "__main__":
    sys.exit(main())

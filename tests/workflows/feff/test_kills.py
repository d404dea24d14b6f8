"""What is left when FEFF, a daemon worker or the whole daemon is killed with SIGKILL in the middle of real FEFF runs.

A profile of its own on the store of the run (with the broker `core.zeromq`, but RabbitMQ in production) has a real daemon. The code is
`xastruct-feff` behind a shell wrapper that writes down each launch and starts FEFF when the test watches. Where FEFF has to outlive a
daemon it is held with SIGSTOP meanwhile. So no machine is too fast or slow.

The broker `core.zeromq` of AiiDA 2.9 loses sight of jobs in two ways, both a matter of milliseconds: it may not notice that a worker is
dead, and workers that start before it connect to the broker that was killed. `Site.restart_daemon` is what the how-to on FEFF says to do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiida import orm
from aiida.common.datastructures import CalcJobState
from aiida.engine import submit
from aiida.manage import get_manager
from pymatgen.core import Lattice, Structure
from services import storage_faults

from aiida_xastruct.workflows.feff.base import FeffBaseWorkChain

pytestmark = [
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc"),
    pytest.mark.skipif(os.name != "posix", reason="signals"),
    pytest.mark.exhaustive,
]

BIN = Path(sys.executable).parent

#: Seconds that any one wait may take. The longest takes ten on an idle machine, and several times that on one that runs FEFF beside.
PATIENCE = 240.0


#: Seconds after which a user would have lost it with a broker. Ten are enough on an idle machine; too few cost a restart and nothing else.
DOUBT = 30.0


def soon(condition: Callable[[], Any], seconds: float) -> Any:
    """The first true value of a condition, asked ten times a second, or its last."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return value


def wait_for(what: str, condition: Callable[[], Any]) -> Any:
    """The first true value of a condition, which must come."""
    value = soon(condition, PATIENCE)
    assert value, f"waited {PATIENCE:.0f} s in vain for {what}"
    return value


class Site:
    """The profile, its daemon, its code, and the processes that belong to it."""

    def __init__(self, profile: Any, config_folder: Path, folder: Path) -> None:
        self.profile, self.config_folder, self.folder = profile, config_folder, folder
        self.launches, self.gate = folder / "launches", folder / "gate-is-closed"
        wrapper = folder / "counted-feff"
        wait = f"while [[ -e {self.gate} && ! -e go ]]; do sleep 0.1; done"
        wrapper.write_text(f'#!/bin/bash\npwd >> {self.launches}\n{wait}\n{BIN}/xastruct-feff "$@"\n')
        wrapper.chmod(0o755)
        computer = orm.Computer(
            label="here", hostname="localhost", transport_type="core.local", scheduler_type="core.direct", workdir=str(folder / "work")
        ).store()
        computer.set_default_mpiprocs_per_machine(1)
        computer.set_minimum_job_poll_interval(0.5)
        computer.configure(safe_interval=0.0)
        self.code = orm.InstalledCode(computer=computer, filepath_executable=str(wrapper), label="counted", with_mpi=False).store()

    def start_daemon(self) -> None:
        """Start the daemon with two workers, and wait for its broker."""
        self.verdi("daemon", "start", "2", "--timeout", str(int(PATIENCE)))
        self.await_broker()

    def start_daemon_with_late_broker(self) -> None:
        """The same on a machine on which the broker is the last of the daemon's processes to start, which otherwise is left to chance.

        RabbitMQ is no process of the daemon, and runs already.
        """
        if self.profile.process_control_backend == "core.rabbitmq":
            self.start_daemon()
            return
        with ThreadPoolExecutor(1) as pool:
            started = pool.submit(self.verdi, "daemon", "start", "2", "--timeout", str(int(PATIENCE)))
            (broker,) = wait_for("the broker's process", lambda: self.processes("daemon", "broker"))
            broker.suspend()
            started.result()
        wait_for("two workers that are connected", lambda: len([worker for worker in self.workers() if is_connected(worker)]) == 2)
        broker.resume()
        self.await_broker()

    def await_broker(self) -> None:
        """Wait until the broker runs, by what `verdi daemon status` goes by."""
        wait_for("the broker", lambda: get_manager().get_broker().check_service_reachable())
        get_manager().reset_broker()

    def restart_daemon(self) -> None:
        """What the how-to on FEFF has a user do about processes that do not go on."""
        self.stop_daemon()
        self.verdi("process", "repair")
        self.start_daemon()

    def verdi(self, *arguments: str) -> str:
        """Run `verdi` as a user does; its output."""
        # A daemon finds its workers' `verdi` on PATH.
        environment = {**os.environ, "AIIDA_PATH": str(self.config_folder.parent), "PATH": f"{BIN}:{os.environ['PATH']}"}
        command = [str(BIN / "verdi"), "-p", self.profile.name, *arguments]
        done = subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def processes(self, *words: str) -> list[psutil.Process]:
        """Processes that work in this profile's folder or name the profile, zombies left out, whose command holds all of the words."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                command = process.cmdline()
                ours = self.profile.name in command or Path(process.cwd()).is_relative_to(self.folder)
                if ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE and all(w in command for w in words):
                    found.append(process)
        return found

    def daemon(self) -> list[psutil.Process]:
        """The daemon: circus, its statistics, the workers and the broker; not the jobs."""
        return [process for process in self.processes() if process not in self.jobs()]

    def workers(self) -> set[int]:
        """Process ids of the daemon's workers."""
        return {process.pid for process in self.processes("daemon", "worker")}

    def feff_in(self, folder: str) -> dict[str, psutil.Process]:
        """What runs in a job's folder: the job's `script`, FEFF10's `interpreter` and the `stage` at work; missing ones are left out."""
        roles = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cwd() != folder or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if "FEFF10_WORKER_STAGE" in process.environ():
                    roles["stage"] = process
                elif str(BIN / "xastruct-feff") in process.cmdline():
                    roles["script"] = process
                elif any("FeffPipeline" in word for word in process.cmdline()):
                    roles["interpreter"] = process
        return roles

    def count_launches(self, calculation: orm.CalcJobNode) -> int:
        """How often FEFF was launched in the folder of a calculation."""
        return self.launches.read_text().splitlines().count(calculation.get_remote_workdir())

    def launch(self, number: int) -> list[orm.WorkChainNode]:
        """Submit so many XANES of magnesium oxide (4 CPU seconds each); their FEFF waits for `hold`, or for `finish`."""
        self.gate.touch()
        crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.212), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        structure = orm.StructureData(pymatgen=crystal).store()
        overrides = {"parameters": {"scf_radius": 2.2, "fms_radius": 3.1, "energy_step": 1.0}}
        build = FeffBaseWorkChain.get_builder_from_protocol
        chains = [submit(build(self.code, structure, 0, overrides=overrides)) for _ in range(number)]
        for chain in chains:
            wait_for(f"a worker that takes up {chain}", lambda chain=chain: chain.called)
        # The connection to a broker that a test is going to kill must not be used again.
        get_manager().reset_runner()
        get_manager().reset_broker()
        return chains

    def hold(self, chain: orm.WorkChainNode) -> dict[str, psutil.Process]:
        """The processes of a chain's job, FEFF held by SIGSTOP in the middle of its work."""
        # Before that state a worker that is killed submits the job again.
        state = CalcJobState.WITHSCHEDULER
        wait_for(f"the job of {chain}", lambda: chain.called and chain.called[-1].get_state() is state)
        folder = chain.called[-1].get_remote_workdir()
        (Path(folder) / "go").touch()

        def look() -> Any:
            if len(roles := self.feff_in(folder)) < 3:
                return None
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                os.killpg(os.getpgid(roles["interpreter"].pid), signal.SIGSTOP)
                # A stage may have ended between the two: then go on to the next.
                if len(held := self.feff_in(folder)) == 3:
                    return held
                os.killpg(os.getpgid(roles["interpreter"].pid), signal.SIGCONT)
            return None

        return wait_for(f"the FEFF of {chain}", look)

    def finish(self, chains: list[orm.WorkChainNode]) -> None:
        """Wait until all of the chains are terminated and assert that nothing is left over."""
        self.gate.unlink()
        for chain in chains:
            wait_for(f"the end of {chain}", lambda chain=chain: chain.is_terminated)
        # A job's shell may take a moment to end after its results were fetched.
        wait_for("the last process in a job's folder to end", lambda: not self.jobs())
        for node in orm.QueryBuilder().append(orm.ProcessNode).all(flat=True):
            assert node.is_terminated, f"{node} is {node.process_state}"
            assert not node.is_excepted, f"{node}: {node.exception}"
            wait_for(f"the seal of {node}", lambda node=node: node.is_sealed)
            assert node.checkpoint is None
            if isinstance(node, orm.CalcJobNode):
                assert {"retrieved", "remote_folder", "output_parameters"} <= set(node.outputs)

    def stop_daemon(self) -> None:
        """Stop the daemon as a user does, and assert that nothing of it runs on."""
        self.verdi("daemon", "stop", "--timeout", str(int(PATIENCE)))
        wait_for("the daemon and its workers to end", lambda: not self.daemon())

    def jobs(self) -> list[psutil.Process]:
        """Processes in the scratch folders."""
        work = str(self.folder / "work")
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if process.cwd().startswith(work):
                    found.append(process)
        return found

    def kill_rest(self) -> None:
        """At the end, whatever a test left."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()


def is_connected(worker: int) -> bool:
    """Whether a worker has opened its connection to a broker, which ZeroMQ serves in threads of its own."""
    with contextlib.suppress(OSError):
        return any(name.read_text().startswith("ZMQ") for name in Path(f"/proc/{worker}/task").glob("*/comm"))
    return False


@pytest.fixture(scope="module")
def site(tmp_path_factory: Any, aiida_config_factory: Any, aiida_profile_factory: Any, new_store: Any) -> Iterator[Site]:
    """A profile with a running daemon of two workers."""
    folder = tmp_path_factory.mktemp("kills").resolve()
    # Processes are looked up by it: another run of these tests beside this one has another name.
    name = f"kills-{os.getpid()}"
    store = {"broker_backend": "core.zeromq"} | new_store()
    with aiida_config_factory(folder) as config, aiida_profile_factory(config, **store, name=name) as profile:
        config.set_option("transport.task_retry_initial_interval", 1)
        config.store()
        site = Site(profile, Path(config.dirpath), folder)
        try:
            site.start_daemon()
            yield site
        finally:
            site.kill_rest()


@pytest.mark.slow
def test_feff_killed_at_any_level_ends_in_311_and_runs_again(site: Site) -> None:
    chains = site.launch(3)
    for chain, role in zip(chains, ("stage", "interpreter", "script"), strict=True):
        roles = site.hold(chain)
        group = os.getpgid(roles["interpreter"].pid)
        roles[role].kill()
        # The script may have ended the group by now.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)
    site.finish(chains)
    for chain in chains:
        assert chain.is_finished_ok, chain.exit_message
        killed, again = chain.called
        assert (killed.exit_status, again.exit_status) == (311, 0), killed.exit_message
        assert site.count_launches(killed) == site.count_launches(again) == 1


def reattached(site: Site, chains: list[orm.WorkChainNode], held: list[dict[str, psutil.Process]], since: float) -> None:
    """Wait until the scheduler was asked about each held job after `since`, let FEFF go on, and assert that it was not run twice."""
    if not soon(lambda: all(asked(chain.called[-1]) > since for chain in chains), DOUBT):
        site.restart_daemon()
    for chain in chains:
        wait_for(f"a worker that asks for the job of {chain}", lambda chain=chain: asked(chain.called[-1]) > since)
    for roles in held:
        assert all(process.is_running() for process in roles.values())
        os.killpg(os.getpgid(roles["interpreter"].pid), signal.SIGCONT)
    site.finish(chains)
    for chain in chains:
        assert chain.is_finished_ok, chain.exit_message
        (calculation,) = chain.called
        assert site.count_launches(calculation) == 1


def asked(calculation: orm.CalcJobNode) -> float:
    """When a worker last heard of the job from the scheduler, in seconds of the clock; 0 if never."""
    when = calculation.get_scheduler_lastchecktime()
    return when.timestamp() if when is not None else 0.0


def test_killed_workers_leave_feff_running(site: Site) -> None:
    chains = site.launch(2)
    held = [site.hold(chain) for chain in chains]
    before = site.workers()
    assert len(before) == 2
    for number in before:
        os.kill(number, signal.SIGKILL)
    wait_for("the workers' end", lambda: not before & site.workers())
    reattached(site, chains, held, since=time.time())
    assert not before & site.workers()


def test_killed_daemon_finds_its_jobs_again(site: Site) -> None:
    chains = site.launch(2)
    held = [site.hold(chain) for chain in chains]
    daemon = site.daemon()
    # Circus, two workers, and the broker where it is the daemon's.
    assert len(daemon) >= (3 if site.profile.process_control_backend == "core.rabbitmq" else 4)
    # Circus first: it would start the others anew.
    for process in sorted(daemon, key=lambda process: "start-circus" not in process.cmdline()):
        process.kill()
    wait_for("the daemon's end", lambda: not site.daemon())
    assert all(process.is_running() for roles in held for process in roles.values())
    since = time.time()
    site.start_daemon_with_late_broker()
    site.restart_daemon()
    reattached(site, chains, held, since)


def test_the_store_is_whole_after_all_this(site: Site) -> None:
    site.stop_daemon()
    assert site.processes() == []
    for node in orm.QueryBuilder().append(orm.Node).all(flat=True):
        node.base.repository.hash()  # reads every file of the node
    assert storage_faults(site.profile.storage_config) == []
    assert site.verdi("process", "list", "--raw").split() == []

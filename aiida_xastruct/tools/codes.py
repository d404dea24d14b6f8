"""Code nodes of the programs that come with this package."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from aiida import orm
from aiida.common.exceptions import NotExistent
from aiida.manage.configuration import get_config

from ..engine.errors import FeffError, PseudoError

COMPUTER, CODE = "localhost", "xastruct-feff"


def bundled_feff_code() -> orm.InstalledCode:
    """The `xastruct-feff` of this Python environment as a code on localhost, made on first use; see `_bundled`."""
    return _bundled(CODE, "xastruct.feff", "The FEFF10 and FEFF 8.5L that come with aiida-xastruct.", _console_script(CODE))


def bundled_xastruct_code() -> orm.InstalledCode:
    """The `xastruct` of this Python environment, which predicts and trains, as a code on localhost, made on first use; see `_bundled`."""
    return _bundled("xastruct", "xastruct.predict", "The engine of aiida-xastruct.", _console_script("xastruct"))


def quantum_espresso_code(program: str) -> orm.InstalledCode:
    """`pw.x` or `xspectra.x` of this machine as a code on localhost, made on first use; see `_bundled`.

    Raises:
        PseudoError: if it is not installed.
    """
    found = shutil.which(program)
    if found is None:
        raise PseudoError(f"{program} is not on PATH; install Quantum ESPRESSO (Debian: quantum-espresso), or name a code.")
    plugin = {"pw.x": "quantumespresso.pw", "xspectra.x": "xastruct.xspectra"}[program]
    return _bundled(program.replace(".", "-"), plugin, f"{program} of Quantum ESPRESSO.", Path(found))


def _bundled(name: str, plugin: str, description: str, executable: Path) -> orm.InstalledCode:
    """A program of this machine as a code.

    Where a code of that label exists for another environment, this one gets a label with a number.
    """
    labels = orm.QueryBuilder().append(orm.Computer, filters={"label": COMPUTER}, tag="computer")
    labels.append(orm.InstalledCode, with_computer="computer", filters={"label": {"like": f"{name}%"}})
    found = labels.all(flat=True)
    for code in found:
        if str(code.filepath_executable) == str(executable) and not code.is_hidden:
            return code
    taken = {code.label for code in found}
    label = next(label for label in [name, *(f"{name}-{i}" for i in range(2, len(taken) + 3))] if label not in taken)
    code = orm.InstalledCode(
        computer=_localhost(),
        filepath_executable=str(executable),
        label=label,
        default_calc_job_plugin=plugin,
        description=description,
        with_mpi=False,
    )
    return code.store()


def _console_script(name: str) -> Path:
    """A script beside this interpreter, or on PATH."""
    beside = Path(sys.executable).parent / name
    found = beside if beside.is_file() else shutil.which(name)
    if not found:
        raise FeffError(f"the console script {name} is not installed; pip install aiida-xastruct in this environment.")
    return Path(found)


def _localhost() -> orm.Computer:
    """The computer localhost, made and configured if there is none."""
    try:
        computer = orm.Computer.collection.get(label=COMPUTER)
    except NotExistent:
        computer = orm.Computer(
            label=COMPUTER,
            hostname="localhost",
            description="This machine.",
            transport_type="core.local",
            scheduler_type="core.direct",
            workdir=str(Path(get_config().dirpath) / "work"),
        ).store()
        computer.set_default_mpiprocs_per_machine(1)
    if not computer.is_configured:
        # No login shell: the code has an absolute path, and a user's profile scripts would run each time that AiiDA asks after a job.
        computer.configure(safe_interval=0.0, use_login_shell=False)
    computer.set_minimum_job_poll_interval(1.0)
    return computer

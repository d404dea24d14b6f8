"""An AiiDA profile in a folder of its own, without services: SQLite, no broker, no daemon."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

MARK = ".aiida-xastruct-demo"


def fresh_folder(folder: Path) -> Path:
    """The output folder, emptied if an earlier run of the demo made it.

    Raises:
        SystemExit: if it holds anything that the demo did not write.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        sys.exit(f"{folder} is not empty and not the demo's; give another folder with --output.")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).write_text("Made by examples/demo.py of aiida-xastruct; the next run empties it.\n")
    return folder.resolve()


def load_own_profile(folder: Path) -> None:
    """Make and load a profile in `folder`/.aiida; the user's own configuration is neither read nor written.

    Must run before anything imports `aiida`, which reads AIIDA_PATH when it is first imported.

    Raises:
        RuntimeError: if `aiida` was imported already.
    """
    if "aiida" in sys.modules:
        raise RuntimeError("aiida is imported already, so it may work in another folder; load the profile first.")
    os.environ["AIIDA_PATH"] = str(folder)
    (folder / ".aiida").mkdir()
    from aiida import load_profile
    from aiida.manage.configuration import create_profile, get_config

    config = get_config(create=True)
    if Path(config.dirpath).resolve() != folder / ".aiida":
        raise RuntimeError(f"AiiDA works in {config.dirpath}, not in {folder / '.aiida'}; unset AIIDA_PATH and try again.")
    create_profile(
        config,
        name="demo",
        email="demo@localhost",
        storage_backend="core.sqlite_dos",
        storage_config={"filepath": str(folder / ".aiida" / "demo")},
    )
    config.set_default_profile("demo")
    config.set_option("logging.aiida_loglevel", "WARNING")
    # Without a broker a workflow asks now and then whether its calculations have ended; every minute, if left alone.
    config.set_option("runner.poll.interval", 1)
    config.store()
    load_profile("demo")

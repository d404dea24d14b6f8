"""A screening in a process of its own, which kills itself with SIGKILL where it is told to: `screen_driver.py FOLDER PK|0 WHERE`.

WHERE: `nowhere`; `inside` the calcfunction of the second chunk; `after` the calcfunction of a chunk has ended, before its step has;
`merge`, when the merged table is about to be stored. PK is that of a screening to resume, 0 to start one. Prints the pk of the screening.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pymatgen.core import Lattice, Structure

FCC = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]
METALS = {"Cu": 3.615, "Ni": 3.524, "Ag": 4.085, "Au": 4.078, "Al": 4.05, "Pd": 3.891}


def load(folder: Path) -> None:
    """A profile in the folder, made if it is not there, on the store that `store.json` in the folder describes."""
    os.environ["AIIDA_PATH"] = str(folder)
    from aiida import load_profile
    from aiida.manage.configuration import create_profile, get_config

    config = get_config(create=True)
    if not config.profile_names:
        create_profile(config, name="kills", email="kills@localhost", **json.loads((folder / "store.json").read_text()))
        config.set_default_profile("kills")
        config.store()
    load_profile("kills")


def die() -> None:
    """As `kill -9`."""
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, pk: int, where: str) -> None:
    """Start or resume, and die."""
    load(folder)
    from aiida.engine import run_get_node
    from aiida.orm import Node, load_node

    from aiida_xastruct.calculations.functions.predict_batch import using
    from aiida_xastruct.data.table import TableData
    from aiida_xastruct.tools.resume import resume
    from aiida_xastruct.tools.structures import structure_chunks
    from aiida_xastruct.workflows.screen import ScreenWorkChain

    done = 0

    def step(structures: int, _: int) -> None:
        nonlocal done
        done += structures
        if where == "inside" and done == 3:  # of the second chunk, which has two
            die()

    predict = ScreenWorkChain._predict_here

    def predict_and_die(self: Any, label: str) -> None:
        predict(self, label)
        die()

    if where == "after":
        ScreenWorkChain._predict_here = predict_and_die  # type: ignore[method-assign]
    store = TableData.store

    def store_or_die(self: Any, *args: Any, **kwargs: Any) -> Node:
        return die() or store(self, *args, **kwargs) if "chunk" in self.read().column_names else store(self, *args, **kwargs)

    if where == "merge":
        TableData.store = store_or_die  # type: ignore[method-assign]
    with using(progress=step):
        if pk:
            _, node = resume(load_node(pk))
        else:
            entries = [(name, Structure(Lattice.cubic(length), [name] * 4, FCC)) for name, length in METALS.items()]
            chunks = list(structure_chunks([*entries, ("lost", "it cannot be read.")], 2))
            builder = ScreenWorkChain.get_builder_from_chunks(chunks, kind="EXAFS", cache=str(folder / "cache.sqlite"))
            _, node = run_get_node(builder)
    print(node.pk, node.exit_status)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

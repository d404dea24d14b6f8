"""An improvement in a process of its own, killed by SIGKILL where it is told to be: `improve_driver.py FOLDER PK|0 WHERE`.

WHERE: `nowhere`; `screening`, inside the calcfunction of the screening; `job`, while FEFF's job is under way; `feff`, when it has ended and
its step has not; `dataset`, when the larger dataset is stored and its step has not ended. PK is that of a run to resume, 0 to start one.
FOLDER holds `set.h5` and the family `tiny`. Prints the pk and the exit status.
"""

from __future__ import annotations

import sys
from functools import wraps
from pathlib import Path
from typing import Any

from pymatgen.core import Lattice, Structure
from screen_driver import FCC, die, load

#: Rock salts of *train* in split 0; lengths in angstrom.
OXIDES = {"Mg": 4.21, "Cd": 4.69}


def main(folder: Path, pk: int, where: str) -> None:
    """Start or resume, and die."""
    load(folder)
    from aiida.engine import run_get_node
    from aiida.manage import get_manager
    from aiida.orm import load_node

    from aiida_xastruct.calculations.functions.predict_batch import using
    from aiida_xastruct.data.dataset import DatasetData
    from aiida_xastruct.groups.family import ModelFamily
    from aiida_xastruct.tools.codes import bundled_feff_code
    from aiida_xastruct.tools.resume import resume
    from aiida_xastruct.tools.structures import structure_chunks
    from aiida_xastruct.workflows.improve import ImproveWorkChain

    def dies(name: str, before: bool = False, later: float = 0.0) -> None:
        """Let a step kill the process: before it, or some seconds after it."""
        step = getattr(ImproveWorkChain, name)

        @wraps(step)  # checkpoints know steps by their names
        def deadly(self: Any) -> Any:
            if before:
                die()
            found = step(self)
            self.loop.call_later(later, die) if later else die()
            return found

        setattr(ImproveWorkChain, name, deadly)

    if where == "job":
        dies("run_feff", later=1.0)
    if where == "feff":
        dies("inspect_feff", before=True)
    if where == "dataset":
        dies("extend")
    with using(progress=(lambda *_: die()) if where == "screening" else None):
        if pk:
            _, node = resume(load_node(pk))
        else:
            ModelFamily.install(folder / "tiny", "tiny")
            second = [[x + 0.5, y + 0.5, z + 0.5] for x, y, z in FCC]
            entries = [
                (f"{name}O", Structure(Lattice.cubic(length), [name] * 4 + ["O"] * 4, FCC + second)) for name, length in OXIDES.items()
            ]
            builder = ImproveWorkChain.get_builder_from_chunks(
                structure_chunks(entries, 10),
                dataset=DatasetData.from_file(folder / "set.h5"),
                family="tiny",
                kind="EXAFS",
                sites_per_round=2,
                code=bundled_feff_code(),
                training={"config": {"training": {"epochs": 4, "learning_rate": 3e-3}}},
            )
            get_manager().set_runner(get_manager().create_runner(poll_interval=1.0))
            _, node = run_get_node(builder)
    print(node.pk, node.exit_status)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

"""A finished FeffCalculation node around recorded output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from aiida import orm
from aiida.common import LinkType
from pymatgen.core import Lattice, Structure

RECORDED = Path(__file__).parents[1] / "fixtures" / "feff"


@pytest.fixture
def finished(aiida_profile_clean, aiida_localhost) -> Callable[..., orm.CalcJobNode]:
    """Function (recorded folder, site, crystal, parameters) -> a node whose inputs, options and retrieved files are there."""

    def make(folder: str | Path, site: int = 0, crystal: Structure | None = None, **parameters) -> orm.CalcJobNode:
        node = orm.CalcJobNode(computer=aiida_localhost, process_type="aiida.calculations:xastruct.feff")
        if crystal is None:
            crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.212), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        inputs = {"structure": orm.StructureData(pymatgen=crystal), "site": orm.Int(site), "parameters": orm.Dict(parameters)}
        for name, value in inputs.items():
            node.base.links.add_incoming(value.store(), link_type=LinkType.INPUT_CALC, link_label=name)
        node.set_option("resources", {"num_machines": 1, "num_mpiprocs_per_machine": 1})
        node.store()
        retrieved = orm.FolderData(tree=str(RECORDED / folder))
        retrieved.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label="retrieved")
        retrieved.store()
        return node

    return make

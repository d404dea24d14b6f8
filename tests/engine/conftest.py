"""Crystals with known first shells, and a small family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine.dataset import Dataset
from aiida_xastruct.engine.errors import XastructError


@contextmanager
def _refused(kind: type[XastructError], *words: str) -> Iterator[None]:
    """The block raises exactly `kind`, in one sentence that holds `words`."""
    with pytest.raises(XastructError) as caught:
        yield
    text = str(caught.value)
    assert type(caught.value) is kind
    assert text[-1] in ".?"
    assert "\n" not in text
    for word in words:
        assert word in text


@pytest.fixture(scope="session")
def refused() -> Callable[..., Any]:
    """Context manager: `with refused(StructureError, "disordered"):`."""
    return _refused


FCC = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]


def _shifted(coordinates: list[list[float]], by: float) -> list[list[float]]:
    return [[x + by, y + by, z + by] for x, y, z in coordinates]


#: Conventional cells, lengths from experiment in angstrom; written out because pymatgen takes seconds to apply a space group.
CRYSTALS = {
    "Cu": Structure(Lattice.cubic(3.615), ["Cu"] * 4, FCC),
    "Ni": Structure(Lattice.cubic(3.524), ["Ni"] * 4, FCC),
    "Fe": Structure(Lattice.cubic(2.866), ["Fe"] * 2, [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "Zn": Structure(Lattice.hexagonal(2.665, 4.947), ["Zn"] * 2, [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]),
    "NaCl": Structure(Lattice.cubic(5.640), ["Na"] * 4 + ["Cl"] * 4, FCC + _shifted(FCC, 0.5)),
    "ZnS": Structure(Lattice.cubic(5.409), ["Zn"] * 4 + ["S"] * 4, FCC + _shifted(FCC, 0.25)),
    "SrTiO3": Structure(
        Lattice.cubic(3.905), ["Sr", "Ti", "O", "O", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    ),
    "TiO2": Structure(
        Lattice.tetragonal(4.594, 2.959),
        ["Ti"] * 2 + ["O"] * 4,
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.305, 0.305, 0], [0.695, 0.695, 0], [0.195, 0.805, 0.5], [0.805, 0.195, 0.5]],
    ),
}


@pytest.fixture(scope="session")
def crystal() -> Callable[[str], Structure]:
    """Function that gives a fresh conventional cell by formula."""
    return lambda name: CRYSTALS[name].copy()


@pytest.fixture(scope="session")
def tiny_config() -> Any:
    """The smallest configuration that trains."""
    from aiida_xastruct.engine.configuration import FamilyConfig

    return FamilyConfig.from_dict(
        {
            "name": "tiny",
            "architecture": {"width": 16, "depth": 1},
            "training": {"members": 2, "epochs": 3, "batch_size": 32, "accelerator": "cpu", "devices": 1, "progress": False},
        }
    )


@pytest.fixture(scope="session")
def tiny_family(
    tmp_path_factory: pytest.TempPathFactory, tiny_config: Any, make_dataset: Callable[..., Dataset]
) -> tuple[Path, Dataset, dict[str, Any], list[str]]:
    """A family of all three XANES models: its folder, what it was made from, what `make_family` returned and said. Read only."""
    from aiida_xastruct.engine.family import make_family

    folder = tmp_path_factory.mktemp("family")
    dataset = make_dataset()
    said: list[str] = []
    card = make_family(dataset, tiny_config, folder, said.append)
    return folder, dataset, card, said

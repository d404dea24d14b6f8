"""Crystals with known first shells, and small synthetic training sets from which whole model families are made in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine.dataset import GRIDS, MAX_Z, WIDE_GRID, Dataset, SiteTable
from aiida_xastruct.engine.errors import XastructError
from aiida_xastruct.engine.features import MAX_NEIGHBOURS, SITE_SIZE
from aiida_xastruct.engine.paths import PATHS_SIZE, PathKind
from aiida_xastruct.engine.sevennet import SevenNetFeatures
from aiida_xastruct.engine.spectrum import EXAFS_GRID, XANES_GRID


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


#: Where FEFF puts every edge of the synthetic sets, eV above the table.
EDGE_SHIFT = 15.0


def _table(kind: str, n: int, absorbers: tuple[int, ...], seed: int, materials: int) -> SiteTable:
    """Sites whose curves follow from one hidden number each, the distance, which the first feature states."""
    random = np.random.default_rng(seed)
    absorber = np.array(absorbers)[np.arange(n) % len(absorbers)]
    distance = random.uniform(1.9, 2.7, n)
    metallic = distance > 2.3
    amplitude = np.where(metallic, 0.2, 0.1)[:, None]
    if kind == "XANES":
        grid = XANES_GRID
        curve, wide = (
            0.5 + np.arctan(above / 2.0) / np.pi + amplitude * np.sin((above[None, :] - 5.0) / (6.0 * distance[:, None]) * np.pi)
            for above in (grid, WIDE_GRID - EDGE_SHIFT)
        )
    else:
        grid, wide = EXAFS_GRID, np.zeros((n, 0))
        curve = amplitude * 10.0 * np.sin(2.0 * grid * distance[:, None]) * np.exp(-0.01 * grid**2) / grid**2
    shell = np.zeros((n, MAX_Z), dtype=np.uint8)
    shell[~metallic, 8] = 6
    shell[metallic, 29] = 12
    features = np.zeros((n, SITE_SIZE), dtype=np.float32)
    learned = SevenNetFeatures.size
    features[:, :learned] = 0.1 * random.normal(size=(n, learned))
    features[:, :16] = (distance[:, None] - 2.3) / 0.23
    for row in range(n):
        count = int(shell[row].sum())
        z, r = (29 if metallic[row] else 8), distance[row]
        features[row, learned : learned + count] = r
        features[row, learned + MAX_NEIGHBOURS :][:count] = z
        features[row, -PATHS_SIZE:][:8] = (PathKind.SINGLE, z, z, count, r, r, r, 0.0)
    return SiteTable(
        material=np.arange(n, dtype=np.int64) % materials,
        site=np.arange(n, dtype=np.int64),
        absorber=absorber.astype(np.int64),
        curve=curve.astype(np.float32),
        wide=wide.astype(np.float32),
        thermal=np.full((n, 0 if kind == "XANES" else 2, len(grid)), np.nan, dtype=np.float32),
        edge_shift=np.full(n, EDGE_SHIFT, dtype=np.float32),
        engine=np.zeros(n, dtype=np.int64),
        peer_split=np.array([""] * n),
        shell=shell,
        mean_distance=distance.astype(np.float32),
        nearest_distance=(distance - 0.05).astype(np.float32),
        features=features,
        target=curve.astype(np.float32),
    )


def _dataset(kinds: tuple[str, ...] = ("XANES",), n: int = 260, absorbers: tuple[int, ...] = (26, 29), seed: int = 0) -> Dataset:
    count = n // 2
    materials = [
        {"source": "made_here", "source_id": f"m-{i}", "formula": f"Fe{i + 1}CuO", "space_group": 225, "prototype": "AB-225"}
        for i in range(count)
    ]
    tables = {kind: _table(kind, n, absorbers, seed + index, count) for index, kind in enumerate(kinds)}
    assert set(kinds) <= set(GRIDS)
    return Dataset(materials, ["FEFF of the tests"], tables)


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    """Function that makes a synthetic training set: two sites a material, each material a group of its own."""
    return _dataset


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
def tiny_family(tmp_path_factory: pytest.TempPathFactory, tiny_config: Any) -> tuple[Path, Dataset, dict[str, Any], list[str]]:
    """A family of all three XANES models: its folder, what it was made from, what `make_family` returned and said. Read only."""
    from aiida_xastruct.engine.family import make_family

    folder = tmp_path_factory.mktemp("family")
    dataset = _dataset()
    said: list[str] = []
    card = make_family(dataset, tiny_config, folder, said.append)
    return folder, dataset, card, said

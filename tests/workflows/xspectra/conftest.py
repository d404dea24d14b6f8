"""Crystals of these tests."""

from __future__ import annotations

import pytest
from aiida import orm
from pymatgen.core import Lattice, Structure


@pytest.fixture
def graphite(aiida_profile_clean) -> orm.StructureData:
    """Two sites, neither of them cubic."""
    layers = Structure.from_spacegroup("P6_3/mmc", Lattice.hexagonal(2.464, 6.711), ["C", "C"], [[0, 0, 0.25], [1 / 3, 2 / 3, 0.25]])
    return orm.StructureData(pymatgen=layers)

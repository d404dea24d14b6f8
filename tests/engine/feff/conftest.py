"""Small crystals."""

from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure


@pytest.fixture
def rock_salt() -> Structure:
    """MgO, conventional cell: sites 0 to 3 magnesium, 4 to 7 oxygen, 2.106 angstrom apart."""
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.212), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture
def loose() -> Structure:
    """Solid xenon stretched to 9 angstrom: few atoms in any sphere."""
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(9.0), ["Xe"], [[0, 0, 0]])

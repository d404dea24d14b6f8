"""Of which crystal a spectrum is."""

from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine.errors import StructureError
from aiida_xastruct.engine.origin import origin_of, prefixes
from aiida_xastruct.engine.sitecache import structure_hash


def test_surroundings_are_those_of_the_crystal() -> None:
    crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.212), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert origin_of(crystal, 0) == {"structure_hash": structure_hash(crystal), "neighbours": ["O"], "mean_distance": 2.106}
    assert origin_of(crystal, 4)["neighbours"] == ["Mg"]
    with pytest.raises(StructureError, match="site 8 does not exist"):
        origin_of(crystal, 8)


def test_an_atom_alone_has_no_neighbours() -> None:
    crystal = Structure(Lattice.cubic(40.0), ["Fe"], [[0, 0, 0]])
    assert origin_of(crystal, 0) == {"structure_hash": structure_hash(crystal), "neighbours": None, "mean_distance": None}


def test_prefixes_are_sorted_and_each_there_once() -> None:
    assert prefixes(["b" * 64, None, "a" * 64, "b" * 8 + "c" * 56]) == ["a" * 8, "b" * 8]

"""Atoms that rotations of a crystal carry into each other."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine import sevennet
from aiida_xastruct.engine.orbits import Orbits, orbits

#: Quartz is chiral, and has screw axes alone for its oxygen; rutile has mirrors, which do not count; spinel is cubic, with centred faces.
CRYSTALS = {
    "quartz": ("P3_221", Lattice.hexagonal(4.913, 5.405), ["Si", "O"], [[0.4697, 0.0, 2 / 3], [0.4133, 0.2672, 0.7855]], 2),
    "rutile": ("P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0.0, 0.0, 0.0], [0.3053, 0.3053, 0.0]], 2),
    "spinel": ("Fd-3m", Lattice.cubic(8.08), ["Mg", "Al", "O"], [[0.0] * 3, [0.625] * 3, [0.3874] * 3], 3),
    "perovskite": (
        "Pbnm",
        Lattice.orthorhombic(5.381, 5.443, 7.645),
        ["Ca", "Ti", "O", "O"],
        [[0.0065, -0.035, 0.25], [0.0, 0.5, 0.0], [0.0714, 0.4838, 0.25], [0.2888, 0.2893, 0.0371]],
        5,
    ),
    "rock salt": ("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0.0] * 3, [0.5] * 3], 2),
}


def _crystal(name: str) -> Structure:
    group, lattice, elements, places, _ = CRYSTALS[name]
    return Structure.from_spacegroup(group, lattice, elements, places)


@pytest.mark.parametrize("name", CRYSTALS)
def test_orbits_are_those_of_the_rotations(name):
    assert len(np.unique(orbits(_crystal(name)).first)) == CRYSTALS[name][-1]


@pytest.mark.parametrize("name", CRYSTALS)
def test_the_rotation_turns_the_surroundings_of_the_one_into_those_of_the_other(name):
    crystal = _crystal(name)
    found = orbits(crystal)
    for atom, (first, turn) in enumerate(zip(found.first, found.rotation, strict=True)):
        assert crystal[atom].specie == crystal[first].specie
        own = {tuple(np.round(site.coords - crystal[atom].coords, 3) + 0.0) for site in crystal.get_neighbors(crystal[atom], 4.0)}
        turned = {
            tuple(np.round(turn @ (site.coords - crystal[first].coords), 3) + 0.0) for site in crystal.get_neighbors(crystal[first], 4.0)
        }
        assert len(own) > 3
        assert all(min(np.abs(np.subtract(one, other)).max() for other in turned) < 0.002 for one in own)


@pytest.mark.parametrize("name", CRYSTALS)
def test_features_are_those_of_every_atom_computed_by_itself(name, monkeypatch):
    crystal = _crystal(name)
    crystal.apply_strain([0.01, 0.01, 0.01])
    every = [list(range(len(crystal)))]
    by_orbits = sevennet.shared_features()([crystal], every)[0]
    monkeypatch.setattr(sevennet, "orbits", lambda structure: Orbits.each_for_itself(len(structure)))
    assert sevennet.shared_features()([crystal], every)[0] == pytest.approx(by_orbits, rel=1e-4, abs=2e-5)


def test_an_atom_that_is_moved_stands_for_itself():
    crystal = _crystal("perovskite")
    crystal.translate_sites([4], [0.001, 0.002, 0.003])
    assert len(np.unique(orbits(crystal).first)) > 5
    assert 4 in orbits(crystal).first


def test_a_crystal_without_symmetry_is_computed_atom_by_atom():
    cell = Lattice.from_parameters(5.1, 6.2, 7.3, 82, 95, 103)
    crystal = Structure(cell, ["Fe", "O", "O"], [[0.1, 0.2, 0.3], [0.6, 0.55, 0.1], [0.35, 0.8, 0.7]])
    assert orbits(crystal).first.tolist() == [0, 1, 2]


def test_atoms_on_one_another_are_told_apart():
    crystal = Structure(Lattice.cubic(4.0), ["Cu", "Cu"], [[0, 0, 0], [0, 0, 0]])
    assert len(orbits(crystal).first) == 2

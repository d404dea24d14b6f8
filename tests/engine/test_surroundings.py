"""Atoms that are too near or too far to be next to each other, or of kinds unknown to the models, are said to be."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.features import SITE_SIZE, site_rows
from aiida_xastruct.engine.surroundings import strange


def _rock_salt(a: float) -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), ["Ni", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def _said(structure: Structure) -> str:
    return strange(site_rows(structure, [0]), np.array([structure[0].specie.Z]))[0]


def test_crystals_as_they_are_say_nothing():
    assert _said(_rock_salt(4.177)) == ""
    assert _said(Structure.from_spacegroup("Im-3m", Lattice.cubic(2.87), ["Fe"], [[0, 0, 0]])) == ""
    assert _said(Structure.from_spacegroup("Pm-3m", Lattice.cubic(4.56), ["Cs", "I"], [[0, 0, 0], [0.5, 0.5, 0.5]])) == ""


@pytest.mark.parametrize("factor", [1.8897, 0.5292])
def test_a_cell_in_bohr_or_taken_for_one_is_told(factor):
    assert "is the cell in angstrom?" in _said(_rock_salt(factor * 4.177))


def test_a_neighbour_that_no_site_of_the_data_has_is_told():
    assert "saw no Ne" in _said(Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Ni", "Ne"], [[0, 0, 0], [0.5, 0.5, 0.5]]))


def test_sites_without_neighbours_in_reach_say_nothing():
    assert strange(np.zeros((2, SITE_SIZE), dtype=np.float32), np.array([26, 8])) == ["", ""]


@pytest.mark.parametrize("kind", ["XANES", "EXAFS"])
def test_the_answer_for_such_a_crystal_is_outside_the_domain(kind):
    family = FamilyBundle.load()
    far = family.predict(_rock_salt(1.8897 * 4.177), [0], kind)[0]
    assert not far.in_domain
    assert far.needs_reference
    assert family.predict(_rock_salt(4.177), [0], kind)[0].in_domain

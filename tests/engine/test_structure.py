"""First shells against textbook crystals; what cannot be answered for is refused in a sentence."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import DummySpecies, Lattice, Structure

from aiida_xastruct.engine.errors import StructureError
from aiida_xastruct.engine.structure import (
    check_structure,
    first_shell,
    inequivalent_absorbers,
    multiplicities,
    prototype,
    space_group,
    symbol,
)

#: coordination, mean and nearest distance in angstrom, from the cell lengths by hand.
GOLDEN = {
    "Cu": (12, 2.556, 2.556),
    "Fe": (8, 2.482, 2.482),
    "Ni": (12, 2.492, 2.492),
    "Zn": (12, 2.789, 2.665),
    "NaCl": (6, 2.820, 2.820),
    "ZnS": (4, 2.342, 2.342),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_first_shell_of_textbook_crystals(crystal, name):
    shell = first_shell(crystal(name), 0)
    coordination, mean, nearest = GOLDEN[name]
    assert shell.coordination == coordination
    assert shell.mean_distance == pytest.approx(mean, abs=5e-4)
    assert shell.nearest_distance == pytest.approx(nearest, abs=5e-4)
    assert list(shell.distances) == sorted(shell.distances)


@pytest.mark.parametrize(
    ("name", "site", "neighbours"),
    [("Cu", 0, {"Cu"}), ("NaCl", 0, {"Cl"}), ("NaCl", 4, {"Na"}), ("ZnS", 0, {"S"}), ("SrTiO3", 0, {"O"}), ("SrTiO3", 1, {"O"})],
)
def test_elements_of_the_first_shell(crystal, name, site, neighbours):
    assert first_shell(crystal(name), site).neighbour_set == neighbours


@pytest.mark.parametrize("name", ["Cu", "NaCl", "SrTiO3", "TiO2", "Zn"])
def test_primitive_conventional_and_supercells_agree(crystal, name):
    conventional = crystal(name)
    element = symbol(conventional, 0)
    supercell = conventional.copy()
    supercell.make_supercell([2, 1, 1])
    shells = []
    for cell in (conventional, conventional.get_primitive_structure(), supercell):
        shell = first_shell(cell, [symbol(cell, i) for i in range(len(cell))].index(element))
        shells.append((shell.elements, np.round(shell.distances, 6).tolist()))
    assert shells[0] == shells[1] == shells[2]


def test_distances_within_the_own_sublattice_are_those_of_the_images(crystal):
    """In a one-atom cell `site.distance` is zero for every neighbour."""
    primitive = crystal("Cu").get_primitive_structure()
    assert len(primitive) == 1
    assert first_shell(primitive, 0).distances == pytest.approx([3.615 / np.sqrt(2.0)] * 12, abs=1e-6)


def test_charges_do_not_change_the_answer(crystal):
    charged = crystal("NaCl")
    charged.add_oxidation_state_by_element({"Na": 1, "Cl": -1})
    assert symbol(charged, 0) == "Na"
    assert first_shell(charged, 0).elements == ("Cl",) * 6
    assert [(site.element, site.multiplicity) for site in inequivalent_absorbers(charged)] == [("Na", 4), ("Cl", 4)]


@pytest.mark.parametrize("name", ["Cu", "Fe", "Zn", "NaCl", "ZnS", "SrTiO3", "TiO2"])
def test_multiplicities_add_up_to_the_cell(crystal, name):
    structure = crystal(name)
    absorbers = inequivalent_absorbers(structure)
    assert sum(absorber.multiplicity for absorber in absorbers) == len(structure)
    assert len(absorbers) == len({site.specie.symbol for site in structure})  # one site an element in all of these
    sites = [absorber.site for absorber in absorbers]
    assert multiplicities(structure, sites) == [absorber.multiplicity for absorber in absorbers]


def test_only_the_absorber_asked_for_is_given(crystal):
    (titanium,) = inequivalent_absorbers(crystal("SrTiO3"), "Ti")
    assert (titanium.site, titanium.element, titanium.multiplicity) == (1, "Ti", 1)


def test_a_structure_without_symmetry_has_every_site(crystal):
    shaken = crystal("NaCl")
    shaken.perturb(0.2)
    assert [site.multiplicity for site in inequivalent_absorbers(shaken)] == [1] * len(shaken)


def test_missing_absorber_is_refused_naming_those_present(crystal, refused):
    with refused(StructureError, "Fe is not in the structure", "Cl, Na"):
        inequivalent_absorbers(crystal("NaCl"), "Fe")


@pytest.mark.parametrize("site", [-1, 8])
def test_missing_site_is_refused(crystal, refused, site):
    with refused(StructureError, f"site {site} does not exist", "0 to 7"):
        first_shell(crystal("NaCl"), site)


def test_equivalent_sites_are_not_counted_twice(crystal, refused):
    with refused(StructureError, "sites 4 and 5 are equivalent"):
        multiplicities(crystal("NaCl"), [0, 4, 5])


@pytest.mark.parametrize(
    ("name", "number", "kind"), [("Cu", 225, "A-225"), ("Zn", 194, "A-194"), ("NaCl", 225, "AB-225"), ("SrTiO3", 221, "ABC3-221")]
)
def test_prototype(crystal, name, number, kind):
    assert space_group(crystal(name)) == number
    assert prototype(crystal(name)) == kind


def test_good_structures_pass(crystal):
    for name in ("Cu", "NaCl", "SrTiO3"):
        check_structure(crystal(name))


@pytest.mark.parametrize(
    ("structure", "words"),
    [
        (Structure(Lattice.cubic(4.0), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]]), "disordered"),
        (Structure(Lattice.cubic(4.0), [{"Fe": 0.9}], [[0, 0, 0]]), "disordered"),
        (Structure(Lattice.cubic(4.0), ["Fe", "O"], [[0, 0, 0], [0.1, 0, 0]]), "0.40 angstrom apart"),
        (Structure(Lattice.cubic(4.0), ["Fe", DummySpecies("X")], [[0, 0, 0], [0.5, 0.5, 0.5]]), "is not an element"),
        (Structure(Lattice.cubic(4.0), [], []), "no atoms"),
        (Structure(Lattice([[4, 0, 0], [0, 4, 0], [4, 4, 0]]), ["Fe"], [[0, 0, 0]]), "no volume"),
        (Structure(Lattice.cubic(1.1), ["H"], [[0, 0, 0]]), None),
    ],
    ids=["disordered", "vacancy", "overlap", "dummy", "empty", "flat", "dense but sound"],
)
def test_what_cannot_be_answered_for_is_refused(structure, words, refused):
    if words is None:
        check_structure(structure)
    else:
        with refused(StructureError, words):
            check_structure(structure)


def test_overlap_across_the_cell_boundary_is_found(refused):
    with refused(StructureError, "0.20 angstrom apart"):
        check_structure(Structure(Lattice.cubic(5.0), ["Fe", "Fe"], [[0.01, 0, 0], [0.97, 0, 0]]))


def test_an_isolated_atom_has_no_first_shell(refused):
    with refused(StructureError):
        first_shell(Structure(Lattice.cubic(60.0), ["Ar"], [[0, 0, 0]]), 0)

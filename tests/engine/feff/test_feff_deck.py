"""Decks: clusters, radii, cards, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine.errors import FeffError, SpectrumError, StructureError
from aiida_xastruct.engine.feff.cluster import build_cluster, sphere_radius
from aiida_xastruct.engine.feff.deck import FeffParameters, read_request, resolve_edge, write_deck
from aiida_xastruct.engine.feff.parameters import EXTRA_CARDS, PROTOCOLS, Sphere


def blocks(deck: str) -> tuple[list[list[str]], list[list[str]]]:
    """Rows under POTENTIALS and under ATOMS."""
    potentials, atoms = deck.split("POTENTIALS\n")[1].split("ATOMS\n")
    return [row.split() for row in potentials.split("\n") if row.strip()], [
        row.split() for row in atoms.split("\n") if row.strip() and row != "END"
    ]


@pytest.mark.parametrize("kind", ["XANES", "EXAFS"])
@pytest.mark.parametrize("site", [0, 4])
def test_every_potential_has_an_atom(rock_salt, kind, site):
    potentials, atoms = blocks(write_deck(rock_salt, site, FeffParameters(kind=kind)))
    used = [int(row[3]) for row in atoms]
    assert used.count(0) == 1
    assert {int(row[0]) for row in potentials} == set(used)
    assert atoms[0][:4] == ["0.00000", "0.00000", "0.00000", "0"]


def test_an_element_out_of_reach_gets_no_potential():
    # A chain of iron in a long cell with one oxygen far from site 0.
    structure = Structure(Lattice.orthorhombic(2.5, 2.5, 30.0), ["Fe", "Fe", "O"], [[0, 0, 0], [0, 0, 0.08], [0, 0, 0.5]])
    potentials, atoms = blocks(write_deck(structure, 0, FeffParameters(kind="EXAFS")))
    assert "8" not in [row[1] for row in potentials]
    assert {int(row[0]) for row in potentials} == {int(row[3]) for row in atoms}


def test_atoms_are_the_crystals(rock_salt):
    _, atoms = blocks(write_deck(rock_salt, 0, FeffParameters(kind="EXAFS")))
    positions = np.array([[float(value) for value in row[:3]] for row in atoms])
    distances = np.linalg.norm(positions, axis=1)
    assert (np.diff(distances) > -1e-4).all()
    assert np.sum(np.isclose(distances, 2.106, atol=1e-3)) == 6
    assert np.sum(np.isclose(distances, 2.106 * 2**0.5, atol=1e-3)) == 12


def test_deck_does_not_depend_on_the_cell_that_was_chosen(rock_salt):
    shifted = Structure(rock_salt.lattice, rock_salt.species, rock_salt.frac_coords + 1.0)
    assert write_deck(shifted, 0, FeffParameters()) == write_deck(rock_salt, 0, FeffParameters())


def test_loose_structures_get_wider_spheres(rock_salt, loose):
    dense, wide = (build_cluster(structure, 0, FeffParameters()) for structure in (rock_salt, loose))
    assert wide.scf_radius > dense.scf_radius
    assert wide.fms_radius > dense.fms_radius
    for cluster in (dense, wide):
        assert PROTOCOLS["fast"]["scf"].atoms <= cluster.count(cluster.scf_radius) <= PROTOCOLS["fast"]["scf"].limit
        assert PROTOCOLS["fast"]["fms"].atoms <= cluster.count(cluster.fms_radius) <= PROTOCOLS["fast"]["fms"].limit


def test_protocols_reach_further_one_after_the_other(rock_salt):
    counts = [build_cluster(rock_salt, 0, FeffParameters(protocol=name)) for name in ("fast", "balanced", "stringent")]
    assert counts[0].scf_radius < counts[1].scf_radius < counts[2].scf_radius
    assert counts[0].count(counts[0].fms_radius) < counts[1].count(counts[1].fms_radius) < counts[2].count(counts[2].fms_radius)


def test_sphere_keeps_whole_shells_and_its_limit():
    shells = np.repeat([0.0, 2.0, 3.0, 4.0], [1, 6, 12, 24])
    assert sphere_radius(shells, Sphere(2.5, 5, 100)) == 2.5
    assert sphere_radius(shells, Sphere(2.5, 15, 100)) == pytest.approx(3.05)
    # 19 atoms would be over the limit: the last whole shell below it ends at 2.
    assert sphere_radius(shells, Sphere(3.5, 5, 18)) == pytest.approx(2.05)
    # The first shell is never cut.
    assert sphere_radius(shells, Sphere(2.5, 5, 3)) == pytest.approx(2.05)


def test_fixed_radii_win(rock_salt):
    deck = write_deck(rock_salt, 0, FeffParameters(scf_radius=2.3, fms_radius=3.3))
    assert "SCF 2.3 0 10 0.2 1" in deck
    assert "FMS 3.3 0" in deck


def test_cards(rock_salt):
    deck = write_deck(
        rock_salt, 0, FeffParameters(kind="EXAFS", path_radius=5.0, path_legs=3, k_max=15, cards={"DEBYE": [300, 750], "RSIGMA": []})
    )
    for line in ("EXAFS 15", "RPATH 5", "NLEG 3", "DEBYE 300 750", "RSIGMA", "EDGE K", "* xastruct engine: feff8l"):
        assert line in deck.splitlines()
    assert "SCF" not in deck


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"fms_radus": 5}, "did you mean 'fms_radius'"),
        ({"kind": "ELNES"}, "XANES, EXAFS"),
        ({"kind": "XANES", "engine": "feff8l"}, "use engine 'feff10'"),
        ({"edge": "N3"}, "K, L1, L2, L3, M4, M5"),
        ({"k_max": 300}, "3 to 30"),
        ({"scf_iterations": True}, "1 to 100"),
        ({"energy_range": [5, 60]}, "Fermi level"),
        ({"cards": {"DEBEY": [300, 300]}}, "did you mean 'DEBYE'"),
        ({"cards": {"SCF": [5]}}, "scf_radius"),
        ({"cards": {"DEBYE": [300]}}, "2 to 3 numbers"),
    ],
)
def test_parameters_are_refused_with_a_hint(values, words):
    with pytest.raises(FeffError, match=words):
        FeffParameters.from_dict(values)


def test_parameters_survive_json():
    import json

    parameters = FeffParameters(kind="EXAFS", cards={"DEBYE": [300, 400]}, energy_range=(-10, 50))
    assert FeffParameters.from_dict(json.loads(json.dumps(parameters.to_dict()))) == parameters
    assert set(EXTRA_CARDS) >= {"DEBYE", "CRITERIA"}


@pytest.mark.parametrize(("absorber", "edge"), [("Li", "K"), ("Sn", "K"), ("Sb", "L3"), ("U", "L3")])
def test_edge_that_people_measure(absorber, edge):
    assert resolve_edge(absorber) == edge


def test_edge_that_an_element_lacks_is_refused():
    assert resolve_edge("Ce", "M5") == "M5"
    with pytest.raises(SpectrumError, match="O has no tabulated M5 edge"):
        resolve_edge("O", "M5")
    with pytest.raises(FeffError, match="no core level"):
        resolve_edge("Cu", "M5")


@pytest.mark.parametrize("absorber", ["H", "He", "Es"])
def test_absorbers_without_a_spectrum_are_refused(absorber):
    with pytest.raises(FeffError, match="pick"):
        resolve_edge(absorber)


def test_bad_structures_are_refused(rock_salt):
    with pytest.raises(StructureError, match="site 99"):
        write_deck(rock_salt, 99, FeffParameters())
    disordered = Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    with pytest.raises(StructureError, match="disordered"):
        write_deck(disordered, 0, FeffParameters())
    lonely = Structure(Lattice.cubic(40), ["Ar"], [[0, 0, 0]])
    with pytest.raises(FeffError, match="no other atom"):
        write_deck(lonely, 0, FeffParameters())
    with pytest.raises(FeffError, match="more than 20"):
        write_deck(rock_salt, 0, FeffParameters(kind="EXAFS", max_atoms=20))


def test_request_of_a_deck(rock_salt):
    assert read_request(write_deck(rock_salt, 4, FeffParameters(kind="EXAFS"))) == ("O", "K", "EXAFS")
    assert read_request("HOLE 4 1.0\nXANES 4\nPOTENTIALS\n0 74 W\n1 8 O\nATOMS\n0 0 0 0\n") == ("W", "L3", "XANES")
    assert read_request("HOLE 9 1.0\nXANES 4\nPOTENTIALS\n0 58 Ce\n1 8 O\nATOMS\n0 0 0 0\n") == ("Ce", "M5", "XANES")
    with pytest.raises(FeffError, match="no absorber"):
        read_request("EXAFS\nPOTENTIALS\n1 8 O\n")
    # FEFF 6 has no EXAFS card, and none is needed later; FEFF 8 and later take the hole's number for an edge too.
    assert read_request("EDGE 4\nPOTENTIALS\n0 78 Pt\n") == ("Pt", "L3", "EXAFS")
    with pytest.raises(FeffError, match="asks for XES"):
        read_request("XES\nPOTENTIALS\n0 8 O\n")
    with pytest.raises(FeffError, match="the edge 5"):
        read_request("HOLE 5\nPOTENTIALS\n0 8 O\n")

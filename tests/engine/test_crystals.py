"""Sites without spectra: sampled element by element, nothing held out among them, split like the spectra."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine.crystals import COLUMNS, Crystals, sample_crystals
from aiida_xastruct.engine.dataset import PARTS, Holdout, group_label, part_of
from aiida_xastruct.engine.errors import DatasetError
from aiida_xastruct.engine.paths import MAX_PATHS, PATH_COLUMNS, PATHS_SIZE

NOTHING = Holdout(frozenset(), frozenset())


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    """Rock salts of different cell lengths and one of caesium chloride's type, as a table."""
    salt, caesium = [[0, 0, 0], [0.5, 0.5, 0.5]], Lattice.cubic(4.12)
    cells = [
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [metal, "O"], salt) for metal, a in (("Mg", 4.21), ("Ca", 4.81), ("Ni", 4.18))
    ]
    cells.append(Structure(caesium, ["Cs", "Cl"], salt))
    path = tmp_path_factory.mktemp("table") / "table.npz"
    np.savez(
        path,
        ids=np.array(["mgo", "cao", "nio", "cscl"]),
        cells=np.array([cell.lattice.parameters for cell in cells]),
        natoms=np.array([len(cell) for cell in cells]),
        Z=np.concatenate([cell.atomic_numbers for cell in cells]),
        frac=np.concatenate([cell.frac_coords for cell in cells]),
    )
    return path


@pytest.fixture(scope="module")
def crystals(npz):
    return sample_crystals("npz", str(npz), 10, NOTHING)


def test_every_element_of_every_crystal_has_a_site(crystals):
    found = sorted(
        (crystals.materials[material]["source_id"], int(z)) for material, z in zip(crystals.material, crystals.absorber, strict=True)
    )
    assert found == [("cao", 8), ("cao", 20), ("cscl", 17), ("cscl", 55), ("mgo", 8), ("mgo", 12), ("nio", 8), ("nio", 28)]
    described = {
        material["source_id"]: (material["formula"], material["space_group"], material["prototype"]) for material in crystals.materials
    }
    assert described["mgo"] == ("MgO", 225, "AB-225")


def test_first_shells_are_those_of_the_crystals(crystals):
    for row in range(len(crystals)):
        name, z = crystals.materials[crystals.material[row]]["source_id"], int(crystals.absorber[row])
        number, distance, partner = {
            "mgo": (6, 2.105, {8: 12, 12: 8}),
            "cao": (6, 2.405, {8: 20, 20: 8}),
            "nio": (6, 2.09, {8: 28, 28: 8}),
            "cscl": (8, 3.568, {17: 55, 55: 17}),
        }[name]
        assert crystals.shell[row, partner[z]] == crystals.shell[row].sum() == number
        assert crystals.mean_distance[row] == pytest.approx(distance, abs=1e-3)
        assert crystals.nearest_distance[row] == pytest.approx(distance, abs=1e-3)
        nearest = crystals.paths[row].reshape(MAX_PATHS, -1)[0]
        assert nearest[PATH_COLUMNS.index("half_length")] == pytest.approx(distance, abs=1e-3)


def test_held_out_materials_and_their_twins_are_left_out(npz):
    found = sample_crystals("npz", str(npz), 10, Holdout(frozenset(["cao"]), frozenset({("MgO", 225), ("NiO", 194)})))
    assert {material["source_id"] for material in found.materials} == {"nio", "cscl"}


def test_nothing_left_is_said(npz, refused):
    with refused(DatasetError, "no crystal of this collection"):
        sample_crystals("npz", str(npz), 10, Holdout(frozenset(["mgo", "cao", "nio", "cscl"]), frozenset()))


def test_round_trip(crystals, tmp_path, refused):
    crystals.save(tmp_path / "crystals.h5")
    found = Crystals.load(tmp_path / "crystals.h5")
    assert found.materials == crystals.materials
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(found, name), getattr(crystals, name))
    assert found.content_hash() == crystals.content_hash()
    found.shell[0, 8] += 1
    assert found.content_hash() != crystals.content_hash()
    (tmp_path / "other.h5").write_bytes((tmp_path / "crystals.h5").read_bytes()[:2000])
    with refused(DatasetError, "other.h5"):
        Crystals.load(tmp_path / "other.h5")


def test_a_group_is_in_the_same_part_as_its_spectra(crystals, make_dataset):
    dataset = make_dataset(kinds=("EXAFS",), n=8)
    for material, other in zip(dataset.materials, crystals.materials, strict=True):
        material |= {"formula": other["formula"], "prototype": other["prototype"]}
    for seed in range(5):
        for name in PARTS:
            of_crystals = {crystals.materials[m]["formula"] for m in crystals.material[crystals.of_part(name, seed)]}
            mask = dataset.parts("EXAFS", seed)[name]
            assert of_crystals == {dataset.materials[m]["formula"] for m in dataset.tables["EXAFS"].material[mask]}
    assert {part_of(group_label(crystals.materials[0]), seed) for seed in range(60)} == set(PARTS)


def test_sites_are_those_of_a_table_without_spectra(crystals):
    rows = crystals.absorber == 8
    sites = crystals.sites(rows)
    assert len(sites) == 3
    assert np.isnan(sites.curve).all()
    np.testing.assert_array_equal(sites.features[:, -PATHS_SIZE:], crystals.paths[rows])
    assert sites.coordination.tolist() == [6, 6, 6]

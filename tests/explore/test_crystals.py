"""Crystals of the page: read, changed and answered as the command line does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Structure

from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.errors import StructureError
from aiida_xastruct.explore.crystals import Change, changed, first_absorber, predict, read


@pytest.fixture(scope="module")
def family() -> FamilyBundle:
    """The models that ship."""
    return FamilyBundle.load()


def test_a_crystal_is_read_and_answered_as_the_engine_does(rocksalt: Path, family: FamilyBundle) -> None:
    crystal = read("periclase.cif", rocksalt.read_bytes())
    site = first_absorber(crystal)
    assert crystal.label(site) == "Mg 0, one of 4 alike"
    assert sorted(crystal.equivalents.values()) == [4, 4]
    answer, curve = predict(family, crystal.structure, site, "EXAFS")
    expected = family.predict(Structure.from_file(rocksalt), [site], "EXAFS")[0]
    np.testing.assert_allclose(curve.spectrum.mu, expected.spectrum.mu, atol=1e-6)
    assert curve.band is not None
    assert curve.point_band is not None
    width, narrow = np.ptp(curve.band, axis=1), np.ptp(curve.point_band, axis=1)
    assert (narrow <= width).all()
    assert answer.coverage == 0.9


def test_a_strain_moves_the_oscillations_and_a_move_lowers_the_symmetry(rocksalt: Path, family: FamilyBundle) -> None:
    structure = read("periclase.cif", rocksalt.read_bytes()).structure
    wide = changed(structure, Change(strain=2.0))
    assert wide.lattice.a == pytest.approx(1.02 * structure.lattice.a)
    assert structure.lattice.a == pytest.approx(4.212), "the crystal itself stays as it was"
    first, second = (predict(family, own, 0, "EXAFS")[1].spectrum.mu for own in (structure, wide))
    assert np.abs(first - second).max() > 0.005
    moved = changed(structure, Change(site=0, move=(0.2, 0.0, 0.0)))
    assert moved.get_distance(0, 4) != pytest.approx(structure.get_distance(0, 4))
    assert changed(structure, Change()) is structure


def test_atoms_that_would_overlap_are_refused(rocksalt: Path) -> None:
    structure = read("periclase.cif", rocksalt.read_bytes()).structure
    with pytest.raises(StructureError, match="angstrom apart"):
        changed(structure, Change(site=0, move=tuple(0.9 * (structure.cart_coords[4] - structure.cart_coords[0]))))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("crystal.cif", b"", "crystal.cif is empty; drop a CIF."),
        ("crystal.exe", b"MZ", "is no file of a crystal by its name; drop one that ends in .cif"),
        ("crystal.cif.gz", b"\x1f\x8b", "is no file of a crystal by its name"),
        ("../../etc/passwd.cif", b"root:x:0", "passwd.cif cannot be read as a crystal structure"),
    ],
)
def test_what_is_no_crystal_is_refused_by_its_own_name(name: str, content: bytes, words: str) -> None:
    with pytest.raises(StructureError) as caught:
        read(name, content)
    assert words in str(caught.value)
    assert "xastruct-explore" not in str(caught.value)

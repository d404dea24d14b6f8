"""Facts of crystals are computed once, kept by content, and found again."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine import sitecache
from aiida_xastruct.engine.sitecache import SiteCache, compute_facts, structure_hash


def test_hash_follows_the_content_and_nothing_else(crystal):
    salt = crystal("NaCl")
    named = salt.copy(properties={"name": "halite"})
    named.add_site_property("magmom", [0.0] * len(named))
    charged = crystal("NaCl")
    charged.add_oxidation_state_by_element({"Na": 1, "Cl": -1})
    outside = Structure(salt.lattice, salt.species, salt.frac_coords + np.array([1, -2, 0]))
    noisy = Structure(salt.lattice, salt.species, salt.frac_coords - 1e-9)
    assert {structure_hash(other) for other in (named, charged, outside, noisy)} == {structure_hash(salt)}


@pytest.mark.parametrize("change", ["cell", "element", "place", "order"])
def test_hash_changes_with_the_content(crystal, change):
    salt = crystal("NaCl")
    other = {
        "cell": Structure(Lattice.cubic(5.641), salt.species, salt.frac_coords),
        "element": Structure(salt.lattice, ["K", *salt.species[1:]], salt.frac_coords),
        "place": Structure(salt.lattice, salt.species, np.vstack([[0.001, 0, 0], salt.frac_coords[1:]])),
        "order": Structure(salt.lattice, salt.species[::-1], salt.frac_coords[::-1]),
    }[change]
    assert structure_hash(other) != structure_hash(salt)


def test_facts_come_back_as_they_were(tmp_path, crystal):
    salt = crystal("NaCl")
    facts = compute_facts(salt, [0, 4])
    with SiteCache(tmp_path / "facts.sqlite") as cache:
        cache.put("salt", facts)
    with SiteCache(tmp_path / "facts.sqlite") as cache:
        found = cache.get("salt", [4, 0])
    assert (found.space_group, found.prototype, found.refused) == (225, "AB-225", "")
    for site in (0, 4):
        assert found.sites[site].shell == facts.sites[site].shell
        np.testing.assert_array_equal(found.sites[site].features, facts.sites[site].features)
    assert found.sites[0].shell.elements == ("Cl",) * 6


def test_unknown_structures_and_sites_are_not_there(tmp_path, crystal):
    with SiteCache(tmp_path / "facts.sqlite") as cache:
        cache.put("salt", compute_facts(crystal("NaCl"), [0]))
        assert cache.get("salt", [0]) is not None
        assert cache.get("salt", [0, 4]) is None
        assert cache.get("pepper", [0]) is None


def test_facts_of_another_version_are_computed_anew(tmp_path, crystal, monkeypatch):
    facts = compute_facts(crystal("NaCl"), [0])
    with SiteCache(tmp_path / "facts.sqlite") as cache:
        cache.put("salt", facts)
        cache.put("more salt", facts)
        monkeypatch.setattr("aiida_xastruct.engine.sitecache.features_version", lambda: "another")
        assert cache.get("salt", [0]) is None
        cache.put("salt", facts)
        assert cache.get("salt", [0]) is not None
        assert cache.get("more salt", [0]) is None


def test_a_refused_structure_is_remembered_with_the_reason(tmp_path):
    overlapping = Structure(Lattice.cubic(4.0), ["Fe", "O"], [[0, 0, 0], [0.1, 0, 0]])
    with SiteCache(tmp_path / "facts.sqlite") as cache:
        assert list(cache.fill([(overlapping, [0])])) == [0, 1]
        found = cache.get(structure_hash(overlapping), [0])
        assert "0.40 angstrom apart" in found.refused
        assert found.sites == {}
        assert list(cache.fill([(overlapping, [0])])) == [1]


def test_a_killed_run_goes_on_where_it_stopped(tmp_path, crystal, monkeypatch):
    """Three structures, stopped after the first: the second run computes two."""

    tasks = [(crystal("NaCl"), [0]), (crystal("Cu"), [0]), (crystal("Fe"), [0])]
    with SiteCache(tmp_path / "facts.sqlite") as cache:
        progress = cache.fill(tasks)
        assert [next(progress), next(progress)] == [0, 1]
        progress.close()
    computed = []

    def counted(structure, sites):
        computed.append(structure.formula)
        return compute_facts(structure, sites)

    monkeypatch.setattr(sitecache, "compute_facts", counted)
    with SiteCache(tmp_path / "facts.sqlite") as cache:
        assert list(cache.fill(tasks)) == [1, 2, 3]
        assert computed == ["Cu4", "Fe2"]
        assert list(cache.fill(tasks)) == [3]
        assert computed == ["Cu4", "Fe2"]


def test_one_structure_asked_for_twice_is_computed_once_with_all_sites(tmp_path, crystal):
    with SiteCache(tmp_path / "facts.sqlite") as cache:
        steps = list(cache.fill([(crystal("NaCl"), [0]), (crystal("NaCl"), [4])]))
        assert steps[-1] == 2
        assert cache.get(structure_hash(crystal("NaCl")), [0, 4]) is not None

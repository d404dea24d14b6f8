"""A crystal is named by a file of any format, a node, or what a database calls it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiida.orm import QueryBuilder, StructureData
from pymatgen.core import Lattice, Structure

from aiida_xastruct.cli.root import cli
from aiida_xastruct.cli.structures import is_structure, structure_node
from aiida_xastruct.engine.errors import StructureError, XastructError

ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.212), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.mark.parametrize("name", ["mgo.cif", "charged.cif", "spin.mcif", "POSCAR", "mgo.vasp", "mgo.extxyz", "mgo.xyz"])
def test_files(aiida_profile_clean: Any, tmp_path: Any, name: str) -> None:
    path = tmp_path / name
    if name.endswith("xyz"):
        from ase.io import write
        from pymatgen.io.ase import AseAtomsAdaptor

        write(path, AseAtomsAdaptor.get_atoms(ROCK_SALT), format="extxyz")
    else:
        crystal = ROCK_SALT.copy()
        if name in ("charged.cif", "spin.mcif"):
            crystal.add_oxidation_state_by_element({"Mg": 2, "O": -2})
        if name == "spin.mcif":
            crystal.add_site_property("magmom", [1.0] * len(crystal))
        crystal.to(filename=str(path), fmt=name.rpartition(".")[2] if name.endswith("cif") else "poscar")
    found = structure_node(str(path)).get_pymatgen_structure()
    assert len(found) == 8
    assert found.get_space_group_info()[1] == 225
    assert found.lattice.abc == pytest.approx(ROCK_SALT.lattice.abc, abs=1e-4)


def test_files_that_hold_no_crystal(aiida_profile_clean: Any, tmp_path: Any) -> None:
    for name, content, words in [
        ("water.xyz", "3\n\nO 0 0 0\nH 0 0 1\nH 0 1 0\n", "has no cell"),
        ("empty.cif", "", "cannot be read"),
        ("bad.extxyz", "three\n", "cannot be read"),
        ("POSCAR", "nothing\n", "cannot be read"),
    ]:
        (tmp_path / name).write_text(content)
        with pytest.raises(StructureError, match=words):
            structure_node(str(tmp_path / name))


def test_nodes_come_before_minerals(aiida_profile_clean: Any) -> None:
    stored = StructureData(pymatgen=ROCK_SALT, label="tenorite").store()
    for name in (stored.pk, stored.uuid, "tenorite"):
        assert structure_node(str(name)).uuid == stored.uuid
    cuprite = structure_node("cuprite")
    assert cuprite.get_formula() == "Cu4O2"
    assert cuprite.source["db_name"] == "AMCSD"
    assert [is_structure(name) for name in ("cuprite", "mp-149", str(stored.pk), "nowhere", "987654")] == [True, True, True, False, False]
    with pytest.raises(XastructError, match=r"nowhere is neither a file nor a stored structure"):
        structure_node("nowhere")


def test_predict_and_screen_take_a_mineral(run: Any, aiida_profile_clean: Any) -> None:
    result = run(cli, "predict", "cuprite", "-a", "Cu", "-k", "EXAFS", "--fallback", "off", "--json")
    answer = json.loads(result.stdout)
    assert "AMCSD" in result.stderr
    assert (answer["absorber"], answer["kind"], answer["method"]) == ("Cu", "EXAFS", "ml")
    cited = {item["id"]: item for item in json.loads(run(cli, "cite", answer["pk"]["spectrum"], "--json").output)["references"]}
    crystal = QueryBuilder().append(StructureData).first(flat=True)
    assert f"crystal {crystal.source['id']}" in cited["amcsd"]["notes"]
    screened = json.loads(run(cli, "screen", "cuprite", "tenorite", "-a", "Cu", "-k", "EXAFS", "--json").stdout)
    assert (screened["n_structures"], screened["n_refused"]) == (2, 0)


def test_what_is_wrong_is_one_sentence(run: Any, aiida_profile_clean: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MP_API_KEY", raising=False)
    monkeypatch.delenv("PMG_MAPI_KEY", raising=False)
    for name, words in [("mp-149", "no key"), ("nobody:1", "no known provider"), ("TiO2", "give the name of one"), ("nowhere", "neither")]:
        output = run(cli, "predict", name, "-a", "Ti", status=1).output
        assert words in output
        assert output.startswith("Error: ")

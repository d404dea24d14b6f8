"""Files of crystals as people have them: charges, spins, settings, gaps; nothing of them is passed over in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiida_xastruct.engine.crystal_file import read_crystal
from aiida_xastruct.engine.errors import StructureError

CELL = "\n".join([f"_cell_length_{axis} 4.3" for axis in "abc"] + [f"_cell_angle_{angle} 90" for angle in ("alpha", "beta", "gamma")])
COLUMNS = "\n".join(f"_atom_site_{name}" for name in ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy"))
ATOMS = "Fe1 Fe 0 0 0 1\nO1 O 0.5 0.5 0.5 1"
FM3M = "_symmetry_space_group_name_H-M 'F m -3 m'"


def cif(head: str = FM3M, atoms: str = ATOMS, name: str = "data_x") -> str:
    return f"{name}\n{CELL}\n{head}\nloop_\n{COLUMNS}\n{atoms}\n"


CHARGES = "loop_\n_atom_type_symbol\n_atom_type_oxidation_number\nFe2+ 2\nFe3+ 3\nO2- -2\n"


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        (cif(), "Fe4 O4"),
        (cif(f"{FM3M}\n{CHARGES}", "Fe1 Fe2+ 0 0 0 1\nO1 O2- 0.5 0.5 0.5 1"), "Fe4 O4"),
        # Mixed valence is one element.
        (cif(f"{FM3M}\n{CHARGES}", "Fe1 Fe2+ 0 0 0 0.5\nFe2 Fe3+ 0 0 0 0.5\nO1 O2- 0.5 0.5 0.5 1"), "Fe4 O4"),
        (cif(atoms="D1 D 0 0 0 1\nO1 O 0.5 0.5 0.5 1"), "H4 O4"),
        # An occupancy that is not given is one.
        (cif(atoms="Fe1 Fe 0 0 0 1\nO1 O 0.5 0.5 0.5 ."), "Fe4 O4"),
        (cif(atoms="Fe1 Fe 0 0 0 ?\nO1 O 0.5 0.5 0.5 1"), "Fe4 O4"),
        (cif("_symmetry_space_group_name_H-M 'P 1'"), "Fe1 O1"),
        (cif(""), "Fe1 O1"),
        (cif(f"{FM3M}\n_chemical_formula_sum 'Fe O'"), "Fe4 O4"),
    ],
)
def test_what_is_read(tmp_path: Path, text: str, formula: str) -> None:
    (tmp_path / "x.cif").write_text(text)
    said: list[str] = []
    found = read_crystal(tmp_path / "x.cif", said.append)
    assert found.composition.formula == formula
    assert {str(specie) for specie in found.species} == {word.rstrip("0123456789") for word in formula.split()}
    assert said == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (cif("_symmetry_space_group_name_H-M 'P 21/n'"), "the space group P 21/n is not known in this setting"),
        (cif("_space_group_name_H-M_alt 'F m -3 m :x'"), "is not known in this setting"),
        (cif("_symmetry_space_group_name_Hall '-F 4 2 3'"), "the space group -F 4 2 3 is not known"),
        (cif(atoms="Fe1 Fe 0 0 0 0.7\nNi1 Ni 0 0 0 0.5\nO1 O 0.5 0.5 0.5 1"), "Occupancy 1.2 exceeded tolerance"),
        (cif(f"{FM3M}\n_chemical_formula_sum 'Fe2 O3'"), "the coordinates give FeO, the formula says Fe2 O3; mend the atoms, or its"),
        (cif(atoms="Fe1 Fe 0 0 0 0.9\nO1 O 0.5 0.5 0.5 1"), "disordered"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.cif").write_text(text)
    with pytest.raises(StructureError, match=words.replace("(", r"\(")):
        read_crystal(tmp_path / "x.cif")


def test_what_is_said(tmp_path: Path) -> None:
    path, said = tmp_path / "x.cif", list[str]()
    path.write_text(cif(f"{FM3M}\n_chemical_formula_sum 'Fe H O'"))
    assert read_crystal(path, said.append).composition.formula == "Fe4 O4"
    path.write_text(cif() + cif(name="data_y"))
    assert read_crystal(path, said.append).composition.formula == "Fe4 O4"
    assert said == [
        "x.cif has hydrogen in its formula and none among its atoms; answers are for the crystal without.",
        "x.cif holds 2 crystals; the first is taken.",
    ]


@pytest.mark.parametrize("name", ["POSCAR", "feo.vasp"])
def test_a_poscar_without_elements(tmp_path: Path, name: str) -> None:
    lines = ["FeO", "1.0", "4.2 0 0", "0 4.2 0", "0 0 4.2", "1 1", "direct", "0 0 0", "0.5 0.5 0.5"]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    with pytest.raises(StructureError, match=f"{name} names no elements"):
        read_crystal(tmp_path / name)
    (tmp_path / name).write_text("\n".join([*lines[:5], "Fe O", *lines[5:]]) + "\n")
    assert read_crystal(tmp_path / name).composition.formula == "Fe1 O1"

"""The shipped family, FEFF, and crystals that the family trusts itself with and does not."""

from __future__ import annotations

from typing import Any

import pytest
from pymatgen.core import Lattice, Structure

FCC = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]


def cubic(length: float, elements: tuple[str, ...], shift: float) -> Structure:
    """Conventional cell of rock salt (shift 0.5), zinc blende (0.25) or, of one element, the fcc metal; length in angstrom."""
    second = [[x + shift, y + shift, z + shift] for x, y, z in FCC]
    return Structure(Lattice.cubic(length), [element for element in elements for _ in FCC], FCC + second if len(elements) > 1 else FCC)


#: Crystal and absorber. Which of them a family is sure of depends on its training; the last are rare, so that one is not.
CASES: dict[str, tuple[Structure, str]] = {
    "Cu": (cubic(3.615, ("Cu",), 0.0), "Cu"),
    "NiO": (cubic(4.177, ("Ni", "O"), 0.5), "Ni"),
    "FeO": (cubic(4.31, ("Fe", "O"), 0.5), "Fe"),
    "ZnS": (cubic(5.409, ("Zn", "S"), 0.25), "Zn"),
    "NaCl": (cubic(5.640, ("Na", "Cl"), 0.5), "Cl"),
    "Au": (cubic(4.078, ("Au",), 0.0), "Au"),
    "MgO": (cubic(4.212, ("Mg", "O"), 0.5), "O"),
    "LiF": (cubic(4.026, ("Li", "F"), 0.5), "F"),
    "Kr": (cubic(5.72, ("Kr",), 0.0), "Kr"),
}


@pytest.fixture(scope="session")
def verdicts() -> dict[str, bool]:
    """Whether the shipped family sends the EXAFS of each case to FEFF."""
    from aiida_xastruct.engine.bundle import FamilyBundle

    bundle = FamilyBundle.load("default")
    found = {}
    for name, (crystal, absorber) in CASES.items():
        site = next(i for i, item in enumerate(crystal) if item.specie.symbol == absorber)
        found[name] = bundle.predict(crystal, [site], "EXAFS")[0].needs_reference
    return found


def _node(verdicts: dict[str, bool], doubted: bool) -> tuple[Any, str]:
    from aiida.orm import StructureData

    name = next((name for name, verdict in verdicts.items() if verdict is doubted), None)
    assert name is not None, f"the shipped family {'trusts' if doubted else 'doubts'} itself everywhere: {verdicts}"
    crystal, absorber = CASES[name]
    return StructureData(pymatgen=crystal, label=name), absorber


@pytest.fixture
def trusted(aiida_profile_clean: Any, verdicts: dict[str, bool]) -> tuple[Any, str]:
    """Structure and absorber whose EXAFS the model answers."""
    return _node(verdicts, doubted=False)


@pytest.fixture
def doubted(aiida_profile_clean: Any, verdicts: dict[str, bool]) -> tuple[Any, str]:
    """Structure and absorber whose EXAFS the model leaves to FEFF."""
    return _node(verdicts, doubted=True)


@pytest.fixture
def feff(aiida_profile_clean: Any) -> Any:
    """The bundled FEFF."""
    from aiida_xastruct.tools.codes import bundled_feff_code

    return bundled_feff_code()

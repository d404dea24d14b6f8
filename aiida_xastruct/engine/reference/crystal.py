"""One crystal of a source: read from CIF, checked, recognised again, as plain JSON."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from pymatgen.core import Composition, Element, Structure

from ..errors import StructureError
from ..structure import check_structure, make_structure

#: Structures with more atoms in their conventional cell cost more symmetry and feature work than they add.
MAX_ATOMS = 60


def check_crystal(structure: Structure) -> None:
    """Refuse what the library does not take.

    Raises:
        StructureError: if the crystal is larger than `MAX_ATOMS`, disordered or damaged.
    """
    if len(structure) > MAX_ATOMS:
        raise StructureError(f"the cell has {len(structure)} atoms; the library takes at most {MAX_ATOMS}.")
    check_structure(structure)


def parse_cif(text: str) -> Structure:
    """The conventional cell of the first crystal in the text of a CIF, sites in the order pymatgen's parser gives.

    Raises:
        StructureError: if pymatgen finds none.
    """
    from pymatgen.io.cif import CifParser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about rounded coordinates and missing hydrogen, which is checked below
        try:
            return CifParser.from_str(text, occupancy_tolerance=1.01, site_tolerance=5e-3).parse_structures(primitive=False)[0]
        except Exception as error:  # pymatgen raises many kinds for what 1960s refinements can hold
            raise StructureError(
                f"pymatgen cannot read the crystal: {str(error).splitlines()[0] if str(error) else type(error).__name__}."
            ) from error


def check_formula(structure: Structure, formula: str) -> bool:
    """Whether hydrogen is missing from the coordinates.

    Raises:
        StructureError: if the other elements do not make up the formula to 3 %: an unread label, a missing or a doubled atom.
    """
    try:
        stated = Composition(re.sub(r"\bD(?![a-z])", "H", formula)).element_composition
    except Exception as error:
        raise StructureError(f"the formula {formula!r} cannot be read.") from error
    present = structure.composition.element_composition
    hydrogen = Element("H")
    heavy = sorted(set(stated) - {hydrogen})
    if set(heavy) != set(present) - {hydrogen}:
        raise StructureError(f"the coordinates give {present.reduced_formula}, the formula says {formula}.")
    if heavy:
        ratios = [present[element] / stated[element] for element in heavy]
        if max(ratios) / min(ratios) > 1.03:
            raise StructureError(f"the coordinates give {present.reduced_formula}, the formula says {formula}.")
    return hydrogen in stated and hydrogen not in present


def fingerprint(structure: Structure) -> str:
    """16 hex digits of the cell, species and coordinates to 1e-3 angstrom, in site order: does a site index still mean the same atom."""
    numbers = ",".join(str(site.specie.Z) for site in structure)
    cell = ",".join(f"{value:.3f}" for value in structure.lattice.parameters)
    # Fractional coordinates modulo one, rounded so that 0.99999 and 0 agree.
    frac = np.round(np.mod(structure.frac_coords, 1.0), 4) % 1.0
    text = f"{cell}|{numbers}|" + ",".join(f"{value:.4f}" for value in frac.ravel())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def structure_to_dict(structure: Structure) -> dict[str, Any]:
    """Lattice (3, 3), species and fractional coordinates (n, 3), plain JSON."""
    return {
        "lattice": np.round(structure.lattice.matrix, 6).tolist(),
        "species": [str(Element.from_Z(site.specie.Z).symbol) for site in structure],
        "frac": np.round(structure.frac_coords, 6).tolist(),
    }


def structure_from_dict(values: Mapping[str, Any]) -> Structure:
    """The inverse of `structure_to_dict`.

    Raises:
        StructureError: if these are no values of a structure.
    """
    return make_structure(values["lattice"], values["species"], values["frac"])

"""One crystal of a source: checked, recognised again, as plain JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from pymatgen.core import Element, Structure

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

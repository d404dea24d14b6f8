"""The cell that a core hole is put into."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.engine import ExitCode, calcfunction
from aiida.orm import Dict, Float, Int, StructureData

from ...engine.errors import XastructError


def hole_kind(symbol: str) -> str:
    """Name of the kind of the atom with the hole; pw.x takes three letters at most."""
    return f"{symbol}1"


@calcfunction
def core_hole_supercell(structure: StructureData, site: Int, image_distance: Float) -> Any:
    """The smallest repetition of a crystal that keeps images of a site apart, with that site as a kind of its own.

    Args:
        structure: an ordered crystal.
        site: index of the absorber, from 0.
        image_distance: angstrom.

    Returns:
        `structure`: the supercell; `cell`: `Dict` with `multiples`, `atoms`, `image_distance` (angstrom) and `polarisations`, the
        directions of the field whose mean is the spectrum of a powder. Exit status 310 with one sentence where it would be too large.
    """
    from ...engine.structure import symbol, symbol_of
    from ...engine.xspectra.supercell import polarisations, site_rotations, supercell

    crystal = structure.get_pymatgen_structure()
    try:
        absorber = symbol(crystal, site.value)
        found = supercell(crystal, site.value, image_distance.value)
    except XastructError as error:
        return ExitCode(310, str(error))
    repeated = StructureData(cell=np.asarray(found.structure.lattice.matrix).tolist())
    for index, atom in enumerate(found.structure):
        element = symbol_of(atom.specie.Z)
        name = hole_kind(absorber) if index == found.site else element
        repeated.append_atom(position=atom.coords.tolist(), symbols=element, name=name)
    cell = {"multiples": list(found.multiples), "atoms": len(found.structure), "image_distance": found.image_distance}
    fields = polarisations(site_rotations(crystal, site.value, found.multiples))
    return {"structure": repeated, "cell": Dict({**cell, "polarisations": [list(one) for one in fields]})}

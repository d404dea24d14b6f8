"""Nodes that pages store and read; every function here runs in AiiDA's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine.errors import XastructError
from ..tools.plotting.contents import Curve, name_of

if TYPE_CHECKING:
    from pymatgen.core import Structure


def keep_structure(structure: Structure, label: str) -> int:
    """The pk of a crystal that is stored now."""
    from aiida.orm import StructureData

    pk = StructureData(pymatgen=structure, label=label).store().pk
    assert pk is not None
    return pk


def spectrum_curve(pk: int) -> Curve:
    """A stored spectrum to draw.

    Raises:
        XastructError: if the node is none.
    """
    from aiida.orm import load_node

    from ..data.spectrum import SpectrumData

    node = load_node(pk)
    if not isinstance(node, SpectrumData):
        raise XastructError(f"<{pk}> is no spectrum; name another node.")
    return Curve(name_of(node), node.to_engine(), node.band, node.point_band)

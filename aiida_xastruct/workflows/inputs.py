"""Checks and defaults that the prediction and inference workflows have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine.errors import ModelError, PseudoError, StructureError

if TYPE_CHECKING:
    from aiida.orm import StructureData
    from pymatgen.core import Structure

    from ..groups.core_hole import CoreHolePseudoFamily
    from ..groups.family import ModelFamily

#: What AiiDA and pymatgen raise where the attributes of a node are damaged: an archive of a stranger is not checked when it is imported.
DAMAGED_NODE = (ValueError, TypeError, KeyError, AttributeError, IndexError, ArithmeticError)


def crystal_of(structure: StructureData) -> Structure:
    """The crystal of a node.

    Raises:
        StructureError: if its attributes make none.
    """
    try:
        return structure.get_pymatgen()
    except DAMAGED_NODE as error:
        raise StructureError(unreadable(error)) from error


def unreadable(error: BaseException) -> str:
    """The sentence for a node of a crystal that cannot be read."""
    return f"the structure's node is damaged ({type(error).__name__}: {error}); make it again."


def find_family(label: str | None) -> ModelFamily:
    """The family of a label; the one that ships with the package, installed if need be, for None.

    Raises:
        ModelError: if there is no such family.
    """
    from aiida.orm import QueryBuilder

    from ..groups.family import ModelFamily, load_default_family

    if label is None:
        return load_default_family()
    found = QueryBuilder().append(ModelFamily, filters={"label": label}).first(flat=True)
    if found is None:
        has = ", ".join(sorted(QueryBuilder().append(ModelFamily, project="label").all(flat=True))) or "none"
        raise ModelError(f"there is no model family {label!r} in this profile (it has {has}); install it, or leave family out.")
    return found


def find_core_hole_family(label: str | None) -> CoreHolePseudoFamily:
    """The core-hole family of a label; for None the one that there is.

    Raises:
        PseudoError: if there is no such family, or for None not exactly one, or an optional package is lacking.
    """
    from aiida.orm import QueryBuilder

    try:
        from ..groups.core_hole import CoreHolePseudoFamily
    except ModuleNotFoundError as error:
        raise PseudoError(f"{error.name} is not installed; pip install 'aiida-xastruct[xspectra]'.") from error
    found = {family.label: family for family in QueryBuilder().append(CoreHolePseudoFamily).all(flat=True)}
    has = ", ".join(sorted(found)) or "none"
    if label is None:
        if len(found) != 1:
            words = "name one" if found else "install one (`aiida-xastruct core-hole install`)"
            raise PseudoError(f"this profile has {len(found)} core-hole families ({has}); {words}.")
        return next(iter(found.values()))
    if label not in found:
        raise PseudoError(f"there is no core-hole family {label!r} in this profile (it has {has}); install it.")
    return found[label]

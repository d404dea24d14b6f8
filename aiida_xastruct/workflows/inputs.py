"""Checks and defaults that the prediction and inference workflows have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine.errors import ModelError

if TYPE_CHECKING:
    from ..groups.family import ModelFamily


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

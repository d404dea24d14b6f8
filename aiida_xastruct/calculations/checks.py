"""Validators of inputs that several processes have: one sentence of what is wrong, or None."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiida import orm

from ..data.model import KINDS
from ..engine.errors import XastructError


def refusal(read: Callable[[Mapping[str, Any]], object], value: orm.Dict | None) -> str | None:
    """What the engine, by `read`, says against the content of a node; None where it takes it, or there is none."""
    if value is None:
        return None
    try:
        read(value.get_dict())
    except XastructError as error:
        return str(error)
    return None


def check_kind(value: orm.Str | None, _: Any) -> str | None:
    """Refuse another kind of spectrum than XANES and EXAFS."""
    if value is not None and value.value not in KINDS:
        return f"kind is {value.value!r}; use one of {', '.join(KINDS)}."
    return None

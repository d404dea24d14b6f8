"""Validators of inputs that several processes have: one sentence of what is wrong, or None."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiida import orm

from ..data.model import KINDS
from ..engine.errors import XastructError
from ..engine.spectrum import atomic_number, element_symbol


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


def check_element(value: orm.Str | None, _: Any) -> str | None:
    """Refuse what is no symbol of an element as crystals have it; empty text is all elements."""
    if value is None or not value.value:
        return None
    try:
        symbol = element_symbol(atomic_number(value.value))
    except XastructError as error:
        return str(error)
    return None if symbol == value.value else f"absorber is {value.value!r}; give {symbol!r}."


def refused_options(process: Any, options: Any, name: str) -> str | None:
    """A sentence of what is wrong with options of a job of a calculation; None where nothing is."""
    if not isinstance(options, Mapping):
        return f"{name} is {options!r}; give a mapping of options to values."
    # Workflows and calculations have resources of their own where these leave them out.
    error = process.spec().inputs["metadata"]["options"].validate({"resources": {"num_machines": 1}, **options})
    return None if error is None else f"{name}: {error.message}"

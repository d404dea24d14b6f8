"""Dataclasses of settings from plain values: a name that they do not have is refused, and the nearest that they have is named."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from .errors import SpectrumError, XastructError

Settings = TypeVar("Settings")


def hint(name: str, known: Iterable[str]) -> str:
    """What was meant by a name that is unknown, in brackets; empty where nothing is like it."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def from_plain(cls: type[Settings], values: Mapping[str, Any], what: str, error: type[XastructError] = SpectrumError) -> Settings:
    """A dataclass of settings from plain values.

    Args:
        cls: the dataclass.
        values: its fields by name.
        what: what each is, for the message, such as `parameter of a scan`.
        error: kind of the message.

    Raises:
        XastructError: for what is no mapping, an unknown name, or by `cls` for a value that it refuses.
    """
    known = [item.name for item in fields(cls)]  # type: ignore[arg-type]
    if not isinstance(values, Mapping):
        raise error(f"{values!r} is no mapping of {what}s to values; known are {', '.join(known)}.")
    for name in values:
        if name not in known:
            raise error(f"{name!r} is no {what}{hint(name, known)}; known are {', '.join(known)}.")
    return cls(**values)

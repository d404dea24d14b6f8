"""The head and the rows of a text file, as `engine.readers.exports` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..exchange import NAMESPACE, WORDS, to_json, values_of
from ..spectrum import FloatArray, Spectrum

#: Letters that a line has room for: readers in C cut what is longer than a few thousand. A longer value goes on in the next line.
LONGEST = 1500


def head_lines(spectrum: Spectrum, extent: Mapping[str, Any]) -> list[str]:
    """One line a value, `Xastruct.name: value`, words as they are and all else as JSON; arguments as for `writers.write`."""
    lines = []
    for name, value in values_of(spectrum, extent).items():
        if value is None or value == {}:
            continue
        text = str(value) if name in WORDS else to_json(value)
        lines += [f"{NAMESPACE}.{name}: {text[start : start + LONGEST]}" for start in range(0, len(text), LONGEST)]
    if extent.get("uuid"):
        lines.append(f"{NAMESPACE}.uuid: {extent['uuid']}")
    return lines


def rows(columns: Sequence[FloatArray], separator: str) -> list[str]:
    """One line a point; each number with the fewest digits that give it again exactly."""
    return [separator.join(map(repr, row)) for row in zip(*(column.tolist() for column in columns), strict=True)]

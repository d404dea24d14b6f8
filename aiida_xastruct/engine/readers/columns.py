"""Columns of text: XDI, what beamlines write, a spreadsheet's CSV, two columns of energy and mu."""

from __future__ import annotations

import re

from ..scans import COLUMN_NAMES, Reading, ScanParameters, read_scan, split_values
from .text import as_text

_COMMENT = ("#", "%")


def recognise(content: bytes, name: str) -> bool:
    """Whether this is text; what is in it shows when it is read."""
    return b"\x00" not in content[:4096] or content.startswith((b"\xff\xfe", b"\xfe\xff"))


def stated_edge(text: str) -> tuple[str, str]:
    """Absorber and edge that an XDI header names; empty where it does not."""
    found = [re.search(rf"(?mi)^[#%].*\bElement\.{tag}\s*:\s*(\w+)", text) for tag in ("symbol", "edge")]
    absorber, edge = (match[1] if match else "" for match in found)
    return absorber.capitalize(), edge.upper()


def read(content: bytes, name: str, parameters: ScanParameters) -> list[Reading]:
    """The scan in a file of columns; see `engine.scans.read_scan`.

    Columns are named in XDI fields, in the last comment, or in a first line of words. Two columns without names are energy and mu.

    Raises:
        SpectrumError: if it is no scan.
    """
    return [read_scan(_with_column_names(as_text(content, name), parameters), name, parameters)]


def _with_column_names(text: str, parameters: ScanParameters) -> str:
    """The text with its column names in a comment, where they stand in a first line of words or can only be energy and mu."""
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith(_COMMENT)), len(lines))
    if first == len(lines):
        return text
    (row,) = split_values([lines[first]])
    following = "".join(lines[first + 1 : first + 2]).strip()
    if row and re.match(r"[\"']?[A-Za-z_]", row[0]) and re.match(r"[-+.\d]", following):
        return "\n".join([*lines[:first], f"# {' '.join(_words(lines[first]))}", *lines[first + 1 :]])
    comments = [line.strip().lstrip("#%").lower().split() for line in lines[:first] if line.strip("#%-/= \t")]
    names = set(comments[-1]) if comments and len(comments[-1]) == 2 else set()
    known = {label for labels in COLUMN_NAMES.values() for label in labels}
    if len(row) != 2 or names & known or parameters.columns:
        return text
    return "\n".join([*lines[:first], "# energy mu", *lines[first:]])


def _words(line: str) -> list[str]:
    """Column names of a first line: between semicolons or commas the first word of each, such as `Energy (eV)`, else all words."""
    mark = ";" if ";" in line else ","
    if mark not in line:
        return [word.strip("\"'") for word in line.split()]
    return [(cell.strip().strip("\"'").split() or ["?"])[0] for cell in line.strip().rstrip(mark).split(mark)]

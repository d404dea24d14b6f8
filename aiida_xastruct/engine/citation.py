"""Citations as BibTeX and as JSON with the fields of a CITATION.cff."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

#: Letters that mean something to BibTeX.
_SPECIAL = re.compile(r"([&%$#_{}])")

_FORMAT = "1.2.0"


@dataclass(frozen=True)
class Work:
    """Something that a result rests on.

    Attributes:
        key: name among the works.
        fields: of BibTeX, `type` among them: article, misc or software.
        notes: what in the result's provenance rests on it, one sentence each.
    """

    key: str
    fields: Mapping[str, Any]
    notes: Sequence[str] = field(default_factory=tuple)


@cache
def references() -> dict[str, dict[str, Any]]:
    """The papers that the package knows, by their keys."""
    import yaml

    found: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "references.yaml").read_text())
    return found


def bibtex(works: Sequence[Work]) -> str:
    """BibTeX entries."""
    return "\n\n".join(_entry(work) for work in works) + "\n"


def _entry(work: Work) -> str:
    fields = {name: str(value) for name, value in work.fields.items() if name != "type"}
    if work.notes:
        fields["note"] = "; ".join(work.notes)
    # A DOI or address is taken as it is: a backslash would be part of it.
    lines = [
        f"  {name} = {{{value if name in ('doi', 'url', 'eprint') else _SPECIAL.sub(_escape, value)}}}," for name, value in fields.items()
    ]
    return "\n".join([f"@{work.fields['type']}{{{work.key},", *lines, "}"])


def _escape(match: re.Match[str]) -> str:
    return "\\" + match[1]


def citation(works: Sequence[Work], title: str) -> dict[str, Any]:
    """The works as the references of a CITATION.cff, plain JSON values."""
    listed = []
    for work in works:
        own = {name: value for name, value in work.fields.items() if name not in ("type", "author", "eprint", "archiveprefix")}
        kind = {"misc": "generic"}.get(work.fields["type"], work.fields["type"])
        authors = [{"name": name} for name in str(work.fields["author"]).split(" and ")] if "author" in work.fields else []
        arxiv = [{"type": "other", "value": f"arXiv:{work.fields['eprint']}"}] if "eprint" in work.fields else []
        listed.append(
            {"id": work.key, "type": kind, **own}
            | ({"authors": authors} if authors else {})
            | ({"identifiers": arxiv} if arxiv else {})
            | ({"notes": "; ".join(work.notes)} if work.notes else {})
        )
    return {"cff-version": _FORMAT, "message": "Cite these works with the result.", "title": title, "references": listed}

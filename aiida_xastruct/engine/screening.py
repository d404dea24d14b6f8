"""What a screening decides: which sites FEFF should answer first, and how many a job takes."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from .feff.deck import has_edge

if TYPE_CHECKING:
    import pyarrow as pa

#: What the choice is made by.
COLUMNS = ("id", "site", "absorber", "uncertainty", "threshold", "domain_score", "needs_reference")


class Wanted(NamedTuple):
    """A site that FEFF is to answer."""

    chunk: str
    id: str
    site: int


def neediest(tables: Iterable[tuple[str, pa.Table]], most: int) -> list[Wanted]:
    """The sites that need FEFF most, of those that the model leaves to it, in the order of the tables.

    Need is how often the uncertainty exceeds its threshold, or how far outside the domain the site is, whichever is more.

    Args:
        tables: of each chunk, by its name, with at least `COLUMNS`.
        most: number of sites.
    """
    best: list[tuple[float, int, Wanted]] = []
    order = 0
    for chunk, table in tables:
        for row in table.select(list(COLUMNS)).to_pylist():
            if not row["needs_reference"] or not has_edge(row["absorber"]):
                continue
            need = max(row["uncertainty"] / row["threshold"], row["domain_score"])
            order -= 1  # of two that need it alike the first
            item = (need, order, Wanted(chunk, row["id"], row["site"]))
            if len(best) < most:
                heapq.heappush(best, item)
            elif best:
                heapq.heappushpop(best, item)
    return [wanted for _, _, wanted in sorted(best, key=lambda item: -item[1])]


def jobs(wanted: Iterable[Wanted], most: int) -> list[dict[str, Any]]:
    """Jobs of at most so many sites, each of one chunk: `label`, `chunk` and `sites`, a list for each crystal's name.

    Two names that differ only in characters that no folder's name has go into two jobs.
    """
    found: list[dict[str, Any]] = []
    for item in wanted:
        plain = re.sub(r"[^A-Za-z0-9]+", "_", item.id).strip("_")
        for job in reversed(found):
            if job["chunk"] != item.chunk:
                continue
            count = sum(map(len, job["sites"].values()))
            if count < most and job["names"].setdefault(plain, item.id) == item.id:
                break
        else:
            job = {"label": "", "chunk": item.chunk, "sites": {}, "names": {plain: item.id}}
            found.append(job)
        job["sites"].setdefault(item.id, []).append(item.site)
    for number, job in enumerate(found):
        job["label"] = f"{job['chunk']}_{number}"
        del job["names"]
    return found


def chunk_label(number: int) -> str:
    """Name of a chunk by its number, from 0."""
    return f"chunk_{number:05d}"

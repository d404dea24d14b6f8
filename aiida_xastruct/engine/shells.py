"""What surrounds the atoms of an element in many crystals: a table that is made once, as CrystalNN is slow, and searched often.

| column | what |
| --- | --- |
| hash | of the crystal, `sitecache.structure_hash` |
| site | index from 0, one of those that are equivalent by symmetry: the one that a batch predicts |
| neighbours | elements of the first shell, sorted, with blanks between them |
| mean_distance | of the first shell, angstrom |

Sites where CrystalNN finds no neighbours have no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import StructureError
from .origin import origin_of
from .structure import inequivalent_absorbers
from .structures_file import Entry

if TYPE_CHECKING:
    import pyarrow as pa

#: Elements of a first shell, sorted, and their mean distance, angstrom, by hash of the crystal and site.
Shells = dict[tuple[str, int], tuple[list[str], float]]


def shells_table(entries: Iterable[Entry], absorber: str) -> pa.Table:
    """First shells of the inequivalent sites of an element.

    Args:
        entries: crystals, or sentences in place of crystals, as `read_structures` gives them.
        absorber: symbol of the element.

    Raises:
        StructureError: if the file of structures is damaged.
    """
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    for _, crystal in entries:
        if isinstance(crystal, str):
            continue
        try:
            sites = [one.site for one in inequivalent_absorbers(crystal, absorber)]
        except StructureError:  # the element is not in this crystal
            continue
        for site in sites:
            known = origin_of(crystal, site)
            if known["neighbours"] is not None:
                words = " ".join(known["neighbours"])
                rows.append({"hash": known["structure_hash"], "site": site, "neighbours": words, "mean_distance": known["mean_distance"]})
    columns = {"hash": pa.string(), "site": pa.int32(), "neighbours": pa.string(), "mean_distance": pa.float64()}
    return pa.Table.from_pylist(rows, pa.schema(columns))


def summary(table: pa.Table) -> dict[str, Any]:
    """What all shells of a table hold: `n_sites`, `neighbours`, sorted, and the least and the greatest mean distance, `distances`."""
    distances = table["mean_distance"].to_pylist()
    elements = {element for words in table["neighbours"].unique().to_pylist() for element in words.split()}
    return {"n_sites": table.num_rows, "neighbours": sorted(elements), "distances": [min(distances), max(distances)] if distances else []}


def may_hold(said: Mapping[str, Any], neighbours: Sequence[str], distance: tuple[float, float]) -> bool:
    """Whether a table of this summary can hold a shell that `find` finds."""
    return bool(said["n_sites"]) and {*neighbours} <= {*said["neighbours"]} and _meet(said["distances"], distance)


def _meet(first: Sequence[float], second: Sequence[float]) -> bool:
    return first[0] <= second[1] and second[0] <= first[1]


def find(table: pa.Table, neighbours: Sequence[str], distance: tuple[float, float]) -> Shells:
    """Shells that hold every one of some elements, at a mean distance from the least to the greatest, angstrom."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = [words for words in table["neighbours"].unique().to_pylist() if {*neighbours} <= {*words.split()}]
    near = pc.and_(pc.greater_equal(table["mean_distance"], distance[0]), pc.less_equal(table["mean_distance"], distance[1]))
    found = table.filter(pc.and_(near, pc.is_in(table["neighbours"], pa.array(wanted, pa.string()))))
    return {(row["hash"], row["site"]): (row["neighbours"].split(), row["mean_distance"]) for row in found.to_pylist()}

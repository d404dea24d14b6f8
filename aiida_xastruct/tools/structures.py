"""Crystals of a group, a folder, a table or a list of nodes, as chunks that batches take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from aiida.orm import Group, SinglefileData, StructureData

from ..engine.errors import StructureError, XastructError

if TYPE_CHECKING:
    from ..engine.structures_file import Entry


def entries_of_nodes(nodes: Iterable[StructureData], absorber: str = "") -> Iterator[Entry]:
    """Crystals of structure nodes, or why one is none, by their UUIDs; those without the absorber are passed over.

    The UUID, and the content hash that a batch gives each row, lead back to the node; a link for each would cost AiiDA 20 ms.
    """
    for node in nodes:
        if absorber and absorber not in node.get_symbols_set():
            continue
        if tuple(node.pbc) != (True, True, True):
            yield (
                node.uuid,
                "the structure is not periodic in three dimensions; put a molecule or slab into a box and set pbc in all three.",
            )
        elif node.is_alloy or node.has_vacancies:
            yield node.uuid, "the structure is disordered; give an ordered supercell or pick one occupation."
        else:
            yield node.uuid, node.get_pymatgen_structure()


def entries_of_group(group: Group, absorber: str = "") -> Iterator[Entry]:
    """Crystals of the structures in a group, in the order in which they were stored; see `entries_of_nodes`."""
    from aiida.orm import QueryBuilder

    builder = QueryBuilder().append(Group, filters={"id": group.pk}, tag="group")
    builder.append(StructureData, with_group="group", tag="node").order_by({"node": "id"})
    return entries_of_nodes((row[0] for row in builder.iterall(batch_size=200)), absorber)


def entries_of_path(path: Path, absorber: str = "") -> Iterator[Entry]:
    """Crystals of a folder of CIF files or an npz table, or why one is none; those without the absorber are passed over.

    Raises:
        StructureError: if there is no such folder or table.
    """
    from ..engine.reference.sources import open_source

    source = open_source("cif" if path.is_dir() else "npz", str(path))
    by_element = source.ids_by_element()
    # Unreadable files stand under no element; none is lost.
    wanted = [*by_element.get(absorber, []), *by_element.get("", [])] if absorber else [one for ids in by_element.values() for one in ids]
    for source_id in dict.fromkeys(wanted):
        try:
            yield source_id, source.structure(source_id)[0]
        except XastructError as error:
            yield source_id, str(error)


def structure_chunks(entries: Iterable[Entry], size: int, limit: int | None = None) -> Iterator[SinglefileData]:
    """Stored nodes of at most `size` crystals each; a node of the same crystals that is there already is used again.

    Args:
        entries: crystals, or sentences.
        size: of a chunk.
        limit: crystals in all.

    Raises:
        StructureError: if there are no crystals.
    """
    from aiida.orm import QueryBuilder

    from ..calculations.functions.predict_batch import structures_node

    source, count = islice(iter(entries), limit), 0
    while chunk := list(islice(source, size)):
        node = structures_node(chunk)
        digest = node.base.attributes.get("content_hash")
        same = QueryBuilder().append(SinglefileData, filters={"attributes.content_hash": digest}).first(flat=True)
        yield same if same is not None else node.store()
        count += len(chunk)
    if not count:
        raise StructureError("there are no crystals with this absorber; give another, or another source.")

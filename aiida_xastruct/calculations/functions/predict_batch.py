"""From many crystals to the spectra of all their sites in one call: a node in, an array node and a table out.

A calcfunction costs 0.17 s whatever it does; in a batch a structure costs only what the model needs.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida.engine import ExitCode, calcfunction
from aiida.orm import ArrayData, SinglefileData, Str

from ...data.model import ModelData
from ...data.table import TableData
from ...engine import ALGORITHM_VERSION
from ...engine.errors import XastructError

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from ...engine.batch import Batch, Progress
    from ...engine.structures_file import Entry


@dataclass(frozen=True)
class Means:
    """With what a batch is computed here; its numbers do not depend on it.

    Attributes:
        cache: SQLite file that features are read from and kept in; None to keep none.
        cores: processes that compute features; with more than one, a script needs `if __name__ == "__main__":`.
        progress: told of each structure.
    """

    cache: Path | None = None
    cores: int = 1
    progress: Progress | None = None


_means = Means()


@contextmanager
def using(**changes: Any) -> Iterator[None]:
    """Batches inside the block are computed with other means: attributes of `Means` that are to change."""
    global _means
    before, _means = _means, replace(_means, **changes)
    try:
        yield
    finally:
        _means = before


def structures_node(structures: Mapping[str, Structure | str] | Iterable[Entry]) -> SinglefileData:
    """Unstored node of many crystals by names of the caller's: see `engine.structures_file`.

    A crystal that nothing can answer for, and a sentence in place of one, becomes a row of the batch's table that says why. The same
    crystals make the same node. Attributes are `n_structures`, the number of entries, and the file's `content_hash`.
    """
    from ...engine.content import hash_stream
    from ...engine.structures_file import FILENAME, write_structures

    stream = io.BytesIO()
    count = write_structures(structures.items() if isinstance(structures, Mapping) else structures, stream)
    stream.seek(0)
    digest = hash_stream(stream)
    stream.seek(0)
    node = SinglefileData(stream, filename=FILENAME)
    node.base.attributes.set_many({"n_structures": count, "content_hash": digest})
    return node


def read_entries(node: SinglefileData) -> Iterator[Entry]:
    """Names and crystals of a node that `structures_node` made, or sentences in place of crystals.

    Raises:
        StructureError: if the file is of another format.
    """
    from ...engine.structures_file import read_structures as read

    with node.open(mode="rb") as stream:
        yield from read(stream, node.filename)


def read_structures(node: SinglefileData) -> Iterator[tuple[str, Structure]]:
    """Names and crystals of a node that `structures_node` made.

    Raises:
        StructureError: if the file is of another format.
    """
    for name, structure in read_entries(node):
        if not isinstance(structure, str):
            yield name, structure


@calcfunction
def predict_batch(
    structures: SinglefileData,
    absorber: Str,
    kind: Str,
    model: ModelData,
    algorithm_version: Str = ALGORITHM_VERSION["forward"],  # type: ignore[assignment]
) -> Any:
    """Spectra of all inequivalent sites of many crystals by a forward model, without FEFF.

    Args:
        structures: as `structures_node` makes it.
        absorber: element whose sites are asked for; empty for all elements.
        kind: XANES or EXAFS.
        model: a forward model of this kind.
        algorithm_version: of this task, so that caches never mix two; leave it out.

    Returns:
        `table`: `TableData` with a row for each site, and one for each crystal without an answer, with the reason; `spectra`: `ArrayData`
        with `grid` (m,), eV above each row's `e0`, and in the order of the table's `row` `mu` (n, m), flat, and `half_band` (n, m).
        Exit status 310 where the file or the model cannot be used.
    """
    from ...engine.batch import predict_batch as predict
    from .bundle import check_version, load_bundle

    try:
        check_version("forward", algorithm_version.value)
        batch = predict(
            load_bundle(model), read_entries(structures), absorber.value, kind.value,
            cache=_means.cache, cores=_means.cores, progress=_means.progress,
        )  # fmt: skip
    except XastructError as error:
        return ExitCode(310, str(error))
    return batch_nodes(batch)


def batch_nodes(batch: Batch) -> dict[str, Any]:
    """Unstored output nodes of a batch."""
    from ...engine.batch import energy_grid, write_table

    stream = io.BytesIO()
    write_table(batch.table(), stream)
    stream.seek(0)
    return {"table": TableData.from_file(stream, batch.kind), "spectra": spectra_node(energy_grid(batch.kind), batch.mu, batch.half_band)}


def spectra_node(grid: Any, mu: Any, half_band: Any) -> ArrayData:
    """Unstored node of curves on one grid."""
    node = ArrayData()
    for name, array in (("grid", grid), ("mu", mu), ("half_band", half_band)):
        node.set_array(name, array)
    return node

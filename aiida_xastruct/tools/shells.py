"""Rows of batches and screenings by what surrounds their absorber in the crystal.

A screening does not look for neighbours: CrystalNN takes longer than all else where features are stored. They are looked for when they
are first asked for, once for each file of crystals and element, and kept beside the file by `describe_shells`; from then on they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from aiida.orm import CalcFunctionNode, CalculationNode, QueryBuilder, SinglefileData, load_node

from ..data.table import TableData, find_in
from ..engine.errors import StructureError, XastructError
from . import queries
from .files import Single, open_files

if TYPE_CHECKING:
    import pyarrow as pa

    from ..engine.shells import Shells

DESCRIBE = "aiida.calculations:xastruct.functions.describe_shells"

#: Tables that are read together.
TOGETHER = 100

#: Whatever the distance is.
ANY = (0.0, float("inf"))


class Described(NamedTuple):
    """Where rows of an element are, and what is known of their neighbours.

    Attributes:
        tables: pks of the files of crystals of each table, by the table's pk, in the order of storing; None where they are not all here.
        shells: the pk of what `describe_shells` made of a file, and its attributes, by the file's pk.
    """

    tables: dict[int, list[int] | None]
    shells: dict[int, tuple[int, dict[str, Any]]]

    def missing(self) -> list[int]:
        """Pks of files that nobody has asked about yet, in the order of tables."""
        return list(dict.fromkeys(pk for files in self.tables.values() for pk in files or () if pk not in self.shells))


def described(absorber: str, kind: str | None = None) -> Described:
    """What is known of the neighbours of an element in the tables that have rows of it.

    Args:
        absorber: symbol of the absorbing element.
        kind: XANES or EXAFS; both if None.
    """
    builder = queries.tables(absorber, kind)
    builder.add_projection("table", "id")
    tables: dict[int, list[int] | None] = dict.fromkeys(sorted(builder.all(flat=True)))
    builder = _makers(absorber, kind)
    builder.append(SinglefileData, with_outgoing="process", edge_filters={"label": "structures"}, project="id")
    for table, file in builder.iterall():
        tables[table] = [file]
    builder = _makers(absorber, kind)
    builder.append(TableData, with_outgoing="process", edge_filters={"label": {"like": "table%"}}, project=["id", "attributes.absorbers"])
    merged: dict[int, list[list[int] | None]] = {}
    for table, batch, absorbers in builder.iterall():
        if absorber in absorbers:
            merged.setdefault(table, []).append(tables.get(batch))
    for table, lists in merged.items():
        tables[table] = None if None in lists else [pk for files in lists for pk in files or ()]
    return Described(tables, _shells(absorber))


def _makers(absorber: str, kind: str | None) -> QueryBuilder:
    builder = queries.tables(absorber, kind)
    builder.add_projection("table", "id")
    return builder.append(CalculationNode, with_outgoing="table", tag="process")


def _shells(absorber: str) -> dict[int, tuple[int, dict[str, Any]]]:
    builder = QueryBuilder().append(CalcFunctionNode, filters={"process_type": DESCRIBE}, tag="process")
    builder.append(SinglefileData, with_outgoing="process", edge_filters={"label": "structures"}, project="id")
    builder.append(
        SinglefileData, with_incoming="process", edge_filters={"label": "shells"}, filters={"attributes.absorber": absorber},
        project=["id", "attributes"],
    )  # fmt: skip
    return {file: (pk, attributes) for file, pk, attributes in builder.iterall()}


def table_rows(
    absorber: str,
    neighbours: Sequence[str] = (),
    distance: tuple[float, float] | None = None,
    kind: str | None = None,
    *,
    known: Described | None = None,
    describe: bool = True,
    skipped: Callable[[str], None] = lambda words: None,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[dict[str, Any]]:
    """Rows of the tables of batches and screenings, as `queries.known_neighbours` finds spectra among nodes.

    Args:
        absorber: symbol of the absorbing element.
        neighbours: elements that the first shell must hold, among others.
        distance: least and greatest mean distance of the first shell, angstrom.
        kind: XANES or EXAFS; both if None.
        known: what `described` gives for the absorber and the kind, if it has been asked already.
        describe: look for neighbours where nobody has yet, and store them; else such tables are passed over.
        skipped: told of each table whose crystals cannot be read, in one sentence.
        progress: called after each file of crystals whose neighbours were looked for.

    Yields:
        `pk` and `number` of the row, `id`, `hash`, `absorber`, `edge`, `kind`, `method`, `site`, `neighbours` and `mean_distance`.
    """
    state = described(absorber, kind) if known is None else known
    search = _Search(state, absorber, neighbours, distance or ANY, progress)
    search.read_known()
    ready: dict[int, Shells] = {}
    for table, files in state.tables.items():
        if files is None:
            skipped(f"the table <{table}> was made by no process whose crystals are here; import it with its provenance.")
            continue
        if not search.knows(files):
            if not describe:
                continue
            # What has been found is given before more is computed.
            yield from _rows(ready, absorber)
            ready = {}
        try:
            found = {key: shell for file in files for key, shell in search(file).items()}
        except XastructError as error:
            skipped(f"the table <{table}>: {error}")
            continue
        if found:
            ready[table] = found
        if len(ready) == TOGETHER:
            yield from _rows(ready, absorber)
            ready = {}
    yield from _rows(ready, absorber)


class _Search:
    """Shells that are asked for, of one file of crystals after the other; each is read once."""

    def __init__(
        self, state: Described, absorber: str, neighbours: Sequence[str], distance: tuple[float, float], progress: Callable[[], None]
    ) -> None:
        self._known, self._absorber, self._progress = state.shells, absorber, progress
        self._asked = (neighbours, distance)
        self._found: dict[int, Shells] = {}

    def read_known(self) -> None:
        """Read what is known, all of it at once."""
        import pyarrow.parquet as pq

        from ..engine.shells import find, may_hold

        meant = {pk: file for file, (pk, said) in self._known.items() if may_hold(said, *self._asked)}
        self._found = {file: {} for file in self._known}
        for node, stream in open_files(_nodes(SinglefileData, meant)):
            self._found[meant[node.pk]] = find(pq.read_table(stream), *self._asked)

    def knows(self, files: Sequence[int]) -> bool:
        """Whether nothing need be computed."""
        return all(file in self._found for file in files)

    def __call__(self, file: int) -> Shells:
        """Shells by hash and site.

        Raises:
            XastructError: if the crystals cannot be read.
        """
        from ..engine.shells import find

        if file not in self._found:
            self._found[file] = find(self._describe(load_node(file)), *self._asked)
        return self._found[file]

    def _describe(self, structures: SinglefileData) -> pa.Table:
        import pyarrow.parquet as pq

        from ..calculations.functions.describe_shells import describe_shells
        from ..calculations.functions.predict_batch import read_entries
        from ..engine.shells import shells_table

        if structures.backend.read_only:  # an archive that is looked into keeps nothing
            table = shells_table(read_entries(structures), self._absorber)
        else:
            outputs, node = describe_shells.run_get_node(structures=structures, absorber=self._absorber)
            if not node.is_finished_ok:
                raise StructureError(str(node.exit_message))
            with outputs["shells"].open(mode="rb") as stream:
                table = pq.read_table(stream)
        self._progress()
        return table


def _nodes(cls: type[Single], pks: Iterable[int]) -> list[Single]:
    """Nodes of some pks, in their order."""
    builder = QueryBuilder().append(cls, filters={"id": {"in": [0, *pks]}}, tag="node")  # an empty list is refused
    return list(builder.order_by({"node": "id"}).all(flat=True))


def _rows(tables: Mapping[int, Shells], absorber: str) -> Iterator[dict[str, Any]]:
    """Rows with a spectrum whose site is among the shells of their table, by the tables' pks."""
    found: dict[int, list[dict[str, Any]]] = {}
    for node, stream in open_files(_nodes(TableData, tables)):
        shells, kind = tables[node.pk], node.base.attributes.get("kind")
        filters = [("absorber", "=", absorber), ("hash", "in", sorted({digest for digest, _ in shells}))]
        for row in find_in(stream, filters, ["row", "id", "hash", "absorber", "edge", "method", "site"]).to_pylist():
            shell = shells.get((row["hash"], row["site"]))
            if row.pop("row") is not None and shell is not None:
                known = {"kind": kind, "neighbours": shell[0], "mean_distance": shell[1]}
                found.setdefault(node.pk, []).append({"pk": node.pk, **row, **known})
    for _, rows in sorted(found.items()):
        yield from rows

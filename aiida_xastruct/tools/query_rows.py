"""What a builder of `queries` cannot say: rows of batches, pairs of a prediction and FEFF, and what is there twice.

A batch is one node. Its attributes tell which batches may hold what is asked for (`queries.tables`, `queries.collections`); only those are
opened, and of their files only the groups of rows and the columns that are needed are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from aiida.orm import Node, QueryBuilder, load_node

from ..data.spectra import SpectraData
from ..data.table import TableData
from ..engine.origin import PREFIX
from . import queries

if TYPE_CHECKING:
    import pyarrow as pa

    from ..engine.spectrum import Spectrum

#: What is shown of a row.
COLUMNS = ("id", "hash", "formula", "site", "absorber", "edge", "method", "needs_reference")


def find_rows(builder: QueryBuilder, filters: Sequence[Any] | None = None, columns: Sequence[str] = COLUMNS) -> pa.Table:
    """Rows of tables, with the pk of the table in `pk` and the number of the row in `number`.

    Args:
        builder: that gives `TableData`.
        filters: as `TableData.find` takes them.
        columns: names of those wanted.
    """
    import pyarrow as pa

    found = []
    for (node,) in builder.iterall():
        rows = node.find(filters, columns)
        if rows.num_rows:
            # A screening keeps words in another encoding than a batch: tables of both are one here.
            rows = pa.table({name: _plain(rows[name]) for name in rows.column_names})
            found.append(rows.append_column("pk", pa.repeat(node.pk, rows.num_rows)))
    return pa.concat_tables(found) if found else pa.table({name: [] for name in (*columns, "number", "pk")})


def _plain(column: Any) -> Any:
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def rows_of_crystal(structure_hash: str, columns: Sequence[str] = COLUMNS) -> pa.Table:
    """Rows of a crystal in the tables of batches and screenings; see `find_rows`."""
    return find_rows(queries.tables(structure_hash=structure_hash), [("hash", "=", structure_hash)], columns)


def collection_rows(
    absorber: str, neighbours: Sequence[str] = (), distance: tuple[float, float] | None = None, kind: str | None = None
) -> list[dict[str, Any]]:
    """Spectra of an element in batches of FEFF, as `queries.known_neighbours` finds them among nodes.

    Returns:
        what the batch says of each, with its `pk` and the `number` of the row.
    """
    least, most = distance or (0.0, float("inf"))
    builder = queries.collections(absorber, kind)
    builder.add_projection("collection", ["id", "attributes.spectra"])
    return [
        {**row, "pk": pk, "number": number}
        for pk, rows in builder.iterall()
        for number, row in enumerate(rows)
        if row["absorber"] == absorber and kind in (None, row["kind"]) and row.get("neighbours") is not None
        if set(neighbours) <= set(row["neighbours"]) and least <= row["mean_distance"] <= most
    ]


class Place(NamedTuple):
    """Where a spectrum is: a node, or a row of one, whose number is None for a node."""

    pk: int
    row: int | None = None

    def load(self) -> Spectrum:
        """The spectrum.

        Raises:
            XastructError: if the row has none, or its table has no provenance.
        """
        from ..engine.spectrum import Spectrum
        from .rows import curve

        node = load_node(self.pk)
        if self.row is None:
            return node.to_engine()
        if isinstance(node, SpectraData):
            return list(node)[self.row].spectrum
        row, (energy, mu) = node.get_row(self.row), curve(node, self.row)
        kind = node.base.attributes.get("kind")
        return Spectrum(energy, mu, row["absorber"], row["edge"], kind, row["method"], "feff", "flat", None, row["e0"])


class Question(NamedTuple):
    """What two spectra must have in common to be compared."""

    structure_hash: str
    site: int
    absorber: str
    edge: str
    kind: str


class Pair(NamedTuple):
    """A prediction and FEFF's spectrum of the same site of the same crystal."""

    question: Question
    predicted: Place
    feff: Place

    def difference(self) -> float:
        """Mean square difference, of flat mu for XANES and of k^2 chi for EXAFS, after the best shift in energy: `engine.compare`.

        Raises:
            XastructError: if they cannot be compared.
        """
        from ..engine.compare import compare

        return compare(self.predicted.load(), self.feff.load(), self.question.kind).mse  # type: ignore[arg-type]


def pairs(models: queries.Models, absorber: str | None = None, kind: str | None = None) -> list[Pair]:
    """Where both a model and FEFF have answered one question, whether as nodes of their own or as rows of batches.

    Args:
        models: whose predictions.
        absorber: symbol of the absorbing element; all if None.
        kind: XANES or EXAFS; both if None.
    """
    # From the predictions to FEFF: of its spectra only those of crystals that were predicted are looked at.
    wanted = {f"attributes.{name}": value for name, value in (("absorber", absorber), ("kind", kind)) if value is not None}
    nodes = list(_of_nodes(queries.predicted_spectra(models), wanted))
    tables = list(_of_tables(models, absorber, kind))
    crystals = {question.structure_hash for question, _ in nodes}.union(*(rows["hash"].unique().to_pylist() for _, _, rows in tables))
    feff: dict[Question, list[Place]] = {}
    ours = {**wanted, "attributes.structure_hash": {"in": sorted(crystals) or [""]}}
    for question, place in (*_of_nodes(queries.feff_spectra(), ours), *_of_collections(absorber, kind, crystals)):
        feff.setdefault(question, []).append(place)
    predicted = chain(nodes, _of_rows(tables, {question.structure_hash for question in feff}))
    return [Pair(question, place, other) for question, place in predicted for other in feff.get(question, ())]


def _of_nodes(builder: QueryBuilder, wanted: dict[str, Any]) -> Iterator[tuple[Question, Place]]:
    """Questions that nodes of a builder answer, as far as their crystals are known."""
    builder.add_filter("spectrum", wanted)
    # As text they need not be read as JSON one by one.
    cells: list[Any] = [{f"attributes.{name}": {"cast": "i" if name == "site" else "t"}} for name in Question._fields]
    builder.add_projection("spectrum", [*cells, "id"])
    for *question, pk in builder.iterall(batch_size=10_000):
        if question[0] is not None:
            yield Question(*question), Place(pk)


def _of_collections(absorber: str | None, kind: str | None, crystals: set[str]) -> Iterator[tuple[Question, Place]]:
    """Questions about some crystals that batches of FEFF answer."""
    known = {digest[:PREFIX] for digest in crystals}
    builder = queries.collections(absorber, kind)
    builder.add_projection("collection", ["id", "attributes.hash_prefixes"])
    pks = [pk for pk, found in builder.iterall() if not known.isdisjoint(found or ())]
    builder = QueryBuilder().append(SpectraData, filters={"id": {"in": pks or [0]}}, project=["id", "attributes.spectra"])
    for pk, rows in builder.iterall():
        for number, row in enumerate(rows):
            if row["structure_hash"] in crystals and absorber in (None, row["absorber"]) and kind in (None, row["kind"]):
                yield Question(*(row[name] for name in Question._fields)), Place(pk, number)


def _of_tables(models: queries.Models, absorber: str | None, kind: str | None) -> Iterator[tuple[int, str, pa.Table]]:
    """Pk, kind and predicted rows of the tables of models."""
    builder = queries.predicted_spectra(models, TableData)
    if kind is not None:
        builder.add_filter("table", {"attributes.kind": kind})
    filters = [("method", "=", "ml"), *([("absorber", "=", absorber)] if absorber else [])]
    for (node,) in builder.iterall():
        yield node.pk, node.base.attributes.get("kind"), node.find(filters, ["hash", "site", "absorber", "edge"])


def _of_rows(tables: Iterable[tuple[int, str, pa.Table]], crystals: set[str]) -> Iterator[tuple[Question, Place]]:
    """Questions about some crystals that rows answer."""
    import pyarrow as pa
    import pyarrow.compute as pc

    known = pa.array(sorted(crystals), pa.string())
    for pk, kind, rows in tables:
        for row in rows.filter(pc.is_in(rows["hash"], known)).to_pylist():
            yield Question(row["hash"], row["site"], row["absorber"], row["edge"], kind), Place(pk, row["number"])


def groups(cls: type[Node], filters: dict[str, Any] | None = None) -> dict[str, list[int]]:
    """Pks of nodes of a type that say the same, by the hash of what they say; of those that pass filters, if any are given."""
    builder = queries.contents(cls)
    builder.add_filter("node", filters or {})
    # The pks of those that are there twice only: each cell that a builder returns costs some microseconds.
    often = [digest for digest, count in Counter(builder.all(flat=True)).items() if count > 1 and digest is not None]
    builder.add_filter("node", {queries.content_key(cls): {"in": often or [""]}})
    builder.add_projection("node", [{queries.content_key(cls): {"cast": "t"}}, "id"])
    found: dict[str, list[int]] = {digest: [] for digest in often}
    for digest, pk in builder.order_by({"node": "id"}).iterall():
        found[digest].append(pk)
    return found


def repeated_rows(models: queries.Models | None = None) -> pa.Table:
    """Sites of which batches have predicted a spectrum of one edge and kind more than once, by whichever models.

    Returns:
        `hash`, `site`, `absorber`, `edge`, `kind`, and the `pk` and `number` of each row, as lists.
    """
    import pyarrow as pa

    keys = ["hash", "site", "absorber", "edge"]
    rows = find_rows(queries.predicted_spectra(models, TableData), [("method", "=", "ml")], keys)
    kinds = dict(QueryBuilder().append(TableData, project=["id", "attributes.kind"]).all())
    rows = rows.append_column("kind", pa.array([kinds[pk] for pk in rows["pk"].to_pylist()], type=pa.string()))
    keys.append("kind")
    grouped = rows.group_by(keys).aggregate([("pk", "count"), ("pk", "list"), ("number", "list")])
    more = grouped.filter(grouped["pk_count"].to_numpy() > 1)
    return more.select([*keys, "pk_list", "number_list"]).rename_columns([*keys, "pk", "number"])

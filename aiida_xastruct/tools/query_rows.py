"""What a builder of `queries` cannot say: rows of batches, pairs of a prediction and FEFF, and what is there twice.

A batch is one node. Its attributes tell which batches may hold what is asked for (`queries.tables`, `queries.collections`); only those are
opened, and of their files only the groups of rows and the columns that are needed are read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from aiida.orm import ArrayData, Node, QueryBuilder, load_node

from ..data.model import ModelData
from ..data.spectra import SpectraData
from ..data.table import TableData, find_in
from ..engine.errors import XastructError
from ..engine.origin import PREFIX
from . import queries
from .files import open_files

if TYPE_CHECKING:
    import pyarrow as pa

    from ..engine.spectrum import Spectrum

#: What is shown of a row.
COLUMNS = ("id", "hash", "formula", "site", "absorber", "edge", "method", "needs_reference")

#: Hashes or pks in one question: PostgreSQL takes 65,535 values at a time, and each question follows all links anew.
ASKED = 30_000

#: How attributes are asked for, to be read as JSON here: AiiDA looks at each value of a cell, and of a list or a dictionary at each of its
#: own, which of batches of FEFF, whose rows are such lists, takes several times as long as all else.
TEXT = {"cast": "t"}

#: Nodes that are kept open at a time.
KEPT = 16


def find_rows(builder: QueryBuilder, filters: Sequence[Any] | None = None, columns: Sequence[str] = COLUMNS) -> pa.Table:
    """Rows of tables, with the pk of the table in `pk` and the number of the row in `number`.

    Args:
        builder: that gives `TableData`.
        filters: as `TableData.find` takes them.
        columns: names of those wanted.
    """
    import pyarrow as pa

    found = []
    for node, stream in open_files(builder.all(flat=True)):
        rows = find_in(stream, filters, columns)
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
    builder.add_projection("collection", ["id", {"attributes.spectra": TEXT}])
    return [
        {**row, "pk": pk, "number": number}
        for pk, rows in builder.iterall()
        for number, row in enumerate(json.loads(rows))
        if row["absorber"] == absorber and kind in (None, row["kind"]) and row.get("neighbours") is not None
        if set(neighbours) <= set(row["neighbours"]) and least <= row["mean_distance"] <= most
    ]


class Opened:
    """Nodes that were opened last, so that neighbours in a batch, and of one node, are read of it once."""

    def __init__(self) -> None:
        self.node = lru_cache(maxsize=KEPT)(load_node)
        self._arrays = lru_cache(maxsize=KEPT)(self._origin)

    def arrays(self, table: TableData, row: Mapping[str, Any]) -> ArrayData:
        """Arrays that a row of a table counts in."""
        return self._arrays(table.pk, row.get("chunk"), row["method"])

    def _origin(self, pk: int, chunk: str | None, method: str) -> ArrayData:
        from .rows import origin

        return origin(self.node(pk), {"method": method} | ({} if chunk is None else {"chunk": chunk}))[0]


class Place(NamedTuple):
    """Where a spectrum is: a node, or a row of one, whose number is None for a node."""

    pk: int
    row: int | None = None

    def load(self, opened: Opened | None = None) -> Spectrum:
        """The spectrum; of a batch no other is made.

        Args:
            opened: where nodes are kept for the next place.

        Raises:
            XastructError: if the row has none, or its table has no provenance.
        """
        from ..engine.spectrum import Spectrum
        from .rows import curve

        opened = opened or Opened()
        node = opened.node(self.pk)
        if self.row is None:
            return node.to_engine()
        if isinstance(node, SpectraData):
            return node.get_row(self.row).spectrum
        row, (energy, mu) = node.get_row(self.row), curve(node, self.row, opened.arrays)
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

    def difference(self, opened: Opened | None = None) -> float:
        """Mean square difference, of flat mu for XANES and of k^2 chi for EXAFS, after the best shift in energy: `engine.compare`.

        Args:
            opened: as `Place.load` takes it.

        Raises:
            XastructError: if they cannot be compared.
        """
        from ..engine.compare import compare

        predicted, feff = self.predicted.load(opened), self.feff.load(opened)
        return compare(predicted, feff, self.question.kind).mse  # type: ignore[arg-type]


def pairs(models: queries.Models, absorber: str | None = None, kind: str | None = None) -> list[Pair]:
    """Where both a model and FEFF have answered one question, whether as nodes of their own or as rows of batches.

    Args:
        models: whose predictions.
        absorber: symbol of the absorbing element; all if None.
        kind: XANES or EXAFS; both if None.
    """
    models = [models] if isinstance(models, ModelData) else list(models)
    wanted = {f"attributes.{name}": value for name, value in (("absorber", absorber), ("kind", kind)) if value is not None}
    # From the crystals that were predicted to FEFF, and from what FEFF has answered back to the predictions: what only one of the two has
    # answered is never read, as each cell that a builder returns costs some microseconds.
    tables = list(_of_tables(models, absorber, kind))
    crystals = _predicted_crystals(models, wanted).union(*(rows["hash"].unique().to_pylist() for _, _, rows in tables))
    feff: dict[Question, list[Place]] = {}
    for question, place in chain(_answered(queries.feff_spectra, wanted, crystals), _of_collections(absorber, kind, crystals)):
        feff.setdefault(question, []).append(place)
    common = {question.structure_hash for question in feff}
    sites = {"attributes.site": {"in": sorted({question.site for question in feff})}}
    nodes = _answered(lambda: queries.predicted_spectra(models), wanted | sites, common)
    return [Pair(question, place, other) for question, place in chain(nodes, _of_rows(tables, common)) for other in feff.get(question, ())]


def differences(found: Iterable[Pair]) -> Iterator[tuple[Pair, float | None, str]]:
    """Each pair with its difference, or None and why they cannot be compared; in the order of their nodes, each of which is opened once."""
    opened = Opened()
    for pair in sorted(found, key=lambda pair: (pair.feff, pair.predicted)):
        try:
            yield pair, pair.difference(opened), ""
        except XastructError as error:
            yield pair, None, str(error)


def _predicted_crystals(models: queries.Models, wanted: dict[str, Any]) -> set[str]:
    """Hashes of the crystals of which models have predicted spectra that are nodes."""
    builder = queries.predicted_spectra(models)
    builder.add_filter("spectrum", wanted)
    builder.add_projection("spectrum", {"attributes.structure_hash": TEXT})
    return {digest for digest in builder.distinct().all(flat=True) if digest is not None}


def _answered(ask: Callable[[], QueryBuilder], wanted: dict[str, Any], crystals: Iterable[str]) -> Iterator[tuple[Question, Place]]:
    """Questions about some crystals that nodes of a builder answer."""
    # As text they need not be read as JSON one by one.
    cells: list[Any] = [{f"attributes.{name}": {"cast": "i"} if name == "site" else TEXT} for name in Question._fields]
    listed = sorted(crystals)
    for start in range(0, len(listed), ASKED):
        builder = ask()
        builder.add_filter("spectrum", {**wanted, "attributes.structure_hash": {"in": listed[start : start + ASKED]}})
        builder.add_projection("spectrum", [*cells, "id"])
        for *question, pk in builder.iterall(batch_size=10_000):
            yield Question(*question), Place(pk)


def _of_collections(absorber: str | None, kind: str | None, crystals: set[str]) -> Iterator[tuple[Question, Place]]:
    """Questions about some crystals that batches of FEFF answer."""
    known = {digest[:PREFIX] for digest in crystals}
    builder = queries.collections(absorber, kind)
    builder.add_projection("collection", ["id", {"attributes.hash_prefixes": TEXT}])
    pks = [pk for pk, found in builder.iterall() if not known.isdisjoint(json.loads(found or "[]"))]
    for start in range(0, len(pks), ASKED):
        chosen = {"id": {"in": pks[start : start + ASKED]}}
        builder = QueryBuilder().append(SpectraData, filters=chosen, project=["id", {"attributes.spectra": TEXT}])
        for pk, rows in builder.iterall():
            for number, row in enumerate(json.loads(rows)):
                if row["structure_hash"] in crystals and absorber in (None, row["absorber"]) and kind in (None, row["kind"]):
                    yield Question(*(row[name] for name in Question._fields)), Place(pk, number)


def _of_tables(models: queries.Models, absorber: str | None, kind: str | None) -> Iterator[tuple[int, str, pa.Table]]:
    """Pk, kind and predicted rows of the tables of models."""
    builder = queries.predicted_spectra(models, TableData)
    if kind is not None:
        builder.add_filter("table", {"attributes.kind": kind})
    filters = [("method", "=", "ml"), *([("absorber", "=", absorber)] if absorber else [])]
    for node, stream in open_files(builder.all(flat=True)):
        yield node.pk, node.base.attributes.get("kind"), find_in(stream, filters, ["hash", "site", "absorber", "edge"])


def _of_rows(tables: Iterable[tuple[int, str, pa.Table]], crystals: Iterable[str]) -> Iterator[tuple[Question, Place]]:
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
    # In the order of storing: PostgreSQL gives tables in any order.
    rows = rows.sort_by([("pk", "ascending"), ("number", "ascending")])
    grouped = rows.group_by(keys, use_threads=False).aggregate([("pk", "count"), ("pk", "list"), ("number", "list")])
    more = grouped.filter(grouped["pk_count"].to_numpy() > 1)
    return more.select([*keys, "pk_list", "number_list"]).rename_columns([*keys, "pk", "number"])

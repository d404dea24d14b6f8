"""Node for a table with a row for each site of many crystals: what a batch answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from aiida.common.exceptions import ValidationError
from aiida.orm import SinglefileData
from aiida.orm.pydantic import OrmMetadataField

from ..engine.errors import XastructError
from ..engine.origin import prefixes
from .model import KINDS

if TYPE_CHECKING:
    import pyarrow as pa

FILENAME = "table.parquet"


class TableData(SinglefileData):
    """A parquet table of sites, their answers and what stands behind each; `engine.batch` lists its columns.

    The rows are searched in the file, what all of them share in the database: `n_rows`, `n_structures`, `n_spectra`, `n_refused` (rows
    without a spectrum), `kind`, `absorbers`, `methods` (spectra by `ml` and by `feff`), `needs_reference` (spectra that FEFF should
    have given instead) and `hash_prefixes`, by which a query finds the tables that may have a crystal without opening the others.

    Raises:
        ValidationError: when stored with a file that is no such table.
    """

    class AttributesModel(SinglefileData.AttributesModel):
        """Attributes of the node."""

        kind: str = OrmMetadataField(description="XANES or EXAFS")
        n_rows: int = OrmMetadataField(description="Number of rows")
        n_structures: int = OrmMetadataField(description="Number of crystals asked about")
        n_spectra: int = OrmMetadataField(description="Number of rows with a spectrum")
        n_refused: int = OrmMetadataField(description="Number of rows without one")
        absorbers: list[str] = OrmMetadataField(description="Symbols of the absorbing elements with a spectrum, sorted")
        methods: dict[str, int] = OrmMetadataField(description="Number of spectra by each method")
        needs_reference: int = OrmMetadataField(description="Number of spectra that FEFF should have given instead")
        hash_prefixes: list[str] = OrmMetadataField(description="First eight digits of the crystals' hashes, sorted", may_be_large=True)

    @classmethod
    def from_file(cls, file: str | Path | IO[bytes], kind: str, **kwargs: Any) -> TableData:
        """Unstored node of a parquet file, a path or an open one; `kwargs` are passed on to the node (`label`, `user`, ...)."""
        import pyarrow.parquet as pq

        attributes = _describe(pq.read_table(file, columns=_DESCRIBED))
        if not isinstance(file, (str, Path)):
            file.seek(0)
        node = cls(file, filename=FILENAME, **kwargs)
        node.base.attributes.set_many({"kind": kind, **attributes})
        return node

    def __len__(self) -> int:
        return int(self.base.attributes.get("n_rows"))

    def read(self, columns: Sequence[str] | None = None, filters: Any = None) -> pa.Table:
        """The rows.

        Args:
            columns: names of those wanted; all if None.
            filters: as `pyarrow.parquet.read_table` takes them, for instance `[("absorber", "=", "Fe")]`.
        """
        import pyarrow.parquet as pq

        with self.open(mode="rb") as stream:
            return pq.read_table(stream, columns=None if columns is None else list(columns), filters=filters)

    def column_names(self) -> list[str]:
        """Names of the columns; no row is read."""
        import pyarrow.parquet as pq

        with self.open(mode="rb") as stream:
            return list(pq.read_schema(stream).names)

    def find(self, filters: Sequence[Any] | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows that pass filters, with their numbers in the column `number`.

        Groups of rows that hold none by the file's statistics are not read, and of the others only the columns needed.

        Args:
            filters: as `pyarrow.parquet.read_table` takes them, for instance `[("absorber", "=", "Fe")]`; all rows if None.
            columns: names of those wanted beside `number`; all if None.
        """
        with self.open(mode="rb") as stream:
            return find_in(stream, filters, columns)

    def get_row(self, number: int) -> dict[str, Any]:
        """One row by its number, from 0.

        Raises:
            XastructError: if there is no such row.
        """
        if not 0 <= number < len(self):
            raise XastructError(f"the table has rows 0 to {len(self) - 1}, not {number}.")
        import pyarrow.parquet as pq

        # A screening writes a group of rows for each chunk, so that only that is read.
        with self.open(mode="rb") as stream:
            file, group = pq.ParquetFile(stream), 0
            while number >= (rows := file.metadata.row_group(group).num_rows):
                number, group = number - rows, group + 1
            row: dict[str, Any] = file.read_row_group(group).slice(number, 1).to_pylist()[0]
        return row

    def _validate(self) -> bool:
        """Refuse to store what is no table of sites."""
        from pyarrow import ArrowException

        super()._validate()  # type: ignore[no-untyped-call]
        try:
            expected = _describe(self.read([*_DESCRIBED, "structure", "reason"]))
        except (ArrowException, OSError) as error:
            raise ValidationError(f"the file is no table of sites ({error}); make the node with `TableData.from_file`.") from error
        # Queries go by the attributes, and open no table that does not list what they look for.
        if any(self.base.attributes.get(name, None) != value for name, value in expected.items()):
            raise ValidationError("the file and the attributes do not fit together; make the node with `TableData.from_file`.")
        if self.base.attributes.get("kind", None) not in KINDS:
            raise ValidationError("the attribute kind is neither XANES nor EXAFS; make the node with `TableData.from_file`.")
        return True


def find_in(stream: IO[bytes], filters: Sequence[Any] | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows of an open parquet file that pass filters, as `TableData.find` gives those of its file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(stream)
    schema = file.schema_arrow
    wanted = list(schema.names if columns is None else columns)
    found = [pa.schema([*map(schema.field, wanted), pa.field("number", pa.int64())]).empty_table()]
    where = None if filters is None else pq.filters_to_expression(filters)
    needed = list(dict.fromkeys([*wanted, *_named(filters or ())]))
    starts = np.cumsum([0, *(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))])
    for group in range(file.num_row_groups) if where is None else _groups(stream, where, schema):
        rows = file.read_row_group(group, columns=needed)
        rows = rows.append_column("number", pa.array(np.arange(starts[group], starts[group + 1])))
        found.append((rows if where is None else rows.filter(where)).select([*wanted, "number"]))
    return pa.concat_tables(found)


#: Columns that the attributes are of.
_DESCRIBED = ["id", "hash", "row", "absorber", "method", "needs_reference"]


def _describe(found: pa.Table) -> dict[str, Any]:
    """Attributes of a table but for its kind."""
    import pyarrow.compute as pc

    answered = found.filter(pc.is_valid(found["row"]))
    methods = pc.value_counts(answered["method"].cast("string")).to_pylist()
    # A row that FEFF has answered keeps what the model said of itself.
    doubted = pc.and_(answered["needs_reference"], pc.equal(answered["method"].cast("string"), "ml"))
    return {
        "n_rows": found.num_rows,
        "n_structures": pc.count_distinct(found["id"]).as_py(),
        "n_spectra": answered.num_rows,
        "n_refused": found.num_rows - answered.num_rows,
        "absorbers": sorted(answered["absorber"].cast("string").unique().to_pylist()),
        "methods": {row["values"]: row["counts"] for row in methods},
        "needs_reference": pc.sum(doubted).as_py() or 0,
        "hash_prefixes": prefixes(found["hash"].unique().to_pylist()),
    }


def _named(filters: Sequence[Any]) -> Iterator[str]:
    """Columns that filters, a conjunction or a list of them, ask for."""
    for item in filters:
        if isinstance(item[0], str):
            yield item[0]
        else:
            yield from _named(item)


def _groups(stream: IO[bytes], where: Any, schema: pa.Schema) -> list[int]:
    """Groups of rows that may hold one that an expression is true of, by the statistics of the file."""
    import pyarrow.dataset as ds

    fragment = ds.ParquetFileFormat().make_fragment(stream)
    return [group.id for group in fragment.subset(where, schema=schema).row_groups]

"""Node for a table with a row for each site of many crystals: what a batch answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aiida.common.exceptions import ValidationError
from aiida.orm import SinglefileData
from aiida.orm.pydantic import OrmMetadataField

from ..engine.errors import XastructError

if TYPE_CHECKING:
    import pyarrow as pa

FILENAME = "table.parquet"


class TableData(SinglefileData):
    """A parquet table of sites, their answers and what stands behind each; `engine.batch` lists its columns.

    The rows are searched in the file, what all of them share in the database: `n_rows`, `n_structures`, `n_spectra`, `n_refused` (rows
    without a spectrum), `kind`, `absorbers`, `methods` (spectra by `ml` and by `feff`) and `needs_reference` (spectra that FEFF should
    have given instead).

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

    @classmethod
    def from_file(cls, file: str | Path | IO[bytes], kind: str, **kwargs: Any) -> TableData:
        """Unstored node of a parquet file, a path or an open one; `kwargs` are passed on to the node (`label`, `user`, ...)."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        found = pq.read_table(file, columns=["id", "row", "absorber", "method", "needs_reference"])
        if not isinstance(file, (str, Path)):
            file.seek(0)
        answered = found.filter(pc.is_valid(found["row"]))
        methods = pc.value_counts(answered["method"].cast("string")).to_pylist()
        # A row that FEFF has answered keeps what the model said of itself.
        doubted = pc.and_(answered["needs_reference"], pc.equal(answered["method"].cast("string"), "ml"))
        node = cls(file, filename=FILENAME, **kwargs)
        node.base.attributes.set_many(
            {
                "kind": kind,
                "n_rows": found.num_rows,
                "n_structures": pc.count_distinct(found["id"]).as_py(),
                "n_spectra": answered.num_rows,
                "n_refused": found.num_rows - answered.num_rows,
                "absorbers": sorted(answered["absorber"].cast("string").unique().to_pylist()),
                "methods": {row["values"]: row["counts"] for row in methods},
                "needs_reference": pc.sum(doubted).as_py() or 0,
            }
        )
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
            rows = self.read(["row", "structure", "id", "method", "reason"]).num_rows
        except (ArrowException, OSError) as error:
            raise ValidationError(f"the file is no table of sites ({error}); make the node with `TableData.from_file`.") from error
        if rows != self.base.attributes.get("n_rows", None):
            raise ValidationError("the file and the attributes do not fit together; make the node with `TableData.from_file`.")
        return True

"""Where a row of a table came from: the arrays that hold its spectrum, and the file that holds its crystal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from aiida.common.exceptions import NotExistentAttributeError
from aiida.orm import ArrayData, SinglefileData
from numpy.typing import NDArray

from ..data.table import TableData
from ..engine.errors import XastructError


def origin(table: TableData, row: dict[str, Any]) -> tuple[ArrayData, SinglefileData]:
    """Arrays and structures of a row, by the table's provenance.

    Args:
        table: made by a batch, a job or a screening.
        row: as `table.get_row` gives it.

    Raises:
        XastructError: if the table has no such provenance, for instance because it was imported without it.
    """
    process = table.creator
    if process is None:
        raise XastructError(f"the table <{table.pk}> was made by no process here; import it with its provenance.")
    try:
        if "chunk" not in row:
            return process.outputs.spectra, process.inputs.structures
        batch = getattr(process.inputs, f"table_{row['chunk']}").creator
        if batch is None:
            raise XastructError(f"the table of {row['chunk']} was made by no process here; import it with its provenance.")
        return (process.outputs.reference if row["method"] == "feff" else batch.outputs.spectra), batch.inputs.structures
    except NotExistentAttributeError as error:  # an archive may hold a process without what it took
        words = f"the table <{table.pk}> was made by a process whose inputs or outputs are not all here"
        raise XastructError(f"{words}; import it with its provenance.") from error


def curve(
    table: TableData, number: int, find: Callable[[TableData, dict[str, Any]], ArrayData] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Absolute energies in eV, and flat mu, of a row: (n,) each, where its spectrum reaches.

    Args:
        table: made by a batch, a job or a screening.
        number: of the row, from 0.
        find: gives the arrays of a row; the first that `origin` gives if None.

    Raises:
        XastructError: if there is no such row, or it has no spectrum, or the table has no provenance.
    """
    row = table.get_row(number)
    if row["row"] is None:
        raise XastructError(f"row {number} has no spectrum: {row['reason']}")
    spectra = origin(table, row)[0] if find is None else find(table, row)
    mu = spectra.get_array("mu")[row["row"]].astype(np.float64)
    reached = np.isfinite(mu)
    return row["e0"] + spectra.get_array("grid")[reached], mu[reached]


def materialise(table: TableData, number: int) -> dict[str, Any]:
    """The crystal and the spectrum of a row as stored nodes, `structure` and `spectrum`, made by a calcfunction.

    Raises:
        XastructError: if there is no such row, or it has no spectrum.
    """
    from ..calculations.functions.materialise_row import materialise_row

    row = table.get_row(number)
    if row["row"] is None:
        raise XastructError(f"row {number} has no spectrum: {row['reason']}")
    spectra, structures = origin(table, row)
    outputs, node = materialise_row.run_get_node(table=table, spectra=spectra, structures=structures, number=number)
    if not node.is_finished_ok:
        raise XastructError(str(node.exit_message))
    return dict(outputs)

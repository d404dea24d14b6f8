"""What surrounds an element in the crystals of a batch, computed once: searches for neighbours in tables go by it."""

from __future__ import annotations

import io
from typing import Any

from aiida.engine import ExitCode, calcfunction
from aiida.orm import SinglefileData, Str

from ...engine.errors import XastructError

FILENAME = "shells.parquet"


@calcfunction
def describe_shells(structures: SinglefileData, absorber: Str) -> Any:
    """First shells of all inequivalent sites of an element, by CrystalNN.

    Crystals, not rows, have neighbours: the batches of both kinds, and the screening that holds them, share one answer.

    Args:
        structures: as `structures_node` makes it.
        absorber: symbol of the element.

    Returns:
        `shells`: parquet file with a row for each site, see `engine.shells`. Its attributes are `absorber`, and of all rows `n_sites`,
        `neighbours` (elements, sorted) and `distances` (least and greatest mean distance, angstrom). Exit status 310 where the file of
        structures cannot be read.
    """
    from ...engine.batch import write_table
    from ...engine.shells import shells_table, summary
    from .predict_batch import read_entries

    try:
        table = shells_table(read_entries(structures), absorber.value)
    except XastructError as error:
        return ExitCode(310, str(error))
    stream = io.BytesIO()
    write_table(table, stream)
    stream.seek(0)
    node = SinglefileData(stream, filename=FILENAME)
    node.base.attributes.set_many({"absorber": absorber.value, **summary(table)})
    return {"shells": node}

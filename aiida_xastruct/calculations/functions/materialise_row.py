"""From a row of a batch to nodes of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiida.engine import ExitCode, calcfunction
from aiida.orm import ArrayData, Int, SinglefileData, StructureData

from ...data.spectrum import SpectrumData
from ...data.table import TableData
from ...engine.errors import XastructError

if TYPE_CHECKING:
    from ...engine.origin import Origin


@calcfunction
def materialise_row(table: TableData, spectra: ArrayData, structures: SinglefileData, number: Int) -> Any:
    """The crystal and the spectrum of a row of a table, as nodes that queries find and other processes take.

    Args:
        table: of a batch or of a screening.
        spectra: arrays that the row's `row` counts in.
        structures: file of the crystals that were asked about.
        number: of the row, from 0.

    Returns:
        `structure`: `StructureData`; `spectrum`: `SpectrumData` with the row's site, multiplicity and band. Exit status 310 where the row
        has no spectrum, or the crystal is not in the file.
    """
    from ...engine.origin import origin_of
    from ...engine.sitecache import structure_hash
    from .predict_batch import read_structures

    try:
        row = table.get_row(number.value)
        if row["row"] is None:
            return ExitCode(310, f"row {number.value} has no spectrum: {row['reason']}")
        for name, crystal in read_structures(structures):
            if name == row["id"] and structure_hash(crystal) == row["hash"]:
                break
        else:
            return ExitCode(
                310, f"the crystal {row['id']!r} of row {number.value} is not in the file of structures; give that of its batch."
            )
        spectrum = _spectrum(row, table.base.attributes.get("kind"), spectra, origin_of(crystal, row["site"]))
    except XastructError as error:
        return ExitCode(310, str(error))
    return {"structure": StructureData(pymatgen=crystal, label=row["id"]), "spectrum": spectrum}


def _spectrum(row: dict[str, Any], kind: Any, spectra: ArrayData, origin: Origin) -> SpectrumData:
    import numpy as np

    from ...engine.spectrum import Spectrum

    grid, mu, half = (spectra.get_array(name) for name in ("grid", "mu", "half_band"))
    mu, half = mu[row["row"]].astype(float), half[row["row"]].astype(float)
    reached = np.isfinite(mu)  # FEFF may begin above the grid's first point
    settings = {"source_id": row["id"], "structure_hash": row["hash"], "reason": row["reason"]}
    spectrum = Spectrum(
        row["e0"] + grid[reached], mu[reached], row["absorber"], row["edge"], kind, row["method"], "feff", "flat", None, row["e0"], settings
    )
    band = np.stack([mu - half, mu + half], axis=1)[reached] if row["method"] == "ml" else None
    return SpectrumData.from_engine(spectrum, site=row["site"], multiplicity=row["multiplicity"], band=band, **origin)

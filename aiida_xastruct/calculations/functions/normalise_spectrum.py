"""From raw absorption to one edge step."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, calcfunction

from ...data.spectrum import SpectrumData
from ...engine.errors import XastructError


@calcfunction
def normalise_spectrum(spectrum: SpectrumData) -> Any:
    """The spectrum with normalisation `flat`: zero before the edge, oscillating about one after it; see `engine.spectrum.flatten`.

    Returns:
        `SpectrumData` with E0 filled in; exit status 310 with one sentence where the scan is too short or has no edge.
    """
    from ...engine.spectrum import flatten

    try:
        flat = flatten(spectrum.to_engine())
        return SpectrumData.from_engine(flat, site=spectrum.site, multiplicity=spectrum.multiplicity, **spectrum.origin)
    except XastructError as error:
        return ExitCode(310, str(error))

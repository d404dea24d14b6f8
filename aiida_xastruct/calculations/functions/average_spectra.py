"""From the spectra of an element's sites to the one that a crystal shows."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, calcfunction

from ...data.spectrum import SpectrumData
from ...engine.errors import XastructError


@calcfunction
def average_spectra(**spectra: SpectrumData) -> Any:
    """Mean of spectra of one absorber, edge and kind, each counted as often as its `multiplicity` says (`engine.averaging.average`).

    Args:
        spectra: one a site, under any names.

    Returns:
        `SpectrumData`, flat, on a common grid. Exit status 310 with one sentence where the spectra cannot be averaged.
    """
    from ...engine.averaging import average

    members = [spectra[name] for name in sorted(spectra)]
    weights = [member.multiplicity or 1 for member in members]
    try:
        mean, band = average([member.to_engine() for member in members], weights, [member.band for member in members])
    except XastructError as error:
        return ExitCode(310, str(error))
    return SpectrumData.from_engine(mean, multiplicity=sum(weights), band=band)

"""From the spectra of an element's sites to the spectrum of the crystal."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, calcfunction

from ...data.spectrum import SpectrumData
from ...engine.errors import XastructError


@calcfunction
def average_spectra(**spectra: SpectrumData) -> Any:
    """Mean over sites, weighted by multiplicity, on a common grid; see `engine.averaging.average`.

    Args:
        spectra: under any names; `multiplicity` of each says how many sites it stands for (1 where it says nothing).

    Returns:
        `SpectrumData`, flat, with the band of the learned ones among them; exit status 310 with one sentence where they cannot be averaged.
    """
    from ...engine.averaging import average

    nodes = [node for _, node in sorted(spectra.items())]
    try:
        weights = [node.multiplicity or 1 for node in nodes]
        mean, band = average([node.to_engine() for node in nodes], weights, [node.band for node in nodes])
        return SpectrumData.from_engine(mean, multiplicity=sum(weights), band=band)
    except XastructError as error:
        return ExitCode(310, str(error))

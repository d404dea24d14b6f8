"""From FEFF's spectra of the L3 and the L2 edge to the one that a scan over both shows."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, calcfunction

from ...data.spectrum import SpectrumData
from ...engine.errors import XastructError


@calcfunction
def sum_edges(l3: SpectrumData, l2: SpectrumData) -> Any:
    """L3 + L2 of one site on one absolute energy grid, weighted by FEFF's own cross sections (`engine.averaging.sum_edges`).

    Args:
        l3: FEFF's XANES of the L3 edge, as `xastruct.feff` gives it.
        l2: that of the L2 edge of the same site.

    Returns:
        `SpectrumData` with edge `L2,3`; `settings["summed"]` holds FEFF's energy, the cross section and the share of each edge. Exit status
        310 with one sentence where the spectra cannot be summed.
    """
    from ...engine.averaging import sum_edges as add

    if l3.site != l2.site:
        return ExitCode(310, f"the spectra are of the sites {l3.site} and {l2.site}; sum the edges of one site.")
    try:
        total = add(l3.to_engine(), l2.to_engine())
    except XastructError as error:
        return ExitCode(310, str(error))
    return SpectrumData.from_engine(total, site=l3.site, multiplicity=l3.multiplicity, **l3.origin)

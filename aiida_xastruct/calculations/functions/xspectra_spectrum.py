"""From what pw.x and xspectra.x say of a site to its spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.engine import ExitCode, calcfunction
from aiida.orm import Dict, Float, Int, StructureData, XyData

from ...data.spectrum import SpectrumData
from ...engine.errors import XastructError


@calcfunction
def xspectra_spectrum(
    structure: StructureData, site: Int, total_energy: Dict, levels: Dict, first: Float, settings: Dict, **curves: XyData
) -> Any:
    """The spectrum of one site: the mean over polarisations, on the energy scale that all sites of the crystal have in common.

    Args:
        structure: the crystal.
        site: index of the absorber, from 0.
        total_energy: `output_parameters` of pw.x on the cell with the hole.
        levels: `output_parameters` of xspectra.x for one polarisation.
        first: `engine.xspectra.site.threshold` of the site that absorbs first, eV; its lowest empty level lies at the tabulated edge.
        settings: to be kept with the spectrum.
        curves: of xspectra.x, one a polarisation.

    Returns:
        `SpectrumData`; exit status 310 with one sentence where the curves are no spectrum.
    """
    from ...engine.origin import origin_of
    from ...engine.structure import multiplicities, symbol
    from ...engine.xspectra.site import site_spectrum, threshold

    crystal, facts = structure.get_pymatgen_structure(), levels.get_dict()
    try:
        shift = threshold(float(total_energy["energy"]), facts) - first.value
        pairs = [(np.asarray(curves[name].get_x()[1]), np.asarray(curves[name].get_y()[0][1])) for name in sorted(curves)]
        made = {**settings.get_dict(), "program": f"XSpectra {facts.get('version', '')}".strip(), "total_energy_ev": total_energy["energy"]}
        spectrum = site_spectrum(pairs, facts, symbol(crystal, site.value), shift, made)
    except XastructError as error:
        return ExitCode(310, str(error))
    count = multiplicities(crystal, [site.value])[0]
    return SpectrumData.from_engine(spectrum, site=site.value, multiplicity=count, **origin_of(crystal, site.value))

"""How much of each component does a mixture hold?"""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, calcfunction
from aiida.orm import ArrayData, Dict, Str

from ...data.spectrum import SpectrumData
from ...engine.combination import COMBINATION_VERSION
from ...engine.errors import XastructError
from .rank_candidates import read_settings


@calcfunction
def fit_combination(
    target: SpectrumData,
    parameters: Dict,
    combination_version: Str = COMBINATION_VERSION,  # type: ignore[assignment]
    **components: SpectrumData,
) -> Any:
    """Fit a spectrum by a sum of others with weights of at least zero; see `aiida_xastruct.engine.combination`.

    Args:
        target: spectrum of a mixture.
        parameters: `kind`, and `sum_to_one`, `low`, `high`, `align` and `largest_shift` where other than usual.
        combination_version: of the fit, so that caches never mix two; leave it out.
        components: spectra of what the mixture may hold, by their names.

    Returns:
        `fit`: `Dict` with `components` (the largest first: `name`, `weight`, `fraction` of all, `uncertainty`, `shift` in eV), `total`,
        `r_factor`, `rms`, `range`, `points` and the parameters; `curves`: `ArrayData` with `x` (energy in eV, or k in 1/angstrom), `target`
        (flat mu, or k^2 chi), `fit`, and `part_<name>` of each component. Exit status 310 with one sentence where it cannot be fitted.
    """
    from ...engine.combination import Fit, combine, describe

    try:
        if combination_version.value != COMBINATION_VERSION:
            asked = combination_version.value
            raise XastructError(f"version {asked!r} of the fit was asked for, this is {COMBINATION_VERSION!r}; leave it out.")
        fit = read_settings(Fit, parameters.get_dict())
        found = combine(target.to_engine(), {name: node.to_engine() for name, node in components.items()}, fit)
    except XastructError as error:
        return ExitCode(310, str(error))
    curves = {"x": found.x, "target": found.target, "fit": found.parts.sum(axis=0)}
    curves |= {f"part_{name}": part for name, part in zip(found.weights, found.parts, strict=True)}
    return {"fit": Dict({"absorber": target.absorber, "edge": target.edge, **describe(found, fit)}), "curves": ArrayData(curves)}

"""What FEFF is told beside a protocol, checked before anything is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...calculations.checks import refused_options
from ...calculations.feff import FeffCalculation
from ...engine.errors import XastructError

#: Whole numbers of 1 or more.
_COUNTS = ("max_wallclock_seconds", "max_iterations", "sites_per_job")


def refused(given: Mapping[str, Any], known: Sequence[str], kind: str) -> str | None:
    """A sentence of what is wrong with the further inputs for FEFF; None where nothing is.

    Args:
        given: what there is.
        known: what there may be, of `parameters`, `options`, `max_wallclock_seconds`, `max_iterations` and `sites_per_job`.
        kind: XANES or EXAFS, of the spectra that are wanted.
    """
    from ...engine.feff.parameters import FeffParameters

    if unknown := sorted(set(given) - set(known)):
        return f"feff holds {unknown[0]!r}; what it can hold is {', '.join(known)}."
    for key in _COUNTS:
        if key in given and (type(given[key]) is not int or given[key] < 1):
            return f"{key} is {given[key]!r}; give a whole number, 1 or more."
    parameters = given.get("parameters", {})
    try:
        FeffParameters.from_dict({"kind": kind, **parameters} if isinstance(parameters, Mapping) else parameters)
    except XastructError as error:
        return str(error)
    if parameters.get("kind", kind) != kind:
        return f"the parameters of feff ask for {parameters['kind']}, and {kind} is wanted; leave kind out of the parameters."
    options = given.get("options", {})
    if words := refused_options(FeffCalculation, options, "feff.options"):
        return words
    machines = options.get("resources", {}).get("num_machines", 1)
    return (
        f"sites in one job run on one machine, not {machines}; set num_machines to 1."
        if "sites_per_job" in known and machines != 1
        else None
    )

"""Which of a few candidates has a measured spectrum? All are aligned, broadened and compared alike, each with its own uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import SpectrumError
from .ranking import SHIFT_STEP, compared, distances
from .spectrum import EXAFS_GRID, XANES_GRID, FloatArray, Kind, Method, Spectrum, chi_k, find_e0, flatten, model_curve, on_grid

#: Limits that a caller may set, eV.
MOST_SHIFT, MOST_BROADENING = 10.0, 5.0


@dataclass(frozen=True)
class Settings:
    """How candidates are compared.

    Attributes:
        kind: XANES or EXAFS.
        largest_shift: eV that a candidate may be moved by, after its E0 was put on the target's.
        broadest: standard deviation in eV of the widest Gaussian that a XANES may be broadened by; an EXAFS has its thermal disorder.

    Raises:
        SpectrumError: if one is none or out of its range.
    """

    kind: Kind
    largest_shift: float = 5.0
    broadest: float = 1.5

    def __post_init__(self) -> None:
        if self.kind not in ("XANES", "EXAFS"):
            raise SpectrumError(f"kind is {self.kind!r}; use XANES or EXAFS.")
        for name, most in (("largest_shift", MOST_SHIFT), ("broadest", MOST_BROADENING)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= most:
                raise SpectrumError(f"{name} is {value!r}; give a number of eV from 0 to {most:g}.")


@dataclass(frozen=True, eq=False)
class Candidate:
    """A spectrum that may be the measured one's.

    Attributes:
        spectrum: predicted, computed by FEFF, or measured on a known sample.
        band: (n, 2) lower and upper limit of mu, of a learned one.
        error_bound: what its root mean square error stays below (flat mu, or k^2 chi in 1/angstrom^2), as the model says; found from the
            band, whose promise is the stricter one, where it is None.
    """

    spectrum: Spectrum
    band: NDArray[np.float64] | None = None
    error_bound: float | None = None


@dataclass(frozen=True)
class Ranked:
    """A candidate beside the others.

    Attributes:
        name: of the candidate.
        rank: 1 for the best. A candidate stands behind each one that is closer, but for those whose difference, like its own, is inside
            their own uncertainty: between them the models cannot tell.
        method: feff, ml or measured.
        distance: root mean square difference over what both cover: of flat mu, or of k^2 chi(k) in 1/angstrom^2.
        error_bound: what the candidate's own error stays below in the share of cases that its model states, in the same unit, scaled as
            the curve was; 0 for FEFF and measurements, which state none.
        inside: whether the difference is no larger than that.
        low, high: where the distance of the candidate's true spectrum lies if the bound holds.
        r2: 1 - squared differences / squares about the target's mean.
        shift: eV added to the candidate's energies.
        from_e0: the part of it that does not come from putting one E0 on the other; at most the largest shift asked for.
        at_limit: whether that part is as large as it may be, so that the fit is not to be trusted.
        width: standard deviation in eV of the Gaussian that a XANES was broadened by; mean square displacement in angstrom^2 of an EXAFS.
        amplitude: what the curve was multiplied by.
    """

    name: str
    rank: int
    method: Method
    distance: float
    error_bound: float
    inside: bool
    low: float
    high: float
    r2: float
    shift: float
    from_e0: float
    at_limit: bool
    width: float
    amplitude: float


@dataclass(frozen=True)
class Ranking:
    """The candidates in order, and why others are not among them.

    Attributes:
        candidates: the best first.
        refused: a sentence for each candidate that cannot be compared, by its name.
    """

    candidates: tuple[Ranked, ...]
    refused: dict[str, str]


def rank(target: Spectrum, candidates: Mapping[str, Candidate], settings: Settings) -> Ranking:
    """Compare candidates with a target (`ranking.distances`) and put them in order.

    Raises:
        SpectrumError: if the target covers too little of the range, or no candidate can be compared.
    """
    check_target(target, settings.kind)
    e0 = find_e0(target)
    found, refused = [], {}
    for name, candidate in candidates.items():
        try:
            found.append(_compare(target, e0, name, candidate, settings))
        except SpectrumError as error:
            refused[name] = str(error)
    if not found:
        name, why = next(iter(refused.items()), ("", "there is none."))
        raise SpectrumError(f"no candidate can be compared with the target; {f'{name}: ' if name else ''}{why}")
    found.sort(key=lambda one: (one.distance, one.name))
    ranks = [1 + sum(not (one.inside and other.inside) for other in found[:place]) for place, one in enumerate(found)]
    return Ranking(tuple(replace(one, rank=own) for one, own in zip(found, ranks, strict=True)), refused)


def as_kind(spectrum: Spectrum, kind: Kind) -> Spectrum:
    """The spectrum read as XANES or EXAFS.

    Raises:
        SpectrumError: if it was computed for the other one only.
    """
    if spectrum.kind != kind and spectrum.method != "measured":
        raise SpectrumError(f"it was computed as {spectrum.kind}, and {kind} is compared; compute its {kind}.")
    return replace(spectrum, kind=kind)


def check_target(target: Spectrum, kind: Kind) -> None:
    """Refuse a target that was computed for the other kind.

    Raises:
        SpectrumError: if it was.
    """
    try:
        as_kind(target, kind)
    except SpectrumError as error:
        raise SpectrumError(f"the target is of no use: {error}") from error


def check_edges(target: Spectrum, other: Spectrum) -> None:
    """Refuse what is of another edge.

    Raises:
        SpectrumError: if it is.
    """
    if (other.absorber, other.edge) != (target.absorber, target.edge):
        raise SpectrumError(
            f"it is of {other.absorber} {other.edge} and the target of {target.absorber} {target.edge}; compare spectra of one edge."
        )


def _compare(target: Spectrum, e0: float, name: str, candidate: Candidate, settings: Settings) -> Ranked:
    """One candidate, not ranked yet."""
    check_edges(target, candidate.spectrum)
    spectrum = as_kind(candidate.spectrum, settings.kind)
    curve = model_curve(spectrum) + (1.0 if settings.kind == "EXAFS" else 0.0)
    measured = distances(target, curve[None], settings.kind, settings.largest_shift, settings.broadest)
    found = {field: float(getattr(measured, field)[0]) for field in ("distance", "shift", "width", "amplitude", "r2")}
    if not np.isfinite(found["distance"]):
        raise SpectrumError(f"it covers too little of the range of {settings.kind} that is compared; compute or measure it further.")
    bound = found["amplitude"] * (candidate.error_bound if candidate.error_bound is not None else _band_error(candidate, settings.kind))
    distance, shift = found["distance"], -found["shift"] + 0.0
    return Ranked(
        name=name,
        rank=0,
        method=spectrum.method,
        distance=distance,
        error_bound=bound,
        inside=distance <= bound,
        low=max(0.0, distance - bound),
        high=distance + bound,
        r2=found["r2"],
        shift=round(e0 - find_e0(spectrum) + shift, 6),
        from_e0=round(shift, 6),
        at_limit=settings.largest_shift > 0.0 and abs(shift) > settings.largest_shift - SHIFT_STEP / 2,
        width=found["width"],
        amplitude=found["amplitude"],
    )


def _band_error(candidate: Candidate, kind: Kind) -> float:
    """What the root mean square error stays below if the whole true spectrum lies in the band; 0 without one."""
    if candidate.band is None:
        return 0.0
    spectrum, band = candidate.spectrum, candidate.band
    half = np.maximum(spectrum.mu - band[:, 0], band[:, 1] - spectrum.mu)
    use = compared(kind)
    if kind == "EXAFS":
        k, _ = chi_k(spectrum)  # leaves points below the edge out
        error: FloatArray = EXAFS_GRID[use] ** 2 * on_grid(k, half[-len(k) :], EXAFS_GRID[use])
    else:
        flat = flatten(spectrum)
        error = on_grid(flat.energy - find_e0(flat), half, XANES_GRID[use])
    return float(np.sqrt(np.nanmean(error**2)))


def describe(ranking: Ranking, settings: Settings) -> dict[str, Any]:
    """A ranking as plain values."""
    return {
        "kind": settings.kind,
        "largest_shift": float(settings.largest_shift),
        "broadest": float(settings.broadest) if settings.kind == "XANES" else None,
        "candidates": [dict(vars(one)) for one in ranking.candidates],
        "refused": dict(ranking.refused),
    }

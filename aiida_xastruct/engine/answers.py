"""What models answer. A promise holds in the share `coverage` of cases, over sites of materials that nothing was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .spectrum import Spectrum

#: An element with less than this probability is not listed.
LEAST_PROBABILITY = 0.01


@dataclass(frozen=True, eq=False, kw_only=True)
class ForwardAnswer:
    """The predicted spectrum of one site.

    Attributes:
        spectrum: flat mu on the model's grid, at absolute energies (the tabulated edge plus FEFF's usual offset for the element).
        band: (n, 2) lower and upper end of the simultaneous band, which holds whole spectra.
        uncertainty: expected root mean square error, of flat mu for XANES, of k^2 chi in 1/angstrom^2 for EXAFS.
        error_bound: what the error stays below, in the same units.
        threshold: the uncertainty above which FEFF should answer.
        coverage: share of cases in which band and error bound hold.
        domain_score: distance from the training data; above one is outside.
        in_domain: whether the absorber and its surroundings are like those trained on.
        needs_reference: whether FEFF should answer instead.
        reason: why, in one sentence.
    """

    spectrum: Spectrum
    band: NDArray[np.float64]
    uncertainty: float
    error_bound: float
    threshold: float
    coverage: float
    domain_score: float
    in_domain: bool
    needs_reference: bool
    reason: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Answer:
    """What all inverse answers say.

    Attributes:
        coverage: share of cases in which the set holds all true neighbours, or the interval the true distance.
        in_domain: whether the spectrum is like those trained on.
        reason: why or why not, in one sentence.
    """

    coverage: float
    in_domain: bool
    reason: str


@dataclass(frozen=True, eq=False, kw_only=True)
class DistanceAnswer(Answer):
    """Distances of the first shell.

    Attributes:
        mean_distance: of the first shell, angstrom.
        interval: lower and upper limit of the mean distance, angstrom.
        nearest_distance: of the nearest neighbour, angstrom.
        coordination: estimated number of neighbours.
    """

    mean_distance: float
    interval: tuple[float, float]
    nearest_distance: float
    coordination: float


@dataclass(frozen=True, eq=False, kw_only=True)
class NeighbourAnswer(Answer):
    """Elements of the first shell.

    Attributes:
        neighbours: probability that an element is in the first shell, highest first, those of at least `LEAST_PROBABILITY`.
        neighbour_set: the elements that answer best.
        conformal_set: the elements that hold all true neighbours.
    """

    neighbours: dict[str, float]
    neighbour_set: list[str]
    conformal_set: list[str]


@dataclass(frozen=True, eq=False, kw_only=True)
class InverseAnswer(NeighbourAnswer, DistanceAnswer):
    """The local structure behind one spectrum."""


def merge_inverse(near: NeighbourAnswer, far: DistanceAnswer) -> InverseAnswer:
    """One answer from the two inverse models; in the domain only if both are, and as sure as the less sure."""
    return InverseAnswer(
        **{
            **vars(far),
            **vars(near),
            "coverage": min(near.coverage, far.coverage),
            "in_domain": near.in_domain and far.in_domain,
            "reason": far.reason if near.in_domain else near.reason,
        }
    )

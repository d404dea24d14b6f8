"""From what an ensemble says to what may be promised: split conformal prediction on materials that nothing was trained on.

Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2005); for curves, the band of the largest scaled residual
(Diquigiovanni, Fontana and Vantini, J. Multivar. Anal. 189, 104879 (2022)).
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dataset import MAX_Z, SiteTable
from ..errors import DatasetError
from ..metrics import micro_f1
from .tasks import Task, curve_weight

Array = NDArray[np.float64]

COVERAGE = 0.9

#: An answer stands without FEFF while answers like it have, on average, at most this share of the mean spectrum's error.
RISK_OF_BASELINE = 0.5

#: An absorber with fewer training sites than this is outside the domain.
MINIMUM_SITES = 10


def conformal_quantile(scores: Array, coverage: float = COVERAGE) -> float:
    """The score that a new one stays below with probability `coverage`: the ceil((n + 1) coverage)-th smallest of n.

    Raises:
        DatasetError: if there are too few scores for the coverage.
    """
    rank = int(np.ceil((len(scores) + 1) * coverage))
    if rank > len(scores):
        least = int(np.ceil(coverage / (1 - coverage) - 1e-9))
        raise DatasetError(f"{len(scores)} sites are too few to calibrate at {coverage:.0%}; give at least {least}.")
    return float(np.sort(scores)[rank - 1])


@dataclass(frozen=True)
class ErrorModel:
    """Expected error of a curve from what is known before the truth: a straight line in logarithms.

    ln(error) = weights . (1, ln stated error, ln ensemble spread, ln(domain score)), least squares on the select part, then
    scaled so that the mean of expected and true errors agree there.
    """

    weights: tuple[float, ...]

    @staticmethod
    def _design(stated: Array, spread: Array, domain: Array) -> Array:
        logs = [np.log(np.maximum(column, 1e-4)) for column in (stated, spread, domain)]
        return np.stack([np.ones_like(stated), *logs], axis=1)

    @classmethod
    def fit(cls, error: Array, stated: Array, spread: Array, domain: Array) -> ErrorModel:
        """Learn from true errors (n,) and the three columns (n,)."""
        design = cls._design(stated, spread, domain)
        weights = np.linalg.lstsq(design, np.log(np.maximum(error, 1e-4)), rcond=None)[0]
        weights[0] += np.log(error.mean() / np.exp(design @ weights).mean())
        return cls(tuple(float(weight) for weight in weights))

    def __call__(self, stated: Array, spread: Array, domain: Array) -> Array:
        """Expected errors (n,)."""
        return np.asarray(np.exp(self._design(stated, spread, domain) @ np.array(self.weights)), dtype=np.float64)


def curve_spread(spread: NDArray[np.floating], kind: str) -> Array:
    """(n,) root mean square over the grid of the members' disagreement (n, grid), k^2-weighted for EXAFS."""
    return np.asarray(np.sqrt(((spread * curve_weight(kind).numpy()) ** 2).mean(axis=1)), dtype=np.float64)


@dataclass(frozen=True)
class ForwardCalibration:
    """What a forward model may promise.

    Attributes:
        error_model: expected error of a spectrum.
        profile: (grid,) typical residual at each grid point over the expected error.
        simultaneous: factor on profile x expected error for a band that holds 90 % of whole spectra.
        pointwise: the same for 90 % of points.
        threshold: expected error above which FEFF answers.
        risk_target: true error that an accepted answer may have on average over answers like it.
        accepted: share of the calibrate part below the threshold.
    """

    error_model: ErrorModel
    profile: tuple[float, ...]
    simultaneous: float
    pointwise: float
    threshold: float
    risk_target: float
    accepted: float

    @classmethod
    def fit(
        cls, error_model: ErrorModel, expected: Array, value: Array, target: Array, error: Array, baseline_error: Array
    ) -> ForwardCalibration:
        """Learn from the calibrate part: expected (n,), value and target (n, grid) with NaN where unknown, errors (n,)."""
        residual = np.abs(value - target)
        scaled = residual / expected[:, None]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # no truth at a grid point: the next line fills it
            profile = np.sqrt(np.nanmean(scaled**2, axis=0))
        profile = np.where(np.isfinite(profile), np.maximum(profile, 1e-3), np.nanmax(profile))
        ratio = scaled / profile
        risk = RISK_OF_BASELINE * float(baseline_error.mean())
        threshold, accepted = risk_threshold(expected, error, risk)
        return cls(
            error_model,
            tuple(float(value) for value in profile),
            conformal_quantile(np.nanmax(ratio, axis=1)),
            float(np.nanquantile(ratio, COVERAGE)),
            threshold,
            risk,
            accepted,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a card."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ForwardCalibration:
        """The inverse of `to_json`."""
        model = ErrorModel(tuple(data["error_model"]["weights"]))
        return cls(
            model, tuple(data["profile"]), *(data[name] for name in ("simultaneous", "pointwise", "threshold", "risk_target", "accepted"))
        )


def risk_threshold(expected: Array, error: Array, risk: float) -> tuple[float, float]:
    """Up to which expected error an answer is good enough.

    The true error as a rising function of the expected one (isotonic regression) is the marginal risk of accepting one more answer; the
    threshold is where it crosses `risk`, so that no answer is accepted on the strength of better ones beside it.

    Args:
        expected: (n,) expected errors.
        error: (n,) true errors.
        risk: true error that an accepted answer may have on average over answers like it.

    Returns:
        the largest accepted expected error (0 if none is), and the share accepted.
    """
    from sklearn.isotonic import IsotonicRegression

    marginal = IsotonicRegression().fit_transform(expected, error)
    accepted = marginal <= risk
    if not accepted.any():
        return 0.0, 0.0
    return float(expected[accepted].max()), float(accepted.mean())


@dataclass(frozen=True)
class DistanceCalibration:
    """Half-widths of 90 % intervals in units of the expected error, one an output of the distance model."""

    factors: tuple[float, ...]

    @classmethod
    def fit(cls, value: Array, target: Array, expected: Array) -> DistanceCalibration:
        """Learn from the calibrate part, all (n, outputs)."""
        scores = np.abs(value - target) / expected
        return cls(tuple(conformal_quantile(scores[:, column]) for column in range(scores.shape[1])))


@dataclass(frozen=True)
class NeighbourCalibration:
    """Probabilities at and above which an element belongs to an answer.

    Attributes:
        set_threshold: the set of elements above it holds every true neighbour in 90 % of cases.
        best_threshold: the set above it agrees best with the truth (highest micro-F1 on the select part).
    """

    set_threshold: float
    best_threshold: float

    @classmethod
    def fit(
        cls, probability: Array, neighbours: NDArray[np.bool_], select_probability: Array, select: NDArray[np.bool_]
    ) -> NeighbourCalibration:
        """Learn from the calibrate and select parts, probabilities and truths (n, MAX_Z)."""
        least = np.where(neighbours, probability, np.inf).min(axis=1)
        candidates = np.linspace(0.05, 0.8, 76)
        scores = [micro_f1(select_probability >= threshold, select) for threshold in candidates]
        return cls(1.0 - conformal_quantile(1.0 - least), float(candidates[int(np.argmax(scores))]))


def sites_per_element(table: SiteTable) -> dict[int, int]:
    """Training sites of each absorber, by atomic number."""
    counts = np.bincount(table.absorber, minlength=MAX_Z)
    return {int(z): int(counts[z]) for z in np.flatnonzero(counts)}


def expected_error(task: Task, stated: NDArray[np.floating], spread: NDArray[np.floating]) -> Array:
    """(n, outputs) what a distance model expects its error to be: stated and disagreement together."""
    assert task.name == "distance"
    return np.asarray(np.sqrt(stated**2 + spread**2), dtype=np.float64)

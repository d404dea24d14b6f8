"""From what an ensemble says to what may be promised, on materials that nothing was trained on.

Quantiles: `models.conformal`. For curves the score is the largest scaled residual, so that the band holds whole curves
(Diquigiovanni, Fontana and Vantini, J. Multivar. Anal. 189, 104879 (2022)).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dataset import MAX_Z, SiteTable
from ..errors import ModelError
from ..metrics import exact, macro_f1, micro_f1
from .conformal import COVERAGE, material_quantile, site_quantile
from .tasks import Task, curve_weight

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: An answer stands without FEFF if its error is, as far as calibration can promise, at most this share of the mean spectrum's.
RISK_OF_BASELINE = 0.5

#: Materials of the calibrate part that it takes for a threshold of their own.
ENOUGH_MATERIALS = 20

#: An absorber with fewer training sites than this is outside the domain.
MINIMUM_SITES = 10


@dataclass(frozen=True)
class ErrorModel:
    """Expected error of a curve from what is known before the truth: a straight line in logarithms.

    ln(error) = weights . (1, ln stated error, ln ensemble spread, ln(domain score)), then scaled so that the means of expected and true
    errors agree. The last three weights are not negative (Lawson and Hanson's least squares), so that more disagreement or a
    question further away never makes an answer look better.
    """

    weights: tuple[float, ...]

    @staticmethod
    def _logs(stated: Array, spread: Array, domain: Array) -> Array:
        return np.stack([np.log(np.maximum(column, 1e-4)) for column in (stated, spread, domain)], axis=1)

    @classmethod
    def fit(cls, error: Array, stated: Array, spread: Array, domain: Array) -> ErrorModel:
        """Learn from true errors (n,) and the three columns (n,)."""
        from sklearn.linear_model import LinearRegression

        logs = cls._logs(stated, spread, domain)
        line = LinearRegression(positive=True).fit(logs, np.log(np.maximum(error, 1e-4)))
        scale = float(np.log(error.mean() / np.exp(line.predict(logs)).mean()))
        return cls((float(line.intercept_) + scale, *(float(weight) for weight in line.coef_)))

    def __call__(self, stated: Array, spread: Array, domain: Array) -> Array:
        """Expected errors (n,)."""
        logs = self._logs(stated, spread, domain)
        return np.asarray(np.exp(self.weights[0] + logs @ np.array(self.weights[1:])), dtype=np.float64)


def curve_spread(spread: NDArray[np.floating], kind: str) -> Array:
    """(n,) root mean square over the grid of the members' disagreement (n, grid), k^2-weighted for EXAFS."""
    return np.asarray(np.sqrt(((spread * curve_weight(kind).numpy()) ** 2).mean(axis=1)), dtype=np.float64)


@dataclass(frozen=True)
class Curves:
    """What a forward model said about sites, and the truth.

    Attributes:
        expected: (n,) expected errors.
        value: (n, grid) predicted curves.
        target: (n, grid) true curves, NaN where unknown.
        error: (n,) true errors.
        group: (n,) labels of materials.
    """

    expected: Array
    value: Array
    target: Array
    error: Array
    group: NDArray[Any]

    @property
    def scaled(self) -> Array:
        """(n, grid) residuals over expected errors."""
        return np.asarray(np.abs(self.value - self.target) / self.expected[:, None])


@dataclass(frozen=True)
class ForwardCalibration:
    """What a forward model may promise.

    Attributes:
        error_model: expected error of a spectrum.
        profile: (grid,) typical residual at each grid point over the expected error.
        simultaneous: factor on profile x expected error for a band that holds whole spectra, in `coverage` of cases.
        pointwise: the same for single points.
        bound: factor on the expected error below which the true one stays, in `coverage` of cases.
        risk_target: the largest error that an answer may have without FEFF.
        threshold: expected error above which FEFF answers: there the bound is `risk_target`.
        accepted: share of the calibrate part below the threshold.
        coverage: share of cases in which each of these promises holds, over sites of new materials.
    """

    error_model: ErrorModel
    profile: tuple[float, ...]
    simultaneous: float
    pointwise: float
    bound: float
    risk_target: float
    threshold: float
    accepted: float
    coverage: float

    @classmethod
    def fit(cls, error_model: ErrorModel, select: Curves, calibrate: Curves, risk_target: float) -> ForwardCalibration:
        """The profile from the select part, the rest from the calibrate part.

        An answer is accepted on a bound of its error and not on the error's mean: half of the answers at a mean error are worse.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # no truth at a grid point: the next line fills it
            profile = np.sqrt(np.nanmean(select.scaled**2, axis=0))
        profile = np.where(np.isfinite(profile), np.maximum(profile, 1e-3), np.nanmax(profile))
        ratio = calibrate.scaled / profile
        bound = site_quantile(calibrate.error / calibrate.expected, calibrate.group)
        threshold = risk_target / bound
        return cls(
            error_model,
            tuple(float(value) for value in profile),
            site_quantile(np.nanmax(ratio, axis=1), calibrate.group),
            float(np.nanquantile(ratio, COVERAGE)),
            bound,
            risk_target,
            threshold,
            float((calibrate.expected <= threshold).mean()),
            COVERAGE,
        )

    def half_band(self, expected: Array) -> Array:
        """(n, grid) half-width of the simultaneous band at expected errors (n,)."""
        return np.asarray(self.simultaneous * expected[:, None] * np.array(self.profile))


@dataclass(frozen=True)
class DistanceCalibration:
    """Half-widths of intervals in units of the expected error, one an output of the distance model; they hold in `coverage` of cases."""

    factors: tuple[float, ...]
    coverage: float

    @classmethod
    def fit(cls, value: Array, target: Array, expected: Array, group: NDArray[Any]) -> DistanceCalibration:
        """Learn from the calibrate part, arrays (n, outputs) and labels of materials (n,)."""
        scores = np.abs(value - target) / expected
        return cls(tuple(site_quantile(scores[:, column], group) for column in range(scores.shape[1])), COVERAGE)


@dataclass(frozen=True)
class NeighbourCalibration:
    """Probabilities at and above which an element belongs to an answer.

    Sets by a threshold on the probability were no larger at the same coverage than sets by rank or by cumulated probability (APS and
    RAPS: Romano, Sesia and Candes, NeurIPS 2020; Angelopoulos et al., ICLR 2021), and need no rule for shells of several elements.

    Attributes:
        set_threshold: the set of elements above it holds every true neighbour, at all sites of a new material, in `coverage` of cases.
        best_threshold: the set above it agrees best with the truth (highest `_agreement` on the select part).
        coverage: see `set_threshold`.
        seldom_threshold: the same as `set_threshold` around absorbers that are not among `often`; None where one holds for all.
        often: atomic numbers of the absorbers that were seen often in training; see `models.doubt`.
    """

    set_threshold: float
    best_threshold: float
    coverage: float
    seldom_threshold: float | None = None
    often: tuple[int, ...] = ()

    @classmethod
    def fit(
        cls,
        probability: Array,
        neighbours: Mask,
        group: NDArray[Any],
        select_probability: Array,
        select: Mask,
        absorber: NDArray[np.int64] | None = None,
        often: NDArray[np.int64] | None = None,
        draws: int = 1,
    ) -> NeighbourCalibration:
        """Learn from the calibrate and select parts, probabilities and truths (n, MAX_Z), labels of materials (n,).

        Of the select part there may be several `draws` of each site.

        With the absorbers (n,) of the calibrate part, those that are seen `often` and all others get thresholds of their own (Mondrian
        conformal sets), where the part has `ENOUGH_MATERIALS` of each.
        """
        candidates = np.linspace(0.05, 0.8, 76)
        scores = [_agreement(cls(1.0, threshold, COVERAGE).named(select_probability), select, draws) for threshold in candidates]
        best = float(candidates[int(np.argmax(scores))])
        certain = np.where(cls(1.0, best, COVERAGE).named(probability), 1.0, probability)
        least = np.where(neighbours, certain, np.inf).min(axis=1)

        def threshold_of(rows: Mask | slice) -> float:
            return 1.0 - material_quantile(1.0 - least[rows], group[rows])

        if absorber is not None and often is not None:
            usual = np.isin(absorber, often)
            if min(len(np.unique(group[rows])) for rows in (usual, ~usual)) >= ENOUGH_MATERIALS:
                return cls(threshold_of(usual), best, COVERAGE, threshold_of(~usual), tuple(int(z) for z in often))
        return cls(threshold_of(slice(None)), best, COVERAGE)

    def named(self, probability: Array) -> Mask:
        """(n, MAX_Z) elements that an answer names: those above `best_threshold`, and always the likeliest."""
        found = probability >= self.best_threshold
        found[np.arange(len(found)), 1 + probability[:, 1:].argmax(axis=1)] = True
        return _elements(found)

    def whole(self, probability: Array, absorber: NDArray[np.int64]) -> Mask:
        """(n, MAX_Z) elements of the conformal set around absorbers (n,): those above their threshold, and always the named."""
        threshold = np.full(len(probability), self.set_threshold)
        if self.seldom_threshold is not None:
            threshold[~np.isin(absorber, self.often)] = self.seldom_threshold
        return _elements((probability >= threshold[:, None]) | self.named(probability))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NeighbourCalibration:
        """The inverse of `dataclasses.asdict`; a TypeError if the data are of another version."""
        return cls(**{**data, "often": tuple(data["often"])}) if "often" in data else cls(**data)


def _agreement(found: Mask, true: Mask, draws: int) -> float:
    """Micro-F1, the share of exact sets, and macro-F1 over the elements with 20 sites or more, where there are any.

    Where nine of ten neighbours are oxygen, micro-F1 hardly depends on the threshold, so that chance would choose. Macro-F1 does, as a high
    threshold never names what is seldom, and so does the share of exact sets, as a low one names two elements where there is one.
    """
    return micro_f1(found, true) + exact(found, true) + float(np.nan_to_num(macro_f1(found, true, least=20 * draws)))


def _elements(mask: Mask) -> Mask:
    """A mask (n, MAX_Z) without its first column: networks have an output for atomic number 0, which is no element."""
    mask[:, 0] = False
    return mask


Calibration = ForwardCalibration | DistanceCalibration | NeighbourCalibration


def read_calibration(task: str, data: dict[str, Any]) -> Calibration:
    """The calibration of a model from its card, where `dataclasses.asdict` put it.

    Raises:
        ModelError: if it is not that of this version.
    """
    try:
        if task == "forward":
            weights = ErrorModel(tuple(data["error_model"]["weights"]))
            return ForwardCalibration(**{**data, "error_model": weights, "profile": tuple(data["profile"])})
        if task == "distance":
            return DistanceCalibration(**{**data, "factors": tuple(data["factors"])})
        return NeighbourCalibration.from_json(data)
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"the {task} model is calibrated as another version of the engine does it ({error}); install a family of this version."
        ) from error


def sites_per_element(table: SiteTable) -> dict[int, int]:
    """Training sites of each absorber, by atomic number."""
    counts = np.bincount(table.absorber, minlength=MAX_Z)
    return {int(z): int(counts[z]) for z in np.flatnonzero(counts)}


def expected_error(task: Task, stated: NDArray[np.floating], spread: NDArray[np.floating]) -> Array:
    """(n, outputs) what a distance model expects its error to be: stated and disagreement together."""
    assert task.name == "distance"
    return np.asarray(np.sqrt(stated**2 + spread**2), dtype=np.float64)

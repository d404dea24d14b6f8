"""What a known composition adds: which of the elements present are the neighbours, by chemistry alone and together with a spectrum.

Two logistic regressions. The first guesses from electronegativities whether an element of the compound stands in the first shell of the
absorber; the second weighs that guess against what the network read in the spectrum (a logarithmic pool of opinions, Genest and
Zidek, Stat. Sci. 1, 114 (1986), with weights that are learned).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..dataset import MAX_Z
from .calibration import NeighbourCalibration, read_calibration
from .networks import electronegativity

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_SMALLEST = 1e-6


def logit(probability: Array) -> Array:
    """ln(p / (1 - p)), any shape; finite at 0 and 1."""
    clipped = np.clip(probability, _SMALLEST, 1.0 - _SMALLEST)
    return np.asarray(np.log(clipped / (1.0 - clipped)))


def _greatest_of_others(values: Array, present: Mask, alone: float) -> Array:
    """(n, MAX_Z) for each element the greatest of `values` (n, MAX_Z) over the other elements present; `alone` without any."""
    masked = np.where(present, values, -np.inf)
    order = np.sort(masked, axis=1)[:, -2:]
    others = np.where((masked == order[:, -1:]) & present, order[:, :1], order[:, -1:])
    return np.where(np.isfinite(others), others, alone)


def _chemistry(absorber: NDArray[np.int64], present: Mask) -> Array:
    """(pairs, 9) features of the pairs (row, element) that `np.nonzero(present)` gives."""
    scale = electronegativity()
    own = scale[absorber][:, None]
    difference = np.broadcast_to(scale, present.shape) - own
    contrast = np.abs(difference)
    count = present.sum(axis=1, keepdims=True) * np.ones_like(difference)
    columns = [
        difference,
        contrast,
        contrast - _greatest_of_others(contrast, present, 0.0),
        difference - _greatest_of_others(difference, present, -2.0),
        (np.arange(MAX_Z) == absorber[:, None]).astype(np.float64),
        (count == 1).astype(np.float64),
        np.log(np.maximum(count, 1.0)),
        own * np.ones_like(difference),
        own * difference,
    ]
    return np.stack([column[present] for column in columns], axis=1)


def _evidence(probability: Array, chemistry: Array, present: Mask) -> Array:
    """(pairs, 3) of the pairs (row, element) present: logits of network, of its strongest other candidate, and of chemistry.

    The network's probabilities (n, MAX_Z) are first made conditional on that at least one element present is a neighbour.
    """
    kept = np.where(present, probability, 0.0)
    network = logit(kept / np.maximum(1.0 - np.prod(1.0 - kept, axis=1, keepdims=True), _SMALLEST))
    strongest = _greatest_of_others(network, present, float(logit(np.array(0.0))))
    return np.stack([network[present], strongest[present], logit(chemistry)[present]], axis=1)


def _fit(features: Array, true: Mask) -> tuple[float, ...]:
    from sklearn.linear_model import LogisticRegression

    line = LogisticRegression(max_iter=1000).fit(features, true)
    return (float(line.intercept_[0]), *(float(weight) for weight in line.coef_[0]))


def _spread_out(logits: Array, present: Mask) -> Array:
    """(n, MAX_Z) probabilities from the logits of the pairs present; 0 elsewhere."""
    found = np.zeros(present.shape)
    found[present] = 1.0 / (1.0 + np.exp(-logits))
    return found


@dataclass(frozen=True)
class CompositionModel:
    """Neighbour elements where the elements of the compound are known.

    Attributes:
        chemistry: intercept and weights of the guess from electronegativities.
        pool: intercept and weights that join it with the network.
        calibration: thresholds on the joint probabilities.
    """

    chemistry: tuple[float, ...]
    pool: tuple[float, ...]
    calibration: NeighbourCalibration

    @classmethod
    def fit(
        cls, train: Sites, select: Sites, calibrate: Sites, group: NDArray[Any], often: NDArray[np.int64] | None = None
    ) -> CompositionModel:
        """Chemistry from the training part, the pool from the select part, thresholds from both others; see `NeighbourCalibration.fit`."""
        chemistry = _fit(_chemistry(train.absorber, train.present), train.neighbours[train.present])
        return cls(chemistry, (), NeighbourCalibration(1.0, 0.5, 0.0)).weighed(select, calibrate, group, often)

    def weighed(self, select: Sites, calibrate: Sites, group: NDArray[Any], often: NDArray[np.int64] | None = None) -> CompositionModel:
        """The same chemistry, weighed against other probabilities; see `fit`."""
        guess = self.guess(select.absorber, select.present)
        pool = _fit(_evidence(select.probability, guess, select.present), select.neighbours[select.present])
        model = replace(self, pool=pool)
        said = [model(part.probability, part.absorber, part.present) for part in (calibrate, select)]
        thresholds = NeighbourCalibration.fit(
            said[0], calibrate.neighbours, group, said[1], select.neighbours, calibrate.absorber, often
        )  # fmt: skip
        return replace(model, calibration=thresholds)

    def guess(self, absorber: NDArray[np.int64], present: Mask) -> Array:
        """(n, MAX_Z) probabilities by chemistry alone, for absorbers (n,) among elements present (n, MAX_Z)."""
        weights = np.array(self.chemistry)
        return _spread_out(weights[0] + _chemistry(absorber, present) @ weights[1:], present)

    def __call__(self, probability: Array, absorber: NDArray[np.int64], present: Mask) -> Array:
        """(n, MAX_Z) probabilities by chemistry and the network's `probability` (n, MAX_Z) together."""
        weights = np.array(self.pool)
        evidence = _evidence(probability, self.guess(absorber, present), present)
        return _spread_out(weights[0] + evidence @ weights[1:], present)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CompositionModel:
        """The inverse of `dataclasses.asdict`.

        Raises:
            ModelError: if the calibration is not that of this version.
        """
        calibration = cast(NeighbourCalibration, read_calibration("neighbours", data["calibration"]))
        return cls(tuple(data["chemistry"]), tuple(data["pool"]), calibration)


@dataclass(frozen=True)
class Sites:
    """Sites of known composition.

    Attributes:
        absorber: (n,) atomic numbers.
        present: (n, MAX_Z) elements of the compound.
        neighbours: (n, MAX_Z) elements of the first shell.
        probability: (n, MAX_Z) what the network says.
    """

    absorber: NDArray[np.int64]
    present: Mask
    neighbours: Mask
    probability: Array

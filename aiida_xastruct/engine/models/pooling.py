"""What XANES and EXAFS of one site say together: the answers of two models, each weighed by what it is worth.

Networks that see both at once would need sites that have both to learn from, which are few; two numbers a model need a hundred.
Probabilities are joined as in `models.composition` (a logarithmic pool), distances by the inverse of their variances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from .calibration import DistanceCalibration, NeighbourCalibration
from .composition import CompositionModel, Sites, logit

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_OTHER_VERSION = "the joint calibration of the models is of another version ({}); make it with `xastruct join`."

#: Mean of ln|z| of a normal variate.
_MEAN_LOG = -0.635


@dataclass(frozen=True)
class NeighbourPool:
    """Neighbour elements from both kinds of spectra.

    Attributes:
        weights: intercept, and weights of the logits of EXAFS and of XANES.
        calibration: thresholds on the joint probabilities.
        composition: for samples whose elements are known.
    """

    weights: tuple[float, ...]
    calibration: NeighbourCalibration
    composition: CompositionModel

    @classmethod
    def fit(
        cls, select: Evidence, calibrate: Evidence, known: Sites, held_back: Sites, group: NDArray[Any], composition: CompositionModel
    ) -> NeighbourPool:
        """Weights from the select part, thresholds from both.

        Args:
            select: what the models say about the select part.
            calibrate: what they say about the calibrate part.
            known: sites of the select part; their probabilities are not looked at.
            held_back: sites of the calibrate part.
            group: (n,) labels of materials of the calibrate part.
            composition: of one of the models, whose chemistry is taken over.
        """
        from sklearn.linear_model import LogisticRegression

        columns = select.columns()
        line = LogisticRegression(max_iter=1000).fit(columns.reshape(-1, columns.shape[-1]), known.neighbours[:, 1:].ravel())
        weights = (float(line.intercept_[0]), *(float(weight) for weight in line.coef_[0]))
        bare = cls(weights, NeighbourCalibration(1.0, 0.5, 0.0), composition)
        said, told = bare(calibrate), bare(select)
        thresholds = NeighbourCalibration.fit(said, held_back.neighbours, group, told, known.neighbours)
        weighed = composition.weighed(replace(known, probability=told), replace(held_back, probability=said), group)
        return cls(weights, thresholds, weighed)

    def __call__(self, evidence: Evidence) -> Array:
        """(n, MAX_Z) joint probabilities."""
        found = np.zeros(evidence.exafs.shape)
        found[:, 1:] = 1.0 / (1.0 + np.exp(-(self.weights[0] + evidence.columns() @ np.array(self.weights[1:]))))
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NeighbourPool:
        """The inverse of `dataclasses.asdict`.

        Raises:
            ModelError: if the data are of another version.
        """
        try:
            composition = CompositionModel.from_json(data["composition"])
            return cls(tuple(data["weights"]), NeighbourCalibration.from_json(data["calibration"]), composition)
        except (KeyError, TypeError) as error:
            raise ModelError(_OTHER_VERSION.format(error)) from error


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the neighbours models say about sites.

    Attributes:
        exafs: (n, MAX_Z) probabilities from EXAFS.
        xanes: (n, MAX_Z) from XANES.
    """

    exafs: Array
    xanes: Array

    def columns(self) -> Array:
        """(n, MAX_Z - 1, 2) what a pool weighs of each element; the first column of a network's answer is no element."""
        return np.stack([logit(self.exafs[:, 1:]), logit(self.xanes[:, 1:])], axis=-1)

    def at(self, rows: Mask) -> Evidence:
        """The chosen rows (n,)."""
        return Evidence(self.exafs[rows], self.xanes[rows])


@dataclass(frozen=True)
class DistancePool:
    """Distances from both kinds of spectra.

    Attributes:
        exafs: for each output ln(true error over expected error) of the EXAFS model.
        xanes: the same of the XANES model.
        calibration: of the joint expected errors.
    """

    exafs: tuple[float, ...]
    xanes: tuple[float, ...]
    calibration: DistanceCalibration

    @classmethod
    def fit(cls, select: Estimates, target: Array, calibrate: Estimates, true: Array, group: NDArray[Any]) -> DistancePool:
        """Learn from what the models say about the select part and its truth (n, outputs), and calibrate on the calibrate part."""
        scales = [
            np.log(np.maximum(np.abs(value - target), 1e-4) / expected).mean(axis=0) - _MEAN_LOG
            for value, expected in (select.exafs, select.xanes)
        ]
        bare = cls(tuple(scales[0].tolist()), tuple(scales[1].tolist()), DistanceCalibration((), 0.0))
        value, expected = bare(calibrate)
        return replace(bare, calibration=DistanceCalibration.fit(value, true, expected, group))

    def __call__(self, said: Estimates) -> tuple[Array, Array]:
        """Joint values and expected errors, (n, outputs) each."""
        one, other = (
            (np.exp(np.array(scale)) * expected) ** -2 for scale, (_, expected) in ((self.exafs, said.exafs), (self.xanes, said.xanes))
        )
        return (one * said.exafs[0] + other * said.xanes[0]) / (one + other), (one + other) ** -0.5

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DistancePool:
        """The inverse of `dataclasses.asdict`.

        Raises:
            ModelError: if the data are of another version.
        """
        try:
            own = data["calibration"]
            calibration = DistanceCalibration(tuple(own["factors"]), own["coverage"])
            return cls(tuple(data["exafs"]), tuple(data["xanes"]), calibration)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(_OTHER_VERSION.format(error)) from error


@dataclass(frozen=True, eq=False)
class Estimates:
    """What the distance models say about sites: of EXAFS and of XANES values and expected errors, (n, outputs) each."""

    exafs: tuple[Array, Array]
    xanes: tuple[Array, Array]

    def at(self, rows: Mask) -> Estimates:
        """The chosen rows (n,)."""
        (value, expected), (other, stated) = self.exafs, self.xanes
        return Estimates((value[rows], expected[rows]), (other[rows], stated[rows]))

"""What XANES and EXAFS of one site say together: the answers of two models, each weighed by what it is worth.

Networks that see both at once would need sites that have both to learn from, which are few; two numbers a model need a hundred.
Probabilities are joined as in `models.composition` (a logarithmic pool), distances by the inverse of their variances. How much a XANES
model is worth depends on how many XANES of the absorber it learned from: it was trained on few elements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dataset import MAX_Z
from ..errors import ModelError
from .calibration import DistanceCalibration, NeighbourCalibration
from .composition import CompositionModel, Sites, logit

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Training sites of an absorber at which a XANES model knows it as well as it ever will, as far as weights go.
_WELL_KNOWN = 300.0

_OTHER_VERSION = "the joint calibration of the models is of another version ({}); make it with `xastruct join`."

#: Mean of ln|z| of a normal variate.
_MEAN_LOG = -0.635


def knowledge(training_sites: Mapping[int, int], absorber: NDArray[np.int64]) -> Array:
    """(n,) from 0 to 1: how well a model knows absorbers (n,), from its training sites by atomic number."""
    sites = np.array([training_sites.get(int(z), 0) for z in absorber], dtype=np.float64)
    return np.asarray(np.minimum(np.log1p(sites) / np.log1p(_WELL_KNOWN), 1.0))


@dataclass(frozen=True)
class NeighbourPool:
    """Neighbour elements from both kinds of spectra.

    Attributes:
        weights: intercept, and weights of the logit of EXAFS, of XANES, and of XANES times `knowledge`.
        calibration: thresholds on the joint probabilities.
        composition: for samples whose elements are known.
    """

    weights: tuple[float, ...]
    calibration: NeighbourCalibration
    composition: CompositionModel

    @classmethod
    def fit(
        cls, select: Evidence, calibrate: Evidence, sites: Mapping[str, Sites], group: NDArray[Any], composition: CompositionModel
    ) -> NeighbourPool:
        """Weights from the select part, thresholds from both.

        Args:
            select: what the models say about the select part, and
            calibrate: about the calibrate part.
            sites: of both parts, by name; their probabilities are not looked at.
            group: (n,) labels of materials of the calibrate part.
            composition: of one of the models, whose chemistry is taken over.
        """
        from sklearn.linear_model import LogisticRegression

        columns, true = select.columns(), sites["select"].neighbours[:, 1:]
        line = LogisticRegression(max_iter=1000).fit(columns.reshape(-1, columns.shape[-1]), true.ravel())
        weights = (float(line.intercept_[0]), *(float(weight) for weight in line.coef_[0]))
        bare = cls(weights, NeighbourCalibration(1.0, 0.5, 0.0), composition)
        said = {"select": bare(select), "calibrate": bare(calibrate)}
        joint = {name: replace(own, probability=said[name]) for name, own in sites.items()}
        return cls(
            weights,
            NeighbourCalibration.fit(said["calibrate"], joint["calibrate"].neighbours, group, said["select"], joint["select"].neighbours),
            composition.weighed(joint["select"], joint["calibrate"], group),
        )

    def __call__(self, evidence: Evidence) -> Array:
        """(n, MAX_Z) joint probabilities."""
        found = np.zeros((len(evidence.known), MAX_Z))
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
            return cls(tuple(data["weights"]), NeighbourCalibration(**data["calibration"]), composition)
        except (KeyError, TypeError) as error:
            raise ModelError(_OTHER_VERSION.format(error)) from error


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the neighbours models say about sites.

    Attributes:
        exafs: (n, MAX_Z) probabilities from EXAFS.
        xanes: (n, MAX_Z) from XANES.
        known: (n,) `knowledge` of the XANES model.
    """

    exafs: Array
    xanes: Array
    known: Array

    def columns(self) -> Array:
        """(n, MAX_Z - 1, 3) what a pool weighs of each element."""
        exafs, xanes = logit(self.exafs[:, 1:]), logit(self.xanes[:, 1:])
        return np.stack([exafs, xanes, xanes * self.known[:, None]], axis=-1)


@dataclass(frozen=True)
class DistancePool:
    """Distances from both kinds of spectra.

    Attributes:
        exafs: for each output ln(true error over expected error) of the EXAFS model.
        xanes: the same of the XANES model where `knowledge` is none, and its slope with that.
        calibration: of the joint expected errors.
    """

    exafs: tuple[float, ...]
    xanes: tuple[tuple[float, float], ...]
    calibration: DistanceCalibration

    @classmethod
    def fit(cls, select: Estimates, target: Array, calibrate: Estimates, true: Array, group: NDArray[Any]) -> DistancePool:
        """Learn from what the models say about the select part and its truth (n, outputs), and calibrate on the calibrate part."""
        exafs, xanes = [], []
        for column in range(target.shape[1]):
            logs = [
                np.log(np.maximum(np.abs(value[:, column] - target[:, column]), 1e-4) / expected[:, column]) - _MEAN_LOG
                for value, expected in (select.exafs, select.xanes)
            ]
            exafs.append(float(logs[0].mean()))
            slope, level = np.polyfit(select.known, logs[1], 1) if np.ptp(select.known) > 0 else (0.0, logs[1].mean())
            xanes.append((float(level), float(slope)))
        bare = cls(tuple(exafs), tuple(xanes), DistanceCalibration((), 0.0))
        value, expected = bare(calibrate)
        return replace(bare, calibration=DistanceCalibration.fit(value, true, expected, group))

    def __call__(self, said: Estimates) -> tuple[Array, Array]:
        """Joint values and expected errors, (n, outputs) each."""
        level, slope = np.array(self.xanes).T
        of_exafs = np.exp(np.array(self.exafs)) * said.exafs[1]
        of_xanes = np.exp(level + said.known[:, None] * slope) * said.xanes[1]
        one, other = of_exafs**-2, of_xanes**-2
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
            return cls(tuple(data["exafs"]), tuple((level, slope) for level, slope in data["xanes"]), calibration)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(_OTHER_VERSION.format(error)) from error


@dataclass(frozen=True, eq=False)
class Estimates:
    """What the distance models say about sites: of EXAFS and of XANES values and expected errors, (n, outputs) each; `knowledge` (n,)."""

    exafs: tuple[Array, Array]
    xanes: tuple[Array, Array]
    known: Array

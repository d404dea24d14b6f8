"""How good an answer is. Arrays of curves are (n, grid) with NaN where the truth is unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


def curve_mse(value: Array, target: Array) -> NDArray[np.float64]:
    """(n,) mean square error of each curve."""
    return np.asarray(np.nanmean((value - target) ** 2, axis=1), dtype=np.float64)


def curve_r2(value: Array, target: Array, weight: Array | float = 1.0) -> NDArray[np.float64]:
    """(n,) coefficient of determination of each weighted curve: 1 - sum of squared errors / sum of squares about its mean."""
    weighted, truth = value * weight, target * weight
    residual = np.nansum((weighted - truth) ** 2, axis=1)
    total = np.nansum((truth - np.nanmean(truth, axis=1, keepdims=True)) ** 2, axis=1)
    return np.asarray(1.0 - residual / np.maximum(total, 1e-12), dtype=np.float64)


def r2(value: Array, target: Array) -> float:
    """Coefficient of determination of numbers (n,)."""
    total = float(((target - target.mean()) ** 2).sum())
    return 1.0 - float(((value - target) ** 2).sum()) / total if total > 0 else float("nan")


def r2_within(value: Array, target: Array, group: NDArray[np.int64]) -> float:
    """R2 about each group's own mean: what is explained beyond knowing the group; groups of one say nothing and are left out."""
    residual = total = 0.0
    for label in np.unique(group):
        own = group == label
        if own.sum() > 1:
            residual += float(((value[own] - target[own]) ** 2).sum())
            total += float(((target[own] - target[own].mean()) ** 2).sum())
    return 1.0 - residual / total if total > 0 else float("nan")


def micro_f1(found: Mask, true: Mask) -> float:
    """F1 over all (site, element) pairs together; masks (n, elements)."""
    total = int(found.sum()) + int(true.sum())
    return 2.0 * int((found & true).sum()) / total if total else 0.0


def micro_f1_within(found: Mask, true: Mask, reach: int = 2) -> float:
    """F1 where an element counts as right if one of atomic number at most `reach` away is: the scattering of both is much alike."""

    def near(mask: Mask) -> Mask:
        padded = np.pad(mask, ((0, 0), (reach, reach)))
        return np.asarray(np.any([padded[:, step : step + mask.shape[1]] for step in range(2 * reach + 1)], axis=0))

    hits, named, held = int((found & near(true)).sum()), int(found.sum()), int(true.sum())
    recalled = int((true & near(found)).sum())
    precision, recall = hits / max(named, 1), recalled / max(held, 1)
    return 2.0 * precision * recall / (precision + recall) if hits else 0.0


def macro_f1(found: Mask, true: Mask, least: int = 1) -> float:
    """Mean F1 over the elements that are true in at least `least` rows."""
    scores = [micro_f1(found[:, [z]], true[:, [z]]) for z in np.flatnonzero(true.sum(axis=0) >= least)]
    return float(np.mean(scores)) if scores else float("nan")


def exact(found: Mask, true: Mask) -> float:
    """Share of rows in which the sets are equal."""
    return float((found == true).all(axis=1).mean())

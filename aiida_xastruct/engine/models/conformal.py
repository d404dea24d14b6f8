"""Split conformal quantiles of scores that come in groups: sites of one material err together.

Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2005), for exchangeable scores; Lee, Barber and Willett,
arXiv:2306.06342 (2023), for groups: what is exchangeable is the material, and an unseen one stands at infinity with all its sites.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError

Array = NDArray[np.float64]

COVERAGE = 0.9


def conformal_quantile(scores: Array, coverage: float = COVERAGE) -> float:
    """The score that a new one stays below with probability `coverage`: the ceil((n + 1) coverage)-th smallest of n.

    Raises:
        DatasetError: if there are too few scores for the coverage.
    """
    rank = int(np.ceil((len(scores) + 1) * coverage - 1e-9))
    if rank > len(scores):
        raise DatasetError(_too_few(len(scores), coverage))
    return float(np.sort(scores)[rank - 1])


def site_quantile(scores: Array, group: NDArray[Any], coverage: float = COVERAGE) -> float:
    """The score that a site of a new material stays below with probability `coverage`, all sites counted alike.

    The quantile of the sites' scores, to which one more material of the mean number of sites is added at infinity. The plain quantile
    adds one site, as if each were a material of its own.

    Args:
        scores: (n,) of sites.
        group: (n,) labels; sites of one group are not independent.
        coverage: probability.

    Raises:
        DatasetError: if there are too few groups for the coverage.
    """
    groups = len(np.unique(group))
    rank = int(np.ceil(coverage * len(scores) * (1.0 + 1.0 / max(groups, 1)) - 1e-9))
    if groups == 0 or rank > len(scores):
        raise DatasetError(_too_few(groups, coverage))
    return float(np.sort(scores)[rank - 1])


def material_quantile(scores: Array, group: NDArray[Any], coverage: float = COVERAGE) -> float:
    """The score that all sites of a new material stay below with probability `coverage`: one score a group, that of its worst site.

    Args:
        scores: (n,) of sites.
        group: (n,) labels.
        coverage: probability.

    Raises:
        DatasetError: if there are too few groups for the coverage.
    """
    labels, index = np.unique(group, return_inverse=True)
    worst = np.full(len(labels), -np.inf)
    np.maximum.at(worst, index, scores)
    return conformal_quantile(worst, coverage)


def _too_few(count: int, coverage: float) -> str:
    least = int(np.ceil(coverage / (1 - coverage) - 1e-9))
    return f"{count} materials are too few to calibrate at {coverage:.0%}; give at least {least}."

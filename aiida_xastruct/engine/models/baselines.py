"""What the absorber alone tells: the bar that every model must clear."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from ..dataset import MAX_Z

#: An element's own mean counts as much as the mean of all elements once it has this many sites.
SHRINKAGE = 2.0


def absorber_mean(values: NDArray[np.floating], absorber: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of `values` (n, m) over the sites of each absorber, shrunk to the mean of all; NaN entries are left out.

    Returns:
        (MAX_Z, m); an absorber without sites has the mean of all.
    """
    values = np.asarray(values, dtype=np.float64)
    overall = np.nanmean(values, axis=0)
    table = np.tile(overall, (MAX_Z, 1))
    for z in np.unique(absorber):
        own = values[absorber == z]
        count = np.isfinite(own).sum(axis=0)
        table[z] = (np.nansum(own, axis=0) + SHRINKAGE * overall) / (count + SHRINKAGE)
    return table


def frequent_neighbours(neighbours: NDArray[np.bool_], absorber: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The most frequent neighbour set of each absorber, (MAX_Z, MAX_Z); of all sites where an absorber has none.

    Args:
        neighbours: (n, MAX_Z) whether an element is in the first shell.
        absorber: (n,) atomic numbers.
    """
    table = np.zeros((MAX_Z, MAX_Z), dtype=bool)
    table[:] = _most_common(neighbours)
    for z in np.unique(absorber):
        table[z] = _most_common(neighbours[absorber == z])
    return table


def _most_common(neighbours: NDArray[np.bool_]) -> NDArray[np.bool_]:
    packed = Counter(row.tobytes() for row in np.ascontiguousarray(neighbours))
    return np.frombuffer(packed.most_common(1)[0][0], dtype=bool)

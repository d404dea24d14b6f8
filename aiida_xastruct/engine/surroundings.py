"""Whether atoms stand around an absorber as atoms do: a cell in another unit is a crystal, too, and its EXAFS are confidently flat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .features import neighbour_columns
from .spectrum import element_symbol

#: Distance to the atom that is nearest for its size, over the sum of both covalent radii (Cordero et al., Dalton Trans. 2832, 2008):
#: all but a few sites of the training data lie between.
CLOSEST, FARTHEST = 0.6, 1.4

#: He, Ne, Ar, Kr, Po, At, Rn, Fr, Ra, Am and beyond: no site of that data has one of them within reach.
UNSEEN = (2, 10, 18, 36, 84, 85, 86, 87, 88, *range(95, 119))


def strange(features: NDArray[np.float32], absorber: NDArray[np.int64]) -> list[str]:
    """For each site why its neighbours are of unknown kinds, too near or too far; empty where they are not, or where there are none.

    Args:
        features: (n, SITE_SIZE) as `engine.features` makes them.
        absorber: (n,) atomic numbers.
    """
    from ase.data import covalent_radii

    distances, numbers = neighbour_columns(features)
    ratios = np.where(distances > 0.0, distances / (covalent_radii[absorber][:, None] + covalent_radii[numbers]), np.inf)
    nearest = ratios.argmin(axis=1)
    ratio, unknown = ratios.min(axis=1), np.isin(numbers, UNSEEN)
    found = [""] * len(absorber)
    for row in np.flatnonzero(unknown.any(axis=1) | ((ratio < CLOSEST) | (ratio > FARTHEST)) & np.isfinite(ratio)):
        if unknown[row].any():
            names = ", ".join(element_symbol(int(z)) for z in np.unique(numbers[row][unknown[row]]))
            found[row] = f"the models saw no {names} around any absorber"
        else:
            near = f"{element_symbol(int(numbers[row, nearest[row]]))} is {distances[row, nearest[row]]:.2f} angstrom away"
            found[row] = f"{near}, {ratio[row]:.1f} times the sum of both covalent radii; is the cell in angstrom?"
    return found

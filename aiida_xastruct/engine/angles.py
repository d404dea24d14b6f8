"""Which atoms around a site stand at which angle to each other: a density of pairs of neighbours, as seen from the site.

XANES holds scattering over two atoms and more, so that it depends on angles as well as on distances. The density is the power spectrum of
Bartok, Kondor and Csanyi (Phys. Rev. B 87, 184115 (2013)) on shells of distance, with a few numbers of each element in the place of
one density an element, so that its length does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element, Structure

from .dataset import MAX_Z
from .models.networks import electronegativity
from .paths import atoms_around

#: Distance up to which neighbours count, and centres and standard deviation of the Gaussian shells, angstrom.
ANGLE_RADIUS = 4.5
SHELLS: NDArray[np.float64] = np.arange(1.6, 4.5, 0.4)
SHELL_WIDTH = 0.25

#: Legendre polynomials of the angle, from the first on; the zeroth knows no angle.
DEGREES = 5

#: Numbers that stand for an element: one, electronegativity, period.
_CHANNELS = 3

_PAIRS = np.triu_indices(len(SHELLS) * _CHANNELS)

#: Length of a site's row.
ANGLES_SIZE = DEGREES * len(_PAIRS[0])


@cache
def _weights() -> NDArray[np.float64]:
    """(MAX_Z, `_CHANNELS`) one, electronegativity and period of each element, the latter two about zero and of size one."""
    periods = np.array([3.0] + [Element.from_Z(z).row for z in range(1, MAX_Z)])
    return np.stack([np.ones(MAX_Z), electronegativity() - 2.0, (periods - 3.0) / 2.0], axis=1)


def angular_density(positions: NDArray[np.float64], numbers: NDArray[np.integer]) -> NDArray[np.float64]:
    """The density of pairs of atoms around a site at the origin.

    Args:
        positions: (n, 3) of the other atoms, angstrom.
        numbers: (n,) their atomic numbers.

    Returns:
        (`ANGLES_SIZE`,) for each degree l and each two (shell, channel) a, b the sum over atoms i, j of g_a(i) g_b(j) P_l(cos of their
        angle), as its root with the sign kept. g is a Gaussian of the distance times the channel of the element, and falls to zero at
        `ANGLE_RADIUS`.
    """
    r = np.linalg.norm(positions, axis=1)
    near = r < ANGLE_RADIUS
    positions, r, numbers = positions[near], r[near], np.asarray(numbers)[near]
    fade = 0.5 * (1.0 + np.cos(np.pi * r / ANGLE_RADIUS))
    shells = np.exp(-0.5 * ((r[:, None] - SHELLS) / SHELL_WIDTH) ** 2) * fade[:, None]
    seen = (shells[:, :, None] * _weights()[numbers][:, None, :]).reshape(len(r), len(SHELLS) * _CHANNELS)
    cosine = np.clip(positions @ positions.T / np.outer(r, r), -1.0, 1.0)
    last, polynomial = np.ones_like(cosine), cosine
    found = []
    for degree in range(1, DEGREES + 1):
        pairs = (seen.T @ polynomial @ seen)[_PAIRS]
        found.append(np.sign(pairs) * np.sqrt(np.abs(pairs)))
        last, polynomial = polynomial, ((2 * degree + 1) * cosine * polynomial - degree * last) / (degree + 1)
    return np.concatenate(found)


def angular_rows(structure: Structure, sites: Sequence[int]) -> NDArray[np.float32]:
    """(len(sites), `ANGLES_SIZE`) angular densities of sites."""
    rows = np.zeros((len(sites), ANGLES_SIZE), dtype=np.float32)
    if len(sites):
        for row, (positions, numbers, _) in enumerate(atoms_around(structure, sites, ANGLE_RADIUS)):
            rows[row] = angular_density(positions, numbers)
    return rows

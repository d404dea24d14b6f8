"""What stands how far from a site: radial densities of its neighbours, resolved by what kind of element they are.

XANES follows bond lengths and the elements of the first shells closely. SevenNet's features hold both, but bent to what energies and
forces need, so the plain density stands beside them. It is of the kind
of Behler and Parrinello's radial symmetry functions (Phys. Rev. Lett. 98, 146401 (2007)), weighted by element as in Gastegger
et al. (J. Chem. Phys. 148, 241709 (2018)), with the element descriptors of the networks as weights.
"""

from __future__ import annotations

import math
from functools import cache

import torch

from ..features import NEIGHBOUR_RADIUS
from .networks import element_descriptors

#: Centres of the Gaussian shells and their standard deviation, angstrom.
CENTRES = torch.arange(1.5, 4.9, 0.35)
WIDTH = 0.25

#: The same of the fine density, which resolves distances better and elements less.
FINE_CENTRES = torch.arange(1.4, 5.9, 0.2)
FINE_WIDTH = 0.12

#: Channels of the fine density: one, period, group, radius, electronegativity.
_FINE_CHANNELS = (0, 21, 22, 23, 24)

#: Rows in one pass: 64 MB of intermediate values.
_ROWS = 2048


@cache
def _channels() -> torch.Tensor:
    """(MAX_Z, 26) weights of an element: one, and its descriptors; nothing for Z 0, which marks an empty place."""
    table = element_descriptors()
    channels = torch.cat([torch.ones(len(table), 1), table], dim=1)
    channels[0] = 0.0
    return channels


def density_size() -> int:
    """Length of a row that `neighbour_density` makes."""
    return len(CENTRES) * _channels().shape[1]


def fine_size() -> int:
    """Length of a row that `fine_density` makes."""
    return len(FINE_CENTRES) * len(_FINE_CHANNELS)


def neighbour_density(neighbours: torch.Tensor) -> torch.Tensor:
    """The density around sites.

    Args:
        neighbours: (n, 2 m) distances in angstrom, zero where there is no neighbour, then their atomic numbers: what
            `engine.features.neighbour_rows` makes.

    Returns:
        (n, `density_size`): for each shell c and channel e the sum over the neighbours j of w_e(Z_j) exp(-(R_j - c)^2 / (2 WIDTH^2)) times
        a cosine that falls from one to zero at `NEIGHBOUR_RADIUS`.
    """
    return _density(neighbours, CENTRES, WIDTH, _channels())


def fine_density(neighbours: torch.Tensor) -> torch.Tensor:
    """(n, `fine_size`) as `neighbour_density`, with the fine shells and few channels."""
    return _density(neighbours, FINE_CENTRES, FINE_WIDTH, _channels()[:, _FINE_CHANNELS])


def _density(neighbours: torch.Tensor, centres: torch.Tensor, width: float, channels: torch.Tensor) -> torch.Tensor:
    """(n, shells x channels) of any number of rows, in passes of `_ROWS`."""
    if not len(neighbours):
        return neighbours.new_zeros(0, len(centres) * channels.shape[1])
    parts = [_pass(part, centres.to(part.device), width, channels.to(part.device)) for part in neighbours.split(_ROWS)]
    return torch.cat(parts)


def _pass(neighbours: torch.Tensor, centres: torch.Tensor, width: float, channels: torch.Tensor) -> torch.Tensor:
    distance, number = neighbours.split(neighbours.shape[1] // 2, dim=1)
    most = int((distance > 0).sum(dim=1).max())  # the nearest stand first
    distance, number = distance[:, :most], number[:, :most].long()
    fade = 0.5 * (1.0 + torch.cos(math.pi * (distance / NEIGHBOUR_RADIUS).clamp(0.0, 1.0))) * (distance > 0)
    # Below e^-60 single precision has only denormal numbers to offer, which processors are slow at and no sum notices.
    exponent = (distance[:, :, None] - centres).div_(width).square_().mul_(-0.5).clamp_(min=-60.0)
    shell = exponent.exp_().mul_(fade[:, :, None])
    # In this order PyTorch multiplies many small matrices much faster.
    density: torch.Tensor = torch.nn.functional.embedding(number, channels).transpose(1, 2) @ shell
    return density.transpose(1, 2).flatten(1)

"""Networks: structure to XANES and EXAFS, and spectrum to local structure.

The absorber enters as a point on the periodic table and not as a class of its own, because edges and
scattering phases change smoothly with Z and most elements have few spectra.
"""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import nn

from ..dataset import MAX_Z
from ..spectrum import EXAFS_GRID


@cache
def element_descriptors() -> torch.Tensor:
    """(MAX_Z, 25) what a network knows of an element: 20 Gaussians over Z, period, group, radius, electronegativity, K or L3 edge."""
    from pymatgen.core import Element

    z = torch.arange(MAX_Z, dtype=torch.float32)
    bumps = torch.exp(-0.5 * ((z[:, None] - torch.arange(2.0, 102.0, 5.0)) / 5.0) ** 2)
    rows = [torch.zeros(5)]
    for number in range(1, MAX_Z):
        element = Element.from_Z(number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # pymatgen warns of NaN for noble gases
            electronegativity = element.X if element.X == element.X else 1.5
        radius = float(element.atomic_radius or 1.5)
        rows.append(torch.tensor([element.row / 7, element.group / 18, radius / 2, electronegativity / 3, float(number > 50)]))
    return torch.cat([bumps, torch.stack(rows)], dim=1)


class PathNetwork(nn.Module):
    """EXAFS as a sum over single-scattering paths, with amplitudes and phases that are learned.

    chi(k) = sum_j A(k, Z_a, Z_j) sin(2 k R_j + phi(k, Z_a, Z_j)) exp(-2 R_j / lambda) / (k R_j^2), the EXAFS equation (Rehr and Albers,
    Rev. Mod. Phys. 72, 621 (2000)). A exp(i phi) is a sum of `ranks` products of a complex weight of the neighbour's element and
    a complex curve of the absorber's element over Gaussian knots in k: elements share what they have in common. The sum is
    over the real neighbours, so that distances enter as they do in nature.

    Shapes:
        input: x (b, 2 m) distances in angstrom (zero where there is no neighbour) and atomic numbers, z (b,).
        output: value (b, n_k) chi on `EXAFS_GRID`, log_error (b, 1).
    """

    elements: torch.Tensor
    k: torch.Tensor
    knots: torch.Tensor

    def __init__(self, width: int = 128, ranks: int = 12, n_knots: int = 40, dropout: float = 0.1) -> None:
        super().__init__()
        self.ranks = ranks
        k = torch.tensor(EXAFS_GRID, dtype=torch.float32)
        centres = torch.linspace(float(k[0]), float(k[-1]), n_knots)
        self.register_buffer("k", k, persistent=False)
        self.register_buffer("knots", torch.exp(-0.5 * ((k[:, None] - centres) / (centres[1] - centres[0])) ** 2), persistent=False)
        self.register_buffer("elements", element_descriptors().clone(), persistent=False)
        n_element = self.elements.shape[1]
        self.scatterer = nn.Sequential(nn.Linear(n_element, 64), nn.SiLU(), nn.Linear(64, 2 * ranks))
        self.absorber = nn.Sequential(nn.Linear(n_element, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, width), nn.SiLU())
        self.curves = nn.Linear(width, 2 * ranks * n_knots)
        self.log_error = nn.Sequential(nn.Linear(width + 2 * ranks + 1, 64), nn.SiLU(), nn.Linear(64, 1))
        self.mean_free_path = nn.Parameter(torch.tensor(6.0))

    def start_from(self, x: torch.Tensor, start: torch.Tensor) -> None:
        """Nothing to set: the EXAFS equation is the start."""

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Value (b, n_k) and log of the expected error (b, 1), which is learned without moving the value."""
        distance, number = x.split(x.shape[1] // 2, dim=1)
        length = distance.clamp(min=1.0)
        # 6 brings the weights to about one: a first shell of six neighbours at 2.4 angstrom then adds up to a few.
        damping = 6.0 * (distance > 0) * torch.exp(-2.0 * length / self.mean_free_path.abs()) / length**2
        weight = self.scatterer(self.elements[number.long()]) * damping[..., None]
        phase = 2.0 * length[..., None] * self.k
        sine = torch.einsum("bnp,bnk->bpk", weight, torch.sin(phase))
        cosine = torch.einsum("bnp,bnk->bpk", weight, torch.cos(phase))
        real = sine[:, : self.ranks] + cosine[:, self.ranks :]
        imaginary = cosine[:, : self.ranks] - sine[:, self.ranks :]
        hidden = self.absorber(self.elements[z])
        curves = 0.3 * self.curves(hidden).view(len(x), 2 * self.ranks, -1) @ self.knots.T
        value = (real * curves[:, : self.ranks] + imaginary * curves[:, self.ranks :]).sum(dim=1) / self.k
        loudness = torch.log((value * self.k**2).square().mean(dim=1, keepdim=True) + 1e-3)
        known = torch.cat([hidden, weight.sum(dim=1), loudness], dim=1).detach()
        return value, self.log_error(known).clamp(-7.0, 3.0)


class SiteNetwork(nn.Module):
    """Standardise, run a residual perceptron, and read a value and the logarithm of its expected error.

    Shapes:
        input: x (b, n_in), z (b,) atomic numbers. output: value (b, n_out), log_error (b, n_error).
    """

    mean: torch.Tensor
    scale: torch.Tensor
    start: torch.Tensor
    elements: torch.Tensor

    def __init__(self, n_in: int, n_out: int, n_error: int, width: int = 256, depth: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_in))
        self.register_buffer("scale", torch.ones(n_in))
        self.register_buffer("start", torch.zeros(n_out))
        self.register_buffer("elements", element_descriptors().clone(), persistent=False)
        self.enter = nn.Linear(n_in + self.elements.shape[1], width)
        self.blocks = nn.ModuleList(nn.Sequential(nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, width)) for _ in range(depth))
        self.leave = nn.Sequential(nn.SiLU(), nn.Dropout(dropout))
        self.value = nn.Linear(width, n_out)
        self.log_error = nn.Linear(width, max(n_error, 1))
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def start_from(self, x: torch.Tensor, start: torch.Tensor) -> None:
        """Set the standardisation from training inputs (n, n_in), and the value to start from (n_out,)."""
        self.mean.copy_(x.mean(dim=0))
        self.scale.copy_(x.std(dim=0).clamp(min=1e-2))
        self.start.copy_(start)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Value (b, n_out) and log of the expected error (b, n_error), which is learned without moving the value."""
        standard = ((x - self.mean) / self.scale).clamp(-8.0, 8.0)
        hidden = self.enter(torch.cat([standard, self.elements[z]], dim=1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        hidden = self.leave(hidden)
        return self.value(hidden) + self.start, self.log_error(hidden.detach()).clamp(-7.0, 2.0)

"""EXAFS as a sum over the scattering paths of a site, with amplitudes that a network learns from FEFF's paths and spectra.

chi(k) = sum over paths of N / (k R^2) Im[A(k) exp(2 i k R)], the EXAFS equation (Rehr and Albers, Rev. Mod. Phys. 72, 621 (2000)).
Geometry is exact: distances and degeneracies come from the crystal. What is learned is A: how elements scatter, from which angle, in what
surroundings.
"""

from __future__ import annotations

import torch
from torch import nn

from ..dataset import MAX_Z
from ..paths import MAX_PATHS, PATH_COLUMNS, PATH_K, PathKind
from ..spectrum import EXAFS_GRID
from .networks import element_descriptors

#: Numbers that describe the surroundings of an absorber.
SURROUNDINGS = 32

#: Learned numbers that describe an element, beside its descriptors.
EMBEDDING = 12


class PathNetwork(nn.Module):
    """Sum over scattering paths with learned amplitudes.

    Shapes:
        input: x (b, PATHS_SIZE) as `engine.paths.path_rows` gives it, z (b,) atomic numbers of the absorbers.
        output: value (b, n_k) chi on `EXAFS_GRID`, log_error (b, 1) of the expected root mean square error of k^2 chi.
    """

    elements: torch.Tensor
    k: torch.Tensor
    basis: torch.Tensor
    to_grid: torch.Tensor
    reach: torch.Tensor

    def __init__(self, width: int = 192) -> None:
        super().__init__()
        k = torch.tensor(EXAFS_GRID, dtype=torch.float32)
        knots = torch.tensor(PATH_K, dtype=torch.float32)
        self.register_buffer("k", k, persistent=False)
        self.register_buffer("basis", gaussians(knots, knots), persistent=False)
        self.register_buffer("to_grid", gaussians(k, knots), persistent=False)
        self.register_buffer("elements", element_descriptors().clone(), persistent=False)
        self.register_buffer("reach", torch.linspace(1.5, 5.0, 8), persistent=False)
        self.embedding = nn.Embedding(MAX_Z, EMBEDDING)
        nn.init.normal_(self.embedding.weight, std=0.1)
        n_element = self.elements.shape[1] + EMBEDDING
        self.neighbour = nn.Sequential(nn.Linear(n_element + len(self.reach), 64), nn.SiLU(), nn.Linear(64, SURROUNDINGS))
        self.around = nn.Sequential(nn.Linear(SURROUNDINGS, SURROUNDINGS), nn.SiLU())
        layers: list[nn.Module] = []
        size = 3 * n_element + len(PathKind) + 7 + SURROUNDINGS
        for _ in range(3):
            layers += [nn.Linear(size, width), nn.SiLU()]
            size = width
        self.body = nn.Sequential(*layers, nn.Linear(width, 2 * len(knots)))
        # A start: FEFF's mean free path (Hedin-Lundqvist and core hole) grows with k.
        self.log_mean_free_path = nn.Parameter(torch.log(torch.linspace(3.5, 30.0, len(knots))))
        self.log_error = nn.Sequential(nn.Linear(SURROUNDINGS + n_element + 2, 64), nn.SiLU(), nn.Linear(64, 1))

    def start_from(self, x: torch.Tensor, z: torch.Tensor, start: torch.Tensor) -> None:
        """Nothing to set: the EXAFS equation is the start."""

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Value (b, n_k) and log of the expected error (b, 1), which is learned without moving the value."""
        paths = x.view(len(x), MAX_PATHS, len(PATH_COLUMNS))
        around = self.surroundings(paths)
        value = self._sum(paths, z, around)
        loudness = torch.log((value * self.k**2).square().mean(dim=1, keepdim=True) + 1e-3)
        count = torch.log(paths[..., 3].sum(dim=1, keepdim=True) + 1.0)
        known = torch.cat([around, self._element(z), loudness, count], dim=1).detach()
        return value, self.log_error(known).clamp(-7.0, 3.0)

    def chi(self, paths: torch.Tensor, z: torch.Tensor, disorder: torch.Tensor) -> torch.Tensor:
        """(b, n_k) chi of paths (b, MAX_PATHS, 8) around absorbers (b,), each damped by exp(-2 sigma^2 k^2), sigma^2 (b, MAX_PATHS)."""
        return self._sum(paths, z, self.surroundings(paths), disorder)

    def _sum(self, paths: torch.Tensor, z: torch.Tensor, around: torch.Tensor, disorder: torch.Tensor | None = None) -> torch.Tensor:
        site, path = torch.nonzero(paths[..., 3] > 0, as_tuple=True)
        own = paths[site, path]
        scattered = self._undamped(own, z[site], around[site]) @ self.to_grid.T
        half_length = own[:, 4:5]
        phase = 2.0 * half_length * self.k
        chi = scattered[:, 0] * torch.sin(phase) + scattered[:, 1] * torch.cos(phase)
        chi = chi * self._loss(half_length, self.to_grid) * own[:, 3:4] / (self.k * half_length**2)
        if disorder is not None:
            chi = chi * torch.exp(-2.0 * disorder[site, path][:, None] * self.k**2)
        return chi.new_zeros(len(paths), len(self.k)).index_add(0, site, chi)

    def amplitude(self, x: torch.Tensor, z: torch.Tensor, geometry: torch.Tensor, site: torch.Tensor) -> torch.Tensor:
        """Amplitudes A of single paths on `PATH_K`, as `engine.paths.PathTable` holds FEFF's.

        Args:
            x: (b, PATHS_SIZE) paths of the sites, which make up the surroundings.
            z: (b,) absorbers.
            geometry: (p, 8) the paths asked for.
            site: (p,) to which row of `x` each belongs.

        Returns:
            (p, 2, 40) real and imaginary part.
        """
        around = self.surroundings(x.view(len(x), MAX_PATHS, len(PATH_COLUMNS)))
        return self.path_amplitude(geometry, z[site], around[site])

    def path_amplitude(self, geometry: torch.Tensor, z: torch.Tensor, around: torch.Tensor) -> torch.Tensor:
        """(p, 2, 40) amplitudes of paths (p, 8) around absorbers z (p,) in surroundings (p, SURROUNDINGS)."""
        scattered = self._undamped(geometry, z, around) @ self.basis.T
        return scattered * self._loss(geometry[:, 4:5], self.basis)[:, None]

    def surroundings(self, paths: torch.Tensor) -> torch.Tensor:
        """(b, SURROUNDINGS) of paths (b, MAX_PATHS, 8): a sum over the neighbours, the near ones loudest.

        Density and charge around an atom set the potential between the muffin tins, from which the electron's momentum counts.
        """
        single = (paths[..., 0] == PathKind.SINGLE) & (paths[..., 3] > 0)
        r = paths[..., 4]
        shells = torch.exp(-(((r[..., None] - self.reach) / 0.5) ** 2))
        told = self.neighbour(torch.cat([self._element(paths[..., 1].long()), shells], dim=-1))
        weight = 5.0 * paths[..., 3] * single * torch.exp(-r / 1.5)
        around: torch.Tensor = self.around((told * weight[..., None]).sum(dim=-2))
        return around

    def _element(self, z: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.elements[z], self.embedding(z)], dim=-1)

    def _undamped(self, geometry: torch.Tensor, z: torch.Tensor, around: torch.Tensor) -> torch.Tensor:
        """(p, 2, 40) weights of the knots, before losses on the way."""
        kind, first, second = (geometry[:, column].long() for column in range(3))
        half_length, between = geometry[:, 4], geometry[:, 7]
        near, far = geometry[:, 5].clamp(min=0.5), geometry[:, 6].clamp(min=0.5)
        apart, bent = between.clamp(min=0.3), (between > 0).float()
        cosines = (
            ((far**2 - near**2 - between**2) / (2 * near * apart)).clamp(-1, 1) * bent,
            ((near**2 - far**2 - between**2) / (2 * far * apart)).clamp(-1, 1) * bent,
            ((near**2 + far**2 - between**2) / (2 * near * far)).clamp(-1, 1),
        )
        shape = torch.stack([half_length / 3 - 1, near / 3 - 1, far / 3 - 1, between / 3, *cosines], dim=1)
        kinds = nn.functional.one_hot(kind, len(PathKind)).to(shape.dtype)
        told = torch.cat([self._element(z), self._element(first), self._element(second), kinds, shape, around], dim=1)
        scattered: torch.Tensor = self.body(told)
        return scattered.view(len(geometry), 2, self.basis.shape[1])

    def _loss(self, half_length: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
        """(p, n) exp(-2 R / lambda(k))."""
        mean_free_path = torch.exp(self.log_mean_free_path) @ basis.T
        return torch.exp(-2.0 * half_length / mean_free_path)


def gaussians(k: torch.Tensor, knots: torch.Tensor) -> torch.Tensor:
    """(n, knots) smooth interpolation: Gaussians a knot apart, normalised to a sum of one."""
    weight = torch.exp(-0.5 * ((k[:, None] - knots) / (knots[1] - knots[0])) ** 2)
    return weight / weight.sum(dim=1, keepdim=True)


def path_loss(said: torch.Tensor, true: torch.Tensor, geometry: torch.Tensor) -> torch.Tensor:
    """Scalar loss of amplitudes (p, 2, 40): squared error of each path's k^2 chi, over the root of its own size.

    Faint paths are many and loud ones decide the spectrum; the root lies between.
    """
    k = torch.tensor(PATH_K, dtype=said.dtype, device=said.device)
    weight = (k * geometry[:, 3:4] / geometry[:, 4:5] ** 2)[:, None]
    size = ((true * weight) ** 2).mean(dim=(1, 2), keepdim=True) + 1e-4
    return ((((said - true) * weight) ** 2) / size.sqrt()).mean()

"""From EXAFS to the first shell: how much a spectrum looks like each element at each distance, and a perceptron that weighs it.

An EXAFS expert compares a spectrum with the waves that candidate neighbours would send back. So does this network: its first layer is the
overlap of k^2 chi(k) with the wave of each of `CANDIDATES` at each of `DISTANCES` around the absorber at hand, as the forward model knows
it. What comes out has the same meaning for all absorbers, whose own phases it takes away (Lee and Beni, Phys. Rev. B 15, 2862 (1977)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ..dataset import MAX_Z
from ..paths import PATH_COLUMNS, PATH_K, PathKind
from ..spectrum import EXAFS_GRID
from .networks import SiteNetwork
from .paths import PathNetwork, gaussians
from .views import R_GRID, magnitude_and_phase

if TYPE_CHECKING:
    from .ensemble import Ensemble

#: Atomic numbers whose waves stand for those of their neighbours in the periodic table, which differ little.
CANDIDATES = (6, 8, 9, 14, 16, 17, 22, 26, 29, 33, 35, 42, 47, 51, 53, 60, 74, 79, 82)

#: Distances of a first shell, angstrom.
DISTANCES = torch.arange(1.3, 3.9, 0.05)

#: Distance at which waves are taken from the forward model, angstrom; they change little with it.
_TYPICAL = 2.3


class ShellNetwork(nn.Module):
    """Overlaps with the waves of candidate neighbours, the Fourier transform, and a `SiteNetwork` on both.

    Shapes:
        input: x (b, n_k) windowed k^2 chi as `views.view` gives it, z (b,). output: value (b, n_out), log_error (b, n_error).
    """

    waves: torch.Tensor
    to_grid: torch.Tensor
    sine: torch.Tensor
    cosine: torch.Tensor

    def __init__(self, n_out: int, n_error: int, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        k = torch.tensor(EXAFS_GRID, dtype=torch.float32)
        phase = 2.0 * k[:, None] * DISTANCES
        step = float(k[1] - k[0])
        self.register_buffer("waves", torch.zeros(MAX_Z, len(CANDIDATES), 2, len(PATH_K)))
        self.register_buffer("to_grid", gaussians(k, torch.tensor(PATH_K, dtype=torch.float32)), persistent=False)
        self.register_buffer("sine", torch.sin(phase) * step, persistent=False)
        self.register_buffer("cosine", torch.cos(phase) * step, persistent=False)
        size = 3 * len(R_GRID) + len(CANDIDATES) * len(DISTANCES)
        self.site = SiteNetwork(size, n_out, n_error, width, depth, dropout)

    def start_from(self, x: torch.Tensor, z: torch.Tensor, start: torch.Tensor) -> None:
        """Set the standardisation from training inputs (n, n_k) and absorbers (n,), and the value to start from (n_out,)."""
        chosen = torch.linspace(0, len(x) - 1, min(len(x), 4000)).long()
        self.site.start_from(self.features(x[chosen], z[chosen]), z[chosen], start)

    def features(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """(b, 1192) Fourier transform of the whole range and overlaps."""
        return torch.cat([magnitude_and_phase(x), self.overlaps(x, z).flatten(1)], dim=1)

    def overlaps(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """(b, candidates, distances) integral over k of x times Im[A(k) exp(2 i k R)], A of unit mean square."""
        wave = self.waves[z] @ self.to_grid.T
        weighted = x[:, None, None, :] * wave
        found: torch.Tensor = weighted[:, :, 0] @ self.sine + weighted[:, :, 1] @ self.cosine
        return found

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Value (b, n_out) and log of the expected error (b, n_error)."""
        answer: tuple[torch.Tensor, torch.Tensor] = self.site(self.features(x, z), z)
        return answer


@torch.inference_mode()
def candidate_waves(forward: Ensemble, paths: torch.Tensor) -> torch.Tensor:
    """Waves of `CANDIDATES` around every absorber, from the forward model of EXAFS.

    Args:
        forward: the model; its first member is asked.
        paths: (n, PATHS_SIZE) paths of training sites, whose mean surroundings the waves are taken in.

    Returns:
        (MAX_Z, candidates, 2, 40) amplitudes A on `PATH_K`, scaled to a mean square of one; zero for Z 0.
    """
    network = forward.members[0]
    assert isinstance(network, PathNetwork)
    rows = paths.view(len(paths), -1, len(PATH_COLUMNS))
    around = torch.cat([network.surroundings(part) for part in rows.split(512)]).mean(dim=0)
    z = torch.tensor(CANDIDATES)
    geometry = torch.zeros(len(z), len(PATH_COLUMNS))
    geometry[:, 0], geometry[:, 1], geometry[:, 2], geometry[:, 3] = PathKind.SINGLE, z, z, 1.0
    geometry[:, 4:7] = _TYPICAL
    waves = torch.zeros(MAX_Z, len(z), 2, len(PATH_K))
    for absorber in range(1, MAX_Z):
        own = network.path_amplitude(geometry, torch.full((len(z),), absorber), around.expand(len(z), -1))
        waves[absorber] = own / own.square().sum(dim=1).mean(dim=1).sqrt().clamp(min=1e-6)[:, None, None]
    return waves

"""From EXAFS to the first shell: how much a spectrum looks like each element at each distance, and a network that reads that.

An EXAFS expert compares a spectrum with the waves that candidate neighbours would send back. So does this network: its first layer is the
overlap of k^2 chi(k) with the wave of each of `CANDIDATES` at each of `DISTANCES` around the absorber at hand, as the forward model knows
it. What comes out has the same meaning for all absorbers, whose own phases it takes away (Lee and Beni, Phys. Rev. B 15, 2862 (1977)).
A neighbour looks alike wherever it stands, so the layers that follow are convolutions along the distance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ..dataset import MAX_Z
from ..paths import PATH_COLUMNS, PATH_K, PathKind
from ..spectrum import EXAFS_GRID
from .networks import ElementHead, element_descriptors, with_elements
from .paths import PathNetwork, gaussians
from .views import R_GRID, magnitude_and_phase

if TYPE_CHECKING:
    from .ensemble import Ensemble

#: Atomic numbers whose waves stand for those of their neighbours in the periodic table, which differ little.
CANDIDATES = (6, 8, 9, 14, 16, 17, 22, 26, 29, 33, 35, 42, 47, 51, 53, 60, 74, 79, 82)

#: Distances of a first shell, angstrom.
DISTANCES = torch.arange(1.3, 4.299, 0.05)

#: Distance at which waves are taken from the forward model, angstrom; they change little with it.
_TYPICAL = 2.3

#: Distances that one number stands for when the convolutions are done.
_POOL = 4


class ShellNetwork(nn.Module):
    """Overlaps with the waves of candidate neighbours, convolutions along the distance, and a perceptron on what they find.

    The absorber scales and shifts each layer (FiLM: Perez et al., AAAI 2018). A mean distance starts from the mean over `DISTANCES` by
    weights that the network gives them.

    Shapes:
        input: x (b, n_k) windowed k^2 chi as `views.view` gives it, z (b,). output: value (b, n_out), log_error (b, n_error).
    """

    waves: torch.Tensor
    to_grid: torch.Tensor
    elements: torch.Tensor
    distances: torch.Tensor
    sine: torch.Tensor
    cosine: torch.Tensor
    scale: torch.Tensor
    start: torch.Tensor

    def __init__(
        self, n_out: int, n_error: int, width: int, depth: int, dropout: float, reads_distance: bool, names_elements: bool
    ) -> None:
        """`reads_distance`: whether the first output is a mean distance; `names_elements`: whether the last MAX_Z are of neighbours."""
        super().__init__()
        k = torch.tensor(EXAFS_GRID, dtype=torch.float32)
        phase = 2.0 * k[:, None] * DISTANCES
        step = float(k[1] - k[0])
        self.reads_distance = reads_distance
        self.register_buffer("waves", torch.zeros(MAX_Z, len(CANDIDATES), 2, len(PATH_K)))
        self.register_buffer("to_grid", gaussians(k, torch.tensor(PATH_K, dtype=torch.float32)), persistent=False)
        self.register_buffer("elements", element_descriptors().clone(), persistent=False)
        self.register_buffer("distances", DISTANCES.clone(), persistent=False)
        self.register_buffer("sine", torch.sin(phase) * step, persistent=False)
        self.register_buffer("cosine", torch.cos(phase) * step, persistent=False)
        self.register_buffer("scale", torch.ones(2 * len(CANDIDATES), 1))
        self.register_buffer("start", torch.zeros(n_out))
        n_element, channels = self.elements.shape[1], 3 * width // 16
        self.enter = nn.Conv1d(2 * len(CANDIDATES) + 2, channels, 5, padding=2)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Conv1d(channels, channels, 5, padding=2 + 2 * (index % 2), dilation=1 + index % 2))
            for index in range(depth + 3)
        )
        self.absorber = nn.Linear(n_element, 2 * channels * (depth + 4))
        self.weigh = nn.Conv1d(channels, 1, 1)
        size = channels * (len(DISTANCES) // _POOL) + n_element + 3 * len(R_GRID)
        self.read = nn.Sequential(
            nn.Linear(size, 2 * width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(2 * width, width), nn.SiLU(), nn.Dropout(dropout)
        )
        self.value = nn.Linear(width, n_out)
        self.log_error = nn.Linear(width, max(n_error, 1))
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)
        self.named = ElementHead(width) if names_elements else None

    def start_from(self, x: torch.Tensor, z: torch.Tensor, start: torch.Tensor) -> None:
        """Set the scale of the overlaps from training inputs (n, n_k) and absorbers (n,), and the value to start from (n_out,)."""
        chosen = torch.linspace(0, len(x) - 1, min(len(x), 4000)).long()
        found = self.overlaps(x[chosen], z[chosen])
        self.scale.copy_(found.square().mean(dim=(0, 2)).sqrt().clamp(min=1e-3)[:, None])
        self.start.copy_(start)

    def overlaps(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """(b, 2 candidates, distances) imaginary and real parts of the integral over k of x A(k) exp(2 i k R), A of unit mean square."""
        wave = self.waves[z] @ self.to_grid.T
        weighted = x[:, None, None, :] * wave
        imaginary = weighted[:, :, 0] @ self.sine + weighted[:, :, 1] @ self.cosine
        real = weighted[:, :, 0] @ self.cosine - weighted[:, :, 1] @ self.sine
        return torch.cat([imaginary, real], dim=1)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Value (b, n_out) and log of the expected error (b, n_error), which is learned without moving the value."""
        element = self.elements[z]
        place = torch.stack([self.distances - 2.5, torch.ones_like(self.distances)]).expand(len(x), -1, -1)
        factor, shift = self.absorber(element).view(len(x), len(self.layers) + 1, 2, -1, 1).unbind(dim=2)
        hidden = self.enter(torch.cat([self.overlaps(x, z) / self.scale, place], dim=1)) * (1.0 + factor[:, 0]) + shift[:, 0]
        for index, layer in enumerate(self.layers, start=1):
            hidden = hidden + layer(hidden) * (1.0 + factor[:, index]) + shift[:, index]
        hidden = nn.functional.silu(hidden)
        pooled = nn.functional.avg_pool1d(hidden, _POOL).flatten(1)
        told = self.read(torch.cat([pooled, element, magnitude_and_phase(x) / 3.0], dim=1))
        value = with_elements(self.named, self.value(told) + self.start, told, z)
        if self.reads_distance:
            mean = torch.softmax(self.weigh(hidden)[:, 0], dim=1) @ self.distances
            value = torch.cat([value[:, :1] - self.start[:1] + mean[:, None], value[:, 1:]], dim=1)
        return value, self.log_error(told.detach()).clamp(-7.0, 2.0)


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

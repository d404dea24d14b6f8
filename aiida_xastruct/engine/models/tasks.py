"""The questions as learning problems: what goes in, what comes out, and how far off an answer is.

Three have models: forward, neighbours and distance. The two inverse ones are learned together, as the task "shell": networks that must
name the neighbours know better how far away they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ..angles import ANGLES_SIZE, DEGREES
from ..dataset import GRIDS, MAX_Z, SiteTable
from ..errors import ModelError
from ..features import MAX_NEIGHBOURS
from ..paths import PATHS_SIZE
from ..sevennet import SevenNetFeatures
from ..spectrum import EXAFS_GRID, Kind
from .density import density_size, fine_density, fine_size, neighbour_density
from .views import choose, draw, fourier, view, view_size

TaskName = Literal["forward", "neighbours", "distance", "shell"]

#: What a distance model gives: mean and nearest distance of the first shell (angstrom), ln(coordination number).
DISTANCE_OUTPUTS = ("mean_distance", "nearest_distance", "log_coordination")

#: Weights of distances and of neighbours where they are learned together.
SHELL_WEIGHTS = (200.0, 0.3)

#: Weight of each output's error in the loss; a coordination number is known three times less well than a distance.
DISTANCE_SCALE = (1.0, 1.0, 0.3)


#: Forward XANES: length and weight, for `models.kernel`, of each block of its inputs: the scalars of SevenNet's layers 1 to 5, both
#: densities of neighbours, and that of angles by degree. What is near counts most.
KERNEL_BLOCKS = (
    *((len(SevenNetFeatures.scalars) // 5, weight) for weight in (0.59, 0.62, 0.24, 0.07, 0.02)),
    (density_size(), 0.72),
    (fine_size(), 0.19),
    *((ANGLES_SIZE // DEGREES, weight) for weight in (0.01, 0.07, 0.04, 0.16, 0.01)),
)

#: The first of these columns, which networks see.
NETWORK_COLUMNS = len(SevenNetFeatures.scalars) + density_size()


@dataclass(frozen=True)
class Task:
    """One model's job: a question about spectra of one kind."""

    name: TaskName
    kind: Kind

    def __post_init__(self) -> None:
        if self.name not in get_args(TaskName) or self.kind not in get_args(Kind):
            raise ModelError(f"{self.name}-{self.kind} is no task; use forward, neighbours or distance, of XANES or EXAFS.")

    @property
    def label(self) -> str:
        """Name of the model's folder, e.g. `forward-XANES`."""
        return f"{self.name}-{self.kind}"

    @property
    def n_in(self) -> int:
        """Length of an ensemble's input."""
        if self.name != "forward":
            return view_size(self.kind)
        return sum(length for length, _ in KERNEL_BLOCKS) if self.kind == "XANES" else PATHS_SIZE

    @property
    def n_out(self) -> int:
        """Length of a network's value."""
        distances = len(DISTANCE_OUTPUTS)
        return {"forward": len(GRIDS[self.kind]), "neighbours": MAX_Z, "distance": distances, "shell": distances + MAX_Z}[self.name]

    @property
    def n_error(self) -> int:
        """How many expected errors a network states: one a spectrum, one a distance, none for neighbours."""
        return {"forward": 1, "neighbours": 0}.get(self.name, len(DISTANCE_OUTPUTS))

    @property
    def names_elements(self) -> bool:
        """Whether the last MAX_Z outputs of a network are logits of neighbours."""
        return self.name in ("neighbours", "shell")

    @property
    def of_shell(self) -> tuple[slice, slice]:
        """Which outputs and which stated errors of a network for the task "shell" answer this one; one error at least, as networks have."""
        distances = len(DISTANCE_OUTPUTS)
        return (slice(distances, None), slice(1)) if self.name == "neighbours" else (slice(distances), slice(distances))

    def source(self, table: SiteTable) -> torch.Tensor:
        """What a network's input is made of: features of sites (n, SITE_SIZE), or curves (n, 1 + draws, grid)."""
        if self.name == "forward":
            return torch.as_tensor(table.features, dtype=torch.float32)
        return torch.as_tensor(np.concatenate([table.curve[:, None], table.thermal], axis=1), dtype=torch.float32)

    def target(self, table: SiteTable) -> torch.Tensor:
        """(n, `n_out`) what a network learns."""
        if self.name == "forward":
            return torch.as_tensor(table.target, dtype=torch.float32)
        if self.name == "neighbours":
            return torch.as_tensor(table.neighbours, dtype=torch.float32)
        columns = torch.as_tensor(
            np.stack((table.mean_distance, table.nearest_distance, np.log(table.coordination)), axis=1), dtype=torch.float32
        )
        if self.name == "distance":
            return columns
        return torch.cat([columns, torch.as_tensor(table.neighbours, dtype=torch.float32)], dim=1)

    def inputs(self, source: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Inputs (n, `n_in`) of what `source` gives; with a generator, of a random draw of each site's curves.

        XANES is predicted from SevenNet's scalars (with its norms networks did worse) and the densities of neighbours and angles,
        EXAFS from scattering paths.
        """
        if self.name == "forward":
            if self.kind == "EXAFS":
                return source[:, -PATHS_SIZE:]
            learned, neighbours, angles, _ = source.split([SevenNetFeatures.size, 2 * MAX_NEIGHBOURS, ANGLES_SIZE, PATHS_SIZE], dim=1)
            densities = (neighbour_density(neighbours), fine_density(neighbours))
            return torch.cat([learned[:, SevenNetFeatures.scalars], *densities, angles], dim=1)
        if generator is None:
            return view(source[:, 0], self.kind)
        return view(draw(choose(source, generator), self.kind, generator), self.kind)

    @property
    def position_size(self) -> int:
        """Length of a row of `position`."""
        if self.name == "forward":
            return SevenNetFeatures.size
        return self.position(torch.zeros(1, self.n_in), torch.zeros(1, self.n_in)).shape[1]

    def position(self, source: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """(n, m) what tells how far a question lies from the training data.

        Forward that is SevenNet's features, backward the view of a spectrum, of EXAFS its Fourier transform.
        """
        if self.name == "forward":
            return source[:, : SevenNetFeatures.size]
        return inputs if self.kind == "XANES" else fourier(inputs)

    def start(self, table: SiteTable) -> torch.Tensor:
        """(`n_out`,) the value a network starts from: the mean over all sites, in the network's own scale.

        The mean of each absorber would seem a better start. It is not: with 20 sites an element it holds a part of every training
        target, so that networks trained on what is left did worse on new materials.
        """
        mean = torch.nanmean(self.target(table), dim=0)
        if self.name == "forward" and not (known := torch.isfinite(mean)).all():
            # Where no spectrum reaches, a curve goes on as the nearest point that one does.
            points = np.arange(len(mean))
            mean = torch.as_tensor(np.interp(points, points[known.numpy()], mean[known].numpy()), dtype=mean.dtype)
        if self.names_elements:
            elements = slice(-MAX_Z, None)
            mean[elements] = torch.logit(mean[elements], eps=1e-3)
        return mean

    def loss(self, value: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Scalar loss of values (b, n_out): `curve_error`, cross entropy of neighbours, Huber loss of distances; of a shell the last two.

        Curves count by the square of the error. EXAFS is loud in metals and faint in glasses by a factor of a hundred, so there it counts
        mostly against the size of the curve itself.
        """
        if self.name == "neighbours":
            return torch.nn.functional.binary_cross_entropy_with_logits(value, target, reduction="none").sum(dim=1).mean()
        if self.name == "distance":
            scale = torch.tensor(DISTANCE_SCALE, device=value.device)
            return torch.nn.functional.huber_loss(value * scale, target * scale, delta=0.05)
        if self.name == "shell":
            losses = [
                weight * task.loss(value[:, task.of_shell[0]], target[:, task.of_shell[0]])
                for weight, task in zip(SHELL_WEIGHTS, (Task("distance", self.kind), Task("neighbours", self.kind)), strict=True)
            ]
            return losses[0] + losses[1]
        squared = curve_error(value, target, self.kind) ** 2
        if self.kind == "XANES":
            return squared.mean()
        size = curve_error(torch.zeros_like(value), target, self.kind) ** 2
        return (torch.log1p(squared / (size + 0.05)) + 0.1 * squared.clamp(max=20.0)).mean()

    def error_loss(self, log_error: torch.Tensor, value: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Scalar loss of stated errors (b, n_error): the Gaussian likelihood of the residuals, which it leaves where they are."""
        if self.n_error == 0:
            return torch.zeros((), device=value.device)
        distances = slice(self.n_error)
        residual = curve_error(value, target, self.kind)[:, None] if self.name == "forward" else value[:, distances] - target[:, distances]
        return (log_error + 0.5 * residual.detach() ** 2 * torch.exp(-2.0 * log_error)).mean()


def drawn_inputs(task: Task, part: SiteTable, seed: int) -> torch.Tensor:
    """Network inputs of a part, of one random draw a site where the task has draws: what calibration must hold for."""
    return task.inputs(task.source(part), torch.Generator().manual_seed(seed))


def curve_error(value: torch.Tensor, target: torch.Tensor, kind: str) -> torch.Tensor:
    """(n,) root mean square error of each curve where the target is known: of flat mu, or of k^2 chi (1/angstrom^2)."""
    known = torch.isfinite(target)
    difference = torch.where(known, value - torch.nan_to_num(target), torch.zeros(()))
    weight = curve_weight(kind).to(value.device)
    return torch.sqrt(((difference * weight) ** 2).sum(dim=1) / known.sum(dim=1).clamp(min=1) + 1e-12)


def curve_weight(kind: str) -> torch.Tensor:
    """(grid,) one for XANES, k^2 for EXAFS."""
    if kind == "XANES":
        return torch.ones(len(GRIDS[kind]))
    return torch.as_tensor(EXAFS_GRID**2, dtype=torch.float32)


def numpy_curve_error(value: NDArray[np.floating], target: NDArray[np.floating], kind: str) -> NDArray[np.float64]:
    """`curve_error` of arrays (n, grid)."""
    error = curve_error(torch.as_tensor(value, dtype=torch.float32), torch.as_tensor(target, dtype=torch.float32), kind)
    return np.asarray(error.numpy(), dtype=np.float64)

"""How far a question lies from what a model was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ModelError

#: Nearest training points that a score averages over.
NEIGHBOURS = 5

#: How far apart elements are that are next to each other in the periodic table, in standard deviations.
PLACE = 3.0


class DomainIndex:
    """Training inputs on their principal axes; the score is the mean distance to the nearest of them.

    A score of one is the 99th percentile of questions that the model never saw, drawn as its training set was. An index may know the
    absorbers: then a place in the periodic table is as far as `PLACE` standard deviations along an axis, so that a spectrum that looks
    familiar, but of another element, is none. Of XANES such an index finds more of what models misread (docs/reference/domain.md).

    Attributes:
        axes: (n_in, p) principal axes over the standard deviation of training inputs along them.
        centre: (n_in,) mean of training inputs.
        points: (m, p) training inputs on the axes, or (m, p + 1) with `PLACE` times their atomic numbers.
        unit: distance that scores one.
    """

    def __init__(self, axes: torch.Tensor, centre: torch.Tensor, points: torch.Tensor, unit: float) -> None:
        self.axes, self.centre, self.points, self.unit = axes, centre, points, unit

    @classmethod
    def fit(
        cls,
        train: torch.Tensor,
        unseen: torch.Tensor,
        absorbers: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
        size: int = 16,
        most: int = 4000,
        seed: int = 0,
    ) -> DomainIndex:
        """Learn axes and points from training inputs (n, n_in), and the unit from unseen ones (m, n_in); `absorbers` (n,) and (m,)."""
        centre = train.mean(dim=0)
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(train), generator=generator)[:most]
        _, spread, axes = torch.linalg.svd((train - centre)[chosen], full_matrices=False)
        kept = min(size, len(spread))
        deviation = spread[:kept] / max(len(chosen) - 1, 1) ** 0.5
        scaled = (axes[:kept] / deviation.clamp(min=1e-6)[:, None]).T.contiguous()
        points = (train[chosen] - centre) @ scaled
        if absorbers is not None:
            points = torch.cat([points, PLACE * torch.as_tensor(absorbers[0])[chosen, None].float()], dim=1)
        index = cls(scaled, centre, points.half().float(), 1.0)
        asked = np.zeros(len(unseen), dtype=np.int64) if absorbers is None else absorbers[1]
        return cls(scaled, centre, index.points, float(np.quantile(index.score(unseen, asked), 0.99)))

    @torch.inference_mode()
    def score(self, inputs: torch.Tensor, absorber: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n,) scores of inputs (n, n_in) around absorbers (n,)."""
        found = []
        for part, z in zip(inputs.split(2048), torch.as_tensor(absorber).split(2048), strict=True):
            place = (part - self.centre) @ self.axes
            if self.points.shape[1] > place.shape[1]:
                place = torch.cat([place, PLACE * z[:, None].to(place)], dim=1)
            # By products of matrices, torch's choice for many rows, a small distance is what two large numbers differ by.
            distance = torch.cdist(place, self.points, compute_mode="donot_use_mm_for_euclid_dist")
            nearest = distance.topk(min(NEIGHBOURS, len(self.points)), largest=False).values
            found.append(nearest.mean(dim=1))
        return np.asarray(torch.cat(found).numpy(), dtype=np.float64) / self.unit

    def save(self, path: Path) -> None:
        """Write a safetensors file; points in half precision."""
        from safetensors.torch import save_file

        unit = torch.tensor([self.unit], dtype=torch.float64)
        save_file({"axes": self.axes, "centre": self.centre, "points": self.points.half(), "unit": unit}, path)

    @classmethod
    def load(cls, path: Path) -> DomainIndex:
        """Read what `save` wrote.

        Raises:
            ModelError: if the file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            read = load_file(path)
            axes, centre, points, unit = read["axes"], read["centre"], read["points"].float(), float(read["unit"][0])
            (n_in, p), (m, own) = axes.shape, points.shape
        except (OSError, SafetensorError, KeyError, ValueError, IndexError, TypeError, RuntimeError) as error:
            raise ModelError(f"{path} does not hold a domain index ({str(error).splitlines()[0]}); install the family again.") from error
        whole = axes.dtype == centre.dtype == torch.float32 and all(bool(torch.isfinite(one).all()) for one in (axes, centre, points))
        if centre.shape != (n_in,) or own - p not in (0, 1) or m == 0 or not 0.0 < unit < np.inf or not whole:
            raise ModelError(f"{path} holds a domain index that is damaged or not finite; install the family again.")
        return cls(axes, centre, points, unit)

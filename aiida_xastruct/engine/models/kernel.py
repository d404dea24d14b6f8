"""Kernel ridge regression from a site's surroundings to its spectrum: what the most similar training sites show, weighed.

With a few thousand sites to learn from, a smooth kernel on features of fixed weight does as well as networks and errs differently, so
that the mean of both is better than either. It is fitted in closed form: the mean of a Gaussian process (Rasmussen and Williams,
Gaussian Processes for Machine Learning, 2006, chapters 2 and 5), whose leave-one-out errors follow from the same inverse.

Like sites have like spectra, but these begin some eV apart from compound to compound, as FEFF's Fermi level does. The mean of curves
that are shifted against each other is a curve that none of them resembles, so curves and their shifts are learned apart: each is moved to
where the others expect it (registration: Ramsay and Silverman, Functional Data Analysis, 2005, chapter 7).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import ModelError

#: The kernel of two sites is exp(-(WIDTH d)^1.5 - ELEMENTS |Z - Z'|), d their distance; RIDGE is added to the diagonal. WIDTH, RIDGE and
#: `KERNEL_BLOCKS` of `models.tasks` were learned by gradient on Cu sites of OmniXAS's train part, which predicted others of new formulas.
WIDTH, ELEMENTS, RIDGE = 0.25, 0.05, 2e-4

#: The same for how far curves are moved. With that of the curves its weights cancel so far that rounding is seen in answers.
SHIFT_RIDGE = 0.01

#: The same for what is mostly noise: the logarithm of the expected error, and what curves are moved to.
SMOOTH_RIDGE = 0.3

#: Curves are moved by at most so many steps of their grid to where they resemble what other materials' sites predict, in so many rounds. A
#: shift costs PRIOR times the square of its difference, in steps, from the predicted one, beside the mean squared difference of the curves.
MOST_STEPS, ROUNDS, PRIOR = 12, 16, 2.5e-4

#: Principal axes that distances are measured on, principal components of curves, and training sites kept; more are left out at random.
AXES, COMPONENTS, MOST_SITES = 384, 40, 8000

#: Sites answered for in one pass, whose kernel stays in a processor's cache.
_ROWS = 256

#: Standardised inputs are cut here, as in networks.
_CUT = 8.0

#: Precision of tensors in use where it is not single, and in a file where it is another than in use.
_USED = {"weights": torch.float64}
_WRITTEN = {"axes": torch.float16, "points": torch.float16, "weights": torch.float32}

_BUFFERS = ("mean", "scale", "axes", "points", "z", "start", "weights", "components")


class SiteKernel(nn.Module):
    """Sites to compare with, and what each adds to an answer.

    Attributes:
        mean, scale: (n_in,) standardisation.
        axes: (n_in, p) principal axes of the weighted inputs, with the weights.
        points: (m, p) training sites on them.
        z: (m,) their atomic numbers.
        start: (n_out + 2,) mean of the training curves where they resemble each other, of how far they were moved, and of ln(error).
        weights: (m, c + 2) what each site adds to the components of a curve, to its shift in steps of the grid, and to ln(error).
        components: (c, n_out) principal components of the training curves.

    Shapes:
        input: x (b, n_in), z (b,) atomic numbers. output: value (b, n_out), log_error (b, 1), as of a `SiteNetwork`.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    axes: torch.Tensor
    points: torch.Tensor
    z: torch.Tensor
    start: torch.Tensor
    weights: torch.Tensor
    components: torch.Tensor

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        if set(tensors) != set(_BUFFERS) or not _fit_together({name: tensors[name].shape for name in _BUFFERS}):
            raise ModelError("the kernel model is incomplete or damaged; install the family again.")
        for name in _BUFFERS:
            self.register_buffer(name, tensors[name] if name == "z" else tensors[name].to(_USED.get(name, torch.float32)))

    @classmethod
    def fit(
        cls,
        x: torch.Tensor,
        z: torch.Tensor,
        target: torch.Tensor,
        guess: torch.Tensor,
        material: NDArray[np.integer],
        blocks: Sequence[tuple[int, float]],
        seed: int = 0,
        rounds: int = ROUNDS,
    ) -> SiteKernel:
        """Learn from sites.

        Args:
            x: (n, n_in) inputs.
            z: (n,) atomic numbers of the absorbers.
            target: (n, n_out) curves, NaN where unknown.
            guess: (n, n_out) curves that stand in there.
            material: (n,) labels; the expected error is learned from each material's sites as the other materials predict them.
            blocks: length and weight of each block of columns of x: what the block's mean squared difference adds to a squared distance.
            seed: of the choice among more than `MOST_SITES` sites.
            rounds: in which curves are moved; with 0 each stays where it is.
        """
        if len(x) > MOST_SITES:
            chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:MOST_SITES].sort().values
            x, z, target, guess, material = x[chosen], z[chosen], target[chosen], guess[chosen], material[chosen.numpy()]
        mean, scale = x.mean(dim=0), x.std(dim=0).clamp(min=1e-2)
        root = torch.cat([torch.full((length,), (weight / length) ** 0.5) for length, weight in blocks])
        weighted = ((x - mean) / scale).clamp(-_CUT, _CUT) * root
        _, vectors = torch.linalg.eigh((weighted.T @ weighted).double())
        # Rounded before the fit, so that what is written is what was fitted. The weights of columns go into the axes.
        axes = (root[:, None] * vectors[:, -AXES:].float()).half().float()
        points = (((x - mean) / scale).clamp(-_CUT, _CUT) @ axes).half().float()
        kernel = _kernel(points.double(), z, points.double(), z)
        known = torch.isfinite(target)
        curves = torch.where(known, target, guess)
        inverse, smooth = _inverse(kernel, RIDGE), _inverse(kernel, SMOOTH_RIDGE)
        learned = _registered(curves.double(), smooth, material, rounds)
        start = learned.mean(dim=0)
        curve, shift = (learned - start)[:, :-1], (learned - start)[:, -1:]
        components = torch.linalg.svd(curve, full_matrices=False)[2][:COMPONENTS]
        of_shift = _inverse(kernel, SHIFT_RIDGE)
        error = torch.log(_errors_of_materials((inverse, of_shift), learned, curves, known, material).clamp(min=1e-3))
        of_error = smooth @ (error - error.mean())
        tensors = {
            "mean": mean,
            "scale": scale,
            "axes": axes,
            "points": points,
            "z": z,
            "start": torch.cat([start, error.mean()[None]]).float(),
            "weights": torch.cat([inverse @ curve @ components.T, of_shift @ shift, of_error[:, None]], dim=1).float(),
            "components": components.float(),
        }
        return cls(tensors)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Value (b, n_out) and log of the expected error (b, 1)."""
        said = torch.cat([self._pass(*rows) for rows in zip(x.split(_ROWS), z.split(_ROWS), strict=True)])
        curve = said[:, :-2] @ self.components + self.start[:-2]
        steps = torch.nan_to_num(said[:, -2] + self.start[-2]).clamp(-MOST_STEPS, MOST_STEPS)
        return moved(curve, steps), (said[:, -1:] + self.start[-1:]).clamp(-7.0, 2.0)

    def _pass(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """(b, c + 2) components of the value, its shift and ln(error), without their means."""
        place = ((x - self.mean) / self.scale).clamp(-_CUT, _CUT) @ self.axes
        # Weights of unlike signs cancel to a hundredth of their size: single precision would lose 0.001 of mu here, and less before.
        return (_kernel(place, z, self.points, self.z).double() @ self.weights).float()

    def tensors(self) -> dict[str, torch.Tensor]:
        """What `__init__` takes, as it is written: places in half precision; weights cancel each other and stay in single."""
        used = {name: getattr(self, name) for name in _BUFFERS}
        return {name: tensor.to(_WRITTEN.get(name, tensor.dtype)) for name, tensor in used.items()}


def _fit_together(shape: dict[str, torch.Size]) -> bool:
    """Whether the shapes of tensors are those of a kernel model."""
    (n_in,), (n_sites,), (n_start,) = shape["mean"], shape["z"], shape["start"]
    n_axes, n_components = shape["axes"][-1], shape["components"][0]
    expected = {
        "scale": (n_in,),
        "axes": (n_in, n_axes),
        "points": (n_sites, n_axes),
        "weights": (n_sites, n_components + 2),
        "components": (n_components, n_start - 2),
    }
    return all(tuple(shape[name]) == own for name, own in expected.items())


def _kernel(one: torch.Tensor, z_one: torch.Tensor, other: torch.Tensor, z_other: torch.Tensor) -> torch.Tensor:
    """(n, m) of places (n, p) and (m, p)."""
    square = torch.addmm((other**2).sum(dim=1)[None], one, other.T, alpha=-2.0).add_((one**2).sum(dim=1)[:, None])
    distance = square.clamp_(min=0.0).sqrt_().mul_(WIDTH)
    exponent = distance.mul_(distance.sqrt())  # in place: memory is what takes the time here
    absorbers, which = z_one.unique(return_inverse=True)
    steps = (absorbers[:, None] - z_other[None]).abs().to(one.dtype)
    return exponent.add_(steps[which], alpha=ELEMENTS).neg_().exp_()


def _inverse(kernel: torch.Tensor, ridge: float) -> torch.Tensor:
    """(n, n) inverse of the kernel with `ridge` on its diagonal."""
    return torch.cholesky_inverse(torch.linalg.cholesky(kernel + ridge * torch.eye(len(kernel), dtype=kernel.dtype)))


def moved(curves: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Curves (n, m) moved up their grid by `steps` (n,) of it, straight between its points; at an end comes in the value that is there."""
    last = curves.shape[1] - 1
    place = (torch.arange(last + 1, device=curves.device) - steps[:, None]).clamp(0, last)
    below = place.long()
    part = place - below
    return curves.gather(1, below) * (1.0 - part) + curves.gather(1, (below + 1).clamp(max=last)) * part


def _registered(curves: torch.Tensor, inverse: torch.Tensor, material: NDArray[np.integer], rounds: int = ROUNDS) -> torch.Tensor:
    """(n, n_out + 1) curves (n, n_out) moved to where other materials' sites expect them, and the steps that would move each back."""
    steps = torch.arange(-MOST_STEPS, MOST_STEPS + 1, dtype=curves.dtype)
    back = torch.zeros(len(curves), dtype=curves.dtype)
    candidates = [moved(curves, -one.expand(len(curves))) for one in steps]
    for _ in range(rounds):
        learned = torch.cat([moved(curves, -back), back[:, None]], dim=1)
        said = learned - _residuals_of_materials(inverse, learned, material)
        cost = [
            ((own - said[:, :-1]) ** 2).mean(dim=1) + PRIOR * (one - said[:, -1]) ** 2 for one, own in zip(steps, candidates, strict=True)
        ]
        back = steps[torch.stack(cost).argmin(dim=0)]
    return torch.cat([moved(curves, -back), back[:, None]], dim=1)


def _residuals_of_materials(inverse: torch.Tensor, values: torch.Tensor, material: NDArray[np.integer]) -> torch.Tensor:
    """(n, c) values of sites less what is predicted of each without its material: [inverse]_mm^-1 (inverse values)_m."""
    weights = inverse @ (values - values.mean(dim=0))
    residuals = torch.empty_like(values)
    order = np.argsort(material, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(material[order])) + 1):
        own = torch.as_tensor(rows)
        residuals[own] = torch.linalg.solve(inverse[own][:, own], weights[own])
    return residuals


def _errors_of_materials(
    inverses: tuple[torch.Tensor, torch.Tensor],
    learned: torch.Tensor,
    curves: torch.Tensor,
    known: torch.Tensor,
    material: NDArray[np.integer],
) -> torch.Tensor:
    """(n,) root mean square errors of curves where they are known, each predicted without its material from what `_registered` gave.

    `inverses` are that of curves and that of shifts.
    """
    said = [
        own - _residuals_of_materials(inverse, own, material)
        for inverse, own in zip(inverses, (learned[:, :-1], learned[:, -1:]), strict=True)
    ]
    residual = (moved(said[0], said[1][:, 0]) - curves) * known
    return ((residual**2).sum(dim=1) / known.sum(dim=1).clamp(min=1)).sqrt()

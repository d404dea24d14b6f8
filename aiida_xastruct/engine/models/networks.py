"""Networks: structure to XANES, and spectrum to local structure. EXAFS has its own in `paths`.

The absorber enters as a point on the periodic table and not as a class of its own, because edges and
scattering phases change smoothly with Z and most elements have few spectra.
"""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..dataset import MAX_Z


@cache
def electronegativity() -> NDArray[np.float64]:
    """(MAX_Z,) Pauling's, 1.5 where he gives none."""
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pymatgen warns of NaN for noble gases
        known = np.array([np.nan] + [Element.from_Z(z).X for z in range(1, MAX_Z)], dtype=np.float64)
    return np.where(np.isfinite(known), known, 1.5)


@cache
def element_descriptors() -> torch.Tensor:
    """(MAX_Z, 25) what a network knows of an element: 20 Gaussians over Z, period, group, radius, electronegativity, K or L3 edge."""
    from pymatgen.core import Element

    z = torch.arange(MAX_Z, dtype=torch.float32)
    bumps = torch.exp(-0.5 * ((z[:, None] - torch.arange(2.0, 102.0, 5.0)) / 5.0) ** 2)
    rows = [torch.zeros(5)]
    for number in range(1, MAX_Z):
        element = Element.from_Z(number)
        radius, attraction = float(element.atomic_radius or 1.5), float(electronegativity()[number])
        rows.append(torch.tensor([element.row / 7, element.group / 18, radius / 2, attraction / 3, float(number > 50)]))
    return torch.cat([bumps, torch.stack(rows)], dim=1)


class ElementHead(nn.Module):
    """What elements have in common, added to logits that each has of its own: with few spectra of an element, most of what is known.

    A logit gets a part that follows from the descriptors of the element it stands for, and the absorber's own element a further one, for
    metals and elemental bonds are alike whichever element it is.

    Shapes:
        input: logits (b, MAX_Z), hidden (b, width), z (b,) absorbers. output: logits (b, MAX_Z).
    """

    elements: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("elements", element_descriptors().clone(), persistent=False)
        self.alike = nn.Linear(width, self.elements.shape[1], bias=False)
        self.own = nn.Linear(width, 1)
        for layer in (self.alike, self.own):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.own.bias)

    def forward(self, logits: torch.Tensor, hidden: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """The logits with what is common added."""
        shared: torch.Tensor = logits + self.alike(hidden) @ self.elements.T
        return shared.scatter_add(1, z[:, None], self.own(hidden).to(shared.dtype))


def with_elements(head: ElementHead | None, value: torch.Tensor, hidden: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """A network's value (b, n_out) with the head applied to its last MAX_Z columns, the logits of neighbours, where there is one."""
    if head is None:
        return value
    return torch.cat([value[:, :-MAX_Z], head(value[:, -MAX_Z:], hidden, z)], dim=1)


class SiteNetwork(nn.Module):
    """Standardise, run a residual perceptron, and read a value and the logarithm of its expected error.

    Of its first `n_half` inputs a network sees a random half: networks that see different halves err differently, and err less together
    (the random subspaces of T.K. Ho, IEEE Trans. Pattern Anal. Mach. Intell. 20, 832 (1998)).

    Shapes:
        input: x (b, n_in or more; further columns are not looked at), z (b,) atomic numbers.
        output: value (b, n_out), log_error (b, n_error).
    """

    mean: torch.Tensor
    scale: torch.Tensor
    start: torch.Tensor
    seen: torch.Tensor
    elements: torch.Tensor

    def __init__(
        self,
        n_in: int,
        n_out: int,
        n_error: int,
        width: int = 256,
        depth: int = 2,
        dropout: float = 0.1,
        n_half: int = 0,
        names_elements: bool = False,
    ) -> None:
        """`names_elements`: whether the last MAX_Z outputs are logits of neighbours."""
        super().__init__()
        half = torch.randperm(n_half)[: n_half // 2].sort().values
        self.register_buffer("seen", torch.cat([half, torch.arange(n_half, n_in)]), persistent=n_half > 0)
        self.register_buffer("mean", torch.zeros(n_in))
        self.register_buffer("scale", torch.ones(n_in))
        self.register_buffer("start", torch.zeros(n_out))
        self.register_buffer("elements", element_descriptors().clone(), persistent=False)
        self.enter = nn.Linear(len(self.seen) + self.elements.shape[1], width)
        self.blocks = nn.ModuleList(nn.Sequential(nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, width)) for _ in range(depth))
        self.leave = nn.Sequential(nn.SiLU(), nn.Dropout(dropout))
        self.value = nn.Linear(width, n_out)
        self.log_error = nn.Linear(width, max(n_error, 1))
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)
        self.named = ElementHead(width) if names_elements else None

    def start_from(self, x: torch.Tensor, z: torch.Tensor, start: torch.Tensor) -> None:
        """Set the standardisation from training inputs (n, n_in or more), and the value to start from (n_out,); all absorbers z alike."""
        x = x[:, : len(self.mean)]
        self.mean.copy_(x.mean(dim=0))
        self.scale.copy_(x.std(dim=0).clamp(min=1e-2))
        self.start.copy_(start)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Value (b, n_out) and log of the expected error (b, n_error), which is learned without moving the value."""
        standard = ((x[:, : len(self.mean)] - self.mean) / self.scale).clamp(-8.0, 8.0)
        hidden = self.enter(torch.cat([standard[:, self.seen], self.elements[z]], dim=1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        hidden = self.leave(hidden)
        value = with_elements(self.named, self.value(hidden) + self.start, hidden, z)
        return value, self.log_error(hidden.detach()).clamp(-7.0, 2.0)

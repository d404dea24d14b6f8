"""How much less inverse models know about absorbers that they have seldom seen, learned from materials that they were not trained on.

Networks state errors and probabilities that hold for the absorbers that most of their training sites are of. Around others they are as
sure and more often wrong (measured: docs/reference/seldom.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..dataset import MAX_Z, SiteTable

#: An absorber with fewer training sites than this is seldom seen.
SELDOM = 100

#: So many sites of seldom and of other absorbers it takes to compare them.
_ENOUGH = 30


@dataclass(frozen=True, eq=False)
class Doubt:
    """What to add to the doubt of networks, by absorber.

    Attributes:
        error: (MAX_Z,) factor on stated errors and on the disagreement of members.
        mix: (MAX_Z,) share of `share` in the probability of a neighbour.
        share: (MAX_Z,) how often each element is a neighbour around seldom absorbers.
        own: (1,) how often a seldom absorber is its own neighbour.
    """

    error: torch.Tensor
    mix: torch.Tensor
    share: torch.Tensor
    own: torch.Tensor

    @classmethod
    def fit_errors(cls, train: SiteTable, select: SiteTable, error: NDArray[np.floating], expected: NDArray[np.floating]) -> Doubt:
        """From true and expected errors (n,) of the mean distance on the select part: 90 % of them shall be alike for all absorbers."""
        doubt = cls.none()
        seldom, often = _seldom(train, select.absorber)
        if min(seldom.sum(), often.sum()) >= _ENOUGH:
            score = error / expected
            ratio = float(np.quantile(score[seldom], 0.9) / np.quantile(score[often], 0.9))
            doubt.error[_seldom_elements(train)] = max(ratio, 1.0)
        return doubt

    @classmethod
    def fit_neighbours(cls, train: SiteTable, select: SiteTable, probability: NDArray[np.floating]) -> Doubt:
        """From probabilities (n, MAX_Z) on the select part: the mixture that makes what is true there likeliest."""
        doubt = cls.none()
        seldom, often = _seldom(train, select.absorber)
        rows, _ = _seldom(train, train.absorber)
        if min(seldom.sum(), often.sum(), rows.sum()) < _ENOUGH:
            return doubt
        part = train.take(rows)
        neighbours = part.neighbours.copy()
        own = neighbours[np.arange(len(part)), part.absorber].mean()
        neighbours[np.arange(len(part)), part.absorber] = False
        # An element that none of these has for a neighbour may be one of the next.
        doubt.share.copy_(torch.as_tensor((neighbours.sum(axis=0) + 0.5) / (len(part) + 1.0)))
        doubt.own.fill_(float(own))
        z = torch.as_tensor(select.absorber[seldom])
        said, true = torch.as_tensor(probability[seldom]).double(), torch.as_tensor(select.neighbours[seldom])
        usual = doubt.usual(z).double()

        def likelihood(share: float) -> float:
            mixed = ((1.0 - share) * said + share * usual)[:, 1:].clamp(1e-6, 1.0 - 1e-6)
            return float(torch.where(true[:, 1:], mixed, 1.0 - mixed).log().sum())

        best = max(np.linspace(0.0, 0.8, 41), key=likelihood)
        doubt.mix[_seldom_elements(train)] = float(best)
        return doubt

    @classmethod
    def none(cls) -> Doubt:
        """No doubt beyond that of the networks."""
        return cls(torch.ones(MAX_Z), torch.zeros(MAX_Z), torch.zeros(MAX_Z), torch.zeros(1))

    def usual(self, absorber: torch.Tensor) -> torch.Tensor:
        """(n, MAX_Z) how often elements are neighbours of absorbers (n,) that are seldom seen."""
        share = self.share.to(absorber.device).expand(len(absorber), -1).clone()
        return share.scatter(1, absorber[:, None], self.own.to(absorber.device).expand(len(absorber), 1))

    def mixed(self, probability: torch.Tensor, absorber: torch.Tensor) -> torch.Tensor:
        """Probabilities (n, MAX_Z) around absorbers (n,), mixed with `usual`."""
        share = self.mix.to(absorber.device)[absorber][:, None]
        return (1.0 - share) * probability + share * self.usual(absorber)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a file holds."""
        return {"error": self.error, "mix": self.mix, "share": self.share, "own": self.own}


def often_seen(train: SiteTable) -> NDArray[np.int64]:
    """Atomic numbers of the absorbers that a training part has often."""
    return np.flatnonzero(np.bincount(train.absorber, minlength=MAX_Z) >= SELDOM)


def _seldom_elements(train: SiteTable) -> NDArray[np.int64]:
    """Atomic numbers of the absorbers that a training part has seldom, or never."""
    return np.setdiff1d(np.arange(MAX_Z), often_seen(train))


def _seldom(train: SiteTable, absorber: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(n,) which absorbers are seldom in a training part, and which are not."""
    seldom = np.isin(absorber, _seldom_elements(train))
    return seldom, ~seldom

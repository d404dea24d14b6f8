"""Which sites FEFF should compute next, so that a forward model learns most from so many of them.

Uncertainty alone picks outliers, and the same outlier ten times over; distance alone picks what nothing else is like. So sites are chosen
that *cover* the error that the model expects of all candidates. With e_j the expected error of candidate j and k(i, j) how alike two
sites are, a set S is worth

    F(S) = sum over candidates j of e_j max over i in S of k(i, j),

and S begins with what the training set has. A site is worth much where the model expects to be wrong (uncertainty), where nothing known
or chosen is like it (diversity), and where many other candidates are like it (density): an outlier covers itself alone. F is the weighted
facility location function. It is submodular, so that taking the site that adds most, again and again, comes within 1 - 1/e of the best set
(Nemhauser, Wolsey and Fisher, Math. Program. 14, 265 (1978); for active learning Wei, Iyer and Bilmes, ICML 2015). With e^2 in place of e
it would be the mean square error that is covered; that chose mostly the loudest spectra, and taught less (EXAFS, 150 sites beside 300, on
another split than the one that models are judged by).

k(i, j) = exp(-d^2 / (2 l^2)), d the distance on the axes by which the model's domain is judged (`models.domain`), and l the median distance
of a candidate from the nearest site of the training set; times `OTHER_ABSORBER` where the absorbers differ, as a spectrum of one teaches of
another how neighbours scatter, but not its own phase and losses.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .bundle import ModelBundle
from .dataset import Dataset, Holdout, group_label, part_of
from .errors import DatasetError
from .feff.deck import has_edge
from .spectrum import atomic_number, edge_of, multiplets

#: Raised by a change that alters which sites are chosen; a stored input of every choice.
ACQUISITION_VERSION = "2"

#: How alike two sites of different absorbers in the same surroundings are.
OTHER_ABSORBER = 0.3

#: Candidates, drawn with seed 0 where there are more, that the others are judged by: memory is candidates times this.
JUDGES = 3000

#: Candidates compared with others at a time.
_BLOCK = 1000

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Sites that may be chosen.

    Attributes:
        place: (n, p) where each lies, as `places` gives it.
        absorber: (n,) atomic numbers.
        expected: (n,) error that the model expects of its own answer.
        group: (n,) label of each one's group of reduced formula and prototype.
    """

    place: Array
    absorber: NDArray[np.int64]
    expected: Array
    group: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.expected)


@dataclass(frozen=True, eq=False)
class Known:
    """Sites of the training set: (m, p) `place` and (m,) `absorber`."""

    place: Array
    absorber: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Choice:
    """What to compute, the most worth first.

    Attributes:
        rows: (m,) of the candidates.
        gain: (m,) share of the error expected of all candidates that each covers beside what was covered before it.
        covered: share that the training set covers, and that it covers together with the choice.
    """

    rows: NDArray[np.int64]
    gain: Array
    covered: tuple[float, float]


def places(model: ModelBundle, features: NDArray[np.float32]) -> Array:
    """(n, p) where sites lie on the axes of a forward model's domain, from features (n, SITE_SIZE) as `engine.features` makes them."""
    source = torch.as_tensor(features)
    position = model.task.position(source, source)  # of a forward model by the source alone
    return np.asarray(((position - model.domain.centre) @ model.domain.axes).numpy(), dtype=np.float64)


def choose(candidates: Candidates, known: Known, count: int, per_group: int = 1) -> Choice:
    """The sites that cover most of the expected error; see the module. The same input gives the same choice.

    Where no error is expected of any candidate, all count alike: what is chosen is what is least like the rest.

    Args:
        candidates: sites that may be chosen.
        known: sites of the training set.
        count: sites wanted; fewer are chosen where the groups do not give as many.
        per_group: sites of one group at most.

    Raises:
        DatasetError: if there is no candidate, nothing known, a number below one, or an expected error or a place that is no number.
    """
    if not len(candidates) or not len(known.place):
        raise DatasetError("there are no candidates, or no sites that the model knows, so nothing can be chosen; give both.")
    if count < 1 or per_group < 1:
        raise DatasetError(f"{count} sites, {per_group} of a group, are asked for; give 1 or more.")
    _check_numbers(candidates, known)
    judges = np.arange(len(candidates))
    if len(judges) > JUDGES:
        judges = np.sort(np.random.default_rng(0).choice(judges, JUDGES, replace=False))
    place, z = candidates.place[judges], candidates.absorber[judges]
    # Where every candidate has a twin in the training set, any length tells them apart as little.
    length = float(np.median(np.sqrt(_of_blocks(lambda rows: _squares(place[rows], known.place).min(axis=1), len(judges))))) or 1.0

    def likeness(one: Array, absorber: NDArray[np.int64]) -> Array:
        """(n, judges) of sites with each judge."""
        alike = np.exp(-_squares(one, place) / (2.0 * length**2))
        return np.asarray(alike * np.where(absorber[:, None] == z, 1.0, OTHER_ABSORBER))

    covered = np.zeros(len(judges))
    for start in range(0, len(known.place), _BLOCK):
        rows = slice(start, start + _BLOCK)
        covered = np.maximum(covered, likeness(known.place[rows], known.absorber[rows]).max(axis=0))
    expected = candidates.expected[judges]
    # By the greatest first: sums of the least numbers that there are, and of the greatest, would be 0 and infinite.
    weight = expected / expected.max() if expected.max() > 0.0 else np.ones(len(judges))
    weight = weight / weight.sum()
    before = float(weight @ covered)
    # What a site adds never grows as others are chosen, so only those that looked best are looked at again (Minoux, 1978).
    first = _of_blocks(
        lambda rows: np.maximum(likeness(candidates.place[rows], candidates.absorber[rows]) - covered, 0.0) @ weight, len(candidates)
    )
    queue = [(-float(gain), row) for row, gain in enumerate(first)]
    heapq.heapify(queue)
    chosen: list[int] = []
    gains: list[float] = []
    taken: dict[str, int] = {}
    while queue and len(chosen) < count:
        _, row = heapq.heappop(queue)
        group = str(candidates.group[row])
        if taken.get(group, 0) >= per_group:
            continue
        alike = likeness(candidates.place[row : row + 1], candidates.absorber[row : row + 1])[0]
        gain = float(np.maximum(alike - covered, 0.0) @ weight)
        if queue and (-gain, row) > queue[0]:
            heapq.heappush(queue, (-gain, row))
            continue
        chosen.append(row)
        gains.append(gain)
        taken[group] = taken.get(group, 0) + 1
        covered = np.maximum(covered, alike)
    return Choice(np.array(chosen, dtype=np.int64), np.array(gains), (before, float(weight @ covered)))


def _check_numbers(candidates: Candidates, known: Known) -> None:
    """Refuse what the sum over candidates would be no number of."""
    wrong = int((~(np.isfinite(candidates.expected) & (candidates.expected >= 0.0))).sum())
    if wrong:
        raise DatasetError(f"the expected error of {wrong} candidates is below zero or no number; leave them out.")
    lost = int((~np.isfinite(candidates.place).all(axis=1)).sum() + (~np.isfinite(known.place).all(axis=1)).sum())
    if lost:
        raise DatasetError(f"{lost} sites lie nowhere, as their features are no numbers; leave them out.")


def _squares(one: Array, other: Array) -> Array:
    """(n, m) squared distances."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2.0 * one @ other.T
    return np.asarray(np.maximum(squares, 0.0))


def _of_blocks(compute: Callable[[slice], Array], count: int) -> Array:
    """(count,) numbers that are computed of some rows at a time."""
    return np.concatenate([compute(slice(start, start + _BLOCK)) for start in range(0, count, _BLOCK)])


#: Why a candidate is left out.
HELD_OUT, NO_EDGE, KNOWN_ALREADY = "held out", "without an edge that models learn", "of an absorber, formula and prototype of the dataset"


@dataclass(frozen=True)
class Gate:
    """Which sites may be added to the training part of a dataset, and to no other part.

    Attributes:
        kind: of the spectra.
        split_seed: of the split of the model that is to be improved.
        known: (group, atomic number) of the sites that the dataset has of this kind.
        holdout: materials that nothing may be trained on.
    """

    kind: str
    split_seed: int
    known: Collection[tuple[str, int]]
    holdout: Holdout = field(default_factory=lambda: Holdout(frozenset(), frozenset()))

    @classmethod
    def of(cls, dataset: Dataset, kind: str, split_seed: int, holdout: Holdout | None = None) -> Gate:
        """Of a dataset.

        Raises:
            DatasetError: if it has no spectra of this kind.
        """
        if kind not in dataset.tables:
            raise DatasetError(f"the dataset has no {kind} spectra; give the one that the model was trained on.")
        table, labels = dataset.tables[kind], [group_label(material) for material in dataset.materials]
        known = {(labels[material], int(z)) for material, z in zip(table.material, table.absorber, strict=True)}
        return cls(kind, split_seed, known, holdout or Holdout(frozenset(), frozenset()))

    def refusal(self, material: Mapping[str, Any], absorber: str) -> str:
        """Why a site may not be added; empty if it may.

        Args:
            material: source, source_id, formula, space_group and prototype, as in `Dataset.materials`.
            absorber: symbol.
        """
        if self.holdout.excludes(material["source"], material["source_id"], material["formula"], material["space_group"]):
            return HELD_OUT
        if not has_edge(absorber) or multiplets(absorber, edge_of(absorber)):
            return NO_EDGE
        label = group_label(material)
        part = part_of(label, self.split_seed)
        if part != "train":
            return f"of the part {part}"
        return KNOWN_ALREADY if (label, atomic_number(absorber)) in self.known else ""

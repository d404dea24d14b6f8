"""XANES and EXAFS of one site read together: the answer, and how the models' cards come to say how to weigh them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .answers import InverseAnswer, merge_inverse
from .bundle import CARD, MATERIALS, POOL, FamilyBundle, ModelBundle, compose, distance_answer, list_materials, neighbour_answer
from .dataset import JUDGING, PARTS, Dataset, SiteTable, group_label, part_of
from .errors import DatasetError, ModelError, SpectrumError
from .measure import Named, by_column, of_distances, of_neighbours, report_on
from .models.calibration import MINIMUM_SITES, DistanceCalibration, NeighbourCalibration, expected_error
from .models.composition import CompositionModel, Sites
from .models.ensemble import Prediction
from .models.pooling import DistancePool, Estimates, Evidence, NeighbourPool
from .models.tasks import drawn_inputs
from .spectrum import Spectrum, atomic_number, element_symbol, find_e0


@dataclass(frozen=True)
class Models:
    """The two models of one question."""

    exafs: ModelBundle
    xanes: ModelBundle

    @classmethod
    def of(cls, family: FamilyBundle, question: str) -> Models:
        """Those of a family for a question, neighbours or distance."""
        return cls(family.model(question, "EXAFS"), family.model(question, "XANES"))

    @property
    def pool(self) -> dict[str, Any]:
        """How to weigh them.

        Raises:
            ModelError: if nobody has found out, or for another XANES model.
        """
        pool = self.exafs.card.get(POOL)
        if not isinstance(pool, dict) or pool.get("with") != card_hash(self.xanes):
            missing = "other models than those" if isinstance(pool, dict) else "none of the models"
            raise ModelError(f"how to weigh XANES against EXAFS is known of {missing} in this family; run `xastruct join` on it.")
        return pool

    def ask(self, exafs: Spectrum, xanes: Spectrum) -> tuple[Prediction, Prediction, str, str]:
        """What both say, and why the EXAFS and the XANES are outside the domain, empty if inside."""
        (said, outside), (beside, beyond) = self.exafs.ask([exafs]), self.xanes.ask([xanes])
        return said, beside, outside[0], beyond[0]

    def new_to_xanes(self, exafs: Prediction) -> list[list[str]]:
        """Of neighbours models: for each site the elements that EXAFS names and the XANES model has hardly seen in a first shell.

        A model that was trained on oxides takes every neighbour for oxygen.
        """
        probability = exafs.value.double().numpy()
        new = self.exafs.promises(NeighbourCalibration).named(probability) & ~known_neighbours(self.xanes)
        return [[element_symbol(int(z)) for z in np.flatnonzero(row)] for row in new]


def known_neighbours(model: ModelBundle) -> NDArray[np.bool_]:
    """(MAX_Z,) elements in the first shell of at least `MINIMUM_SITES` of a neighbours model's training sites.

    Its networks start from the logits of these shares, the smallest of which stands for all below.
    """
    start = model.ensemble.members[0].state_dict()["start"]
    shares = torch.sigmoid(start).double().numpy()
    return np.asarray((shares > shares.min() * (1.0 + 1e-6)) & (shares * sum(model.sites.values()) >= MINIMUM_SITES - 0.5))


def card_hash(model: ModelBundle) -> str:
    """SHA-256 of a model's card."""
    return hashlib.sha256(json.dumps(model.card, sort_keys=True).encode()).hexdigest()


def infer_both(family: FamilyBundle, xanes: Spectrum, exafs: Spectrum, elements_present: Collection[str] | None = None) -> InverseAnswer:
    """The local structure behind two spectra of one site, or of one sample whose sites are alike; see `models.pooling`.

    Args:
        family: whose inverse models are asked.
        xanes: the edge.
        exafs: chi(k); a measured scan that covers both may be given twice, each time read as that kind.
        elements_present: see `ModelBundle.neighbours`.

    Raises:
        SpectrumError: if the spectra are of different absorbers or edges, or one cannot be read.
        ModelError: if the family cannot weigh them.
    """
    if (xanes.absorber, xanes.edge) != (exafs.absorber, exafs.edge):
        raise SpectrumError(
            f"the spectra are of {xanes.absorber} {xanes.edge} and {exafs.absorber} {exafs.edge}; give two of one absorber and edge."
        )
    xanes, exafs = (replace(spectrum, e0=find_e0(spectrum)) for spectrum in (xanes, exafs))
    near, far = Models.of(family, "neighbours"), Models.of(family, "distance")
    pool, distances = NeighbourPool.from_json(near.pool), DistancePool.from_json(far.pool)
    said, beside, outside, strange = near.ask(exafs, xanes)
    lengths, other, beyond, strange_too = far.ask(exafs, xanes)
    strange = strange or strange_too
    if new := near.new_to_xanes(said)[0]:
        strange = strange or f"the neighbours that EXAFS names ({', '.join(new)}) are hardly any that its model has seen"
    if strange:
        answer = family.infer(exafs, elements_present)
        return replace(answer, reason=f"{answer.reason}; read from EXAFS alone, as XANES is outside its model's domain: {strange}")

    probability, calibration = pool(evidence(said, beside)), pool.calibration
    absorber = np.array([atomic_number(exafs.absorber)], dtype=np.int64)
    if elements_present is not None:
        probability, calibration = compose(pool.composition, probability, absorber, elements_present)
    named, whole = calibration.named(probability), calibration.whole(probability, absorber)
    neighbours = neighbour_answer(probability[0], named[0], whole[0], calibration.coverage, outside)
    value, expected = distances(estimates(far, lengths, other))
    return merge_inverse(neighbours, distance_answer(value[0], expected[0], distances.calibration, beyond))


def evidence(exafs: Prediction, xanes: Prediction) -> Evidence:
    """What neighbours models said about n sites, for a pool."""
    return Evidence(exafs.value.double().numpy(), xanes.value.double().numpy())


def estimates(models: Models, exafs: Prediction, xanes: Prediction) -> Estimates:
    """What distance models said about n sites, for a pool."""
    pairs = [
        (said.value.double().numpy(), expected_error(model.task, said.stated.numpy(), said.spread.numpy()))
        for model, said in ((models.exafs, exafs), (models.xanes, xanes))
    ]
    return Estimates(pairs[0], pairs[1])


def join_models(folder: Path, pairs: Dataset) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Find out how to weigh a family's inverse models against each other, measure what comes of it, and write it to their cards.

    Args:
        folder: of the family.
        pairs: sites with both kinds of spectra, of materials that the models did not learn from; see `engine.pairs`.

    Returns:
        for each question the metrics of EXAFS alone, of XANES alone and of both, by column, on the report part of `pairs`. What an absorber
        alone tells is what it tells on the other two parts.

    Raises:
        ModelError: if the family lacks a model.
        DatasetError: if the models were trained on different splits, or a part has no pair.
    """
    family = FamilyBundle.load(folder)
    near, far = Models.of(family, "neighbours"), Models.of(family, "distance")
    seeds = {model.card["split"]["seed"] for models in (near, far) for model in (models.exafs, models.xanes)}
    if len(seeds) != 1:
        raise DatasetError("the inverse models of this family were trained on different splits; train those of one kind again.")
    seed = seeds.pop()
    xanes, exafs = pairs.pairs()
    masks = pairs.parts("EXAFS", seed)
    if masks["train"][exafs].any() or not all(masks[name][exafs].any() for name in JUDGING):
        raise DatasetError("the pairs are of other parts than select, calibrate and report; make them with the family's split seed.")
    judged = {name: _judge(near, far, pairs, xanes[masks[name][exafs]], exafs[masks[name][exafs]], PARTS.index(name)) for name in JUDGING}
    select, calibrate, report = (judged[name] for name in JUDGING)
    assert near.exafs.composition is not None  # neighbours models have one
    assert near.xanes.composition is not None
    labels = pairs.group_of("EXAFS")[calibrate.rows][calibrate.known]
    sites = {name: own.sites() for name, own in judged.items()}
    pool = NeighbourPool.fit(
        select.evidence.at(select.known), calibrate.evidence.at(calibrate.known), sites["select"], sites["calibrate"], labels,
        near.exafs.composition,
    )  # fmt: skip
    distances = DistancePool.fit(
        select.estimates.at(select.known), select.truth[select.known], calibrate.estimates.at(calibrate.known),
        calibrate.truth[calibrate.known], labels,
    )  # fmt: skip

    trained = {"train": SiteTable.join([select.part, calibrate.part]), "report": report.part}
    columns = report_on(pairs, "EXAFS", trained, report.present, _trained(folder, seed))
    source = np.array([pairs.materials[material]["source"] for material in report.part.material])
    apart = {"both_known": report.known} | {f"source_{name}": source == name for name in sorted(set(source.tolist()))}
    columns = replace(columns, columns=columns.columns | apart)

    def named(probability: NDArray[np.float64], calibration: NeighbourCalibration, composition: CompositionModel) -> Named:
        return Named.of(probability, calibration, composition, report.part.absorber, report.present)

    alone = {
        kind: named(probability, model.promises(NeighbourCalibration), model.composition)  # type: ignore[arg-type]  # see above
        for kind, probability, model in (("EXAFS", report.evidence.exafs, near.exafs), ("XANES", report.evidence.xanes, near.xanes))
    }
    both = named(pool(report.evidence), pool.calibration, pool.composition).where(report.known, alone["EXAFS"])
    lengths = {}
    for kind, (value, expected), model in (("EXAFS", report.estimates.exafs, far.exafs), ("XANES", report.estimates.xanes, far.xanes)):
        lengths[kind] = (value, expected, model.promises(DistanceCalibration).factors[0] * expected[:, 0])
    value, expected = distances(report.estimates)
    joint = (value, expected, distances.calibration.factors[0] * expected[:, 0])
    chosen = [
        np.where(report.known if own.ndim == 1 else report.known[:, None], own, other)
        for own, other in zip(joint, lengths["EXAFS"], strict=True)
    ]
    metrics = {
        "neighbours": {kind: by_column(columns, of_neighbours(columns, own)) for kind, own in {**alone, "both": both}.items()},
        "distance": {kind: by_column(columns, of_distances(columns, *own)) for kind, own in {**lengths, "both": chosen}.items()},
    }
    made_of = {**{name: int(own.known.sum()) for name, own in judged.items()}, "data_hash": pairs.content_hash()}
    for models, content in ((near, pool), (far, distances)):
        card = models.exafs.card
        card[POOL] = {**asdict(content), "with": card_hash(models.xanes), "pairs": made_of, "metrics": metrics[card["task"]]}
        (folder / models.exafs.task.label / CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    list_materials(folder, pairs.materials)
    return metrics


@dataclass(frozen=True, eq=False)
class _Judged:
    """What the models say about the pairs of one part.

    Attributes:
        rows: (n,) of the EXAFS table.
        part: those rows.
        present: (n, MAX_Z) elements of the compounds.
        known: (n,) whether the XANES is in the domain of both XANES models, and the neighbours that EXAFS names are known to them: where
            one is not so, EXAFS answers alone.
        truth: (n, outputs) distances.
        evidence: what the neighbours models say.
        estimates: what the distance models say.
    """

    rows: NDArray[np.int64]
    part: SiteTable
    present: NDArray[np.bool_]
    known: NDArray[np.bool_]
    truth: NDArray[np.float64]
    evidence: Evidence
    estimates: Estimates

    def sites(self) -> Sites:
        """The sites that both models know, for a pool; the probabilities are those of EXAFS."""
        known = self.known
        return Sites(self.part.absorber[known], self.present[known], self.part.neighbours[known], self.evidence.exafs[known])


def _judge(near: Models, far: Models, pairs: Dataset, xanes: NDArray[np.int64], exafs: NDArray[np.int64], seed: int) -> _Judged:
    """Ask about one random draw of both spectra of each pair, given by their rows."""
    part, beside = pairs.tables["EXAFS"].take(exafs), pairs.tables["XANES"].take(xanes)
    inputs, other = drawn_inputs(far.exafs.task, part, seed), drawn_inputs(far.xanes.task, beside, seed)
    absorber = torch.as_tensor(part.absorber)
    position = far.xanes.task.position(other, other)
    outside = [model.outside(position, part.absorber) for model in (near.xanes, far.xanes)]
    seen, told = ((models.exafs.ensemble(inputs, absorber), models.xanes.ensemble(other, absorber)) for models in (near, far))
    known = np.array([not any(reasons) for reasons in zip(*outside, near.new_to_xanes(seen[0]), strict=True)], dtype=bool)
    truth = far.exafs.task.target(part).double().numpy()
    return _Judged(exafs, part, pairs.present("EXAFS")[exafs], known, truth, evidence(*seen), estimates(far, *told))


def _trained(folder: Path, seed: int) -> list[dict[str, Any]]:
    """Formula and prototype of the materials that the models of a family learned from, as its list of materials tells."""
    from pymatgen.core import Composition

    found = []
    for line in (folder / MATERIALS).read_text().splitlines():
        *_, formula, group = line.split()
        material = {"formula": formula, "prototype": f"{Composition(formula).anonymized_formula}-{group}"}
        if part_of(group_label(material), seed) == "train":
            found.append(material)
    return found

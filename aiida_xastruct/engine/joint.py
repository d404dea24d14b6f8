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
from .bundle import CARD, MATERIALS, FamilyBundle, ModelBundle, compose, distance_answer, neighbour_answer
from .dataset import Dataset, SiteTable, group_label, part_of
from .errors import DatasetError, ModelError, SpectrumError
from .measure import by_column, of_distances, of_neighbours, report_on
from .models.calibration import MINIMUM_SITES, DistanceCalibration, NeighbourCalibration, expected_error
from .models.composition import Sites
from .models.ensemble import Prediction
from .models.pooling import DistancePool, Estimates, Evidence, NeighbourPool, knowledge
from .models.tasks import drawn_inputs
from .spectrum import Spectrum, atomic_number, find_e0

#: Where the card of an EXAFS model says how its answers are weighed against those of XANES.
POOL = "pool"


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

    def known(self, absorber: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n,) how well the XANES model knows absorbers (n,)."""
        return knowledge(self.xanes.sites, absorber)

    def ask(self, exafs: Spectrum, xanes: Spectrum) -> tuple[Prediction, Prediction, str]:
        """What both say, and why the question is outside the domain, empty if inside.

        That the XANES model hardly knows the absorber is no reason: its answer weighs little then.
        """
        (said, outside), (beside, beyond) = self.exafs.ask([exafs]), self.xanes.ask([xanes])
        knows = self.xanes.sites.get(atomic_number(xanes.absorber), 0) >= MINIMUM_SITES
        return said, beside, outside[0] or (beyond[0] if knows else "")


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
    absorber = np.array([atomic_number(exafs.absorber)], dtype=np.int64)

    near = Models.of(family, "neighbours")
    pool = NeighbourPool.from_json(near.pool)
    said, beside, outside = near.ask(exafs, xanes)
    probability, calibration = pool(evidence(near, said, beside, absorber)), pool.calibration
    if elements_present is not None:
        probability, calibration = compose(pool.composition, probability, absorber, elements_present)
    named, whole = calibration.named(probability), calibration.whole(probability)
    neighbours = neighbour_answer(probability[0], named[0], whole[0], calibration.coverage, outside)

    far = Models.of(family, "distance")
    distances = DistancePool.from_json(far.pool)
    said, beside, outside = far.ask(exafs, xanes)
    value, expected = distances(estimates(far, said, beside, absorber))
    return merge_inverse(neighbours, distance_answer(value[0], expected[0], distances.calibration, outside))


def evidence(models: Models, exafs: Prediction, xanes: Prediction, absorber: NDArray[np.int64]) -> Evidence:
    """What neighbours models said about n sites, for a pool."""
    return Evidence(exafs.value.double().numpy(), xanes.value.double().numpy(), models.known(absorber))


def estimates(models: Models, exafs: Prediction, xanes: Prediction, absorber: NDArray[np.int64]) -> Estimates:
    """What distance models said about n sites, for a pool."""
    pairs = [
        (said.value.double().numpy(), expected_error(model.task, said.stated.numpy(), said.spread.numpy()))
        for model, said in ((models.exafs, exafs), (models.xanes, xanes))
    ]
    return Estimates(pairs[0], pairs[1], models.known(absorber))


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
    if masks["train"][exafs].any() or not all(masks[name][exafs].any() for name in ("select", "calibrate", "report")):
        raise DatasetError("the pairs are of other parts than select, calibrate and report; make them with the family's split seed.")
    group, present = pairs.group_of("EXAFS"), pairs.present("EXAFS")
    part, asked, rows = {}, {}, {}
    for index, (name, mask) in enumerate(masks.items()):
        chosen = mask[exafs]
        rows[name] = exafs[chosen]
        part[name] = pairs.tables["EXAFS"].take(rows[name])
        asked[name] = [
            drawn_inputs(far.exafs.task, part[name], index),
            drawn_inputs(far.xanes.task, pairs.tables["XANES"].take(xanes[chosen]), index),
        ]

    def said(models: Models, name: str) -> tuple[Prediction, Prediction, NDArray[np.int64]]:
        absorber = part[name].absorber
        return (
            models.exafs.ensemble(asked[name][0], torch.as_tensor(absorber)),
            models.xanes.ensemble(asked[name][1], torch.as_tensor(absorber)),
            absorber,
        )

    judged = ("select", "calibrate", "report")
    seen = {name: evidence(near, *said(near, name)) for name in judged}
    told = {name: estimates(far, *said(far, name)) for name in judged}
    truth = {name: far.exafs.task.target(part[name]).double().numpy() for name in judged}
    sites = {name: Sites(part[name].absorber, present[rows[name]], part[name].neighbours, seen[name].exafs) for name in judged[:2]}
    labels = group[rows["calibrate"]]
    assert near.exafs.composition is not None  # neighbours models have one
    assert near.xanes.composition is not None
    pool = NeighbourPool.fit(seen["select"], seen["calibrate"], sites, labels, near.exafs.composition)
    distances = DistancePool.fit(told["select"], truth["select"], told["calibrate"], truth["calibrate"], labels)

    known = {"train": SiteTable.join([part["select"], part["calibrate"]]), "report": part["report"]}
    report = report_on(pairs, "EXAFS", known, present[rows["report"]], _trained(folder, seed))
    source = np.array([pairs.materials[material]["source"] for material in part["report"].material])
    report = replace(report, columns=report.columns | {f"source_{name}": source == name for name in sorted(set(source.tolist()))})
    answers = {
        "EXAFS": (seen["report"].exafs, near.exafs.promises(NeighbourCalibration), near.exafs.composition),
        "XANES": (seen["report"].xanes, near.xanes.promises(NeighbourCalibration), near.xanes.composition),
        "both": (pool(seen["report"]), pool.calibration, pool.composition),
    }
    lengths = {
        "EXAFS": (*told["report"].exafs, far.exafs.promises(DistanceCalibration).factors),
        "XANES": (*told["report"].xanes, far.xanes.promises(DistanceCalibration).factors),
        "both": (*distances(told["report"]), distances.calibration.factors),
    }
    metrics = {
        "neighbours": {name: by_column(report, of_neighbours(report, *own)) for name, own in answers.items()},
        "distance": {name: by_column(report, of_distances(report, *own)) for name, own in lengths.items()},
    }
    made_of = {**{name: len(part[name]) for name in judged}, "data_hash": pairs.content_hash()}
    for models, content in ((near, pool), (far, distances)):
        card = models.exafs.card
        card[POOL] = {**asdict(content), "with": card_hash(models.xanes), "pairs": made_of, "metrics": metrics[card["task"]]}
        (folder / models.exafs.task.label / CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    return metrics


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

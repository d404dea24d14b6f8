"""Metrics of one model on one part of a dataset, beside what the absorber alone tells. These are the numbers on a model's card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .bundle import ModelBundle
from .dataset import Dataset, SiteTable
from .metrics import curve_r2, exact, macro_f1, micro_f1, micro_f1_within, r2, r2_within
from .models.baselines import absorber_mean, frequent_neighbours
from .models.calibration import DistanceCalibration, ForwardCalibration, NeighbourCalibration, expected_error
from .models.composition import CompositionModel
from .models.tasks import Task, curve_weight, numpy_curve_error
from .spectrum import EXAFS_GRID, element_symbol

Metrics = dict[str, float]
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: A block of the periodic table has a column of its own from this many sites on.
BLOCK_SITES = 150

OXYGEN = 8


@dataclass(frozen=True, eq=False)
class Report:
    """What a model is measured on.

    Attributes:
        train: what it was trained on; the baselines come from it.
        part: the rows to measure on.
        present: (n, MAX_Z) elements of the compound of each row of `part`.
        known_formula: (n,) whether a material of *train* has the formula, in another structure.
        columns: masks (n,) of the columns of a table; the first, `report`, is all rows.
    """

    train: SiteTable
    part: SiteTable
    present: Mask
    known_formula: Mask
    columns: dict[str, Mask]


def report_on(
    dataset: Dataset, kind: str, parts: dict[str, SiteTable], present: Mask, trained: Sequence[Mapping[str, Any]] | None = None
) -> Report:
    """What to measure on the report part: all of it, structure types seen in training and new ones, new formulas, and each block.

    Args:
        dataset: where the parts come from.
        kind: of the spectra.
        parts: of `Dataset.split`.
        present: (n, MAX_Z) elements of the compounds of the report part.
        trained: the materials trained on, where they are not those of the train part.
    """
    part = parts["report"]
    if trained is None:
        trained = [dataset.materials[material] for material in np.unique(parts["train"].material)]
    prototypes, formulas = ({material[name] for material in trained} for name in ("prototype", "formula"))
    own = [dataset.materials[material] for material in part.material]
    seen = np.array([material["prototype"] in prototypes for material in own], dtype=bool)
    known = np.array([material["formula"] in formulas for material in own], dtype=bool)
    columns = {"report": np.ones(len(part), dtype=bool), "seen_prototype": seen, "new_prototype": ~seen, "new_formula": ~known}
    blocks = np.array([_block(int(z)) for z in part.absorber], dtype=str)
    for block in "spdf":
        if (blocks == block).sum() >= BLOCK_SITES:
            columns[f"block_{block}"] = blocks == block
    return Report(parts["train"], part, present, known, columns)


def _block(z: int) -> str:
    from pymatgen.core import Element

    return str(Element(element_symbol(z)).block)


def measure(bundle: ModelBundle, report: Report, inputs: torch.Tensor) -> dict[str, Metrics]:
    """Metrics of a model.

    Args:
        bundle: the model.
        report: what to measure on.
        inputs: (n, n_in) network inputs of the part, drawn as the caller wants them drawn.

    Returns:
        numbers by name for each column that has rows; those of a baseline start with `baseline_`, and what does not exist is left out.
    """
    return by_column(
        report, {"forward": _forward, "distance": _distance, "neighbours": _neighbours}[bundle.task.name](bundle, report, inputs)
    )


def by_column(report: Report, metrics: Callable[[Mask], Metrics]) -> dict[str, Metrics]:
    """What `metrics` says of the rows of each column that has any, rounded; what does not exist is left out."""
    found = {}
    for name, rows in report.columns.items():
        if rows.any():
            materials = np.unique(report.part.material[rows])
            known = np.unique(report.part.material[rows & report.known_formula])
            numbers = {"sites": int(rows.sum()), "materials": len(materials), "materials_of_known_formula": len(known)}
            values = {key: round(float(value), 5) for key, value in metrics(rows).items()}
            found[name] = numbers | {key: value for key, value in values.items() if np.isfinite(value)}
    return found


def _surest_half(expected: Array, error: Array) -> float:
    """Mean error of the half of the answers that the model is surest of, over that of all."""
    surest = np.argsort(expected, kind="stable")[: max(len(expected) // 2, 1)]
    return float(error[surest].mean() / error.mean()) if error.mean() > 0 else float("nan")


def _forward(bundle: ModelBundle, report: Report, inputs: torch.Tensor) -> Callable[[Mask], Metrics]:
    kind, part, train = bundle.task.kind, report.part, report.train
    said = bundle.ensemble(inputs, torch.as_tensor(part.absorber))
    calibration = bundle.promises(ForwardCalibration)
    position = bundle.task.position(bundle.task.source(part), inputs)
    expected = bundle.expected_curve_error(said, bundle.domain.score(position, part.absorber))
    value, target = said.value.double().numpy(), part.target.astype(np.float64)
    error = numpy_curve_error(value, target, kind)
    mean = absorber_mean(train.target, train.absorber)[part.absorber]
    baseline = numpy_curve_error(mean, target, kind)
    inside = np.asarray(~(np.abs(value - target) > calibration.half_band(expected)).any(axis=1))
    accepted = (expected <= calibration.threshold) & ~np.array([bool(reason) for reason in bundle.outside(position, part.absorber)])
    used = slice(None) if kind == "XANES" else (EXAFS_GRID >= 3.0) & (EXAFS_GRID <= 12.0)
    fit = curve_r2(value[:, used], target[:, used], curve_weight(kind).numpy()[used])

    def metrics(rows: Mask) -> Metrics:
        answered = accepted & rows
        found = {
            "mse": (error[rows] ** 2).mean(),
            "baseline_mse": (baseline[rows] ** 2).mean(),
            "rmse_median": np.median(error[rows]),
            "baseline_rmse_median": np.median(baseline[rows]),
            "r2_median": np.median(fit[rows]),
            "surest_half_error_ratio": _surest_half(expected[rows], error[rows]),
            "whole_spectrum_in_band": inside[rows].mean(),
            "error_below_bound": (error[rows] <= calibration.bound * expected[rows]).mean(),
            "answered_without_feff": answered.sum() / rows.sum(),
        }
        if answered.any():
            found["mse_where_answered"] = (error[answered] ** 2).mean()
            found["too_wrong_where_answered"] = (error[answered] > calibration.risk_target).mean()
        return found

    return metrics


def risk_coverage(bundle: ModelBundle, report: Report, inputs: torch.Tensor) -> dict[str, list[float]]:
    """The risk-coverage curve of a forward model: mean square error of the share of the spectra that it is surest of."""
    part = report.part
    said = bundle.ensemble(inputs, torch.as_tensor(part.absorber))
    expected = bundle.expected_curve_error(said, bundle.domain.score(bundle.task.position(bundle.task.source(part), inputs), part.absorber))
    error = numpy_curve_error(said.value.numpy(), part.target, bundle.task.kind)
    surest = np.argsort(expected, kind="stable")
    shares = [step / 10 for step in range(1, 11)]
    kept = [surest[: max(round(share * len(surest)), 1)] for share in shares]
    return {
        "share": shares,
        "expected_error": [round(float(expected[own[-1]]), 5) for own in kept],
        "mse": [round(float((error[own] ** 2).mean()), 5) for own in kept],
    }


def _distance(bundle: ModelBundle, report: Report, inputs: torch.Tensor) -> Callable[[Mask], Metrics]:
    said = bundle.ensemble(inputs, torch.as_tensor(report.part.absorber))
    expected = expected_error(bundle.task, said.stated.numpy(), said.spread.numpy())
    half = bundle.promises(DistanceCalibration).factors[0] * expected[:, 0]
    return of_distances(report, said.value.double().numpy(), expected, half)


def of_distances(report: Report, value: Array, expected: Array, half: Array) -> Callable[[Mask], Metrics]:
    """Metrics of distances (n, outputs) with expected errors (n, outputs), and half-widths (n,) of the intervals of the mean distance."""
    part, train = report.part, report.train
    target = Task("distance", "EXAFS").target(part).double().numpy()  # the same of both kinds
    mean = absorber_mean(train.mean_distance[:, None], train.absorber)[part.absorber, 0]
    error = np.abs(value - target)

    def metrics(rows: Mask) -> Metrics:
        own = error[rows, 0]
        return {
            "mae": own.mean(),
            "baseline_mae": np.abs(mean - target[:, 0])[rows].mean(),
            "median_error": np.median(own),
            "r2": r2(value[rows, 0], target[rows, 0]),
            "r2_within_absorber": r2_within(value[rows, 0], target[rows, 0], part.absorber[rows]),
            "nearest_mae": error[rows, 1].mean(),
            "coverage90": (own <= half[rows]).mean(),
            "interval_half_width_median": np.median(half[rows]),
            "surest_half_error_ratio": _surest_half(expected[rows, 0], own),
        }

    return metrics


def _neighbours(bundle: ModelBundle, report: Report, inputs: torch.Tensor) -> Callable[[Mask], Metrics]:
    assert bundle.composition is not None  # a neighbours model
    probability = bundle.ensemble(inputs, torch.as_tensor(report.part.absorber)).value.double().numpy()
    said = Named.of(probability, bundle.promises(NeighbourCalibration), bundle.composition, report.part.absorber, report.present)
    return of_neighbours(report, said)


@dataclass(frozen=True, eq=False)
class Named:
    """Neighbours as n answers name them, arrays (n, MAX_Z).

    Attributes:
        probability: of each element.
        found: the elements that answer best.
        whole: those of the conformal set.
        found_of: as `found` where the elements of the sample are known, and
        whole_of: as `whole`.
        guessed: what the elements of the sample tell without a spectrum.
    """

    probability: Array
    found: Mask
    whole: Mask
    found_of: Mask
    whole_of: Mask
    guessed: Mask

    @classmethod
    def of(
        cls,
        probability: Array,
        calibration: NeighbourCalibration,
        composition: CompositionModel,
        absorber: NDArray[np.int64],
        present: Mask,
    ) -> Named:
        """From probabilities and what was calibrated for them, for absorbers (n,) in compounds of elements `present` (n, MAX_Z)."""
        joint, own = composition(probability, absorber, present), composition.calibration
        guessed = NeighbourCalibration(1.0, 0.5, 0.0).named(composition.guess(absorber, present))
        named, whole = calibration.named(probability), calibration.whole(probability, absorber)
        return cls(probability, named, whole, own.named(joint), own.whole(joint, absorber), guessed)

    def where(self, rows: Mask, other: Named) -> Named:
        """These answers at the given rows (n,), `other` elsewhere."""
        return Named(*(np.where(rows[:, None], getattr(self, item.name), getattr(other, item.name)) for item in fields(Named)))


def of_neighbours(report: Report, said: Named) -> Callable[[Mask], Metrics]:
    """Metrics of what was said about the sites of a report."""
    part, train, true = report.part, report.train, report.part.neighbours
    probability, found, whole, found_of, whole_of, guessed = (getattr(said, item.name) for item in fields(Named))
    prior = frequent_neighbours(train.neighbours, train.absorber)[part.absorber]
    frequency = absorber_mean(train.neighbours.astype(np.float64), train.absorber)[part.absorber]
    covered, covered_of = (np.asarray((mask | ~true).all(axis=1)) for mask in (whole, whole_of))
    doubt = np.asarray(np.abs(found - probability).sum(axis=1))

    def metrics(rows: Mask) -> Metrics:
        own = true[rows]
        metal = rows & ~report.present[:, OXYGEN]
        return {
            "micro_f1": micro_f1(found[rows], own),
            "baseline_micro_f1": micro_f1(prior[rows], own),
            "macro_f1": macro_f1(found[rows], own, least=20),
            "baseline_macro_f1": macro_f1(prior[rows], own, least=20),
            "exact": exact(found[rows], own),
            "baseline_exact": exact(prior[rows], own),
            "exact_without_oxygen": exact(found[metal], true[metal]) if metal.any() else np.nan,
            "baseline_exact_without_oxygen": exact(prior[metal], true[metal]) if metal.any() else np.nan,
            "f1_within_2": micro_f1_within(found[rows], own),
            "baseline_f1_within_2": micro_f1_within(prior[rows], own),
            "top1": own[np.arange(len(own)), probability[rows].argmax(axis=1)].mean(),
            "coverage90": covered[rows].mean(),
            "materials_covered": _all_sites(covered[rows], part.material[rows]),
            "set_size": whole[rows].sum(axis=1).mean(),
            "baseline_set_size": _size_at(frequency[rows], own, float(covered[rows].mean())),
            "surest_half_error_ratio": _surest_half(doubt[rows], (found[rows] != own).any(axis=1).astype(np.float64)),
            "elements_known_micro_f1": micro_f1(found_of[rows], own),
            "baseline_elements_known_micro_f1": micro_f1(guessed[rows], own),
            "elements_known_exact": exact(found_of[rows], own),
            "baseline_elements_known_exact": exact(guessed[rows], own),
            "elements_known_coverage90": covered_of[rows].mean(),
            "elements_known_set_size": whole_of[rows].sum(axis=1).mean(),
        }

    return metrics


def _all_sites(covered: Mask, material: NDArray[np.int64]) -> float:
    """Share of materials whose sites are all covered."""
    return float(np.mean([covered[material == label].all() for label in np.unique(material)]))


def _size_at(probability: Array, true: Mask, coverage: float) -> float:
    """Mean size of the sets above the threshold on `probability` (n, elements) at which they cover the given share of the rows."""
    least = np.sort(np.where(true, probability, np.inf).min(axis=1))[::-1]
    threshold = least[max(int(np.ceil(coverage * len(least) - 1e-9)) - 1, 0)]
    return float((probability >= threshold).sum(axis=1).mean())

"""Metrics of one model on one part of a dataset, beside what the absorber alone tells. These are the numbers on a model's card."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .bundle import ModelBundle
from .dataset import SiteTable
from .metrics import curve_r2, exact, macro_f1, micro_f1, r2, r2_within
from .models.baselines import absorber_mean, frequent_neighbours
from .models.calibration import DistanceCalibration, ForwardCalibration, NeighbourCalibration, curve_spread, expected_error
from .models.tasks import curve_weight, numpy_curve_error
from .spectrum import EXAFS_GRID

Metrics = dict[str, Any]


def measure(bundle: ModelBundle, train: SiteTable, part: SiteTable, inputs: torch.Tensor) -> Metrics:
    """Metrics of a model on a part.

    Args:
        bundle: the model.
        train: what it was trained on; the baselines come from it.
        part: what to measure on.
        inputs: (n, n_in) network inputs of `part`, drawn as the caller wants them drawn.

    Returns:
        numbers by name; those of the baseline start with `baseline_`.
    """
    measures = {"forward": _forward, "distance": _distance, "neighbours": _neighbours}
    found = measures[bundle.task.name](bundle, train, part, inputs)
    return {"sites": len(part), **{name: round(float(value), 5) for name, value in found.items()}}


def _surest_half(expected: NDArray[np.float64], error: NDArray[np.float64]) -> float:
    """Mean error of the half of the answers that the model is surest of, over that of all."""
    surest = np.argsort(expected)[: max(len(expected) // 2, 1)]
    return float(error[surest].mean() / error.mean())


def _forward(bundle: ModelBundle, train: SiteTable, part: SiteTable, inputs: torch.Tensor) -> Metrics:
    kind = bundle.task.kind
    said = bundle.ensemble(inputs, torch.as_tensor(part.absorber))
    calibration = ForwardCalibration.from_json(bundle.card["calibration"])
    position = bundle.task.position(bundle.task.source(part), inputs)
    scores = bundle.domain.score(position)
    expected = calibration.error_model(said.stated[:, 0].double().numpy(), curve_spread(said.spread.numpy(), kind), scores)
    value, target = said.value.double().numpy(), part.target.astype(np.float64)
    error = numpy_curve_error(value, target, kind)
    mean = absorber_mean(train.target, train.absorber)[part.absorber]
    baseline = numpy_curve_error(mean, target, kind)
    ratio = np.abs(value - target) / (expected[:, None] * np.array(calibration.profile))
    outside = np.array([bool(reason) for reason in bundle.outside(position, part.absorber)])
    accepted = (expected <= calibration.threshold) & ~outside
    used = slice(None) if kind == "XANES" else (EXAFS_GRID >= 3.0) & (EXAFS_GRID <= 12.0)
    weight = curve_weight(kind).numpy()[used]
    found = {
        "mse": (error**2).mean(),
        "baseline_mse": (baseline**2).mean(),
        "rmse_median": np.median(error),
        "baseline_rmse_median": np.median(baseline),
        "r2_median": np.median(curve_r2(value[:, used], target[:, used], weight)),
        "surest_half_error_ratio": _surest_half(expected, error),
        "whole_spectrum_in_band": (np.nanmax(ratio, axis=1) <= calibration.simultaneous).mean(),
        "answered_without_feff": accepted.mean(),
    }
    if accepted.any():
        found["mse_where_answered"] = (error[accepted] ** 2).mean()
    return found


def _distance(bundle: ModelBundle, train: SiteTable, part: SiteTable, inputs: torch.Tensor) -> Metrics:
    said = bundle.ensemble(inputs, torch.as_tensor(part.absorber))
    value, target = said.value.double().numpy(), bundle.task.target(part).double().numpy()
    expected = expected_error(bundle.task, said.stated.numpy(), said.spread.numpy())
    factors = DistanceCalibration(tuple(bundle.card["calibration"]["factors"])).factors
    half = factors[0] * expected[:, 0]
    mean = absorber_mean(train.mean_distance[:, None], train.absorber)[part.absorber, 0]
    error = np.abs(value - target)
    return {
        "mae": error[:, 0].mean(),
        "baseline_mae": np.abs(mean - target[:, 0]).mean(),
        "median_error": np.median(error[:, 0]),
        "r2": r2(value[:, 0], target[:, 0]),
        "r2_within_absorber": r2_within(value[:, 0], target[:, 0], part.absorber),
        "nearest_mae": error[:, 1].mean(),
        "coverage90": (error[:, 0] <= half).mean(),
        "interval_half_width_median": np.median(half),
        "surest_half_error_ratio": _surest_half(expected[:, 0], error[:, 0]),
    }


def _neighbours(bundle: ModelBundle, train: SiteTable, part: SiteTable, inputs: torch.Tensor) -> Metrics:
    probability = bundle.ensemble(inputs, torch.as_tensor(part.absorber)).value.double().numpy()
    calibration = NeighbourCalibration(**bundle.card["calibration"])
    true = part.neighbours
    found = named_neighbours(probability, calibration.best_threshold)
    whole = probability >= calibration.set_threshold
    prior = frequent_neighbours(train.neighbours, train.absorber)[part.absorber]
    return {
        "micro_f1": micro_f1(found, true),
        "baseline_micro_f1": micro_f1(prior, true),
        "macro_f1": macro_f1(found, true, least=20),
        "baseline_macro_f1": macro_f1(prior, true, least=20),
        "exact": exact(found, true),
        "baseline_exact": exact(prior, true),
        "top1": true[np.arange(len(part)), probability.argmax(axis=1)].mean(),
        "coverage90": (whole | ~true).all(axis=1).mean(),
        "set_size": whole.sum(axis=1).mean(),
    }


def named_neighbours(probability: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """(n, elements) elements that an answer names: those above the threshold, and always the likeliest."""
    found = probability >= threshold
    found[np.arange(len(found)), probability.argmax(axis=1)] = True
    return found

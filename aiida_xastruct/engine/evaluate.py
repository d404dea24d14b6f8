"""Metrics of a family on any file of spectra: what the final exam is taken with.

The forward part predicts each spectrum of the file from its structure and compares on the file's own energies in FEFF's normalisation;
the inverse part infers each spectrum's local structure and compares with CrystalNN's first shell.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .bundle import FamilyBundle, ModelBundle
from .dataset import MAX_Z
from .errors import DatasetError, ModelError, SpectrumError
from .features import site_rows
from .metrics import exact, macro_f1, micro_f1, r2, r2_within
from .models.calibration import DistanceCalibration, NeighbourCalibration, expected_error
from .prepare import MINIMUM_POINTS, Record, read_jsonl, unfit
from .sitecache import SiteFacts, StructureFacts, compute_facts, structure_hash
from .spectrum import FloatArray, Spectrum, atomic_number, find_e0, model_curve, smooth_background, tabulated_edge


def evaluate(family: FamilyBundle, spectra: Path, structures: Path, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Metrics of a family on a pair of files in the format of ../shared/data/README.md.

    Args:
        family: the models.
        spectra: `*.spectra.jsonl.gz`.
        structures: `*.structures.jsonl.gz`.
        progress: called with (structures done, structures in all).

    Returns:
        nested dictionary: `forward.<kind>.<absorber>.mse`, `forward.<kind>.all.mse`, `inverse.<kind>.distance.*`,
        `inverse.<kind>.neighbours.*`, `flagged_out_of_domain` (share of all answers), `refused` (reasons and counts), `n` (spectra used).

    Raises:
        DatasetError: if no spectrum of the file can be used.
    """
    by_structure: dict[str, list[Record]] = defaultdict(list)
    rows: dict[str, list[_Row]] = defaultdict(list)
    refused: dict[str, int] = defaultdict(int)

    def refuse(reason: str) -> None:
        refused[reason] += 1

    for record in read_jsonl(spectra, structures, refuse):
        if reason := unfit(record):
            refuse(reason)
        else:
            by_structure[structure_hash(record.structure)].append(record)
    for done, records in enumerate(by_structure.values(), start=1):
        facts = _facts(records)
        for record in records:
            if facts.refused:
                refuse(facts.refused)
                continue
            try:
                rows[record.spectrum.kind].append(_Row(record, facts.sites[record.site]))
            except SpectrumError as error:
                refuse(str(error))
        if progress:
            progress(done, len(by_structure))
    if not any(rows.values()):
        raise DatasetError(f"no spectrum in {spectra.name} can be used; the first reason is: {next(iter(refused), 'the file is empty')}.")
    result: dict[str, Any] = {"forward": {}, "inverse": {}}
    flags: list[bool] = []
    for kind, own in rows.items():
        for name, part in (("forward", _forward), ("inverse", _inverse)):
            try:
                result[name][kind], flagged = part(family, own, kind)
            except ModelError as error:
                result[name][kind] = {"unanswered": str(error)}
                continue
            flags.extend(flagged)
    result["flagged_out_of_domain"] = float(np.mean(flags)) if flags else float("nan")
    result["refused"] = dict(refused)
    result["n"] = sum(len(own) for own in rows.values())
    return result


def _facts(records: list[Record]) -> StructureFacts:
    """Of the sites of records of one structure; an exam goes on whatever the libraries below make of a damaged structure."""
    try:
        return compute_facts(records[0].structure, sorted({record.site for record in records}))
    except Exception as error:  # pymatgen, spglib and torch each have their own
        return StructureFacts(1, "", f"the structure cannot be worked on ({type(error).__name__})", {})


class _Row:
    """A record, its curve and the truth about its site."""

    def __init__(self, record: Record, facts: SiteFacts) -> None:
        self.record, self.facts, self.spectrum = record, facts, record.spectrum
        self.e0 = find_e0(record.spectrum)
        self.curve = model_curve(record.spectrum).astype(np.float32)
        self.absorber = atomic_number(record.spectrum.absorber)
        if np.isfinite(self.curve).sum() < MINIMUM_POINTS:
            raise SpectrumError("the spectrum covers too little of the range that models work on.")


def feff_curve(bundle: ModelBundle, flat: FloatArray, grid_energy: FloatArray, spectrum: Spectrum, engine: str) -> FloatArray:
    """A predicted flat curve in FEFF's normalisation on a spectrum's own energies.

    XANES: the model's energies are moved to where this engine puts the element's edge, where that is tabulated, and the smooth
    background is put back; below the model's grid the curve follows the tail of its edge, beyond it keeps its last value. EXAFS:
    1 + chi times the spectrum's mu0, where it has one.

    Returns:
        (n,) mu on `spectrum.energy`.
    """
    edge = tabulated_edge(spectrum.absorber, spectrum.edge) + bundle.edge_shift(spectrum.absorber, engine)
    if spectrum.kind == "EXAFS":
        e0 = find_e0(spectrum)
        value = np.interp(spectrum.energy - e0, grid_energy, flat, left=1.0, right=1.0)
        return np.asarray(value * (spectrum.mu0 if spectrum.mu0 is not None else smooth_background(spectrum.energy, e0)))
    above = spectrum.energy - edge
    value = np.where(above < grid_energy[0], edge_tail(above, grid_energy, flat), np.interp(above, grid_energy, flat))
    return np.asarray(value * smooth_background(spectrum.energy, edge), dtype=np.float64)


def edge_tail(energy: FloatArray, grid_energy: FloatArray, flat: FloatArray) -> FloatArray:
    """The onset of an edge (n,) at energies (n,) below a curve: a step widened by the core hole's Lorentzian falls as 1 / (edge - E).

    So 1 / mu is a line; its slope is that of the curve's first two steps, where the curve rises.
    """
    first, later = max(float(flat[0]), 0.01), max(float(flat[2]), 0.01)
    slope = max(1.0 / first - 1.0 / later, 0.0) / (grid_energy[2] - grid_energy[0])
    return np.asarray(1.0 / (1.0 / first + slope * np.maximum(grid_energy[0] - energy, 0.0)), dtype=np.float64)


def _forward(family: FamilyBundle, rows: list[_Row], kind: str) -> tuple[dict[str, Any], list[bool]]:
    bundle = family.model("forward", kind)
    features = np.concatenate([site_rows(row.record.structure, [row.record.site], row.facts.features[None]) for row in rows])
    answers = bundle.predict_from_features(features, [row.spectrum.absorber for row in rows])
    errors: dict[str, list[float]] = defaultdict(list)
    for row, answer in zip(rows, answers, strict=True):
        assert answer.spectrum.e0 is not None
        above = answer.spectrum.energy - answer.spectrum.e0
        predicted = feff_curve(bundle, answer.spectrum.mu, above, row.spectrum, row.record.engine)
        error = float(np.mean((predicted - row.spectrum.mu) ** 2))
        errors[row.spectrum.absorber].append(error)
    result: dict[str, Any] = {element: {"mse": float(np.mean(own)), "n": len(own)} for element, own in sorted(errors.items())}
    result["all"] = {"mse": float(np.mean(np.concatenate(list(errors.values())))), "n": len(rows)}
    return result, [not answer.in_domain for answer in answers]


def _inverse(family: FamilyBundle, rows: list[_Row], kind: str) -> tuple[dict[str, Any], list[bool]]:
    rows = [row for row in rows if row.facts.shell is not None]
    if not rows:
        return {"unanswered": "CrystalNN finds no first shell around any of the sites"}, []
    far, near = family.model("distance", kind), family.model("neighbours", kind)
    absorber = np.array([row.absorber for row in rows], dtype=np.int64)
    inputs = far.task.inputs(torch.as_tensor(np.stack([row.curve for row in rows]))[:, None])
    said = far.ensemble(inputs, torch.as_tensor(absorber))
    probability = near.ensemble(inputs, torch.as_tensor(absorber)).value.double().numpy()
    true_distance, true_neighbours = _truth(rows)
    intervals = far.promises(DistanceCalibration)
    value = said.value.double().numpy()[:, 0]
    half = intervals.factors[0] * expected_error(far.task, said.stated.numpy(), said.spread.numpy())[:, 0]
    sets = near.promises(NeighbourCalibration)
    best, whole = sets.named(probability), sets.whole(probability, absorber)
    result = {
        "distance": {
            "mae": float(np.abs(value - true_distance).mean()),
            "r2": r2(value, true_distance),
            "r2_within_absorber": r2_within(value, true_distance, absorber),
            f"coverage{intervals.coverage * 100:.0f}": float((np.abs(value - true_distance) <= half).mean()),
            "n": len(rows),
        },
        "neighbours": {
            "micro_f1": micro_f1(best, true_neighbours),
            "macro_f1": macro_f1(best, true_neighbours),
            "exact": exact(best, true_neighbours),
            f"coverage{sets.coverage * 100:.0f}": float((whole | ~true_neighbours).all(axis=1).mean()),
            "set_size": float(whole.sum(axis=1).mean()),
            "n": len(rows),
        },
    }
    return result, [bool(reason) for reason in far.outside(far.task.position(inputs, inputs), absorber)]


def _truth(rows: list[_Row]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Mean distance (n,) and neighbours (n, MAX_Z) by CrystalNN."""
    distance = np.zeros(len(rows))
    neighbours = np.zeros((len(rows), MAX_Z), dtype=bool)
    for index, row in enumerate(rows):
        assert row.facts.shell is not None
        distance[index] = row.facts.shell.mean_distance
        neighbours[index, [atomic_number(element) for element in row.facts.shell.neighbour_set]] = True
    return distance, neighbours

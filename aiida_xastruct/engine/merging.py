"""Scans of one sample, one spectrum: their mean without glitches, and how far the scans agree. Energies are in eV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .edge_check import check_edge, likely_edge
from .errors import SpectrumError
from .scans import Scan, ScanParameters
from .spectrum import FloatArray, Spectrum, edge_of, find_e0, tabulated_edge

#: A reading this many times the usual spread away from the other scans is a glitch and is left out of the merge.
GLITCH = 6.0

#: A scan that takes more than this share of the others' range is one that was stopped.
MOST_LOST = 0.2

#: Another scan's grid is taken where it has so many times as many points as the first one's.
FINER = 1.5

#: Where the scans are laid over each other, eV from the edge, and the shifts that are tried.
AROUND_EDGE = (-30.0, 60.0)
SHIFTS = np.arange(-6.0, 6.01, 0.25)

#: From what on a scan disagrees with the others: eV between their edges, share of their edge step, share of readings.
FAR, LEAST_HEIGHT, MOST_REJECTED = 1.0, 0.3, 0.05


def merge(scans: Sequence[Scan], parameters: ScanParameters | None = None) -> Spectrum:
    """One spectrum of several scans of one sample.

    The grid is the first scan's where all overlap, or that of one that is much finer. A reading that lies far from the other scans' gives
    way to theirs, once the scans are brought to one height and step (a straight line from each to their median): three or more scans
    therefore outvote a glitch. How far the scans agree is in the settings, scan by scan: `shifts` in eV from the others, `heights` in their
    edge steps, `rejected` readings; `disagreements` says it in words.

    Args:
        scans: of the same absorber and edge.
        parameters: absorber, edge and kind, where the headers do not say.

    Returns:
        The mean, method measured, energies as the beamline gave them (`nominal`), normalisation raw.

    Raises:
        SpectrumError: if there is no scan, they disagree on the edge, do not overlap, do not cover the edge, or one was stopped long
            before the others and not all are to be read as XANES.
    """
    parameters = parameters or ScanParameters()
    if not scans:
        raise SpectrumError("there is no scan to merge; give at least one file.")
    absorber, edge = _edge(scans, parameters)
    low, high = max(scan.energy[0] for scan in scans), min(scan.energy[-1] for scan in scans)
    grids = [scan.energy[(scan.energy >= low) & (scan.energy <= high)] for scan in scans]
    finest = max(grids, key=len)
    grid = finest if len(finest) > FINER * len(grids[0]) else grids[0]
    if len(grid) < 10:
        raise SpectrumError(f"the scans overlap in {len(grid)} points only; merge scans of one range.")
    if parameters.kind != "XANES":
        _check_ends(scans)
    curves = np.array([np.interp(grid, scan.energy, scan.mu) for scan in scans])
    mended, keep = _without_glitches(grid, curves)
    mu = mended.mean(axis=0)
    spread = float(np.median(np.std(curves, axis=0))) if len(scans) > 1 else None
    tabulated = tabulated_edge(absorber, edge)
    kind = parameters.kind or ("EXAFS" if grid[-1] - tabulated >= 250.0 else "XANES")
    spectrum = Spectrum(
        energy=grid,
        mu=mu,
        absorber=absorber,
        edge=edge,
        kind=kind,  # type: ignore[arg-type]
        method="measured",
        energy_reference="nominal",
        normalisation="raw",
        settings={
            "files": [scan.name for scan in scans],
            "formula": scans[0].formula,
            "n_scans": len(scans),
            "n_glitches": int((~keep).sum()),
            "spread_between_scans": spread,
            "orders": [scan.order for scan in scans],
            **({"xdi": header} if (header := _common_header(scans)) else {}),
        },
    )
    check_edge(spectrum)
    if len(scans) < 2:
        return spectrum
    shifts, heights = _agreement(grid, curves, find_e0(spectrum))
    agreement = {"shifts": shifts, "heights": heights, "rejected": (~keep).sum(axis=1).tolist()}
    return replace(spectrum, settings={**spectrum.settings, **agreement})


def disagreements(spectrum: Spectrum) -> list[str]:
    """What a reader should know of the scans that a spectrum is the mean of, a sentence each; empty where they agree."""
    settings = spectrum.settings
    names, shifts, heights, rejected = (settings.get(name) or [] for name in ("files", "shifts", "heights", "rejected"))
    if not len(names) == len(shifts) == len(heights) == len(rejected):
        return []
    found = []
    for name, shift, height, out in zip(names, shifts, heights, rejected, strict=True):
        if height is not None and height < LEAST_HEIGHT:
            found.append(f"{name} has {max(round(100 * height), 0)} % of the other scans' edge step: leave it out.")
        elif shift is not None and abs(shift) >= FAR:
            found.append(f"{name} lies {shift:+.1f} eV from the other scans: calibrate the scans, or leave it out.")
        elif out > MOST_REJECTED * len(spectrum):
            found.append(f"{name} disagrees with the other scans in {100 * out / len(spectrum):.0f} % of its readings: leave it out.")
    return found


def _check_ends(scans: Sequence[Scan]) -> None:
    """Raise SpectrumError where a scan ends, or begins, so far from the others that it would cut them all."""
    starts, ends = sorted(scan.energy[0] for scan in scans), sorted(scan.energy[-1] for scan in scans)
    usual = starts[(len(scans) - 1) // 2], ends[len(scans) // 2]
    most = MOST_LOST * (usual[1] - usual[0])
    for scan in scans:
        start, end = scan.energy[0], scan.energy[-1]
        for word, there, lost in (("ends", end, usual[1] - end), ("begins", start, start - usual[0])):
            if lost > most:
                raise SpectrumError(
                    f"{scan.name} {word} at {there:.0f} eV, {lost:.0f} eV inside the range of the other scans, which it would cut; leave "
                    "it out, or read all as XANES (kind XANES) if their common range is what you want."
                )


def _agreement(grid: FloatArray, curves: FloatArray, e0: float) -> tuple[list[float | None], list[float | None]]:
    """For each of two or more curves (scans, n), eV that it lies above the others around the edge, and its step over theirs.

    Of three or more the others are their median; None where a curve or the others are flat, or too few points lie around the edge.
    """
    near = (grid >= e0 + AROUND_EDGE[0]) & (grid <= e0 + AROUND_EDGE[1])
    x = grid[near]
    shifts: list[float | None] = []
    heights: list[float | None] = []
    for index, curve in enumerate(curves):
        other = (curves[1 - index] if len(curves) == 2 else np.median(curves, axis=0))[near]
        if near.sum() < 14 or not np.ptp(other) > LEAST_HEIGHT * np.ptp(curve[near]):  # beside a dead scan there is nothing to compare
            shifts.append(None)
            heights.append(None)
            continue
        basis = np.column_stack([np.ones_like(x), (x - e0) / AROUND_EDGE[1], other])
        moved = np.array([np.interp(x + shift, grid, curve) for shift in SHIFTS])
        fits = np.linalg.lstsq(basis, moved.T, rcond=None)[0]
        misfit = ((moved - fits.T @ basis.T) ** 2).sum(axis=1)
        # Of equal misfits the least shift.
        best = min(range(len(SHIFTS)), key=lambda place: (misfit[place], abs(SHIFTS[place])))
        height = float(fits[2, best])
        heights.append(round(height, 4))
        shifts.append(float(SHIFTS[best]) if height >= LEAST_HEIGHT else None)
    return shifts, heights


def _common_header(scans: Sequence[Scan]) -> dict[str, dict[str, Any]]:
    """Fields of the scans' heads: the value where all that have it agree, else the list of values."""
    values: dict[str, dict[str, list[str]]] = {}
    for scan in scans:
        for namespace, tags in scan.header.items():
            for tag, value in tags.items():
                values.setdefault(namespace, {}).setdefault(tag, []).append(value)
    return {
        namespace: {tag: found[0] if len(set(found)) == 1 else found for tag, found in tags.items()} for namespace, tags in values.items()
    }


def _edge(scans: Sequence[Scan], parameters: ScanParameters) -> tuple[str, str]:
    """Absorber and edge, the same in all scans."""
    found = []
    for name in ("absorber", "edge"):
        stated = {getattr(scan, name) for scan in scans} - {""}
        given = getattr(parameters, name)
        if len(stated) > 1 and not given:
            raise SpectrumError(f"the scans are of different kinds ({name} {', '.join(sorted(stated))}); merge scans of one edge.")
        found.append(given or next(iter(stated), ""))
    absorber, edge = found
    if not absorber:
        likely = likely_edge(scans[0].energy, scans[0].mu)
        hint = f"; their energies suggest the {likely}" if likely else ""
        element = likely.absorber if likely else "Fe"
        raise SpectrumError(f"the files do not say which element absorbs{hint}: name it (absorber '{element}', or --absorber {element}).")
    return absorber, edge or edge_of(absorber)


def _without_glitches(grid: FloatArray, curves: FloatArray) -> tuple[FloatArray, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Curves (scans, n) without readings that disagree with those of the other scans, and (scans, n) which agree.

    In the place of a reading that does not comes the other scans' median, at this scan's own height and step: left out of the mean, a scan
    that lies higher than the others would leave a step. All agree of fewer than three scans.
    """
    if len(curves) < 3:
        return curves, np.ones(curves.shape, dtype=bool)
    median = np.median(curves, axis=0)
    basis = np.column_stack([np.ones_like(grid), (grid - grid[0]) / (grid[-1] - grid[0]), median])
    away = np.array([basis @ np.linalg.lstsq(basis, curve - median, rcond=None)[0] for curve in curves])
    levelled = curves - away
    middle = np.median(levelled, axis=0)
    distance = np.abs(levelled - middle)
    # The usual spread here, from the neighbouring points: on the edge itself a small drift in energy is a large difference in mu.
    usual = np.median(distance, axis=0)
    width = min(15, len(grid))
    local = np.array([np.median(usual[max(0, i - width) : i + width + 1]) for i in range(len(grid))])
    slope = np.abs(np.gradient(median, grid)) * 0.5
    allowed = GLITCH * np.maximum(local, 1e-3 * np.ptp(median)) + slope
    keep = distance <= allowed
    # At least two scans stay at each point, or the vote means nothing.
    keep[:, keep.sum(axis=0) < 2] = True
    return np.where(keep, curves, middle + away), np.asarray(keep)

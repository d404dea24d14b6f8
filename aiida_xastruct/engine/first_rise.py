"""Where a reference has its edge when energies are calibrated: the first rise, which tables of edges mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .spectrum import Spectrum, find_e0

#: eV on both sides of the steepest rise in which rises are looked for, and from point to point there.
AROUND, STEP = 25.0, 0.25

#: A rise is a maximum of the slope that is at least this share of the steepest one in the window.
SHARE = 0.4

#: Least standard deviation of the Gaussian that smooths, eV, and the share of the core hole's width that it has where that is more.
LEAST_WIDTH, OF_CORE_HOLE = 0.75, 0.25


def first_rise(spectrum: Spectrum) -> float:
    """Energy of the first inflection of an edge, eV.

    The edges of some metals (Mn, Zr, Mo, Ru, Rh, Pd at K) rise in two steps some 10 eV apart, and the upper may be the steeper. Where the
    first is the steepest too the answer is `find_e0`'s, so that a calibrated foil has its E0 where it was put.

    Args:
        spectrum: measured; an E0 that it states is not looked at.

    Raises:
        SpectrumError: if it does not cover its edge.
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks
    from xraydb import core_width

    steepest = find_e0(replace(spectrum, e0=None))
    low, high = max(steepest - AROUND, float(spectrum.energy[0])), min(steepest + AROUND, float(spectrum.energy[-1]))
    near = spectrum.energy[(spectrum.energy >= low) & (spectrum.energy <= high)]
    hole = float(core_width(spectrum.absorber, spectrum.edge) or 0.0)
    width = max(LEAST_WIDTH, float(np.median(np.diff(near))), OF_CORE_HOLE * hole)
    grid = np.arange(low, high, STEP)
    slope = gaussian_filter1d(np.interp(grid, spectrum.energy, spectrum.mu), width / STEP, order=1)
    ends = int(np.ceil(2.0 * width / STEP))  # what the filter makes up beyond the data
    inner = slope[ends:-ends]
    rises = ends + find_peaks(inner, height=SHARE * float(inner.max()))[0]
    if not len(rises):
        return steepest
    first = int(rises[0])
    dip = grid[first + int(np.argmin(slope[first : rises[1]]))] if len(rises) > 1 else high
    if steepest <= dip:
        return steepest
    before, at, after = slope[first - 1 : first + 2]
    return float(grid[first] + 0.5 * STEP * (before - after) / (before - 2.0 * at + after))

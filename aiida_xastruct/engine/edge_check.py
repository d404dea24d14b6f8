"""Whether a scan is of the edge that it is said to be of, and which edge it is likely of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .errors import SpectrumError
from .spectrum import FloatArray, Spectrum, energy_to_k, find_e0, own_end, tabulated_edge

#: eV from an edge to where its step is seen whole, and how much of the scan is averaged there.
BESIDE, AVERAGED = 15.0, 60.0

#: Where a step is looked for: every so many eV, at this many places at most.
EVERY, PLACES = 2.0, 2000

#: A step is one from this share of the range of mu on, and from this many times what neighbouring points differ by.
SHARE, OVER_NOISE = 0.05, 5.0

#: A step elsewhere in the scan this many times as high as the one at the edge that is claimed tells that the claim is wrong.
HIGHER = 4.0

#: eV between two edges that a nominal energy scale cannot confuse; monochromators are up to 35 eV off.
APART = 60.0


#: What the scans of the XAS data library keep to, all but three whose edge is elsewhere: the step at E0 is at least this share of the range
#: of mu around it, this many times what mu scatters by before it and after it, and rises within so many eV.
STEP_SHARE, OVER_BEFORE, OVER_AFTER, WIDEST = 0.2, 15.0, 1.5, 35.0


#: eV between neighbouring points near an edge, beyond which it is not seen; and of a step that reaches into -15 to 40 eV from E0, in which
#: an edge may have been left out: those scans take shorter steps.
LONGEST_GAP, LEFT_OUT = 8.0, 15.0

#: Share of neighbouring points from 5 eV below E0 on that rise, and by how many steps mu leans over where it is averaged: outside of these
#: limits lie an integral of mu and its derivative, well within them those scans.
RISING, LEANING = (0.05, 0.95), (-1.0, 1.5)


#: 1/angstrom between neighbouring points of EXAFS, beyond which a wave may be lost between them, and the range that is looked at.
WIDEST_STEP, FIRST_K, LAST_K = 0.3, 3.0, 15.0


class LikelyEdge(NamedTuple):
    """An edge that energies suggest.

    Attributes:
        absorber, edge: what absorbs.
        energy: where the scan rises, eV.
    """

    absorber: str
    edge: str
    energy: float

    def __str__(self) -> str:
        tabulated = tabulated_edge(self.absorber, self.edge)
        return f"{self.absorber} {self.edge} edge (it rises at {self.energy:.0f} eV, the table has {tabulated:.0f} eV)"


def likely_edge(energy: FloatArray, mu: FloatArray) -> LikelyEdge | None:
    """The edge nearest to where a scan rises most, K edges preferred; None where nothing rises, or no edge lies near.

    Args:
        energy: (n,) eV, increasing.
        mu: (n,) absorption.
    """
    from xraydb import guess_edge

    at = rise(energy, mu)
    if at is None:
        return None
    absorber, edge = guess_edge(at, edges=["K", "L3", "L2", "L1"])
    if absorber is None or abs(tabulated_edge(absorber, edge) - at) > APART:
        return None
    return LikelyEdge(str(absorber), str(edge), at)


def rise(energy: FloatArray, mu: FloatArray) -> float | None:
    """Energy of the steepest rise within the highest step: what lies just above beside what lies just below."""
    if len(energy) < 14:
        return None
    places = np.linspace(energy[0], energy[-1], max(2, min(PLACES, int((energy[-1] - energy[0]) / EVERY))))
    steps = np.array([step_at(energy, mu, at) for at in places])
    noise = float(np.median(np.abs(np.diff(mu))))
    if not np.isfinite(steps).any() or np.nanmax(steps) <= max(SHARE * float(np.ptp(mu)), OVER_NOISE * noise):
        return None
    near = np.abs(energy - places[int(np.nanargmax(steps))]) <= BESIDE + AVERAGED
    if near.sum() < 4:
        return None
    # The mean of three slopes: a spike rises as far as it falls.
    slope = np.convolve(np.gradient(mu[near], energy[near]), np.ones(3) / 3.0, mode="valid")
    return float(energy[near][1 + int(np.argmax(slope))])


def step_at(energy: FloatArray, mu: FloatArray, at: float) -> float:
    """Height of mu above an energy over mu below it, medians of what is measured there; NaN where one side has no two points.

    Args:
        energy: (n,) eV, increasing.
        mu: (n,).
        at: eV.
    """
    bounds = (at - BESIDE - AVERAGED, at - BESIDE, at + BESIDE, at + BESIDE + AVERAGED)
    low, below, above, high = np.searchsorted(energy, bounds)
    if below - low < 2 or high - above < 2:
        return float("nan")
    return float(np.median(mu[above:high]) - np.median(mu[low:below]))


def no_edge(spectrum: Spectrum) -> str:
    """Why a measured spectrum is no edge at its E0; empty where it is one, is computed, or begins or ends too near E0 to tell."""
    if spectrum.method != "measured":
        return ""
    e0 = find_e0(spectrum)
    above = spectrum.energy - e0
    before, after, near = (
        (above >= -BESIDE - AVERAGED) & (above <= -10.0),
        (above >= 10.0) & (above <= BESIDE + AVERAGED),
        np.abs(above) <= 4.0,
    )
    gaps = np.diff(above)[(above[1:] >= -15.0) & (above[:-1] <= 40.0)]
    if len(gaps) and gaps.max() > LEFT_OUT:
        return f"{gaps.max():.0f} eV are left out near {e0:.0f} eV, where the edge may lie"
    if min(before.sum(), after.sum()) < 5:
        return ""
    seen = above[(above >= -LONGEST_GAP) & (above <= BESIDE)]
    if near.sum() < 3 or seen[0] > -0.1 or np.diff(seen).max() > LONGEST_GAP:
        return f"there are too few points around {e0:.0f} eV to see the edge"
    if len(np.unique(spectrum.mu[after])) < 0.3 * after.sum():
        return f"mu takes the same few values above {e0:.0f} eV, as a detector does that is saturated"
    rises = np.diff(spectrum.mu[(above >= -5.0) & (above <= BESIDE + AVERAGED)]) > 0.0
    if len(rises) >= 20 and not RISING[0] < rises.mean() < RISING[1]:
        return f"mu only rises, or only falls, above {e0:.0f} eV, as the integral of a spectrum does"
    scale = float(np.ptp(spectrum.mu[np.abs(above) <= BESIDE + AVERAGED])) or 1.0
    lines = (_line(above[part], spectrum.mu[part] / scale) for part in (before, after))
    (low, slope_low, scatter_low), (high, slope_high, scatter_high) = lines
    slope = float(np.polyfit(above[near], spectrum.mu[near] / scale, 1)[0])
    step = high - low
    if step < max(STEP_SHARE, OVER_BEFORE * scatter_low, OVER_AFTER * scatter_high) or not step < WIDEST * slope:
        return f"mu has no step at {e0:.0f} eV that is sharp and stands out from what lies before and after it"
    leaning = (slope_high - slope_low) * (AVERAGED + BESIDE - 10.0) / step
    if not LEANING[0] < leaning < LEANING[1]:
        return f"mu does not stay near its level above {e0:.0f} eV, as that of an edge does"
    return ""


def left_out(spectrum: Spectrum) -> str:
    """Which part of an EXAFS was not measured, so that a straight line stands for it; empty where none is, or the spectrum is computed."""
    if spectrum.method != "measured" or spectrum.kind != "EXAFS" or spectrum.mu0 is not None:
        return ""
    own = spectrum.energy[spectrum.energy <= own_end(spectrum)]
    k = energy_to_k(own - find_e0(spectrum))
    steps = np.where((k[1:] > FIRST_K) & (k[:-1] < LAST_K), np.diff(k), 0.0)
    if not len(steps) or steps.max() <= WIDEST_STEP:
        return ""
    widest = int(np.argmax(steps))
    return f"{own[widest]:.0f} to {own[widest + 1]:.0f} eV are left out, where EXAFS goes on"


def _line(above: FloatArray, mu: FloatArray) -> tuple[float, float, float]:
    """Where a straight line through mu (n,) meets E0, its slope, and the root mean square of what mu differs from it by."""
    line = np.polyfit(above, mu, 1)
    return float(line[1]), float(line[0]), float(np.sqrt(np.mean((mu - np.polyval(line, above)) ** 2)))


def check_edge(spectrum: Spectrum) -> None:
    """Refuse a measured spectrum that is not of its edge; one whose energies are nominal and up to 60 eV off passes.

    Raises:
        SpectrumError: if it does not cover the edge, or has nothing there and a step elsewhere; the sentence names the likely edge.
    """
    likely = likely_edge(spectrum.energy, spectrum.mu)
    other = likely is not None and (likely.absorber, likely.edge) != (spectrum.absorber, spectrum.edge)
    try:
        e0 = find_e0(spectrum)
    except SpectrumError as error:
        if likely is None or not other:
            raise
        raise SpectrumError(f"{_files(spectrum)} is likely of the {likely}, not of the {_claim(spectrum)}: {error}") from error
    # The higher step may be another edge of the absorber, as that of L3 is where L2 or L1 is meant.
    if likely is None or abs(likely.energy - e0) < APART or likely.absorber == spectrum.absorber:
        return
    here, there = step_at(spectrum.energy, spectrum.mu, e0), step_at(spectrum.energy, spectrum.mu, likely.energy)
    if np.isfinite(here) and there > HIGHER * max(here, 0.0):
        raise SpectrumError(
            f"{_files(spectrum)} is likely of the {likely}, not of the {_claim(spectrum)}: mu does not rise at {e0:.0f} eV; give the edge "
            "that it is of, or cut the scan to the one that you mean."
        )


def _files(spectrum: Spectrum) -> str:
    """The spectrum's files, as the subject of a sentence."""
    files = spectrum.settings.get("files") or ["the scan"]
    return str(files[0]) if len(files) == 1 else f"the mean of {len(files)} scans from {files[0]} on"


def _claim(spectrum: Spectrum) -> str:
    return f"{spectrum.absorber} {spectrum.edge} edge"

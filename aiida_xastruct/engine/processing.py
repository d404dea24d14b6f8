"""Processing of a measured spectrum, every step with its parameters: calibration, glitches, normalisation, background, Fourier transform.

The algorithms are xraylarch's (Newville, J. Phys. Conf. Ser. 430, 012007 (2013)), over-absorption that of FLUO (D. Haskel) as larch has it.
With no parameters the result is that of `spectrum.flatten` and `spectrum.chi_k`, which is what models see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from .errors import SpectrumError
from .first_rise import first_rise
from .options import from_plain
from .quality import quality
from .spectrum import FloatArray, Spectrum, find_e0, flatten, normalise, own_end, tabulated_edge, without_background

Window = Literal["hanning", "kaiser", "parzen", "welch", "sine", "gaussian"]

#: eV that a calibration may move the energies: more is another edge, not a miscalibrated monochromator.
MOST_SHIFT = 60.0

#: How far an energy that is named as a glitch may lie from the nearest point, eV.
NEAR = 1.0

#: Fluorescence lines by edge, for over-absorption.
_LINES = {"K": "Ka", "L1": "Lb", "L2": "Lb", "L3": "La"}


@dataclass(frozen=True)
class ProcessingParameters:
    """How a measured spectrum is processed. Energies in eV, those of ranges relative to E0; k in 1/angstrom, R in angstrom.

    Attributes:
        energy_shift: added to the energies, before E0 is looked for.
        reference_energy: where the edge of the reference first rises (a foil, or the reference channel); the tabulated energy if None.
        glitches: energies of points to take out.
        deglitch: whether to take out the points that their neighbours contradict too (`quality.Quality.glitches`).
        composition: formula of the sample, such as Fe2O3, to undo over-absorption of a fluorescence; not undone if empty.
        angle_in: between the beam and the surface of the sample, degrees.
        angle_out: between the surface and the detector, degrees.
        e0: edge energy; larch's find_e0 in a window if None.
        pre_edge: range of the line under the pre-edge; larch's own choice if None.
        post_edge: range of the polynomial over the post-edge; larch's own choice if None.
        post_degree: degree of that polynomial; larch's own choice by the length of the range if None.
        r_background: R below which autobk takes what oscillates for background.
        k_weight: power of k in the background and in the transform.
        k_range: of the transform; from 2 to the end of the data less 1 if None.
        k_taper: width of the window's slopes.
        window: shape of those slopes.

    Raises:
        SpectrumError: for a value out of range.
    """

    energy_shift: float = 0.0
    reference_energy: float | None = None
    glitches: tuple[float, ...] = ()
    deglitch: bool = False
    composition: str = ""
    angle_in: float = 45.0
    angle_out: float = 45.0
    e0: float | None = None
    pre_edge: tuple[float, float] | None = None
    post_edge: tuple[float, float] | None = None
    post_degree: int | None = None
    r_background: float = 1.0
    k_weight: int = 2
    k_range: tuple[float, float] | None = None
    k_taper: float = 1.0
    window: Window = "hanning"

    def __post_init__(self) -> None:
        if not isinstance(self.glitches, list | tuple) or not all(_is_number(energy) for energy in self.glitches):
            raise SpectrumError(f"glitches is {self.glitches!r}; give a list of energies in eV.")
        object.__setattr__(self, "glitches", tuple(float(energy) for energy in self.glitches))
        for name, low, high in (
            ("energy_shift", -MOST_SHIFT, MOST_SHIFT),
            ("reference_energy", 10.0, 200_000.0),
            ("angle_in", 0.1, 90.0),
            ("angle_out", 0.1, 90.0),
            ("e0", 10.0, 200_000.0),
            ("post_degree", 0, 3),
            ("r_background", 0.3, 3.0),
            ("k_weight", 0, 4),
            ("k_taper", 0.0, 5.0),
        ):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and low <= value <= high):
                raise SpectrumError(f"{name} is {value!r}; give a number from {low:g} to {high:g}.")
        for name, low, high in (("pre_edge", -2000.0, 0.0), ("post_edge", 0.0, 5000.0), ("k_range", 0.0, 60.0)):
            _check_range(self, name, low, high)
        if self.window not in get_args(Window):
            raise SpectrumError(f"window is {self.window!r}; use one of {', '.join(get_args(Window))}.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProcessingParameters:
        """Parameters from plain values.

        Raises:
            SpectrumError: for an unknown name, with the nearest known one, or a value out of range.
        """
        return from_plain(cls, values, "parameter of processing")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, from which `from_dict` makes the same parameters."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _check_range(parameters: ProcessingParameters, name: str, low: float, high: float) -> None:
    value = getattr(parameters, name)
    if value is None:
        return
    try:
        first, last = (float(item) for item in value)
    except (TypeError, ValueError):
        first, last = np.nan, np.nan
    if not low <= first < last <= high:
        raise SpectrumError(f"{name} is {value!r}; give two increasing numbers from {low:g} to {high:g}.")
    object.__setattr__(parameters, name, (first, last))


@dataclass(frozen=True)
class Processed:
    """A processed spectrum.

    Attributes:
        spectrum: normalisation flat, E0 filled in; its `settings` hold the parameters and what was found under `processing`.
        k: (m,) 1/angstrom, and `chi`: (m,); both empty where the spectrum ends too early for them.
        r: (n,) angstrom, and `chi_r`: (n,) complex, the Fourier transform of k^w chi(k).
        record: what was found, plain JSON values: shift, points taken out, E0, edge step, ranges, over-absorption, remarks.
    """

    spectrum: Spectrum
    k: FloatArray
    chi: FloatArray
    r: FloatArray
    chi_r: NDArray[np.complex128]
    record: dict[str, Any]


class Transform(NamedTuple):
    """A Fourier transform: `r` (n,) in angstrom, `chi_r` (n,) complex, and the range of k that it is of."""

    r: FloatArray
    chi_r: NDArray[np.complex128]
    k_range: tuple[float, float]


def process(spectrum: Spectrum, parameters: ProcessingParameters | None = None, reference: Spectrum | None = None) -> Processed:
    """Process a measured spectrum.

    Args:
        spectrum: of method measured, normalisation raw.
        parameters: see there.
        reference: a spectrum of known edge on the same energy scale: a foil measured beside, or the reference channel.

    Raises:
        SpectrumError: if the spectrum is no raw measurement, a range lies outside the data, or the reference would move the energies by
            more than `MOST_SHIFT`.
    """
    parameters = parameters or ProcessingParameters()
    if spectrum.method != "measured" or spectrum.normalisation != "raw":
        raise SpectrumError(
            f"the spectrum is of method {spectrum.method} and normalisation {spectrum.normalisation}; only raw measurements are processed."
        )
    record: dict[str, Any] = {"parameters": parameters.to_dict(), "remarks": []}
    raw = _calibrated(spectrum, parameters, reference, record)
    raw = _without_glitches(raw, parameters, record)
    e0 = parameters.e0 if parameters.e0 is not None else find_e0(raw)
    if not raw.energy[0] < e0 < raw.energy[-1]:
        raise SpectrumError(f"E0 of {e0:.1f} eV lies outside the data ({raw.energy[0]:.1f} to {raw.energy[-1]:.1f} eV); check it.")
    raw = _without_over_absorption(replace(raw, e0=e0), parameters, record)
    flat = _normalised(raw, parameters)
    record |= {"e0": e0, "edge_step": flat.settings["edge_step"]}
    k, chi = _fine_structure(raw, parameters, float(record["edge_step"]), record)
    r, chi_r = np.empty(0), np.empty(0, dtype=np.complex128)
    if len(k):
        r, chi_r, record["k_range"] = fourier_transform(k, chi, parameters)
        record["k_range"] = list(record["k_range"])
    flat = replace(flat, settings={**flat.settings, "processing": record})
    return Processed(flat, k, chi, r, chi_r, record)


def _calibrated(spectrum: Spectrum, parameters: ProcessingParameters, reference: Spectrum | None, record: dict[str, Any]) -> Spectrum:
    """The spectrum at energies that the reference's edge, or the given shift, puts right."""
    shift = parameters.energy_shift
    if reference is None and parameters.reference_energy is not None:
        raise SpectrumError("reference_energy says where the edge of a reference is, but no reference was given; give one.")
    if reference is not None:
        known = parameters.reference_energy or tabulated_edge(reference.absorber, reference.edge)
        measured, steepest = first_rise(reference), find_e0(replace(reference, e0=None))
        shift += known - measured
        if abs(shift) > MOST_SHIFT:
            raise SpectrumError(
                f"the reference has its edge at {measured:.1f} eV, which should be at {known:.1f} eV; a shift of {shift:+.0f} eV is no "
                "miscalibration: check which edge it is."
            )
        record["reference"] = {"absorber": reference.absorber, "edge": reference.edge, "e0": measured, "steepest": steepest, "known": known}
        if measured != steepest:
            record["remarks"].append(
                f"The {reference.absorber} {reference.edge} edge of the reference rises twice: the first rise, at {measured:.1f} eV, "
                f"was put at {known:.1f} eV, not the steeper one at {steepest:.1f} eV."
            )
    record["energy_shift"] = shift
    if shift == 0.0 and reference is None:
        return spectrum
    energy_reference = "calibrated" if reference is not None else spectrum.energy_reference
    e0 = None if spectrum.e0 is None else spectrum.e0 + shift
    return replace(spectrum, energy=spectrum.energy + shift, e0=e0, energy_reference=energy_reference)


def _without_glitches(spectrum: Spectrum, parameters: ProcessingParameters, record: dict[str, Any]) -> Spectrum:
    """The spectrum without the points that are named, and without those that their neighbours contradict if that is asked for."""
    drop = np.zeros(len(spectrum), dtype=bool)
    for energy in parameters.glitches:
        index = int(np.argmin(np.abs(spectrum.energy - energy)))
        if abs(spectrum.energy[index] - energy) > NEAR:
            raise SpectrumError(f"no point lies within {NEAR:g} eV of the glitch at {energy:.1f} eV; name an energy of the scan.")
        drop[index] = True
    if parameters.deglitch:
        # Taken out, a glitch may uncover a smaller one beside it.
        for _ in range(3):
            found = quality(replace(spectrum, energy=spectrum.energy[~drop], mu=spectrum.mu[~drop])).glitches
            if not found:
                break
            drop |= np.isin(np.round(spectrum.energy, 3), found)
    record["points_removed"] = [round(float(energy), 3) for energy in spectrum.energy[drop]]
    return replace(spectrum, energy=spectrum.energy[~drop], mu=spectrum.mu[~drop]) if drop.any() else spectrum


def _without_over_absorption(spectrum: Spectrum, parameters: ProcessingParameters, record: dict[str, Any]) -> Spectrum:
    """The spectrum as a thin sample would give it; a fluorescence without a composition is only remarked on."""
    formula = str(spectrum.settings.get("formula", ""))
    fluorescence = "/" in formula and not formula.startswith("ln(")
    if not parameters.composition:
        if fluorescence:
            record["remarks"].append(
                "Fluorescence of a concentrated sample is too flat where it absorbs most (over-absorption): give its composition."
            )
        return spectrum
    if formula and not fluorescence:
        raise SpectrumError(f"over-absorption is a matter of fluorescence, and mu is {formula}; leave out the composition.")
    if spectrum.edge not in _LINES:
        raise SpectrumError(f"over-absorption is undone at K and L edges, not at {spectrum.edge}; leave out the composition.")
    _check_composition(parameters.composition, spectrum.absorber)
    from larch import Group
    from larch.xafs import fluo_corr

    group = Group()
    energy, mu = np.array(spectrum.energy), np.array(spectrum.mu)
    options = {"edge": spectrum.edge, "line": _LINES[spectrum.edge], "e0": spectrum.e0}
    angles = {"anginp": parameters.angle_in, "angout": parameters.angle_out}
    fluo_corr(energy, mu, parameters.composition, spectrum.absorber, group=group, **options, **angles)
    corrected = np.asarray(group.mu_corr, dtype=np.float64)
    if not np.isfinite(corrected).all():
        raise SpectrumError(f"over-absorption of {parameters.composition} cannot be undone at these angles; check composition and angles.")
    white = (spectrum.energy > float(spectrum.e0 or 0.0)) & (spectrum.energy < float(spectrum.e0 or 0.0) + 30.0)
    raised = flatten(replace(spectrum, mu=corrected)).mu[white].max() / flatten(spectrum).mu[white].max()
    record["over_absorption"] = {"composition": parameters.composition, "white_line_raised_by": float(raised)}
    return replace(spectrum, mu=corrected)


def _check_composition(composition: str, absorber: str) -> None:
    from xraydb import chemparse

    try:
        elements = chemparse(composition)
    except (ValueError, KeyError) as error:
        raise SpectrumError(f"{composition!r} is no chemical formula; give one such as Fe2O3.") from error
    if absorber not in elements:
        raise SpectrumError(f"the composition {composition} does not hold the absorber {absorber}; give that of the sample.")


def _normalised(spectrum: Spectrum, parameters: ProcessingParameters) -> Spectrum:
    """The flat spectrum; as `flatten` makes it where nothing else is asked for."""
    if parameters.pre_edge is None and parameters.post_edge is None and parameters.post_degree is None:
        return flatten(spectrum)
    e0 = float(spectrum.e0 or 0.0)
    end = own_end(spectrum) - e0
    for name, wanted, low, high in (
        ("pre_edge", parameters.pre_edge, float(spectrum.energy[0]) - e0, 0.0),
        ("post_edge", parameters.post_edge, 0.0, end),
    ):
        if wanted is not None and not (low - 1.0 <= wanted[0] and wanted[1] <= high + 1.0):
            raise SpectrumError(
                f"{name} is {wanted[0]:g} to {wanted[1]:g} eV around E0, and the data of this edge reach from {low:.0f} to {high:.0f}; "
                "give a range inside."
            )
        if wanted is not None and _points(spectrum, e0, wanted) < 4:
            raise SpectrumError(f"{name} of {wanted[0]:g} to {wanted[1]:g} eV holds fewer than 4 points; give a wider range.")
    pre1, pre2 = parameters.pre_edge or (None, None)
    norm1, norm2 = parameters.post_edge or (None, None)
    return normalise(spectrum, e0, pre1=pre1, pre2=pre2, norm1=norm1, norm2=norm2, nnorm=parameters.post_degree)


def _points(spectrum: Spectrum, e0: float, between: tuple[float, float]) -> int:
    return int(((spectrum.energy >= e0 + between[0]) & (spectrum.energy <= e0 + between[1])).sum())


def _fine_structure(
    spectrum: Spectrum, parameters: ProcessingParameters, step: float, record: dict[str, Any]
) -> tuple[FloatArray, FloatArray]:
    """K and chi by autobk, (m,) each; empty where the spectrum ends less than 100 eV above the edge."""
    e0, end = float(spectrum.e0 or 0.0), own_end(spectrum)
    if end - e0 < 100.0:
        record["remarks"].append(f"The data end {end - e0:.0f} eV above E0, too early for chi(k).")
        return np.empty(0), np.empty(0)
    # autobk normalises by itself, as `flatten` does; with other ranges, or a corrected mu, the step is another.
    changed = parameters.pre_edge is not None or parameters.post_edge is not None or parameters.composition
    return without_background(spectrum, e0, parameters.r_background, parameters.k_weight, step if changed else None)


def fourier_transform(k: FloatArray, chi: FloatArray, parameters: ProcessingParameters | None = None) -> Transform:
    """The Fourier transform of k^w chi(k) by larch's xftf.

    Args:
        k: (m,) 1/angstrom, even steps.
        chi: (m,).
        parameters: `k_weight`, `k_range`, `k_taper` and `window`.

    Raises:
        SpectrumError: if the range ends beyond the data.
    """
    from larch import Group
    from larch.xafs import xftf

    parameters = parameters or ProcessingParameters()
    low, high = parameters.k_range or (2.0, max(float(k[-1]) - 1.0, 3.0))
    if high > k[-1] + 0.05:
        raise SpectrumError(f"k_range ends at {high:g}, and the data at {k[-1]:.1f} per angstrom; end it there.")
    group = Group()
    xftf(k, chi, group=group, kmin=low, kmax=high, kweight=parameters.k_weight, dk=parameters.k_taper, window=parameters.window)
    return Transform(np.asarray(group.r, dtype=np.float64), np.asarray(group.chir, dtype=np.complex128), (low, high))

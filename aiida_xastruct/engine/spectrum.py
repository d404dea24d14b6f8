"""One X-ray absorption spectrum: its data, its edge, and the forms that models see.

Energies are in eV, k in 1/angstrom. The energy axis is absolute, as the source gave it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .errors import SpectrumError

FloatArray = NDArray[np.float64]
Kind = Literal["XANES", "EXAFS"]
Method = Literal["feff", "xspectra", "ml", "measured"]
EnergyReference = Literal["feff", "calibrated", "nominal"]
Normalisation = Literal["feff_xsedge50", "flat", "raw"]

EDGES = ("K", "L1", "L2", "L3", "L2,3", "M1", "M2", "M3", "M4", "M5")

#: (electron mass) * 2 / hbar^2 in 1/(eV angstrom^2): k^2 = ETOK * (E - E0).
ETOK = 0.26246842

#: A measured spectrum is of use up to this many eV below the element's next edge, whose rise begins before its tabulated energy.
BEFORE_NEXT_EDGE = 20.0

#: And from this many eV above the edge before, whose white line would bend the line under the pre-edge; that line needs so
#: many eV, and is no line over more than so many.
AFTER_PREVIOUS_EDGE, LEAST_PRE_EDGE, MOST_PRE_EDGE = 100.0, 30.0, 300.0

#: The cross section falls as this power of the energy above an edge; see `smooth_background`.
CROSS_SECTION_EXPONENT = -2.6

#: E - E0 of the grid that XANES models work on, eV, shape (137,). It begins below the pre-edge peaks of transition metals, which lie up to
#: 15 eV below the steepest rise, E0.
XANES_GRID: FloatArray = np.linspace(-18.0, 50.0, 137)

#: k of the grid that EXAFS models work on, 1/angstrom, shape (261,).
EXAFS_GRID: FloatArray = np.linspace(2.0, 15.0, 261)


def edge_of(absorber: str) -> str:
    """The edge that people measure for an element: K up to Z 50, L3 from Z 51 on."""
    return "K" if atomic_number(absorber) <= 50 else "L3"


def atomic_number(element: str) -> int:
    """Atomic number of an element symbol, in capitals or not.

    Raises:
        SpectrumError: if `element` is no symbol of an element.
    """
    if not isinstance(element, str):  # xraydb takes numbers too, and to a cache 26 and 26.0 are one
        raise SpectrumError(f"{element!r} is not the symbol of an element; give one such as 'Fe'.")
    return _atomic_number(element)


@cache
def _atomic_number(element: str) -> int:
    import xraydb

    try:
        number = int(xraydb.atomic_number(element))
        if element_symbol(number).lower() != element.strip().lower():  # xraydb takes names, such as iron
            raise ValueError
    except ValueError as error:
        raise SpectrumError(f"{element!r} is not the symbol of an element; give one such as 'Fe'.") from error
    return number


@cache
def element_symbol(z: int) -> str:
    """Symbol of the element with an atomic number, from 1 on."""
    import xraydb

    return str(xraydb.atomic_symbol(z))


@cache
def tabulated_edge(absorber: str, edge: str) -> float:
    """Tabulated edge energy in eV (Elam, Ravel and Sieber, Radiat. Phys. Chem. 63, 121 (2002), through xraydb); that of L3 for `L2,3`.

    Raises:
        SpectrumError: if the element has no such edge.
    """
    import xraydb

    atomic_number(absorber)
    try:
        found = xraydb.xray_edge(absorber, "L3" if edge == "L2,3" else edge)
    except (ValueError, AttributeError) as error:
        raise SpectrumError(f"{absorber} has no tabulated {edge} edge; choose one of its edges.") from error
    if found is None:
        raise SpectrumError(f"{absorber} has no tabulated {edge} edge; choose one of its edges.")
    return float(found.energy)


@cache
def next_edge(absorber: str, edge: str) -> float:
    """Tabulated energy in eV of the element's next edge above this one; infinite above its K edge. That of L1 for `L2,3`."""
    import xraydb

    after = tabulated_edge(absorber, "L2" if edge == "L2,3" else edge)
    return min((float(found.energy) for found in xraydb.xray_edges(absorber).values() if found.energy > after + 1.0), default=float("inf"))


@cache
def previous_edge(absorber: str, edge: str) -> float:
    """Tabulated energy in eV of the element's next edge below this one; minus infinity where there is none. That of L3 for `L2,3`."""
    import xraydb

    before = tabulated_edge(absorber, edge)
    below = (float(found.energy) for found in xraydb.xray_edges(absorber).values() if found.energy < before - 1.0)
    return max(below, default=float("-inf"))


def multiplets(absorber: str, edge: str) -> str:
    """Why one-electron theory, and so FEFF, leaves the essence of an edge out; empty where it does not.

    Where the core hole and the valence shell that it is excited into overlap, their coupling splits the white line into multiplets:
    2p with 3d (L2,3 from K, whose ions are 3d0, to Cu) and 3d with 4f or 5f (M4,5 from La to Yb and from Ac on). F.M.F. de Groot,
    Coord. Chem. Rev. 249, 31 (2005); B.T. Thole et al., Phys. Rev. B 32, 5107 (1985).
    """
    z = atomic_number(absorber)
    shell = ""
    if edge in ("L2", "L3", "L2,3") and 19 <= z <= 29:
        shell = "3d"
    elif edge in ("M4", "M5"):
        shell = "4f" if 57 <= z <= 70 else "5f" if z >= 89 else ""
    if not shell:
        return ""
    return f"the {absorber} {edge} edge is dominated by multiplets of the {shell} shell, which FEFF leaves out; do not train on it."


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Absorption against energy for one absorbing element, validated when it is made.

    Attributes:
        energy: (n,) absolute photon energy in eV, finite and strictly increasing.
        mu: (n,) absorption, in the unit that `normalisation` names.
        absorber: symbol of the absorbing element; `fe` becomes `Fe`.
        edge: absorption edge, one of `EDGES`; `L2,3` is the sum of L3 and L2 over a range that holds both.
        kind: XANES or EXAFS, the range that the spectrum is meant for.
        method: who made it: feff, xspectra, ml or measured.
        energy_reference: what the energy axis is worth: feff (FEFF's own edge), calibrated or nominal.
        normalisation: feff_xsedge50 (FEFF's own, 1 at 50 eV above the edge), flat (smooth background divided out) or raw.
        mu0: (n,) atomic background in the unit of `mu`, where the source gives one (FEFF does).
        e0: edge energy in eV where the source states it; `find_e0` finds it otherwise.
        settings: how it was made, plain JSON values.

    Raises:
        SpectrumError: for anything that would make a later number silently wrong.
    """

    energy: FloatArray
    mu: FloatArray
    absorber: str
    edge: str
    kind: Kind
    method: Method = "measured"
    energy_reference: EnergyReference = "nominal"
    normalisation: Normalisation = "raw"
    mu0: FloatArray | None = None
    e0: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("energy", "mu", "mu0"):
            value = getattr(self, name)
            if value is not None:
                array = _numbers(name, value)
                array.setflags(write=False)
                object.__setattr__(self, name, array)
        _check_choices(self)
        object.__setattr__(self, "absorber", element_symbol(atomic_number(self.absorber)))
        _check_arrays(self)
        tabulated_edge(self.absorber, self.edge)

    def __len__(self) -> int:
        return int(self.energy.size)

    def with_e0(self) -> Spectrum:
        """The same spectrum with its edge energy filled in."""
        return self if self.e0 is not None else replace(self, e0=find_e0(self))


def _numbers(name: str, value: Any) -> FloatArray:
    """A copy of an array as numbers.

    Raises:
        SpectrumError: if it is text, complex (numpy would drop a part of it), ragged or nothing at all.
    """
    try:
        if np.iscomplexobj(value):
            raise TypeError("complex numbers")
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise SpectrumError(f"{name} is no array of real numbers ({str(error)[:200]}); give one column of them.") from error


_CHOICES: dict[str, tuple[str, ...]] = {
    "edge": EDGES,
    "kind": get_args(Kind),
    "method": get_args(Method),
    "energy_reference": get_args(EnergyReference),
    "normalisation": get_args(Normalisation),
}


def _check_choices(spectrum: Spectrum) -> None:
    for name, choices in _CHOICES.items():
        if getattr(spectrum, name) not in choices:
            raise SpectrumError(f"{name} is {getattr(spectrum, name)!r}; use one of {', '.join(choices)}.")


def _check_arrays(spectrum: Spectrum) -> None:
    energy, mu, mu0 = spectrum.energy, spectrum.mu, spectrum.mu0
    if energy.ndim != 1 or mu.shape != energy.shape or (mu0 is not None and mu0.shape != energy.shape):
        raise SpectrumError(f"energy has shape {energy.shape} and mu {mu.shape}; give two columns of one length.")
    if energy.size < 10:
        raise SpectrumError(f"the spectrum has {energy.size} points; at least 10 are needed.")
    if not (np.isfinite(energy).all() and np.isfinite(mu).all() and (mu0 is None or np.isfinite(mu0).all())):
        raise SpectrumError("the spectrum holds NaN or infinite values; remove those points first.")
    if (energy[1:] <= energy[:-1]).any():
        raise SpectrumError("the energies do not increase from point to point; sort the scan and drop repeated energies.")
    if energy[0] < 10.0 or energy[-1] > 200_000.0:
        raise SpectrumError(
            f"the energies run from {energy[0]:.6g} to {energy[-1]:.6g}; give absolute photon energies in eV (not keV, not E - E0)."
        )
    e0 = spectrum.e0
    if e0 is not None and (isinstance(e0, bool) or not isinstance(e0, int | float | np.floating) or not np.isfinite(e0)):
        raise SpectrumError("E0 is not a finite number; leave it out to have it found.")


def find_e0(spectrum: Spectrum, half_width: float = 60.0) -> float:
    """Edge energy: the largest derivative in a window, by larch's algorithm, for FEFF and measured spectra alike.

    Args:
        spectrum: any spectrum that covers its edge.
        half_width: eV around the tabulated edge that a measured edge is looked for in; a FEFF edge is looked for in the
            first `half_width` eV of the file, which FEFF starts near its own edge (16 eV below to 34 eV above the table).

    Returns:
        E0 in eV.

    Raises:
        SpectrumError: if the window holds fewer than 14 points, which larch's smoothing needs.
    """
    if spectrum.e0 is not None:
        return spectrum.e0
    from larch.xafs.pre_edge import find_e0 as larch_find_e0

    centre = tabulated_edge(spectrum.absorber, spectrum.edge)
    if spectrum.energy_reference == "feff":
        low, high = spectrum.energy[0], spectrum.energy[0] + half_width
    else:
        low, high = centre - half_width, centre + half_width
    window = (spectrum.energy >= low) & (spectrum.energy <= high)
    if window.sum() < 14:
        raise SpectrumError(
            f"only {int(window.sum())} points lie within {half_width:g} eV of the {spectrum.absorber} {spectrum.edge} edge at "
            f"{centre:.1f} eV (data: {spectrum.energy[0]:.1f} to {spectrum.energy[-1]:.1f} eV), and 14 are needed; "
            "check absorber, edge and energy unit."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # larch averages no energy steps below 100 points, and uses 1 eV then
        return float(larch_find_e0(spectrum.energy[window], spectrum.mu[window]))


def energy_to_k(energy_above_e0: FloatArray) -> FloatArray:
    """Photoelectron wavenumber in 1/angstrom, signed below the edge; `energy_above_e0` is E - E0 in eV, any shape."""
    return np.asarray(np.sign(energy_above_e0) * np.sqrt(ETOK * np.abs(energy_above_e0)), dtype=np.float64)


def k_to_energy(k: FloatArray) -> FloatArray:
    """E - E0 in eV of a wavenumber in 1/angstrom, any shape."""
    return np.asarray(np.sign(k) * np.square(k) / ETOK, dtype=np.float64)


def smooth_background(energy: FloatArray, e0: float) -> FloatArray:
    """The trend of the atomic absorption above the edge, continued below it; shape of `energy`, 1 at 50 eV above the edge.

    FEFF's mu0 falls with energy as the atom's cross section does (to 0.36 of its start in a light element's EXAFS range), and models see
    spectra without that trend. Dividing by mu0 itself would divide out the edge too, which is in mu0, and its atomic fine structure,
    which a measured spectrum keeps. A power law takes its place: fitted to the mu0 of 2491 FEFF 8L runs over k 3 to 15, the
    exponent is -2.6 +- 0.2 for K edges up to Zr and L3 edges (-1.6 at Sn K, where 50 eV are 0.2 % of the energy and it does not matter).
    """
    return np.asarray((energy / (e0 + 50.0)) ** CROSS_SECTION_EXPONENT, dtype=np.float64)


def own_end(spectrum: Spectrum) -> float:
    """Energy in eV where a spectrum stops to be of its edge alone: its last, or a little before the element's next edge."""
    return min(float(spectrum.energy[-1]), next_edge(spectrum.absorber, spectrum.edge) - BEFORE_NEXT_EDGE)


def own_start(spectrum: Spectrum) -> float:
    """Energy in eV from where on a spectrum is of its edge alone: its first, or a little after the element's previous edge."""
    return max(float(spectrum.energy[0]), previous_edge(spectrum.absorber, spectrum.edge) + AFTER_PREVIOUS_EDGE)


def flatten(spectrum: Spectrum) -> Spectrum:
    """The spectrum with normalisation `flat`: zero before the edge, oscillating about one after it.

    FEFF spectra are divided by `smooth_background`. Measured ones go through larch's pre_edge (a line under the pre-edge, a
    quadratic over the post-edge, whose difference at E0 is the edge step) and are flattened.

    What lies below the element's previous edge or beyond its next one is of no use to the fit and keeps its step.

    Raises:
        SpectrumError: if a raw spectrum has too little pre-edge or post-edge to be normalised, or no edge step.
    """
    if spectrum.normalisation == "flat":
        return spectrum.with_e0()
    e0 = find_e0(spectrum)
    if spectrum.normalisation == "feff_xsedge50":
        background = smooth_background(spectrum.energy, e0)
        mu0 = None if spectrum.mu0 is None else spectrum.mu0 / background
        return replace(spectrum, mu=spectrum.mu / background, mu0=mu0, e0=e0, normalisation="flat")
    below, above = own_start(spectrum) - e0, own_end(spectrum) - e0
    if below > -LEAST_PRE_EDGE or above < 60.0:
        raise SpectrumError(
            f"the scan covers {below:.0f} to {above:.0f} eV around E0; normalising needs at least -30 to 60 eV, or data already flat."
        )
    return normalise(spectrum, e0)


def normalise(spectrum: Spectrum, e0: float, **options: float | int | None) -> Spectrum:
    """A raw spectrum made flat by larch's pre_edge, the edge step in its settings; `flatten` says what may be.

    Args:
        spectrum: raw.
        e0: its edge energy, eV.
        options: pre1, pre2, norm1, norm2 (eV from E0) and nnorm of larch, which has its own choice for those left out; pre1 stays
            above the element's previous edge, norm2 before its next one.

    Raises:
        SpectrumError: if there is no edge step.
    """
    from larch import Group
    from larch.xafs import pre_edge

    group = Group()
    start, end = own_start(spectrum), own_end(spectrum)
    if options.get("pre1") is None and start > spectrum.energy[0]:
        options["pre1"] = max(start - e0, -MOST_PRE_EDGE)
    if options.get("norm2") is None and end < spectrum.energy[-1]:
        options["norm2"] = end - e0
    mu, power = _of_order_one(spectrum.mu)
    pre_edge(np.array(spectrum.energy), mu, group=group, e0=e0, **options)
    settings = {**spectrum.settings, "edge_step": math.ldexp(_edge_step(group, spectrum.energy, mu, e0), power)}
    return replace(spectrum, mu=np.asarray(group.flat, dtype=np.float64), e0=e0, normalisation="flat", settings=settings)


def _of_order_one(mu: FloatArray) -> tuple[FloatArray, int]:
    """A copy of mu (n,), divided by 2 to the power that is returned where its range is far from one: larch sees no step below 1e-12."""
    power = int(np.frexp(np.ptp(mu))[1])
    return (np.array(mu), 0) if abs(power) <= 20 else (np.ldexp(mu, -power), power)


def _edge_step(group: Any, energy: FloatArray, mu: FloatArray, e0: float) -> float:
    """The edge step that larch's pre_edge found, with its sign, which `group.edge_step` lacks.

    Raises:
        SpectrumError: if it is no step up.
    """
    at_edge = int(np.argmin(np.abs(energy - e0)))
    step = float(group.post_edge[at_edge] - group.pre_edge[at_edge])
    if not step > 1e-6 * float(np.ptp(mu)) or np.ptp(mu) == 0:
        raise SpectrumError(f"the edge step at {e0:.1f} eV is {step:.3g}; check that the column is mu(E), not intensity.")
    return step


def chi_k(spectrum: Spectrum) -> tuple[FloatArray, FloatArray]:
    """The fine structure chi(k) of a spectrum.

    FEFF: mu/mu0 - 1 on FEFF's own points, with `smooth_background` where there is no mu0. A flat spectrum of method `ml`: mu - 1.
    Measured: larch's autobk (rbkg 1 angstrom, k-weight 2) with a clamped spline, up to the element's next edge; mu/mu0 - 1 where there is a
    mu0, which is so for a file of chi(k).

    Returns:
        k in 1/angstrom and chi, both (m,), for k >= 0.

    Raises:
        SpectrumError: if the spectrum ends less than 100 eV above the edge.
    """
    e0 = find_e0(spectrum)
    if spectrum.energy[-1] - e0 < 100.0:
        raise SpectrumError(f"the spectrum ends {spectrum.energy[-1] - e0:.0f} eV above the edge; chi(k) needs at least 100 eV.")
    if spectrum.method != "measured" or spectrum.mu0 is not None:
        k = energy_to_k(spectrum.energy - e0)
        if spectrum.mu0 is not None:
            background = spectrum.mu0
        elif spectrum.normalisation == "flat":
            background = np.ones_like(spectrum.mu)
        else:
            background = smooth_background(spectrum.energy, e0)
        keep = (k >= 0) & (background > 0)
        return k[keep], spectrum.mu[keep] / background[keep] - 1.0
    return without_background(spectrum, e0)


def without_background(
    spectrum: Spectrum, e0: float, r_background: float = 1.0, k_weight: int = 2, edge_step: float | None = None
) -> tuple[FloatArray, FloatArray]:
    """Chi(k) by larch's autobk with a clamped spline, up to the element's next edge.

    Args:
        spectrum: a measured one, raw or flat.
        e0: its edge energy, eV.
        r_background: what oscillates slower than at this R is background, angstrom.
        k_weight: power of k in the fit of the background.
        edge_step: that chi is divided by; if None that of a line under the pre-edge, or one for what is flat.

    Returns:
        k in 1/angstrom and chi, both (m,), for k >= 0.

    Raises:
        SpectrumError: if there are too few points above E0, too few below it to tell the edge step, or there is no step.
    """
    from larch import Group
    from larch.xafs import autobk, pre_edge

    below = own_start(spectrum) - e0
    if edge_step is None and spectrum.normalisation == "raw" and below > -LEAST_PRE_EDGE:
        raise SpectrumError(
            f"the scan begins {below:.1f} eV from E0, too near to tell the edge step; chi(k) needs at least {-LEAST_PRE_EDGE:.0f} eV, or "
            "data already flat."
        )
    group, edge = Group(), Group()
    own = (spectrum.energy >= own_start(spectrum)) & (spectrum.energy < next_edge(spectrum.absorber, spectrum.edge) - BEFORE_NEXT_EDGE)
    energy, (mu, power) = np.array(spectrum.energy[own]), _of_order_one(spectrum.mu[own])
    if edge_step is None and spectrum.normalisation == "flat":
        edge_step = 1.0
    try:
        pre_edge(energy, mu, group=edge, e0=e0)
        found = _edge_step(edge, energy, mu, e0)
        # Left to itself autobk looks for an E0 of its own, and may take a wiggle for it.
        step = found if edge_step is None else math.ldexp(edge_step, -power)
        autobk(energy, mu, group=group, e0=e0, rbkg=r_background, kweight=k_weight, edge_step=step)
    except SpectrumError:
        raise
    except (ValueError, IndexError, TypeError, AttributeError, ArithmeticError, np.linalg.LinAlgError) as error:
        raise SpectrumError(f"no background is found under the EXAFS ({error}); check the points above E0.") from error
    return np.asarray(group.k, dtype=np.float64), np.asarray(group.chi, dtype=np.float64)


def on_grid(x: FloatArray, y: FloatArray, grid: FloatArray) -> FloatArray:
    """`y` interpolated linearly onto `grid`, NaN where `grid` leaves the range of `x`; `x` (n,) increasing, result (len(grid),)."""
    return np.asarray(np.interp(grid, x, y, left=np.nan, right=np.nan), dtype=np.float64)


def model_curve(spectrum: Spectrum) -> FloatArray:
    """What models see of a spectrum: flat mu on `XANES_GRID`, or chi on `EXAFS_GRID`; NaN outside the measured range."""
    if spectrum.kind == "EXAFS":
        k, chi = chi_k(spectrum)
        return on_grid(k, chi, EXAFS_GRID)
    flat = flatten(spectrum)
    return on_grid(flat.energy - find_e0(flat), flat.mu, XANES_GRID)

"""How much of each component does a mixture hold? Linear-combination fit of a measured spectrum by spectra of its components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .candidates import as_kind, check_edges, check_target
from .compare import K_RANGE
from .errors import SpectrumError
from .ranking import DISORDER
from .spectrum import FloatArray, Kind, Spectrum, chi_k, energy_to_k, find_e0, flatten, k_to_energy, on_grid

#: Raised by a change that alters any weight; a stored input of every fit.
COMBINATION_VERSION = "1"

#: Range of a fit of XANES that is not told another, eV from E0 of the target.
ENERGY_RANGE = (-20.0, 45.0)

#: Most components, and most eV that each may be moved by.
MOST_COMPONENTS, MOST_SHIFT = 12, 10.0

#: Below this ratio of singular values the components are one another's combination to a part in a thousand, as no measurement tells.
COLLINEAR = 1e-3

#: Weight of the row that holds the sum of the weights at one, over the size of the spectra.
SUM_ROW = 1e5

ALIGNMENTS = ("auto", "energy", "e0")


@dataclass(frozen=True)
class Fit:
    """How a mixture is fitted.

    Attributes:
        kind: XANES (flat mu) or EXAFS (k^2 chi).
        sum_to_one: hold the sum of the weights at one; XANES yes and EXAFS, whose amplitude is its own, no if None.
        low, high: range of the fit: eV from E0 of the target for XANES, 1/angstrom for EXAFS; `ENERGY_RANGE` or `K_RANGE` if None.
        align: `energy` (components as they are, as measured on one calibrated axis), `e0` (each one's E0 on the target's) or `auto`:
            energy for measured components of XANES, e0 for others.
        largest_shift: eV that each component may be moved by on top, as fits best.

    Raises:
        SpectrumError: if one is none or out of its range.
    """

    kind: Kind
    sum_to_one: bool | None = None
    low: float | None = None
    high: float | None = None
    align: str = "auto"
    largest_shift: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("XANES", "EXAFS"):
            raise SpectrumError(f"kind is {self.kind!r}; use XANES or EXAFS.")
        if self.align not in ALIGNMENTS:
            raise SpectrumError(f"align is {self.align!r}; use one of {', '.join(ALIGNMENTS)}.")
        low, high = self.limits
        if not (np.isfinite([low, high]).all() and low < high and (self.kind == "XANES" or low >= 0.0)):
            raise SpectrumError(f"the range {low:g} to {high:g} is none; give two numbers, the smaller first.")
        if isinstance(self.largest_shift, bool) or not 0.0 <= self.largest_shift <= MOST_SHIFT:
            raise SpectrumError(f"largest_shift is {self.largest_shift!r}; give a number of eV from 0 to {MOST_SHIFT:g}.")

    @property
    def holds_sum(self) -> bool:
        """Whether the sum of the weights is one."""
        return self.kind == "XANES" if self.sum_to_one is None else self.sum_to_one

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the range."""
        low, high = ENERGY_RANGE if self.kind == "XANES" else K_RANGE
        return low if self.low is None else float(self.low), high if self.high is None else float(self.high)


@dataclass(frozen=True, eq=False)
class Combination:
    """A mixture as the sum of its components.

    Attributes:
        weights: of each component, at least 0, by its name.
        uncertainties: one standard deviation of each weight, as if no weight were bounded. From the residuals, whose likeness from point
            to point is counted: it knows the noise and the misfit, and nothing of a component that is missing.
        total: sum of the weights.
        disorder: mean square displacement in angstrom^2 by which a computed EXAFS, which is of atoms at rest, was damped to be a measured
            one's; one for all components, as fits best.
        shifts: eV added to the energies of each component.
        r_factor: sum of squared differences over that of the target.
        rms: root mean square difference, of flat mu or of k^2 chi in 1/angstrom^2.
        low, high: ends of the range that all cover: eV from E0 of the target, or 1/angstrom.
        x: (m,) abscissa: absolute energies in eV, or k in 1/angstrom.
        target: (m,) flat mu or k^2 chi.
        parts: (components, m) weighted components; their sum is the fit.
    """

    weights: dict[str, float]
    uncertainties: dict[str, float]
    total: float
    disorder: float
    shifts: dict[str, float]
    r_factor: float
    rms: float
    low: float
    high: float
    x: FloatArray
    target: FloatArray
    parts: FloatArray


def combine(target: Spectrum, components: Mapping[str, Spectrum], fit: Fit) -> Combination:
    """Fit a spectrum by a sum of others with weights of at least zero (Lawson and Hanson's algorithm, `scipy.optimize.nnls`).

    Raises:
        SpectrumError: if a component cannot be compared with the target, they cannot be told apart, or there are fewer points than weights.
    """
    if not 1 <= len(components) <= MOST_COMPONENTS:
        raise SpectrumError(f"{len(components)} components were given; a fit takes 1 to {MOST_COMPONENTS}.")
    names = list(components)
    check_target(target, fit.kind)
    curves = []
    for name, component in components.items():
        try:
            check_edges(target, component)
            curves.append(_Curve(as_kind(component, fit.kind), fit.kind))
        except SpectrumError as error:
            raise SpectrumError(f"{name}: {error}") from error
    goal = _Curve(target, fit.kind)
    starts = np.array([_offset(goal, curve, fit) for curve in curves])
    moves = [starts - fit.largest_shift, starts, starts + fit.largest_shift]
    low, high = fit.limits
    x = goal.x[(goal.x >= goal.absolute(low)) & (goal.x <= goal.absolute(high))]
    # One set of points for all shifts: otherwise the shift that loses the white line off the end would win.
    reach = np.array([[np.isfinite(curve.at(x, float(move[i]))) for i, curve in enumerate(curves)] for move in moves]).all(axis=(0, 1))
    x = x[reach]
    damped = fit.kind == "EXAFS" and goal.method == "measured" and any(curve.method != "measured" for curve in curves)
    parameters = len(names) - int(fit.holds_sum) + (len(names) if fit.largest_shift else 0) + int(damped)
    if len(x) < max(10, 2 * parameters):
        raise SpectrumError(
            f"the target and all components share {len(x)} points in the range; at least {max(10, 2 * parameters)} are needed."
        )
    truth = goal.at(x, 0.0)
    if not np.any(truth):
        raise SpectrumError("the target is zero over the range; check that it is a spectrum.")
    _check_apart(_matrix(x, curves, starts), names)
    shifts, disorder = starts, 0.0
    least = np.inf
    for trial in DISORDER if damped else (0.0,):
        for curve in curves:
            curve.disorder = float(trial) if curve.method != "measured" else 0.0
        own = _best_shifts(x, truth, curves, starts, fit)
        misfit = _misfit(_matrix(x, curves, own), truth, fit.holds_sum)
        if misfit < least:
            least, shifts, disorder = misfit, own, float(trial)
    for curve in curves:
        curve.disorder = disorder if curve.method != "measured" else 0.0
    matrix = _matrix(x, curves, shifts)
    _check_apart(matrix, names)
    weights = _solve(matrix, truth, fit.holds_sum)
    if not weights.any():
        raise SpectrumError("no component has a part in the target, the fit is zero; check absorber, alignment and range.")
    residual = truth - matrix @ weights
    errors = _uncertainties(matrix, residual, fit.holds_sum, len(x) - parameters)
    return Combination(
        weights=dict(zip(names, weights.tolist(), strict=True)),
        uncertainties=dict(zip(names, errors.tolist(), strict=True)),
        total=float(weights.sum()),
        disorder=disorder,
        shifts={name: round(float(shift), 4) for name, shift in zip(names, shifts, strict=True)},
        r_factor=float((residual**2).sum() / (truth**2).sum()),
        rms=float(np.sqrt((residual**2).mean())),
        low=round(float(goal.relative(x[0])), 6),
        high=round(float(goal.relative(x[-1])), 6),
        x=x,
        target=truth,
        parts=np.asarray((matrix * weights).T),
    )


class _Curve:
    """Flat mu over energy, or k^2 chi over k, that can be moved in energy.

    Attributes:
        x: (m,) absolute energies in eV, or k in 1/angstrom.
        disorder: mean square displacement of the scattering paths, angstrom^2, by which an EXAFS is damped.
    """

    def __init__(self, spectrum: Spectrum, kind: Kind) -> None:
        self.kind, self.method, self.disorder = kind, spectrum.method, 0.0
        if kind == "EXAFS":
            self.e0 = find_e0(spectrum)
            self.x, self.y = chi_k(spectrum)
        else:
            flat = flatten(spectrum)
            self.e0, self.x, self.y = find_e0(flat), flat.energy, flat.mu

    def at(self, x: FloatArray, shift: float) -> FloatArray:
        """The curve on an abscissa after so many eV were added to its energies; NaN where it does not reach."""
        if self.kind == "XANES":
            return on_grid(self.x + shift, self.y, x)
        chi = on_grid(energy_to_k(k_to_energy(self.x) + shift), self.y, x)
        return np.asarray(x**2 * chi * np.exp(-2.0 * self.disorder * x**2), dtype=np.float64)

    def absolute(self, value: float) -> float:
        """What stands on the abscissa for an end of the range."""
        return value + self.e0 if self.kind == "XANES" else value

    def relative(self, value: float) -> float:
        """The reverse."""
        return value - self.e0 if self.kind == "XANES" else value


def _offset(goal: _Curve, curve: _Curve, fit: Fit) -> float:
    """Energy in eV that is added to a component's energies before any fit; its k counts from its own E0 already."""
    by_energy = fit.align == "energy" or (fit.align == "auto" and fit.kind == "XANES" and curve.method == goal.method == "measured")
    if fit.kind == "EXAFS":
        return curve.e0 - goal.e0 if by_energy else 0.0
    return 0.0 if by_energy else goal.e0 - curve.e0


def _matrix(x: FloatArray, curves: list[_Curve], shifts: FloatArray) -> FloatArray:
    """(m, components) the components on an abscissa."""
    return np.column_stack([curve.at(x, float(shift)) for curve, shift in zip(curves, shifts, strict=True)])


def _misfit(matrix: FloatArray, truth: FloatArray, sum_to_one: bool) -> float:
    """Sum of squared differences of the best fit."""
    return float(((truth - matrix @ _solve(matrix, truth, sum_to_one)) ** 2).sum())


def _best_shifts(x: FloatArray, truth: FloatArray, curves: list[_Curve], starts: FloatArray, fit: Fit) -> FloatArray:
    """Shifts of the components at which the fit is closest."""
    if not fit.largest_shift:
        return starts
    from scipy.optimize import minimize

    def misfit(moves: NDArray[np.float64]) -> float:
        return _misfit(_matrix(x, curves, starts + moves), truth, fit.holds_sum)

    bounds = [(-fit.largest_shift, fit.largest_shift)] * len(curves)
    # Interpolated curves have kinks at their points, so no slopes are used.
    found = minimize(misfit, np.zeros(len(curves)), method="Powell", bounds=bounds, options={"xtol": 1e-3, "ftol": 1e-10})
    return np.asarray(starts + found.x, dtype=np.float64)


def _solve(matrix: FloatArray, truth: FloatArray, sum_to_one: bool) -> FloatArray:
    """Weights of at least zero. Their sum is held by a row so heavy that it is met, as Lawson and Hanson do."""
    from scipy.optimize import nnls

    if sum_to_one:
        heavy = SUM_ROW * float(np.sqrt((matrix**2).sum(axis=0)).mean())
        weights = nnls(np.vstack([matrix, np.full(matrix.shape[1], heavy)]), np.append(truth, heavy))[0]
        return np.asarray(weights / weights.sum(), dtype=np.float64)
    return np.asarray(nnls(matrix, truth)[0], dtype=np.float64)


def _check_apart(matrix: FloatArray, names: list[str]) -> None:
    """Refuse components of which one is a combination of the others.

    Raises:
        SpectrumError: naming those that it is about.
    """
    sizes = np.sqrt((matrix**2).sum(axis=0))
    if not sizes.all():
        raise SpectrumError(f"{names[int(np.argmin(sizes))]} is zero over the range; check that it is a spectrum.")
    _, values, vectors = np.linalg.svd(matrix / sizes, full_matrices=False)
    if len(names) > 1 and values[-1] < COLLINEAR * values[0]:
        involved = [name for name, part in zip(names, vectors[-1], strict=True) if abs(part) > 0.1]
        raise SpectrumError(f"{' and '.join(involved)} cannot be told apart in this range; leave one out.")


def _uncertainties(matrix: FloatArray, residual: FloatArray, sum_to_one: bool, freedom: int) -> FloatArray:
    """Standard deviations of the weights, from the residuals."""
    from scipy.linalg import null_space

    count = matrix.shape[1]
    free = null_space(np.ones((1, count))) if sum_to_one else np.eye(count)
    if not free.size:
        return np.zeros(count)
    covariance = free @ np.linalg.inv(free.T @ matrix.T @ matrix @ free) @ free.T
    power = float((residual**2).sum())
    # Residuals that follow one another are fewer independent ones: of a first-order autoregression, (1 - r) / (1 + r) of them.
    alike = float(np.clip((residual[1:] * residual[:-1]).sum() / power, 0.0, 0.99)) if power > 0.0 else 0.0
    return np.asarray(np.sqrt(np.diag(covariance) * power / freedom * (1.0 + alike) / (1.0 - alike)), dtype=np.float64)


def describe(found: Combination, fit: Fit) -> dict[str, Any]:
    """A fit as plain values, components by their weight."""
    order = sorted(found.weights, key=lambda name: (-found.weights[name], name))
    return {
        "kind": fit.kind,
        "components": [
            {
                "name": name,
                "weight": found.weights[name],
                "fraction": found.weights[name] / found.total,
                "uncertainty": found.uncertainties[name],
                "shift": found.shifts[name],
            }
            for name in order
        ],
        "total": found.total,
        "disorder": found.disorder,
        "sum_to_one": fit.holds_sum,
        "r_factor": found.r_factor,
        "rms": found.rms,
        "range": [found.low, found.high],
        "points": len(found.x),
        "align": fit.align,
        "largest_shift": float(fit.largest_shift),
    }

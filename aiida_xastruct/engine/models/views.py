"""How a network sees a spectrum: a curve on the common grid becomes a vector of features, after random draws in training.

All functions take and give batches of torch tensors, so that training draws anew every epoch at no cost.
"""

from __future__ import annotations

from functools import cache

import torch

from ..spectrum import ETOK, EXAFS_GRID, XANES_GRID

#: R of the Fourier transform, angstrom (not phase-corrected).
R_GRID = torch.arange(0.6, 6.01, 0.08)

#: How much too near the edge FEFF puts what lies above it, at most: the real part of its self-energy, a single plasmon pole, changes too
#: much with energy (J.J. Kas et al., Phys. Rev. B 76, 195116 (2007)).
STRETCH = 0.1

_E = torch.tensor(XANES_GRID, dtype=torch.float32)
_XANES_STEP = float(XANES_GRID[1] - XANES_GRID[0])
_K = torch.tensor(EXAFS_GRID, dtype=torch.float32)
_K_STEP = float(EXAFS_GRID[1] - EXAFS_GRID[0])


def view_size(kind: str) -> int:
    """Length of the vector that `view` makes."""
    return 3 * len(XANES_GRID) if kind == "XANES" else len(EXAFS_GRID)


def view(curve: torch.Tensor, kind: str) -> torch.Tensor:
    """Features of curves.

    Args:
        curve: (b, len(grid)) flat mu or chi, NaN where there is no data.
        kind: XANES or EXAFS.

    Returns:
        (b, `view_size`): for XANES the curve, twice its slope in 1/eV and where there is data; for EXAFS k^2 chi, which a window takes to
        zero at both ends of the data.
    """
    known = torch.isfinite(curve)
    filled = torch.where(known, curve, torch.zeros(()))
    if kind == "XANES":
        left, right = filled[:, :-2], filled[:, 2:]
        slope = torch.where(known[:, :-2] & known[:, 2:], (right - left) / _XANES_STEP, torch.zeros(()))
        slope = torch.nn.functional.pad(slope, (1, 1))
        return torch.cat([filled, slope, known.float()], dim=1)
    k = _K.to(curve.device)
    return filled * k**2 * _edge_window(known)


def fourier(weighted: torch.Tensor) -> torch.Tensor:
    """Fourier transforms of windowed k^2 chi (b, n_k).

    Returns:
        (b, 9 n_R) magnitude, real and imaginary part, of all of it and of its halves below and above k = 7, where light and heavy
        neighbours scatter most.
    """
    low = torch.sigmoid((7.0 - _K.to(weighted.device)) / 0.5)
    parts = [magnitude_and_phase(weighted), magnitude_and_phase(2.0 * weighted * low), magnitude_and_phase(2.0 * weighted * (1.0 - low))]
    return torch.cat(parts, dim=1)


def magnitude_and_phase(weighted: torch.Tensor) -> torch.Tensor:
    """(b, 3 n_R) magnitude, real and imaginary part of the transform of (b, n_k)."""
    cosine, sine = _transform().to(weighted.device)
    real, imaginary = weighted @ cosine, weighted @ sine
    return torch.cat([torch.sqrt(real**2 + imaginary**2 + 1e-12), real, imaginary], dim=1)


def _edge_window(known: torch.Tensor) -> torch.Tensor:
    """(b, n) window that is one inside the data and falls to zero as a cosine over 1 / angstrom at both of its ends."""
    width = int(1.0 / _K_STEP)
    index = torch.arange(known.shape[1], device=known.device)
    first = known.float().argmax(dim=1, keepdim=True)
    last = known.shape[1] - 1 - known.flip(1).float().argmax(dim=1, keepdim=True)
    inside = torch.minimum(index - first, last - index).clamp(min=0, max=width).float() / width
    return torch.where(known, torch.sin(0.5 * torch.pi * inside) ** 2, torch.zeros(()))


@cache
def _transform() -> torch.Tensor:
    """(2, n_k, n_R) cosine and sine of 2 k R, times the k step."""
    phase = 2.0 * _K[:, None] * R_GRID[None, :]
    return torch.stack([torch.cos(phase), torch.sin(phase)]) * _K_STEP


def draw(curve: torch.Tensor, kind: str, generator: torch.Generator) -> torch.Tensor:
    """A random measurement of each curve: what an instrument, a temperature and a choice of E0 do to what FEFF computes.

    XANES: thermal disorder, which FEFF's XANES is without, of sigma^2 up to 0.012 angstrom^2, added Gaussian broadening up to 1.5 eV, E0
    on another rise of nearly the same steepness and off by 1.5 eV (standard deviation), energies up to `STRETCH` further from E0, gain
    of 3 % and as much of a slope, noise up to 1 %, a range that ends early. EXAFS: amplitude of 0.6 to 1.05 (S0^2 and the edge step),
    Debye-Waller factor exp(-2 sigma^2 k^2) with sigma^2 up to 0.03 angstrom^2 (all shells alike; half of them below 0.004), E0 off by up to
    8 eV either way (mostly less than 4), every fourth time on another rise, from 16 eV below to 10 eV above; what a background spline takes
    away and what it leaves (`_splined`, `_wandering`), glitches, noise that grows as k^2-weighted data show it, a range that starts late or
    ends early. A fifth of the draws changes nothing, so that computed spectra stay in the domain.

    Args:
        curve: (b, len(grid)), NaN where there is no data.
        kind: XANES or EXAFS.
        generator: source of randomness, on the curve's device.
    """
    drawn = _draw_xanes(curve, generator) if kind == "XANES" else _draw_exafs(curve, generator)
    untouched = _uniform(curve, generator) < 0.2
    return torch.where(untouched, curve, drawn)


def choose(curves: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One of the curves (b, m, n) of each row, (b, n): evenly among those that hold data."""
    held = torch.isfinite(curves).any(dim=2).float()
    index = torch.multinomial(held, 1, generator=generator)[:, 0]
    return curves[torch.arange(len(curves), device=curves.device), index]


def _uniform(curve: torch.Tensor, generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    """(b, 1) uniform numbers."""
    return low + (high - low) * torch.rand(len(curve), 1, generator=generator, device=curve.device)


def _normal(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device)


def _draw_xanes(curve: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    one = curve[:, :1]
    drawn = _disordered(_continued(curve, _uniform(curve, generator)), _uniform(curve, generator, 0.0, 0.012))
    drawn = _broaden(drawn, _uniform(curve, generator, 0.0, 1.5) / _XANES_STEP)
    e0 = _steepest(drawn, 0.7 * _normal(one, generator)) + 1.5 * _normal(one, generator)
    energy = _E.to(curve.device)
    stretch = 1.0 + STRETCH * _uniform(curve, generator)
    drawn = resample(drawn, (e0 + energy / stretch - _E[0]) / _XANES_STEP)
    slope = 0.03 * _normal(one, generator) * energy.clamp(min=0.0) / float(_E[-1])
    drawn = drawn * (1.0 + 0.03 * _normal(one, generator) + slope)
    drawn = drawn + _uniform(curve, generator, 0.0, 0.01) * _normal(curve, generator)
    end = curve.shape[1] * _uniform(curve, generator, 0.6, 1.4)
    return torch.where(torch.arange(curve.shape[1], device=curve.device) < end, drawn, torch.nan)


def _continued(curve: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Flat mu (b, n) continued to the start of the grid as the tail of a Lorentzian edge, of which `share` (b, 1) is left.

    FEFF begins 12 eV below its own edge; a measurement goes on, and its pre-edge line takes away some of that tail.
    """
    known = torch.isfinite(curve)
    first = known.float().argmax(dim=1, keepdim=True)
    energy = _E.to(curve.device)
    start = energy[first].clamp(max=-1.0)
    tail = share * torch.gather(curve, 1, first) * start / energy.clamp(max=-1.0)
    return torch.where(torch.arange(curve.shape[1], device=curve.device) < first, tail, curve)


def _steepest(curve: torch.Tensor, favour: torch.Tensor) -> torch.Tensor:
    """(b, 1) eV from E0 where flat mu (b, n) rises most, if a rise 10 eV higher counts exp(`favour`) (b, 1) times as much.

    Edges of metals, and those with a pre-edge peak, rise twice or three times alike, up to 10 eV apart. Which of them is E0 is
    decided by little, so that it is often another one in a measurement than in FEFF's spectrum of the same crystal.
    """
    half = int(1.0 / _XANES_STEP)
    energy = _E.to(curve.device)
    rise = torch.nan_to_num(curve[:, 2 * half :] - curve[:, : -2 * half]).clamp(min=0.0)
    rise = torch.where(energy.abs() <= 12.0, torch.nn.functional.pad(rise, (half, half)), torch.zeros(()))
    return energy[(rise * torch.exp(favour * energy / 10.0)).argmax(dim=1, keepdim=True)]


def _disordered(curve: torch.Tensor, sigma2: torch.Tensor) -> torch.Tensor:
    """Flat mu (b, n) whose structure above the edge is damped by exp(-2 sigma^2 k^2), sigma^2 (b, 1) in angstrom^2.

    The white line is mostly the absorber's own, so the damping sets in 8 eV above the edge, within a few eV.
    """
    above = _E.to(curve.device).clamp(min=0.0)
    damped = torch.exp(-2.0 * sigma2 * ETOK * above) - 1.0
    return torch.where(above > 0, 1.0 + (curve - 1.0) * (1.0 + damped * torch.sigmoid((above - 8.0) / 3.0)), curve)


def _draw_exafs(curve: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    k = _K.to(curve.device)
    shift = _uniform(curve, generator, -4.0, 4.0) + _uniform(curve, generator, -4.0, 4.0)
    # The pre-edge peak of a chromate is steeper than its edge, and 15 eV below.
    shift = torch.where(_uniform(curve, generator) < 0.25, _uniform(curve, generator, -16.0, 10.0), shift)
    shifted = torch.sqrt((k**2 + ETOK * shift).clamp(min=1e-6))
    weighted = resample(curve, (shifted - k[0]) / _K_STEP) * k**2
    sigma2 = 0.03 * _uniform(curve, generator) ** 3
    weighted = weighted * _uniform(curve, generator, 0.6, 1.05) * torch.exp(-2.0 * sigma2 * k**2)
    weighted = _splined(weighted, _uniform(curve, generator))
    weighted = weighted + _wandering(curve, generator) + _glitches(curve, generator)
    noise = 0.003 * _uniform(curve, generator) ** 2 * (k / 10.0).clamp(min=0.3) * k**2
    drawn = (weighted + noise * _normal(curve, generator)) / k**2
    start = _uniform(curve, generator, 1.0, 3.5)
    end = _uniform(curve, generator, 9.0, 18.0)
    return torch.where((k >= start) & (k <= end), drawn, torch.nan)


def _splined(weighted: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """k^2 chi (b, n) less `share` (b, 1) of what a spline follows that is as stiff as autobk's for 1 angstrom.

    Of near neighbours, whose waves are slow, a background takes some away. An approximation: least squares over the whole grid, where what
    is unknown counts as zero, while autobk makes what lies below 1 angstrom small over the range that was measured.
    """
    followed = torch.nan_to_num(weighted) @ _background().to(weighted.device)
    return weighted - share * followed


@cache
def _background() -> torch.Tensor:
    """(n_k, n_k) least squares fit by the cubic spline that autobk takes for 1 angstrom: 2 R (k_max - k_min) / pi + 1 coefficients.

    M. Newville et al., Phys. Rev. B 47, 14126 (1993).
    """
    from scipy.interpolate import BSpline

    degree, coefficients = 3, 1 + round(2.0 * float(_K[-1] - _K[0]) / torch.pi)
    inner = torch.linspace(float(_K[0]), float(_K[-1]), coefficients - degree + 1)
    knots = torch.cat([inner[:1].repeat(degree), inner, inner[-1:].repeat(degree)])
    basis = torch.tensor(BSpline.design_matrix(EXAFS_GRID.clip(float(knots[0]), float(knots[-1])), knots.numpy(), degree).toarray())
    fit: torch.Tensor = basis @ torch.linalg.pinv(basis)
    return fit.T.float()


def _wandering(curve: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """k^2 chi (b, n) of two slow waves, below 0.9 angstrom, that a background left; some are at the start, some grow towards the end.

    Each has up to 0.3 at k = 8 (mostly less than 0.04), up to 16 times that at k = 2 or 4 times at k = 15.
    """
    k = _K.to(curve.device)
    wandering = torch.zeros_like(curve)
    for _ in range(2):
        size = 0.3 * _uniform(curve, generator) ** 3
        power = _uniform(curve, generator, -2.0, 2.0)
        phase = 2.0 * k * _uniform(curve, generator, 0.0, 0.9) + 2.0 * torch.pi * _uniform(curve, generator)
        wandering = wandering + size * (k / 8.0) ** power * torch.sin(phase)
    return wandering


def _glitches(curve: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """k^2 chi (b, n) of a spike, as a monochromator makes it, and of a step that a spline followed, as a second excited electron does."""
    k = _K.to(curve.device)
    size = 0.5 * _normal(curve[:, :1], generator) * (_uniform(curve, generator) < 0.3)
    away = (k - _uniform(curve, generator, 3.0, 15.0)) / _uniform(curve, generator, 0.03, 0.15)
    spike = size * torch.exp(-0.5 * away**2)
    size = 0.01 * _normal(curve[:, :1], generator) * (_uniform(curve, generator) < 0.15)
    away = k - _uniform(curve, generator, 4.0, 13.0)
    return spike + size * k**2 * torch.sign(away) * torch.exp(-away.abs())


def resample(curve: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Curves (b, n) read at fractional indices `position` (b, n) by linear interpolation; NaN outside."""
    last = curve.shape[1] - 1
    inside = (position >= 0) & (position <= last)
    low = position.floor().clamp(0, last - 1).long()
    part = position - low
    value = torch.gather(curve, 1, low) * (1 - part) + torch.gather(curve, 1, low + 1) * part
    return torch.where(inside, value, torch.nan)


def _broaden(curve: torch.Tensor, width: torch.Tensor, reach: int = 8) -> torch.Tensor:
    """Gaussian broadening of each curve by its own standard deviation `width` (b, 1) in grid steps; ignores NaN."""
    offset = torch.arange(-reach, reach + 1, device=curve.device).float()
    kernel = torch.exp(-0.5 * (offset / width.clamp(min=0.05)) ** 2)
    known = torch.isfinite(curve)
    filled = torch.where(known, curve, torch.zeros(()))
    values = torch.nn.functional.pad(filled, (reach, reach)).unfold(1, len(offset), 1)
    weights = torch.nn.functional.pad(known.float(), (reach, reach)).unfold(1, len(offset), 1)
    total = (weights * kernel[:, None, :]).sum(-1)
    smooth = (values * kernel[:, None, :]).sum(-1) / total.clamp(min=1e-9)
    return torch.where(known, smooth, torch.nan)

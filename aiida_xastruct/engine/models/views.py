"""How a network sees a spectrum: a curve on the common grid becomes a vector of features, after random draws in training.

All functions take and give batches of torch tensors, so that training draws anew every epoch at no cost.
"""

from __future__ import annotations

from functools import cache

import torch

from ..spectrum import ETOK, EXAFS_GRID, XANES_GRID

#: R of the Fourier transform, angstrom (not phase-corrected).
R_GRID = torch.arange(0.6, 6.01, 0.08)

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

    XANES: thermal disorder, which FEFF's XANES is without, of sigma^2 up to 0.012 angstrom^2, shift of 1.5 eV (standard deviation), added
    Gaussian broadening up to 1.5 eV, gain of 3 %, noise up to 1 %, a range that ends early. EXAFS: S0^2 of 0.7 to 1, Debye-Waller factor
    exp(-2 sigma^2 k^2) with sigma^2 up to 0.012 angstrom^2 (all shells alike), shift of E0 of up to 8 eV either way (mostly less than 4),
    noise that grows as k^2-weighted data show it, a range that starts late or ends early. A fifth of the draws changes nothing, so that
    computed spectra stay in the domain.

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
    index = torch.arange(curve.shape[1], device=curve.device).float()
    shift = 1.5 * _normal(curve[:, :1], generator) / _XANES_STEP
    drawn = resample(_disordered(curve, _uniform(curve, generator, 0.0, 0.012)), index + shift)
    width = _uniform(curve, generator, 0.0, 1.5) / _XANES_STEP
    drawn = _broaden(drawn, width)
    drawn = drawn * (1.0 + 0.03 * _normal(curve[:, :1], generator))
    drawn = drawn + _uniform(curve, generator, 0.0, 0.01) * _normal(curve, generator)
    end = curve.shape[1] * _uniform(curve, generator, 0.6, 1.4)
    return torch.where(index < end, drawn, torch.nan)


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
    shifted = torch.sqrt((k**2 + ETOK * shift).clamp(min=1e-6))
    drawn = resample(curve, (shifted - k[0]) / _K_STEP)
    sigma2 = 0.012 * _uniform(curve, generator) ** 1.5
    drawn = drawn * _uniform(curve, generator, 0.7, 1.0) * torch.exp(-2.0 * sigma2 * k**2)
    drawn = drawn + 0.03 * _uniform(curve, generator) ** 2 * _normal(curve, generator) * (k / 10.0).clamp(min=0.3) / 10.0
    start = _uniform(curve, generator, 1.0, 3.5)
    end = _uniform(curve, generator, 9.0, 18.0)
    return torch.where((k >= start) & (k <= end), drawn, torch.nan)


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

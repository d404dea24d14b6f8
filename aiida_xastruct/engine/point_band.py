"""The band of a learned spectrum that holds single points: the one that holds whole spectra, narrower by one factor of its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .errors import SpectrumError
from .spectrum import FloatArray, Spectrum

if TYPE_CHECKING:
    from .models.calibration import ForwardCalibration

#: Setting of a learned spectrum: width of the band of single points over that of whole spectra.
SHARE = "pointwise_share"


def with_share(spectrum: Spectrum, calibration: ForwardCalibration) -> Spectrum:
    """A predicted spectrum whose settings say how wide the band of single points is."""
    return replace(spectrum, settings={**spectrum.settings, SHARE: calibration.pointwise / calibration.simultaneous})


def common_share(settings: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The setting of a mean of learned spectra: their widest; empty where one of them does not say."""
    shares = [float(own[SHARE]) for own in settings if SHARE in own]
    return {SHARE: max(shares)} if shares and len(shares) == len(settings) else {}


def point_band(mu: FloatArray, band: FloatArray | None, settings: Mapping[str, Any]) -> FloatArray | None:
    """Limits (n, 2) of mu that hold a point in as many cases as `band` holds the spectrum; None where there is no band, or no share.

    Args:
        mu: (n,).
        band: (n, 2) of whole spectra.
        settings: of the spectrum.

    Raises:
        SpectrumError: if the share is no number from 0 to 1.
    """
    if band is None or SHARE not in settings:
        return None
    share = settings[SHARE]
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0.0 < share <= 1.0:
        raise SpectrumError(f"{SHARE} is {share!r}; give a number above 0, up to 1, or leave it out.")
    middle: FloatArray = mu[:, None]
    return middle + share * (band - middle)

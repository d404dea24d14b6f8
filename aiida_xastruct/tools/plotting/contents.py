"""Figures of spectra and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...engine.errors import SpectrumError
from ...engine.processing import fourier_transform
from ...engine.spectrum import Spectrum, chi_k, energy_to_k, find_e0, flatten
from .figure import Array, Band, Figure, Interval, Line

if TYPE_CHECKING:
    from ...data.spectrum import SpectrumData

#: What may be drawn of spectra.
KINDS = ("mu", "chi", "transform")

#: Networks whose losses one figure shows: more curves tell no more.
_MOST_NETWORKS = 3

#: Step in k for a transform, 1/angstrom, and from where to where chi is drawn.
_K_STEP, _K_LEAST, _K_MOST = 0.05, 1.0, 16.0


@dataclass(frozen=True, eq=False)
class Curve:
    """A spectrum to draw.

    Attributes:
        label: what the legend calls it.
        spectrum: of any method.
        band: (n, 2) limits that hold the whole spectrum, in the unit of mu; None where nothing says.
        point_band: (n, 2) limits that hold single points; None where nothing says.
    """

    label: str
    spectrum: Spectrum
    band: Array | None = None
    point_band: Array | None = None

    @property
    def bands(self) -> list[tuple[str, Array, float]]:
        """Label, limits (n, 2) and opacity of the bands, the widest first."""
        found = (("90 % band, whole spectrum", self.band, 0.15), ("90 % band, single points", self.point_band, 0.3))
        return [(label, limits, opacity) for label, limits, opacity in found if limits is not None]


def of_spectra(nodes: Sequence[SpectrumData], kind: str = "") -> Figure:
    """A figure of one or more stored spectra; see `of_curves`."""
    return of_curves([Curve(name_of(node), node.to_engine(), node.band, node.point_band) for node in nodes], kind)


def of_curves(curves: Sequence[Curve], kind: str = "") -> Figure:
    """A figure of one or more spectra.

    Args:
        curves: spectra of one absorber.
        kind: one of `KINDS`; mu for XANES and chi for EXAFS if empty.

    Raises:
        SpectrumError: for an unknown kind, no spectra, several absorbers, or spectra that end too early for it.
    """
    if not curves:
        raise SpectrumError("there is nothing to draw; give at least one spectrum.")
    if kind and kind not in KINDS:
        raise SpectrumError(f"{kind!r} is no kind of figure; use one of {', '.join(KINDS)}.")
    absorbers = {f"{curve.spectrum.absorber} {curve.spectrum.edge}" for curve in curves}
    if len(absorbers) > 1:
        raise SpectrumError(f"the spectra are of {' and '.join(sorted(absorbers))}; draw those of one absorber and edge together.")
    chosen = kind or ("chi" if all(curve.spectrum.kind == "EXAFS" for curve in curves) else "mu")
    draw = {"mu": _mu, "chi": _chi, "transform": _transform}[chosen]
    return draw(curves, absorbers.pop())


def name_of(node: SpectrumData) -> str:
    """What a legend calls a stored spectrum."""
    method = {"ml": "model", "feff": "FEFF", "xspectra": "XSpectra", "measured": "measured"}[node.method]
    facts = ", ".join([method, *([str(node.pk)] if node.is_stored else [])])
    return f"{node.label} ({facts})" if node.label else facts


def _mu(curves: Sequence[Curve], what: str) -> Figure:
    lines, bands = [], []
    for curve in curves:
        spectrum = curve.spectrum
        try:
            flat = flatten(spectrum)
        except SpectrumError:  # too short to be normalised: shown as it is
            flat = spectrum
        lines.append(Line(curve.label, flat.energy, flat.mu, "points" if spectrum.method == "measured" and len(flat) < 60 else "solid"))
        bands += [
            Band(label, spectrum.energy, limits[:, 0], limits[:, 1], len(lines) - 1, opacity) for label, limits, opacity in curve.bands
        ]
    return Figure(
        f"{what}, normalised absorption",
        f"Absorption of the {what} edge against energy: {', '.join(line.label for line in lines)}.",
        "Energy (eV)",
        "flat mu(E)",
        tuple(bands),
        tuple(lines),
    )


def _weighted(spectrum: Spectrum) -> tuple[Array, Array]:
    """K in even steps and chi(k), (m,) each."""
    k, chi = chi_k(spectrum)
    grid = np.arange(0.0, min(float(k[-1]), _K_MOST), _K_STEP)
    return grid, np.interp(grid, k, chi, left=0.0)


def _chi(curves: Sequence[Curve], what: str) -> Figure:
    lines, bands = [], []
    for curve in curves:
        spectrum = curve.spectrum
        k, chi = _weighted(spectrum)
        inner = k >= max(_K_LEAST, float(energy_to_k(spectrum.energy[:1] - find_e0(spectrum))[0]))  # a model's begins later
        lines.append(Line(curve.label, k[inner], (k**2 * chi)[inner]))
        own = energy_to_k(spectrum.energy - find_e0(spectrum))
        seen = own >= _K_LEAST
        background = np.ones(len(spectrum)) if spectrum.mu0 is None else spectrum.mu0  # of a model's flat spectrum it is one
        for label, limits, opacity in curve.bands:
            low, high = (((limits[:, side] / background - 1.0) * own**2)[seen] for side in (0, 1))
            bands.append(Band(label, own[seen], low, high, len(lines) - 1, opacity))
    return Figure(
        f"{what}, EXAFS",
        f"k squared times chi of the {what} edge against k: {', '.join(line.label for line in lines)}.",
        "k (1/angstrom)",
        "k^2 chi(k) (1/angstrom^2)",
        tuple(bands),
        tuple(lines),
    )


def _transform(curves: Sequence[Curve], what: str) -> Figure:
    lines = []
    for curve in curves:
        found = fourier_transform(*_weighted(curve.spectrum))
        near = found.r <= 6.0
        lines.append(Line(f"{curve.label}, k {found.k_range[0]:g} to {found.k_range[1]:.1f}", found.r[near], np.abs(found.chi_r)[near]))
    return Figure(
        f"{what}, Fourier transform",
        f"Magnitude of the Fourier transform of k squared chi of the {what} edge against distance, not corrected for the phase.",
        "R without phase correction (angstrom)",
        "|chi(R)| (1/angstrom^3)",
        (),
        tuple(lines),
    )


def of_answer(answer: Mapping[str, Any]) -> list[Figure]:
    """Figures of an inference: probabilities of the neighbours on the periodic table, and the mean distance."""
    low, high = (float(limit) for limit in answer["interval"])
    value, coverage = float(answer["mean_distance"]), round(100 * float(answer["coverage"]))
    neighbours = {str(element): float(share) for element, share in answer["neighbours"].items()}
    best = ", ".join(f"{element} {share:.2f}" for element, share in list(neighbours.items())[:5])
    return [
        Figure(
            "Neighbours of the absorber",
            f"Probability that an element is a nearest neighbour, on the periodic table; the likeliest: {best}.",
            elements=neighbours,
        ),
        Figure(
            "Mean distance of the first shell",
            f"Mean distance {value:.3f} angstrom, {coverage} % interval {low:.3f} to {high:.3f}.",
            "distance (angstrom)",
            "",
            intervals=(Interval(f"{coverage} % interval", value, low, high),),
        ),
    ]


def of_risk(cards: Mapping[str, Mapping[str, Any]]) -> Figure | None:
    """Error against the share of spectra that a forward model answers, surest first; None where no card tells it."""
    lines = [
        Line(label, 100.0 * np.asarray(card["risk_coverage"]["share"]), np.asarray(card["risk_coverage"]["mse"]))
        for label, card in cards.items()
        if "risk_coverage" in card
    ]
    if not lines:
        return None
    return Figure(
        "Risk and coverage",
        "Mean square error of the surest spectra against the share of them that is answered, on materials that were not trained on.",
        "answered (%)",
        "mean square error",
        (),
        tuple(lines),
    )


def of_losses(losses: Mapping[str, Sequence[Mapping[str, Sequence[Any]]]]) -> list[Figure]:
    """Of a training: loss of each network against the epoch, a figure a task; what is no number is left out.

    Args:
        losses: `epoch`, `loss` and `select_loss` of each network, by task, as a training's report has them.
    """
    figures = []
    for task, networks in losses.items():
        lines = []
        for number, network in enumerate(networks[:_MOST_NETWORKS], start=1):
            for column, name in (("loss", "training"), ("select_loss", "held out to select")):
                pairs = [pair for pair in zip(network["epoch"], network[column], strict=True) if pair[1] is not None]
                if pairs:
                    epoch, loss = np.array(pairs, dtype=np.float64).T
                    lines.append(Line(f"network {number}, {name}", epoch, loss, "dashed" if column == "select_loss" else "solid"))
        if lines:
            more = f", the first {_MOST_NETWORKS} of {len(networks)} networks" if len(networks) > _MOST_NETWORKS else ""
            words = f"Loss of {task} against the epoch, on what was trained on and on what was held out to select the best epoch{more}."
            figures.append(Figure(f"Training of {task}", words, "epoch", "loss", (), tuple(lines)))
    return figures


def of_table(table: Any) -> list[Figure]:
    """Of a screening (a pyarrow table): how many answers have which expected error."""
    values = np.array([value for value in table["uncertainty"].to_pylist() if value is not None], dtype=np.float64)
    if len(values) < 2:
        return []
    share = 100.0 * np.arange(1, len(values) + 1) / len(values)
    ordered = np.sort(values)
    # A curve of 100,000 points says no more than one of 500.
    kept = np.unique(np.linspace(0, len(values) - 1, min(len(values), 500)).round().astype(int))
    return [
        Figure(
            "Expected errors",
            f"Share of the {len(values):,} answers whose expected error stays below a value.",
            "expected error",
            "answers below it (%)",
            (),
            (Line("answers", ordered[kept], share[kept]),),
        )
    ]

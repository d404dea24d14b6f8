"""Figures by matplotlib: for papers, in vector formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .figure import COLOURS, Figure, all_elements, place

_STYLES = {"solid": "-", "dashed": "--", "points": "."}


def draw(*figures: Figure) -> Any:
    """A matplotlib figure, of several side by side."""
    from matplotlib.figure import Figure as Canvas

    low = all(figure.intervals for figure in figures)
    canvas = Canvas(figsize=(6.4 * len(figures), 1.9 if low else 3.9), layout="constrained")
    for axes, figure in zip(canvas.subplots(1, len(figures), squeeze=False)[0], figures, strict=True):
        _draw(axes, figure)
    return canvas


def _draw(axes: Any, figure: Figure) -> None:
    axes.set_title(figure.title)
    if figure.elements:
        _periodic_table(axes, figure)
        return
    axes.set_xlabel(figure.x_label)
    axes.set_ylabel(figure.y_label)
    named: set[str] = set()
    for band in figure.bands:
        colour = COLOURS[band.line % len(COLOURS)]
        # What bands of several lines have in common is said once; matplotlib leaves out what begins with an underscore.
        label = band.label if band.label not in named else "_"
        named.add(band.label)
        axes.fill_between(band.x, band.low, band.high, color=colour, alpha=band.opacity, linewidth=0, label=label)
    for index, line in enumerate(figure.lines):
        axes.plot(line.x, line.y, _STYLES[line.style], color=COLOURS[index % len(COLOURS)], label=line.label, linewidth=1.3)
    for index, own in enumerate(figure.intervals):
        error = [[own.value - own.low], [own.high - own.value]]
        axes.errorbar([own.value], [index], xerr=error, fmt="o", capsize=4, color=COLOURS[0], label=own.label)
    if figure.intervals:
        axes.set_yticks([])
    if figure.bands or figure.lines or figure.intervals:
        axes.legend(frameon=False, fontsize="small")


def save(figure: Figure, path: Path) -> None:
    """Write a file whose ending says the format: png, pdf or svg."""
    draw(figure).savefig(path, dpi=200)


def _periodic_table(axes: Any, figure: Figure) -> None:
    from matplotlib.patches import Rectangle

    for element in all_elements():
        row, column = place(element)
        share = figure.elements.get(element, 0.0)
        axes.add_patch(Rectangle((column, -row - (row > 6)), 0.94, 0.94, facecolor=COLOURS[0], alpha=0.06 + 0.94 * share, linewidth=0))
        colour = "white" if share > 0.5 else "black"
        axes.text(column + 0.47, -row - (row > 6) + 0.47, element, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xlim(0, 18)
    axes.set_ylim(-9.2, 1.1)
    axes.set_axis_off()

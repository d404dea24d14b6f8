"""Figures by plotly: for the screen, where a pointer reads values off."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from .figure import COLOURS, Figure, all_elements, place

_MODES = {"solid": ("lines", "solid"), "dashed": ("lines", "dash"), "points": ("markers", "solid")}


def draw(figure: Figure) -> dict[str, Any]:
    """What plotly.js draws: `data` and `layout`, plain values.

    Written out rather than made by plotly's own classes, which check each value: a page draws while a slider moves.
    """
    data: list[dict[str, Any]] = [_periodic_table(figure)] if figure.elements else []
    named: set[str] = set()
    for band in figure.bands:
        edge = {"type": "scatter", "x": _plain(band.x), "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        fill = {"fill": "tonexty", "fillcolor": _faint(COLOURS[band.line % len(COLOURS)], band.opacity)}
        data.append({**edge, "y": _plain(band.high), "showlegend": False})
        data.append({**edge, **fill, "y": _plain(band.low), "name": band.label, "showlegend": band.label not in named})
        named.add(band.label)
    for index, line in enumerate(figure.lines):
        mode, dash = _MODES[line.style]
        style = {"dash": dash, "color": COLOURS[index % len(COLOURS)]}
        name = escape(line.label, quote=False)
        data.append({"type": "scatter", "x": _plain(line.x), "y": _plain(line.y), "mode": mode, "line": style, "name": name})
    for own in figure.intervals:
        error = {"type": "data", "symmetric": False, "array": [own.high - own.value], "arrayminus": [own.value - own.low]}
        marker = {"size": 10, "color": COLOURS[0]}
        point = {"type": "scatter", "x": [own.value], "y": [own.label], "mode": "markers", "marker": marker}
        data.append({**point, "error_x": error, "name": own.label})
    return {"data": data, "layout": _layout(figure)}


def _layout(figure: Figure) -> dict[str, Any]:
    grid = {"gridcolor": "rgba(128,128,128,0.25)", "zerolinecolor": "rgba(128,128,128,0.5)", "automargin": True}
    axes = {"visible": False} if figure.elements else {}
    return {
        "title": {"text": figure.title},
        "xaxis": {**grid, **axes, "title": {"text": figure.x_label}},
        "yaxis": {**grid, **axes, "title": {"text": figure.y_label}},
        "hovermode": "closest" if figure.elements else "x unified",
        "hoverdistance": 20 if figure.elements else -1,  # the nearest point of a curve, however few it has
        "margin": {"l": 60, "r": 20, "t": 50, "b": 50},
        "legend": {"orientation": "h", "y": -0.25},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "#777777"},
    }


def save(figure: Figure, path: Path) -> None:
    """Write one HTML page that works without a network."""
    from plotly.io import write_html

    write_html(draw(figure), path, include_plotlyjs=True, full_html=True)


def as_json(figure: Figure) -> str:
    """The figure for a page that has plotly's script, as JSON that may stand inside a script element."""
    return json.dumps(draw(figure)).replace("<", "\\u003c")


def _plain(values: Any) -> list[float | None]:
    """Plain numbers, of which six digits are seen; None, which JSON has, for what is no number."""
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in np.asarray(values, dtype=np.float64)]


def _faint(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def _periodic_table(figure: Figure) -> dict[str, Any]:
    elements = all_elements()
    places = [place(element) for element in elements]
    shares = [figure.elements.get(element, 0.0) for element in elements]
    return {
        "type": "scatter",
        "x": [column for _, column in places],
        "y": [-row - (0.5 if row > 6 else 0.0) for row, _ in places],
        "mode": "markers+text",
        "text": elements,
        "marker": {
            "symbol": "square", "size": 25, "color": shares, "cmin": 0.0, "cmax": 1.0, "colorscale": [[0, "#e8eef2"], [1, COLOURS[0]]],
            "colorbar": {"title": {"text": "probability"}},
        },
        "textfont": {"size": 10, "color": ["#ffffff" if share > 0.5 else "#333333" for share in shares]},
        "customdata": shares,
        "hovertemplate": "%{text}: %{customdata:.2f}<extra></extra>",
        "showlegend": False,
    }  # fmt: skip

"""Figures by plotly: for the screen, where a pointer reads values off."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from .figure import COLOURS, Figure, all_elements, place

_MODES = {"solid": ("lines", "solid"), "dashed": ("lines", "dash"), "points": ("markers", "solid")}


def draw(figure: Figure) -> Any:
    """A plotly figure."""
    import plotly.graph_objects as go

    drawn = go.Figure()
    if figure.elements:
        _periodic_table(drawn, figure)
    named: set[str] = set()
    for band in figure.bands:
        colour = COLOURS[band.line % len(COLOURS)]
        drawn.add_scatter(x=_plain(band.x), y=_plain(band.high), mode="lines", line={"width": 0}, hoverinfo="skip", showlegend=False)
        drawn.add_scatter(
            x=_plain(band.x), y=_plain(band.low), mode="lines", line={"width": 0}, fill="tonexty", fillcolor=_faint(colour, band.opacity),
            name=band.label, hoverinfo="skip", showlegend=band.label not in named,
        )  # fmt: skip
        named.add(band.label)
    for index, line in enumerate(figure.lines):
        mode, dash = _MODES[line.style]
        colour = COLOURS[index % len(COLOURS)]
        drawn.add_scatter(
            x=_plain(line.x), y=_plain(line.y), mode=mode, line={"dash": dash, "color": colour}, name=escape(line.label, quote=False)
        )
    for own in figure.intervals:
        error = {"type": "data", "symmetric": False, "array": [own.high - own.value], "arrayminus": [own.value - own.low]}
        drawn.add_scatter(
            x=[own.value], y=[own.label], mode="markers", marker={"size": 10, "color": COLOURS[0]}, error_x=error, name=own.label
        )
    grid = {"gridcolor": "rgba(128,128,128,0.25)", "zerolinecolor": "rgba(128,128,128,0.5)", "automargin": True}
    drawn.update_xaxes(**grid)
    drawn.update_yaxes(**grid)
    drawn.update_layout(
        title=figure.title, xaxis_title=figure.x_label, yaxis_title=figure.y_label, hovermode="closest" if figure.elements else "x unified",
        hoverdistance=20 if figure.elements else -1,  # the nearest point of a curve, however few it has
        template="none", margin={"l": 60, "r": 20, "t": 50, "b": 50}, legend={"orientation": "h", "y": -0.25},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"color": "#777777"},
    )  # fmt: skip
    return drawn


def save(figure: Figure, path: Path) -> None:
    """Write one HTML page that works without a network."""
    draw(figure).write_html(path, include_plotlyjs=True, full_html=True)


def as_json(figure: Figure) -> str:
    """The figure for a page that has plotly's script, as JSON that may stand inside a script element."""
    text: str = draw(figure).to_json()
    return json.dumps(json.loads(text)).replace("<", "\\u003c")


def _plain(values: Any) -> list[float]:
    """Plain numbers, of which six digits are seen."""
    return [float(f"{value:.7g}") for value in np.asarray(values, dtype=np.float64)]


def _faint(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def _periodic_table(drawn: Any, figure: Figure) -> None:
    elements = all_elements()
    places = [place(element) for element in elements]
    shares = [figure.elements.get(element, 0.0) for element in elements]
    drawn.add_scatter(
        x=[column for _, column in places], y=[-row - (0.5 if row > 6 else 0.0) for row, _ in places], mode="markers+text", text=elements,
        marker={
            "symbol": "square", "size": 25, "color": shares, "cmin": 0.0, "cmax": 1.0, "colorscale": [[0, "#e8eef2"], [1, COLOURS[0]]],
            "colorbar": {"title": "probability"},
        },
        textfont={"size": 10, "color": ["#ffffff" if share > 0.5 else "#333333" for share in shares]},
        customdata=shares, hovertemplate="%{text}: %{customdata:.2f}<extra></extra>", showlegend=False,
    )  # fmt: skip
    drawn.update_xaxes(visible=False)
    drawn.update_yaxes(visible=False)

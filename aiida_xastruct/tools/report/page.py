"""A report as one HTML file: no network, no script but plotly's and what draws the figures, everything from users escaped."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from ..plotting.screen import as_json
from .gather import Report

#: Draws the figures that the page holds as JSON, follows the window's width, and takes its colours from the page.
_DRAW = """
const dark = matchMedia("(prefers-color-scheme: dark)");
function draw() {
  for (const place of document.querySelectorAll("div.plot")) {
    const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
    const style = getComputedStyle(document.body);
    figure.layout.font = {color: style.color};
    figure.layout.hoverlabel = {bgcolor: style.backgroundColor, font: {color: style.color}};
    Plotly.react(place, figure.data, figure.layout, {responsive: true, displaylogo: false});
  }
}
draw();
dark.addEventListener("change", draw);
"""


def render(report: Report) -> str:
    """The page of a report."""
    from jinja2 import Environment

    source = (files(__package__) / "page.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    scripts = (_plotly(), _DRAW)
    return environment.from_string(source).render(
        report=report,
        figures=[(figure, as_json(figure)) for figure in report.figures],
        scripts=scripts if report.figures else (),
        policy=_policy(scripts if report.figures else ()),
    )


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text.replace("</script", "<\\/script")


def _policy(scripts: tuple[str, ...]) -> str:
    """A content security policy that lets these scripts run, and nothing be fetched."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"

"""Screenings: tables of answers, filtered, their spectra laid over each other."""

from __future__ import annotations

from ..app import Explorer


def register(explorer: Explorer) -> None:
    """Serve the page."""

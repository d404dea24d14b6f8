"""Where a node came from, and where it went."""

from __future__ import annotations

from ..app import Explorer


def register(explorer: Explorer) -> None:
    """Serve the page."""

"""The first page: what there is."""

from __future__ import annotations

from nicegui import ui

from ..app import Explorer
from .frame import PAGES, frame

_ABOUT = {
    "/crystal": "Drop a crystal, see the spectrum of any of its sites, strain it and watch the spectrum move; ask FEFF whether it is so.",
    "/spectrum": "Drop a measured spectrum, see which elements are next to the absorber and how far away; find crystals that fit.",
    "/screening": "Filter thousands of predicted spectra and lay some over each other.",
    "/provenance": "What a node was made from, what was made from it, and which runs trained a model.",
    "/jobs": "What is running, how far it is, and how to stop it.",
}


def register(explorer: Explorer) -> None:
    """Serve the page."""

    @ui.page("/")
    def home() -> None:
        with frame(explorer, "XAStruct explorer"), ui.row().classes("w-full gap-4"):
            for address, name, icon in PAGES:
                with ui.card().classes("w-72"):
                    with ui.link(target=address).classes("flex items-center gap-2 text-lg"):
                        ui.icon(icon).props("aria-hidden=true")
                        ui.label(name)
                    ui.label(_ABOUT[address])

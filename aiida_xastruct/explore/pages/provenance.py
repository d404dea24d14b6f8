"""Where a node came from, and where it went."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from ..app import Explorer
from ..lineage import Group, Lineage, drawing, find, latest, lineage
from .frame import facts_list, frame, message, node_link, plot, told


def register(explorer: Explorer) -> None:
    """Serve the page."""

    @ui.page("/provenance")
    async def provenance(node: str = "") -> None:
        with frame(explorer, "Provenance"):
            with ui.row().classes("w-full items-center gap-3"):
                field = ui.input("Node: pk, UUID or label", value=node).classes("grow")

                def ask() -> None:
                    ui.navigate.to(f"/provenance?node={_quoted(str(field.value))}")

                field.on("keydown.enter", ask)
                ui.button("Show", on_click=ask)
            problem, place = message(), ui.column().classes("w-full gap-2")
            await ui.context.client.connected()  # a page that is waited for shows nothing of itself
            with told(problem):
                if not node:
                    found = await explorer.profile(latest)
                    with place:
                        _group(found)
                    return
                told_of = await explorer.profile(lambda: lineage(find(node)))
                with place:
                    _show(told_of)


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def _heading(text: str) -> Any:
    return ui.label(text).props("role=heading aria-level=2").classes("text-lg mt-2")


def _show(found: Lineage) -> None:
    _heading(found.title)
    facts_list(found.facts)
    _heading("Made from")
    with ui.element("div").classes("w-full overflow-x-auto border rounded p-2").props('tabindex=0 role=region aria-label="provenance"'):
        ui.html(drawing(found.graph), sanitize=False)  # what nodes say of themselves is escaped in it
    if found.graph.left_out:
        ui.label(f"{found.graph.left_out} more nodes are not drawn.")
    for group in found.groups:
        _group(group)
    for figure in found.figures:
        plot(figure)
    if found.report:
        _heading("Report")
        with ui.element("div").classes("w-full overflow-x-auto border rounded p-2").props('tabindex=0 role=region aria-label="report"'):
            for line in found.report:
                ui.label(line).classes("font-mono text-xs whitespace-pre")


def _group(group: Group) -> None:
    _heading(group.heading)
    if not group.links:
        ui.label("Nothing.")
    with ui.row().classes("w-full gap-x-4 gap-y-1"):
        for link in group.links:
            node_link(link.pk, link.what)
    if group.more:
        ui.label(f"and {group.more:,} more; `aiida-xastruct query` lists them all.")

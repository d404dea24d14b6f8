"""Screenings: tables of answers, filtered, their spectra laid over each other."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from ...engine.errors import XastructError
from ...tools.plotting.contents import of_curves
from ..app import Explorer
from ..screenings import MOST_DRAWN, PAGE, SHOWN, Filter, choices, curves, offered, select
from .frame import frame, message, name_checkboxes, node_link, plot, run_job, show, told

_ANY = ""


def register(explorer: Explorer) -> None:
    """Serve the page."""

    @ui.page("/screening")
    async def screening() -> None:
        with frame(explorer, "Screening"):
            page = ScreeningPage(explorer)
            await ui.context.client.connected()
            await page.start()


class ScreeningPage:
    """One visitor's table."""

    def __init__(self, explorer: Explorer) -> None:
        """Build the page, empty."""
        self.explorer = explorer
        self.pk: int | None = None
        self.chosen: list[int] = []
        self.problem = message()
        self.place = ui.column().classes("w-full gap-2")

    async def start(self) -> None:
        """Name the tables of the profile."""
        with told(self.problem):
            tables = await self.explorer.profile(offered)
            with self.place:
                if not tables:
                    ui.label("No screening is stored in this profile yet; `aiida-xastruct screen` makes one.")
                    return
                ui.select(tables, label="Table", on_change=self._open).classes("w-full")
                self.panel = ui.column().classes("w-full gap-2")

    async def _open(self, event: Any) -> None:
        with told(self.problem):
            self.pk, self.chosen = int(event.value), []
            self.choices = await self.explorer.profile(choices, self.pk)
            self.panel.clear()
            with self.panel:
                self._build()
            await self.look()

    def _build(self) -> None:
        assert self.pk is not None
        own = self.choices
        anything = {_ANY: "any"}
        with ui.row().classes("w-full items-center gap-3"):
            self.absorber = ui.select(
                anything | {name: name for name in own.absorbers}, value=_ANY, label="Absorber", on_change=self._again
            )
            self.method = ui.select(anything | {name: name for name in own.methods}, value=_ANY, label="Method", on_change=self._again)
            self.text = ui.input("Id or formula holds", on_change=self._again).props("debounce=300 clearable")
            self.error = ui.number("Largest expected error", on_change=self._again, min=0).props("debounce=300 clearable").classes("w-52")
            self.rank = ui.number("Last rank", on_change=self._again, min=1).props("debounce=300 clearable").classes("w-32")
            self.rank.set_visibility("rank" in own.sorts)
            self.domain = ui.switch("Known to the model", on_change=self._again)
            for field in (self.absorber, self.method):
                field.classes("w-32")
            self.sort = ui.select(
                {_ANY: "as screened", **{name: name for name in own.sorts}}, value=_ANY, label="Sort by", on_change=self._again
            )
            self.sort.classes("w-36")
            self.descending = ui.switch("Largest first", on_change=self._again)
            ui.button("All rows", on_click=self.reset).props("outline")
        with ui.row().classes("items-center gap-4"):
            self.count = ui.label().props("role=status")
            node_link(self.pk, "table")
        columns = [{"name": name, "label": name.replace("_", " "), "field": name, "align": "left"} for name in SHOWN]
        self.table = ui.table(columns=columns, rows=[], row_key="number", selection="multiple", on_select=self._select)
        name_checkboxes(self.table)
        self.table.props('dense flat hide-pagination :rows-per-page-options="[0]"').classes("w-full max-h-[28rem]")
        self.pages = ui.pagination(1, 1, direction_links=True, on_change=lambda _: self.look())
        self.figure = plot()
        with ui.row().classes("items-center gap-3"):
            ui.button("Clear the plot", on_click=self.clear).props("outline")
            self.keep = ui.button("Make nodes of the chosen rows", on_click=self.materialise).props("outline")
            self.keep.set_enabled(not self.explorer.read_only)
        self.progress = ui.label().props("role=status").classes("text-sm")
        self.links = ui.row().classes("gap-3")

    @property
    def filter(self) -> Filter:
        """What the controls ask for."""
        return Filter(
            absorber=str(self.absorber.value),
            text=str(self.text.value or ""),
            method=str(self.method.value),
            in_domain=bool(self.domain.value),
            most_error=None if self.error.value is None else float(self.error.value),
            most_rank=None if self.rank.value is None else int(self.rank.value),
            sort=str(self.sort.value),
            descending=bool(self.descending.value),
        )

    async def _again(self) -> None:
        """Another question begins on its first page."""
        if self.pages.value != 1:
            self.pages.set_value(1)  # which looks
            return
        await self.look()

    async def look(self) -> None:
        """Show a page of the rows."""
        if self.pk is None:
            return
        with told(self.problem):
            found = await self.explorer.profile(select, self.pk, self.filter, int(self.pages.value or 1))
            self.count.set_text(f"{found.total:,} rows")
            self.pages.max = max(1, -(-found.total // PAGE))
            self.table.rows = [{name: _text(value) if name != "number" else value for name, value in row.items()} for row in found.rows]
            self.table.selected = [row for row in self.table.rows if row["number"] in self.chosen]
            self.table.update()

    async def reset(self) -> None:
        """Take all filters back."""
        for choice in (self.absorber, self.method, self.sort):
            choice.set_value(_ANY)
        for switch in (self.domain, self.descending):
            switch.set_value(False)
        self.text.set_value("")
        self.error.set_value(None)
        self.rank.set_value(None)
        await self._again()

    async def _select(self, event: Any) -> None:
        """Draw what is chosen, on this page and on those before."""
        here = {row["number"] for row in self.table.rows}
        now = [row["number"] for row in event.selection]
        self.chosen = [number for number in self.chosen if number not in here or number in now]
        self.chosen += [number for number in now if number not in self.chosen]
        await self._draw()

    async def _draw(self) -> None:
        if self.pk is None:
            return
        with told(self.problem):
            if len(self.chosen) > MOST_DRAWN:
                raise XastructError(f"{len(self.chosen)} rows are chosen, and {MOST_DRAWN} curves in one plot are what an eye can follow.")
            if not self.chosen:
                self.figure.update_figure({"data": [], "layout": {}})
                return
            found = await self.explorer.profile(curves, self.pk, self.chosen)
            show(self.figure, await self.explorer.models(of_curves, found))

    async def clear(self) -> None:
        """Choose no row."""
        self.chosen = []
        self.table.selected = []
        self.table.update()
        await self._draw()

    async def materialise(self) -> None:
        """Make crystal and spectrum of each chosen row nodes of their own."""
        with told(self.problem):
            if not self.chosen:
                raise XastructError("no row is chosen; choose some in the table.")
            arguments = ["query", "materialise", str(self.pk), *map(str, self.chosen)]
            self.keep.set_enabled(False)
            try:
                made = await run_job(self.explorer, self.progress, f"nodes of {len(self.chosen)} rows of <{self.pk}>", arguments)
            finally:
                self.keep.set_enabled(True)
            with self.links:
                for row in made:
                    node_link(row["structure"], f"crystal of {row['row']}")
                    node_link(row["spectrum"], f"spectrum of {row['row']}")


def _text(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else "yes" if value is True else "no" if value is False else value

"""What all pages have: the bar with the other pages, light and dark, and how a failure is told."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from nicegui import ui

from ...engine.errors import XastructError
from ...tools.plotting.figure import Figure
from ...tools.plotting.screen import draw
from ..app import Explorer
from ..guard import MAX_FILE

LOGGER = logging.getLogger(__name__)

#: Address, name and icon of each page.
PAGES = (
    ("/crystal", "Crystal to spectrum", "grain"),
    ("/spectrum", "Spectrum to structure", "show_chart"),
    ("/screening", "Screening", "table_view"),
    ("/provenance", "Provenance", "account_tree"),
    ("/jobs", "Jobs", "pending_actions"),
)

#: Colours that stand out enough from the ground in light and in dark (WCAG 2, contrast 4.5).
_COLOURS = {"primary": "#1f5f99", "negative": "#b3261e", "positive": "#1b6e3c", "warning": "#8a5a00"}

#: Seconds without another question after which a slider counts as at rest.
_REST = 0.3

#: Head of a field for files.
_CHOOSE = """
<div class="row items-center no-wrap q-pa-sm q-gutter-sm">
  <q-btn outline no-caps icon="upload_file" label="Choose" @click="props.pickFiles" />
  <div class="relative-position overflow-hidden" style="width: 1px; height: 1px"><q-uploader-add-trigger /></div>
  <div class="col">LABEL</div>
</div>
"""

#: Quasar gives its input no name that a screen reader could read, nor a way to give it one, and makes it anew after each file.
_NAME = """
const field = getHtmlElement(%d);
const name = () => field.querySelector('input:not([aria-label])')?.setAttribute('aria-label', %s);
name();
new MutationObserver(name).observe(field, {childList: true, subtree: true});
"""

_STYLE = """
.nicegui-content { align-items: stretch; max-width: 1500px; margin: 0 auto; width: 100%; }
.page-link { color: white; text-decoration: none; padding: 4px 10px; border-radius: 6px; }
.page-link:hover, .page-link[aria-current=page] { background: rgba(0, 0, 0, 0.3); }
:focus-visible { outline: 3px solid #e69f00 !important; outline-offset: 2px; }
a:not(.page-link) { color: #1f5f99; }
.body--dark a:not(.page-link) { color: #8ec5ff; }
.body--dark .text-primary, .body--dark .q-field { --q-primary: #8ec5ff; }
.body--dark .text-negative { --q-negative: #ff9d94; }
.node-link { font-family: monospace; }
"""


@contextmanager
def frame(explorer: Explorer, title: str) -> Iterator[None]:
    """The frame of a page, into which the page is written.

    Args:
        explorer: what pages share.
        title: heading of the page, one of `PAGES` or its own.
    """
    ui.colors(**_COLOURS)
    ui.add_css(_STYLE)
    ui.page_title(f"{title} - XAStruct")
    dark = ui.dark_mode(None)
    with ui.header().classes("items-center gap-1 py-1"):
        for address, name, icon in PAGES:
            with ui.link(target=address).classes("page-link flex items-center gap-1 no-wrap") as link:
                ui.icon(icon).props("aria-hidden=true")
                ui.label(name)
            if name == title:
                link.props("aria-current=page")
        ui.space()
        if explorer.read_only:
            ui.label("read only").classes("text-sm px-2")
        ui.button(icon="contrast", on_click=dark.toggle).props('flat color=white aria-label="light or dark"')
    with ui.column().classes("w-full gap-2") as page:
        ui.label(title).props("role=heading aria-level=1").classes("text-xl my-1")
        yield
    ui.skip_link("Skip to the page", target=page)


def plot(figure: Figure | None = None) -> Any:
    """A plotly figure on the page; empty until it gets one by `show`."""
    element = ui.plotly(drawn(figure) if figure is not None else {"data": [], "layout": {}}).classes("w-full h-96")
    if figure is not None:
        element.props["aria-label"] = figure.description
    element.props["role"] = "figure"
    return element


def show(element: Any, figure: Figure) -> None:
    """Put a figure in place of the one that is shown."""
    element.props["aria-label"] = figure.description
    element.update_figure(drawn(figure))


def show_in_passing(element: Any, figure: Figure) -> None:
    """Draw a figure that another follows at once; `show` must put the last one in place.

    The page's other elements are left alone, which a browser would else go through at each.
    """
    new = drawn(figure)
    element.run_plot_method("react", new["data"], new["layout"], new["config"])


def drawn(figure: Figure) -> dict[str, Any]:
    """A figure as plotly.js takes it."""
    return draw(figure) | {"config": {"displaylogo": False}}


def facts_list(rows: Mapping[str, str]) -> None:
    """Names and what is to be said of each."""
    with ui.element("dl").classes("grid grid-cols-[auto_1fr] gap-x-4 w-full"):
        for name, text in rows.items():
            with ui.element("dt"):
                ui.label(name).classes("font-bold")
            with ui.element("dd").classes("break-words min-w-0"):
                ui.label(text)


def node_link(pk: int, what: str) -> Any:
    """A link to the provenance of a node."""
    return ui.link(f"{what} <{pk}>", f"/provenance?node={pk}").classes("node-link")


@contextmanager
def told(place: Any) -> Iterator[None]:
    """Tell what goes wrong inside on the page, in a sentence.

    Args:
        place: a `message` of the page.
    """
    from aiida.common.exceptions import AiidaException

    if place.default_slot.children:
        place.clear()
    try:
        yield
    except (XastructError, AiidaException) as error:
        say(place, str(error))
    except Exception:
        LOGGER.exception("the page met what it does not know")
        say(place, "this went wrong in a way that was not foreseen; the terminal of `aiida-xastruct explore` shows how.")


class Newest:
    """Work that is done for what is asked now, one at a time: what was asked meanwhile and is no longer is left out."""

    def __init__(self, work: Callable[[], Awaitable[None]], place: Any, passing: Callable[[], Awaitable[None]] | None = None) -> None:
        """Nothing is asked yet.

        Args:
            work: looks at what is asked, and does it.
            place: the `message` that says what goes wrong.
            passing: done instead while questions come one upon the other, as from a slider that is dragged; `work` follows the last.
        """
        self._work, self._place, self._passing = work, place, passing
        self._wanted, self._asked, self._busy, self._hurried = asyncio.Event(), -math.inf, False, False

    async def ask(self) -> None:
        """Something else is asked."""
        now = time.monotonic()
        self._hurried, self._asked = now - self._asked < _REST, now
        self._wanted.set()
        if self._busy:
            return
        self._busy = True
        try:
            while self._wanted.is_set():
                self._wanted.clear()
                with told(self._place):
                    if self._hurried and self._passing is not None:
                        await self._passing()
                        with suppress(asyncio.TimeoutError):  # Python 3.10 has another TimeoutError
                            await asyncio.wait_for(self._wanted.wait(), _REST)
                            continue
                    await self._work()
        finally:
            self._busy = False


async def run_job(explorer: Explorer, place: Any, title: str, arguments: Sequence[str]) -> Any:
    """Run a command and tell on a label how it goes.

    Args:
        explorer: what pages share.
        place: the label; empty again at the end.
        title: what the command does.
        arguments: of `aiida-xastruct`.

    Returns:
        what it printed as JSON.

    Raises:
        XastructError: see `Jobs.start` and `Job.result`.
    """
    job = await explorer.jobs.start(title, arguments)

    def tell() -> None:
        place.set_text(f"{title}: {job.seconds:.0f} s, {(job.lines[-1] if job.lines else 'starting')[:120]}")

    timer = ui.timer(0.5, tell)
    try:
        return await job.result()
    finally:
        timer.cancel()
        place.set_text("")


def name_checkboxes(table: Any) -> None:
    """Give the checkboxes of a table's rows names that a screen reader reads; Quasar gives none."""
    table.add_slot("header-selection", '<q-checkbox v-model="props.selected" aria-label="all rows of this page" />')
    table.add_slot("body-selection", """<q-checkbox v-model="props.selected" :aria-label="'row ' + props.key" />""")


def message() -> Any:
    """Where a page tells what is wrong; a screen reader reads it out when it comes."""
    return ui.element("div").props("role=alert").classes("w-full")


def say(place: Any, sentence: str) -> None:
    """Show a sentence in a `message`."""
    place.clear()
    with place, ui.row().classes("items-center gap-2 text-negative border rounded p-2 w-full no-wrap"):
        ui.icon("error").props("aria-hidden=true")
        ui.label(sentence)


def upload(what: str, endings: str, take: Callable[[str, bytes], Any], place: Any) -> Any:
    """A field that takes files, by dropping or choosing them.

    Args:
        what: its label.
        endings: of files that are offered first, such as `.cif,.vasp`.
        take: async; gets name and content of each file.
        place: the `message` that says why a file was refused.
    """

    async def arrived(event: Any) -> None:
        content = await event.file.read()
        field.reset()
        await take(event.file.name, content)

    field = ui.upload(
        label=what,
        auto_upload=True,
        max_file_size=MAX_FILE,
        on_upload=arrived,
        on_rejected=partial(_refused, place),
    )
    field.add_slot("header", _CHOOSE.replace("LABEL", what))
    ui.context.client.on_connect(lambda: field.client.run_javascript(_NAME % (field.id, json.dumps(what))))
    return field.props(f'accept="{endings}" flat bordered').classes("w-full")


def _refused(place: Any) -> None:
    say(place, f"the file was refused: it is of another kind than this page reads, or has more than {MAX_FILE / 1e6:.0f} MB.")

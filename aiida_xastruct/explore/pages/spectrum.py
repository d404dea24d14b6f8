"""Which local structure made this spectrum? Drop it, normalise it by its handles, see the neighbours; find crystals that fit."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nicegui import ui

from ...calculations.functions.infer_local_structure import describe
from ...engine.errors import SpectrumError
from ...engine.spectrum import Spectrum, flatten, tabulated_edge
from ...tools.plotting.contents import Curve, of_answer, of_curves
from ...tools.plotting.figure import Figure, Line
from ..app import Explorer
from ..measured import Measured, Range, Reading, answer, as_files, read
from ..rankings import offered, rank, row_curve
from .frame import Newest, drawn, facts_list, frame, message, name_checkboxes, node_link, plot, run_job, show, told, upload

if TYPE_CHECKING:
    from ...engine.answers import InverseAnswer

_ENDINGS = ".xdi,.dat,.txt,.csv,.prj,.nxs,.h5,.hdf5,.nor,.xmu,.json"

#: Crystals that are ranked beside a measurement.
_MOST_RANKED = 20

#: What a handle of the raw spectrum is told by, in the order in which they are drawn.
_HANDLES = ("pre_edge", "post_edge", "e0")
_MOVED = re.compile(r"shapes\[(\d)\]\.(x[01])")


def register(explorer: Explorer) -> None:
    """Serve the page."""

    @ui.page("/spectrum")
    def spectrum() -> None:
        with frame(explorer, "Spectrum to structure"):
            SpectrumPage(explorer)


class SpectrumPage:
    """One visitor's spectrum."""

    def __init__(self, explorer: Explorer) -> None:
        """Build the page, empty."""
        self.explorer = explorer
        self.measured: Measured | None = None
        self.files: list[tuple[str, bytes]] = []
        self.shown: tuple[Spectrum, str] | None = None
        self.problem = message()
        self.newest = Newest(self._answer, self.problem)
        upload("Drop a spectrum, or scans of one sample (XDI, columns, NeXus, Athena, FEFF)", _ENDINGS, self.take, self.problem)
        with ui.row().classes("w-full items-center gap-3"):
            self.absorber = ui.input("Absorber, where the file does not say").classes("w-72")
            self.edge = ui.input("Edge, where the file does not say").classes("w-72")
            ui.button("Read again", on_click=self.read_again).props("outline")
            ui.button("Forget the scans", on_click=self.forget).props("flat")
        self.panel = ui.row().classes("w-full gap-4 items-start")

    async def take(self, name: str, content: bytes) -> None:
        """Add a file to the scans of the sample, and read them."""
        with told(self.problem):
            await self._read([*self.files, (name, content)])

    async def read_again(self) -> None:
        """Read the files as absorber and edge say now."""
        with told(self.problem):
            if not self.files:
                raise SpectrumError("there is no file yet; drop one.")
            await self._read(self.files)

    def forget(self) -> None:
        """Begin anew."""
        self.files, self.measured, self.shown = [], None, None
        self.panel.clear()
        self.problem.clear()

    async def _read(self, files: list[tuple[str, bytes]]) -> None:
        """Show the spectrum in files; they are kept only where they can be read together, or alone but for what the visitor must add."""
        try:
            measured = await self.explorer.models(read, files, str(self.absorber.value).strip(), str(self.edge.value).strip())
        except SpectrumError:
            self.files = files if len(files) == 1 else self.files
            raise
        self.files, self.measured = files, measured
        self.panel.clear()
        with self.panel:
            self._build(measured)
        await self.newest.ask()
        await self._offer()

    def _build(self, measured: Measured) -> None:
        with ui.column().classes("grow-[2] basis-80 min-w-0"):
            self.raw = (
                ui.plotly(self._raw_figure(measured)).classes("w-full h-80").props('role=figure aria-label="the spectrum as it came"')
            )
            self.raw.on("plotly_relayout", self._dragged)
            if measured.pre_edge is not None and measured.post_edge is not None:
                self._handles(measured, measured.pre_edge, measured.post_edge)
            self.flat = plot()
            facts_list({"Spectrum": f"{measured.spectrum.absorber} {measured.spectrum.edge}, {measured.name}", **measured.quality})
        with ui.column().classes("grow basis-80 min-w-0"):
            with ui.row().classes("items-center gap-3"):
                first = "EXAFS" if "EXAFS" in measured.kinds else measured.kinds[0]
                self.kind = ui.toggle(list(measured.kinds), value=first, on_change=self._other_kind)
                self.kind.props('aria-label="part of the spectrum"')
                self.elements = ui.input("Elements of the sample, if known", on_change=self.newest.ask).props("debounce=600")
            self.facts = ui.column().classes("w-full gap-0").props("role=status")
            self.table, self.distance = plot(), plot()
            self.distance.classes(replace="w-full h-44")
            keep = ui.button("Keep with provenance", on_click=self.keep).props("outline")
            keep.set_enabled(not self.explorer.read_only)
            self.keep_button = keep
            self.progress = ui.label().props("role=status").classes("text-sm")
            self.links = ui.row().classes("gap-3")
            ui.label("Crystals that fit").props("role=heading aria-level=2").classes("text-lg")
            self.ranking_problem = message()
            self.screening = ui.select({}, label="Screening", on_change=self._rank).classes("w-full")
            self.candidates = ui.column().classes("w-full")

    def _handles(self, measured: Measured, pre: Range, post: Range) -> None:
        with ui.row().classes("w-full items-center gap-3"):
            self.e0 = ui.number("E0 (eV)", value=round(measured.e0, 2), step=0.1, format="%.2f", on_change=self._changed).classes("w-36")
            ui.button("As models see it", on_click=self.usual).props("flat")
        self.ranges: dict[str, tuple[ui.number, ui.number]] = {}
        for name, what, value in (("pre_edge", "Pre-edge", pre), ("post_edge", "Post-edge", post)):
            low, high = _rounded(value)
            with ui.row().classes("w-full items-center gap-3"):
                self.ranges[name] = (
                    ui.number(f"{what} from (eV from E0)", value=low, step=1, on_change=self._changed).classes("w-52"),
                    ui.number(f"{what} to (eV from E0)", value=high, step=1, on_change=self._changed).classes("w-52"),
                )

    def _raw_figure(self, measured: Measured) -> dict[str, Any]:
        """The spectrum as it came, with handles for what is to be dragged."""
        spectrum = measured.spectrum
        what = f"{spectrum.absorber} {spectrum.edge}, as it came"
        unit = {"raw": "mu", "flat": "flat mu", "feff_xsedge50": "mu (FEFF)"}[spectrum.normalisation]
        figure = drawn(Figure(what, what, "Energy (eV)", unit, (), (Line(measured.name, spectrum.energy, spectrum.mu),)))
        if measured.pre_edge is not None and measured.post_edge is not None:
            figure["layout"]["shapes"] = _shapes(measured.e0, measured.pre_edge, measured.post_edge)
            figure["config"] = {**figure["config"], "edits": {"shapePosition": True}}
        return figure

    def _dragged(self, event: Any) -> None:
        """Follow a handle that was dragged in the plot."""
        if self.measured is None or self.measured.pre_edge is None:
            return
        e0 = float(self.e0.value or self.measured.e0)
        moved = {(_HANDLES[int(m[1])], m[2]): float(value) for key, value in event.args.items() if (m := _MOVED.fullmatch(key))}
        for (handle, end), value in moved.items():
            if handle == "e0":
                self.e0.set_value(round(value, 2))
            else:
                self.ranges[handle][0 if end == "x0" else 1].set_value(float(round(value - e0)))

    async def _changed(self) -> None:
        """Put the drawn handles where the controls are, and answer anew."""
        if self.measured is None:
            return
        e0, pre, post = float(self.e0.value or self.measured.e0), *(_pair(own) for own in self.ranges.values())
        self.raw.figure["layout"]["shapes"] = _shapes(e0, pre, post)
        self.raw.update()
        await self.newest.ask()

    async def usual(self) -> None:
        """Back to the normalisation that models are used to."""
        measured = self.measured
        if measured is None or measured.pre_edge is None or measured.post_edge is None:
            return
        self.e0.set_value(round(measured.e0, 2))
        for name, value in (("pre_edge", measured.pre_edge), ("post_edge", measured.post_edge)):
            for field, number in zip(self.ranges[name], _rounded(value), strict=True):
                field.set_value(number)
        await self._changed()

    @property
    def reading(self) -> Reading:
        """What the controls ask for; a control that stands where it stood asks for nothing."""
        measured = self.measured
        assert measured is not None
        elements = tuple(re.findall(r"[A-Z][a-z]?", str(self.elements.value)))
        if measured.pre_edge is None or measured.post_edge is None:
            return Reading(str(self.kind.value), elements=elements)
        e0 = float(self.e0.value or measured.e0)
        pre, post = (_pair(own) for own in self.ranges.values())
        return Reading(
            str(self.kind.value),
            None if abs(e0 - measured.e0) < 0.006 else e0,
            None if pre == _rounded(measured.pre_edge) else pre,
            None if post == _rounded(measured.post_edge) else post,
            elements,
        )

    async def _other_kind(self) -> None:
        await self.newest.ask()
        await self._offer()

    async def _answer(self) -> None:
        measured = self.measured
        if measured is None:
            return
        reading = self.reading
        bundle = await self.explorer.bundle()
        spectrum, found = await self.explorer.models(answer, bundle, measured, reading)
        if self.measured is not measured:
            return
        self.shown = spectrum, "EXAFS" if reading.kind == "both" else reading.kind
        await self._draw()
        said = describe(found)
        table, distance = of_answer(said)
        show(self.table, table)
        show(self.distance, distance)
        self._tell(found)

    async def _draw(self, beside: Curve | None = None) -> None:
        """The spectrum as it is read, and a candidate over it."""
        if self.shown is None:
            return
        spectrum, kind = self.shown

        def work() -> Figure:
            own = Curve("as it is read", spectrum if kind == "EXAFS" else _cut(flatten(spectrum)))
            return of_curves([own] if beside is None else [own, beside], "chi" if kind == "EXAFS" else "mu")

        show(self.flat, await self.explorer.models(work))

    def _tell(self, found: InverseAnswer) -> None:
        share = f"{100 * found.coverage:.0f} %"
        low, high = found.interval
        self.facts.clear()
        with self.facts:
            facts_list(
                {
                    "Neighbours": ", ".join(f"{name} ({found.neighbours[name]:.2f})" for name in found.neighbour_set) or "none is likely",
                    f"All of them in {share}": ", ".join(found.conformal_set[:12]) + (" ..." if len(found.conformal_set) > 12 else ""),
                    "Mean distance": f"{found.mean_distance:.3f} angstrom, in {share} of cases from {low:.3f} to {high:.3f}",
                    "Nearest": f"{found.nearest_distance:.3f} angstrom",
                    "Coordination": f"{found.coordination:.1f} (an estimate)",
                    "Known to the models": ("yes: " if found.in_domain else "no: ") + found.reason,
                }
            )

    async def keep(self) -> None:
        """Store files, spectrum and answer by AiiDA's processes, so that their provenance can be asked."""
        measured = self.measured
        if measured is None:
            return
        reading, what = self.reading, f"{measured.spectrum.absorber} {measured.spectrum.edge} of {measured.name}"
        self.keep_button.set_enabled(False)
        try:
            with told(self.problem), as_files(measured) as paths:
                spectrum = measured.spectrum
                arguments = ["--absorber", spectrum.absorber, "--edge", spectrum.edge]
                pk = (await run_job(self.explorer, self.progress, f"import of {what}", ["import", *paths, *arguments]))["pk"]
                self._link(pk, "spectrum")
                if not reading.is_usual:
                    given = [] if reading.e0 is None else ["--e0", str(reading.e0)]
                    for name, value in (("--pre-edge", reading.pre_edge), ("--post-edge", reading.post_edge)):
                        given += [] if value is None else [name, *map(str, value)]
                    pks = (await run_job(self.explorer, self.progress, f"normalisation of {what}", ["process", str(pk), *given]))["pk"]
                    pk = pks["spectrum"]
                    self._link(pk, "normalised")
                asked = [part for element in reading.elements for part in ("--element", element)]
                asked += [] if self.explorer.family is None else ["--family", self.explorer.family]
                done = await run_job(
                    self.explorer, self.progress, f"inference from {what}", ["infer", str(pk), "--kind", reading.kind, *asked]
                )
                for name in ("answer", "process"):
                    self._link(done["pk"][name], name)
        finally:
            self.keep_button.set_enabled(True)

    def _link(self, pk: int, what: str) -> None:
        with self.links:
            node_link(pk, what)

    async def _offer(self) -> None:
        """Name the screenings that hold this absorber."""
        if self.shown is None:
            return
        spectrum, kind = self.shown
        with told(self.ranking_problem):
            found = await self.explorer.profile(offered, spectrum.absorber, kind)
            self.candidates.clear()
            self.screening.set_options(found, value=None)
            if not found:
                with self.candidates:
                    ui.label(f"No screening of {spectrum.absorber} {kind} is stored yet; `aiida-xastruct screen` makes one.")

    async def _rank(self) -> None:
        if self.shown is None or self.screening.value is None:
            return
        spectrum, kind = self.shown
        pk = int(self.screening.value)
        with told(self.ranking_problem):
            rows = await self.explorer.profile(rank, pk, spectrum, kind, _MOST_RANKED)
            names = {"rank": "rank", "id": "crystal", "formula": "formula", "distance": "distance", "shift": "shift (eV)", "row": "row"}
            self.candidates.clear()
            with self.candidates:
                table = ui.table(
                    columns=[{"name": name, "label": label, "field": name, "align": "left"} for name, label in names.items()],
                    rows=[{**vars(row), "distance": f"{row.distance:.4f}", "shift": f"{row.shift:+.1f}"} for row in rows],
                    row_key="row",
                    selection="single",
                    on_select=lambda event: self._overlay(pk, event.selection),
                )
                name_checkboxes(table)
                table.classes("w-full").props("dense flat")

    async def _overlay(self, pk: int, selection: list[dict[str, Any]]) -> None:
        """Lay a candidate over the measurement."""
        if self.shown is None:
            return
        with told(self.ranking_problem):
            beside = None
            if selection:
                row = selection[0]
                beside = await self.explorer.profile(row_curve, pk, int(row["row"]), f"{row['formula']} ({row['id']})", self.shown[0])
            await self._draw(beside)


def _cut(spectrum: Spectrum) -> Spectrum:
    """The part of a flat spectrum that a XANES is read from, so that a long scan does not hide it."""
    e0 = spectrum.e0 if spectrum.e0 is not None else tabulated_edge(spectrum.absorber, spectrum.edge)
    near = (spectrum.energy >= e0 - 30.0) & (spectrum.energy <= e0 + 100.0)
    return replace(spectrum, energy=spectrum.energy[near], mu=spectrum.mu[near], mu0=None)


def _pair(own: tuple[ui.number, ui.number]) -> Range:
    return float(own[0].value or 0.0), float(own[1].value or 0.0)


def _rounded(value: Range) -> Range:
    return float(round(value[0])), float(round(value[1]))


def _shapes(e0: float, pre: Range, post: Range) -> list[dict[str, Any]]:
    """The handles in the order of `_HANDLES`: two ranges to be dragged by their ends, and a line."""
    whole = {"yref": "paper", "y0": 0, "y1": 1}
    ranges = [
        {
            "type": "rect",
            "x0": e0 + low,
            "x1": e0 + high,
            "fillcolor": colour,
            "opacity": 0.15,
            "line": {"width": 1, "color": colour},
            **whole,
        }
        for (low, high), colour in ((pre, "#009E73"), (post, "#CC79A7"))
    ]
    return [*ranges, {"type": "line", "x0": e0, "x1": e0, "line": {"width": 2, "color": "#D55E00"}, **whole}]

"""Which spectrum does this crystal have? Drop it, choose a site, strain it, ask FEFF."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nicegui import background_tasks, ui

from ...engine.crystal_file import ENDINGS
from ...tools.plotting.contents import Curve, of_curves
from ..app import Explorer
from ..crystals import MOST_DRAWN, MOST_MOVE, MOST_STRAIN, Change, Crystal, changed, first_absorber, predict, read
from ..film import STRAIN_STEP, Film, Scene, frames_for, player, shoot
from ..keeping import keep_structure, spectrum_curve
from ..view3d import CrystalView
from .frame import Newest, facts_list, frame, message, node_link, plot, run_job, show, show_in_passing, told, upload

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from ...engine.answers import ForwardAnswer
    from ...tools.plotting.figure import Figure


def register(explorer: Explorer) -> None:
    """Serve the page."""

    @ui.page("/crystal")
    def crystal() -> None:
        with frame(explorer, "Crystal to spectrum"):
            CrystalPage(explorer)


class Slider(ui.slider):
    """Stands where the hand put it: NiceGUI's own goes back to where the server last saw it, and loses keys on a busy machine."""

    LOOPBACK = False


class CrystalPage:
    """One visitor's crystal."""

    def __init__(self, explorer: Explorer) -> None:
        """Build the page, empty."""
        self.explorer = explorer
        self.crystal: Crystal | None = None
        self.site = 0
        self.feff: dict[tuple[int, str, Change], Curve] = {}
        self.film: Film | None = None
        self.problem = message()
        self.newest = Newest(self._answer, self.problem, self._pass)
        upload("Drop a crystal (CIF, POSCAR, extended xyz)", ",".join(ENDINGS), self.take, self.problem)
        self.panel = ui.row().classes("w-full gap-4 items-start")

    def _build(self, crystal: Crystal) -> None:
        """The controls for a crystal, with nothing of the one before; a drawing finds its size only where it is seen."""
        self.panel.clear()
        with self.panel:
            with ui.column().classes("grow basis-80 min-w-0"):
                self.view = CrystalView(self.choose)
                self._controls({site: crystal.label(site) for site in range(len(crystal.structure))})
            with ui.column().classes("grow-[2] basis-80 min-w-0"):
                self.figure = plot()
                self.strain.on("update:model-value", js_handler=player(self.figure.id))
                self.facts = ui.column().classes("w-full gap-0").props("role=status")
                self.links = ui.row().classes("gap-3")

    def _controls(self, sites: dict[int, str]) -> None:
        with ui.row().classes("w-full items-center"):
            self.chooser = ui.select(sites, value=self.site, label="Absorber", on_change=lambda event: self.choose(event.value)).classes(
                "grow"
            )
            self.kind = ui.toggle(["XANES", "EXAFS"], value="XANES", on_change=self.newest.ask).props('aria-label="part of the spectrum"')
        self.strain = self._slider("Strain of the cell (%)", MOST_STRAIN, STRAIN_STEP)
        with ui.expansion("Move an atom").classes("w-full"):
            self.moved = ui.select(sites, value=self.site, label="Atom", on_change=self.newest.ask).classes("w-full")
            self.moves = [self._slider(f"{axis} (angstrom)", MOST_MOVE, 0.01) for axis in "xyz"]
        with ui.row().classes("items-center"):
            ui.button("As it was", on_click=self.restore).props("outline")
            self.check = ui.button("Check by FEFF", on_click=self.ask_feff)
            self.keep = ui.button("Keep with provenance", on_click=self.keep_answer).props("outline")
            for button in (self.check, self.keep):
                button.set_enabled(not self.explorer.read_only)
        self.progress = ui.label().props("role=status").classes("text-sm")

    def _slider(self, what: str, most: float, step: float) -> Any:
        with ui.row().classes("w-full items-end no-wrap gap-3 px-2"):
            ui.label(what).classes("w-44 shrink-0")
            slider = Slider(min=-most, max=most, step=step, value=0.0, on_change=self.newest.ask)
            # The value stands over the thumb, where the browser writes it: a label would ask the server at each step.
            slider.props(f'label-always aria-label="{what}"').classes("grow mt-7")
        return slider

    @property
    def change(self) -> Change:
        """What the sliders ask for."""
        x, y, z = (float(slider.value) for slider in self.moves)
        return Change(float(self.strain.value), int(self.moved.value or 0) if any((x, y, z)) else 0, (x, y, z))

    async def take(self, name: str, content: bytes) -> None:
        """Show a crystal that was dropped."""
        with told(self.problem):
            crystal = await self.explorer.models(read, name, content)
            self.crystal, self.film, self.feff, self.site = crystal, None, {}, first_absorber(crystal)
            self._build(crystal)
            await self.newest.ask()
            self.view.draw(crystal.structure, self.site, MOST_DRAWN)

    async def choose(self, site: int) -> None:
        """Make a site the absorber."""
        if self.crystal is None or site == self.site:
            return
        self.site = site
        self.chooser.set_value(site)
        self.view.choose(self.crystal.structure, site)
        await self.newest.ask()

    async def _answer(self) -> None:
        """Draw and tell what is asked, and have the curves at other strains made ahead."""
        if (found := await self._ask_model()) is not None:
            crystal, structure, site, answer, figure = found
            show(self.figure, figure)
            self.view.move(structure, site)
            self._tell(crystal, answer, site)
            await self._make_film(crystal)

    async def _pass(self) -> None:
        """While a slider moves the curve alone follows: from the film, by the browser itself, or from the model."""
        if self.crystal is None or (
            self.film is not None and self.film.scene == self._scene(self.crystal) and self.film.has(self.change.strain)
        ):
            return
        if (found := await self._ask_model()) is not None:
            show_in_passing(self.figure, found[-1])

    async def _ask_model(self) -> tuple[Crystal, Structure, int, ForwardAnswer, Figure] | None:
        crystal = self.crystal
        if crystal is None:
            return None
        site, kind, change = self.site, str(self.kind.value), self.change
        bundle = await self.explorer.bundle()

        def work() -> tuple[Any, ForwardAnswer, Curve]:
            structure = changed(crystal.structure, change)
            return structure, *predict(bundle, structure, site, kind)

        structure, answer, curve = await self.explorer.models(work)
        if self.crystal is not crystal:
            return None
        feff = self.feff.get((site, kind, change))
        return crystal, structure, site, answer, of_curves([curve] if feff is None else [curve, feff])

    def _scene(self, crystal: Crystal) -> Scene:
        return Scene(crystal, self.site, str(self.kind.value), replace(self.change, strain=0.0))

    async def _make_film(self, crystal: Crystal) -> None:
        """Begin the film of what is shown, unless it is made or being made."""
        scene = self._scene(crystal)
        if self.film is not None and self.film.scene == scene:
            return
        self.film = film = Film(scene)
        client, plot = self.figure.client, self.figure.id
        client.run_javascript(frames_for(plot, None))
        background_tasks.create(
            shoot(
                film,
                await self.explorer.bundle(),
                lambda: self.change.strain,
                lambda: self.film is film and client.has_socket_connection,
                self.explorer.models,
                lambda frames: client.run_javascript(frames_for(plot, frames)),
            ),
            name="film",
        )

    def _tell(self, crystal: Crystal, answer: ForwardAnswer, site: int) -> None:
        unit = "1/angstrom^2 of k^2 chi" if answer.spectrum.kind == "EXAFS" else "of the edge step"
        rows = {
            "Crystal": f"{crystal.structure.composition.reduced_formula}, {len(crystal.structure)} atoms ({crystal.name})",
            "Absorber": f"{crystal.label(site)}, {answer.spectrum.edge} edge",
            "Expected error": f"{answer.uncertainty:.3g} {unit}; below {answer.error_bound:.3g} in {100 * answer.coverage:.0f} % of cases",
            "Verdict": ("unsure, ask FEFF: " if answer.needs_reference else "sure enough: ") + answer.reason,
        }
        self.facts.clear()
        with self.facts:
            facts_list(rows)

    def restore(self) -> None:
        """Take back strain and move."""
        for slider in (self.strain, *self.moves):
            slider.set_value(0.0)

    async def ask_feff(self) -> None:
        """Have FEFF compute what the model answered, and lay it over."""
        await self._run("FEFF", "always", self.check)

    async def keep_answer(self) -> None:
        """Store crystal and answer by the workflow, so that their provenance can be asked."""
        await self._run("prediction", "off", self.keep)

    async def _run(self, what: str, fallback: str, button: Any) -> None:
        if self.crystal is None:
            return
        crystal, site, kind, change = self.crystal, self.site, str(self.kind.value), self.change
        title = f"{what} of {crystal.label(site)} {kind} in {crystal.name}"
        button.set_enabled(False)
        try:
            with told(self.problem):
                structure = await self.explorer.models(changed, crystal.structure, change)
                name = crystal.name if change.is_none else f"{crystal.name}, changed"
                pk = await self.explorer.profile(keep_structure, structure, name)
                arguments = ["predict", str(pk), "--site", str(site), "--kind", kind, "--fallback", fallback]
                if self.explorer.family is not None:
                    arguments += ["--family", self.explorer.family]
                answer = await run_job(self.explorer, self.progress, title, arguments)
                pks = {"structure": pk, **answer["pk"]}
                with self.links:
                    for name, own in pks.items():
                        node_link(own, f"{what}: {name}")
                if fallback == "always":
                    curve = await self.explorer.profile(spectrum_curve, pks["spectrum"])
                    if self.crystal is crystal:
                        self.feff[site, kind, change] = curve
                        await self.newest.ask()
        finally:
            button.set_enabled(True)

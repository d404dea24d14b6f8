"""Which spectrum does this crystal have? Drop it, choose a site, strain it, ask FEFF."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nicegui import background_tasks, ui

from ...engine.crystal_file import ENDINGS
from ...tools.plotting.contents import Curve, of_curves
from ..app import Explorer
from ..crystals import MOST_DRAWN, MOST_MOVE, MOST_STRAIN, Change, Crystal, changed, first_absorber, predict, read
from ..film import STRAIN_STEP, Film, Frames, Scene, frames_for, player, shoot
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
        change = self.change
        if (found := await self._ask_model(change)) is not None and change == self.change:
            scene, structure, answer, figure = found
            show(self.figure, figure)
            self.view.move(structure, scene.site)
            self._tell(scene.crystal, answer, scene.site)
            await self._make_film(scene)

    async def _pass(self) -> None:
        """While a slider moves the curve alone follows: from the film, by the browser itself, or from the model."""
        if self._is_filmed():
            return
        found = await self._ask_model(self.change)
        if found is not None and not self._is_filmed():  # else the browser has gone on by itself
            show_in_passing(self.figure, found[-1])

    def _is_filmed(self) -> bool:
        """Whether the browser has what is asked now."""
        return self.film is not None and self.film.scene == self._scene() and self.film.has(self.change.strain)

    async def _ask_model(self, change: Change) -> tuple[Scene, Structure, ForwardAnswer, Figure] | None:
        """What the model says of the crystal under a change, and its figure; None where another site or kind is asked by then."""
        if (scene := self._scene()) is None:
            return None
        self._forget_film(scene)
        bundle = await self.explorer.bundle()

        def work() -> tuple[Any, ForwardAnswer, Curve]:
            structure = changed(scene.crystal.structure, change)
            return structure, *predict(bundle, structure, scene.site, scene.kind)

        structure, answer, curve = await self.explorer.models(work)
        now = self._scene()
        if now is None or (now.crystal, now.site, now.kind) != (scene.crystal, scene.site, scene.kind):
            return None
        feff = self.feff.get((scene.site, scene.kind, change))
        return scene, structure, answer, of_curves([curve] if feff is None else [curve, feff])

    def _scene(self) -> Scene | None:
        """What is asked but for the strain; None where there is no crystal yet."""
        if self.crystal is None:
            return None
        return Scene(self.crystal, self.site, str(self.kind.value), replace(self.change, strain=0.0))

    def _forget_film(self, scene: Scene) -> None:
        """Take the frames of any other scene from the browser, which would go on to draw them."""
        if self.film is not None and self.film.scene != scene:
            self.film = None
            self.figure.client.run_javascript(frames_for(self.figure.id, None))

    async def _make_film(self, scene: Scene) -> None:
        """Begin the film of what is shown, unless it is made or being made."""
        if self.film is not None:
            return
        self.film = film = Film(scene)
        client, plot = self.figure.client, self.figure.id
        client.run_javascript(frames_for(plot, None))
        bundle = await self.explorer.bundle()

        async def made() -> None:
            def wanted() -> bool:
                return self.film is film and client.has_socket_connection

            def give(frames: Frames) -> None:
                client.run_javascript(frames_for(plot, frames))

            await shoot(film, bundle, lambda: self.change.strain, wanted, self.explorer.models, give)
            if film.is_lacking and self.film is film:
                self.film = None  # the browser was away: begun anew after the next answer

        background_tasks.create(made(), name="film")

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
        await self._run("FEFF", "always")

    async def keep_answer(self) -> None:
        """Store crystal and answer by the workflow, so that their provenance can be asked."""
        await self._run("prediction", "off")

    async def _run(self, what: str, fallback: str) -> None:
        if self.crystal is None:
            return
        crystal, site, kind, change = self.crystal, self.site, str(self.kind.value), self.change
        title = f"{what} of {crystal.label(site)} {kind} in {crystal.name}"
        buttons = (self.check, self.keep)  # both tell how it goes in one place
        for button in buttons:
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
            for button in buttons:
                button.set_enabled(True)

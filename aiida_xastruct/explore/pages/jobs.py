"""What is running, how far it is, and how to stop it."""

from __future__ import annotations

from functools import partial

from nicegui import ui

from ..app import Explorer
from ..jobs import Job
from ..processes import kill, running
from .frame import frame, message, node_link, told

#: Seconds between two looks: at the page's own jobs, and into the database.
_OFTEN, _SELDOM = 1.0, 5.0

_ICONS = {"running": "hourglass_top", "done": "check_circle", "failed": "error", "stopped": "cancel"}


def register(explorer: Explorer) -> None:
    """Serve the page."""

    @ui.page("/jobs")
    async def jobs() -> None:
        with frame(explorer, "Jobs"):
            page = JobsPage(explorer)
            await ui.context.client.connected()
            await page.start()


class JobsPage:
    """The lists of one visitor."""

    def __init__(self, explorer: Explorer) -> None:
        """Build the page, empty."""
        self.explorer = explorer
        self.problem = message()
        ui.label("Started from these pages").props("role=heading aria-level=2").classes("text-lg")
        self.own = ui.column().classes("w-full gap-2")
        self.lines: dict[int, tuple[str, ui.label, ui.label]] = {}
        ui.label("Other processes of the profile that have not ended").props("role=heading aria-level=2").classes("text-lg mt-4")
        self.others = ui.column().classes("w-full gap-2")

    async def start(self) -> None:
        """Fill the lists, and keep them true."""
        self.look()
        await self.look_further()
        ui.timer(_OFTEN, self.look)
        ui.timer(_SELDOM, self.look_further)

    def look(self) -> None:
        """The page's own jobs; a job is drawn anew only when its state changes, so that nobody's focus is lost."""
        jobs = self.explorer.jobs.all
        if {job.number: job.state for job in jobs} != {number: state for number, (state, _, _) in self.lines.items()}:
            self.own.clear()
            self.lines.clear()
            with self.own:
                if not jobs:
                    ui.label("None yet.")
                for job in reversed(jobs):
                    self._draw(job)
        for job in jobs:
            _, spent, last = self.lines[job.number]
            spent.set_text(f"{job.state}, {job.seconds:.0f} s")
            last.set_text(job.failure or (job.lines[-1] if job.lines else ""))

    def _draw(self, job: Job) -> None:
        with ui.card().classes("w-full"):
            with ui.row().classes("items-center w-full"):
                ui.icon(_ICONS[job.state]).props("aria-hidden=true")
                ui.label(job.title).classes("font-bold")
                spent = ui.label()
                ui.space()
                if job.state == "running" and not self.explorer.read_only:
                    ui.button("Stop", on_click=partial(self._stop, job)).props(f'outline color=negative aria-label="stop {job.title}"')
            last = ui.label().classes("text-sm break-words")
            pks = job.answer.get("pk") if isinstance(job.answer, dict) else None
            with ui.row().classes("gap-3"):
                for name, pk in pks.items() if isinstance(pks, dict) else ():
                    node_link(pk, name)
        self.lines[job.number] = (job.state, spent, last)

    async def _stop(self, job: Job) -> None:
        with told(self.problem):
            await self.explorer.jobs.stop(job)
            self.look()

    async def look_further(self) -> None:
        """Processes that somebody else began."""
        with told(self.problem):
            found = await self.explorer.profile(running)
            self.others.clear()
            with self.others:
                if not found:
                    ui.label("None.")
                for process in found:
                    with ui.row().classes("items-center w-full border rounded px-2"):
                        node_link(process.pk, process.label)
                        ui.label(f"{process.state} since {process.began:%Y-%m-%d %H:%M}")
                        ui.label(process.report[:160]).classes("text-sm break-words min-w-0")
                        ui.space()
                        if not self.explorer.read_only:
                            ui.button("Kill", on_click=partial(self._kill, process.pk)).props(
                                f'flat color=negative aria-label="kill {process.label} {process.pk}"'
                            )

    async def _kill(self, pk: int) -> None:
        with told(self.problem):
            await self.explorer.profile(kill, pk)

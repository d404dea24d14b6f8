"""The explorer's server: what its pages share, and how it starts."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from ..engine.errors import XastructError
from .guard import Door, Guard
from .jobs import Jobs
from .threads import Worker

if TYPE_CHECKING:
    from ..engine.bundle import FamilyBundle


class Explorer:
    """What all pages share.

    Attributes:
        read_only: whether nothing is stored and no job is started or stopped.
        profile: the thread in which everything of AiiDA is read and stored.
        models: the thread in which networks run.
        jobs: the processes that pages start.
        family: label of the models that answer, None for those that ship with the package.
    """

    def __init__(self, profile: str, family: str | None = None, read_only: bool = False) -> None:
        """Load nothing yet.

        Args:
            profile: name of AiiDA's profile.
            family: see above.
            read_only: see above.
        """
        self.family, self.read_only = family, read_only
        self.profile, self.models = Worker("aiida"), Worker("models")
        self.jobs = Jobs(profile, read_only)
        self._bundle: FamilyBundle | None = None

    async def bundle(self) -> FamilyBundle:
        """The models that answer, read once.

        Raises:
            ModelError: if there is no such family, or it is damaged.
        """
        if self._bundle is None:
            self._bundle = await (self.models(_shipped) if self.family is None else self.profile(_installed, self.family))
        return self._bundle

    async def warm(self) -> None:
        """Load what the first answer would wait for."""
        await self.models(_first_answer, await self.bundle())

    async def close(self) -> None:
        """Stop all jobs and threads."""
        await self.jobs.close()
        self.profile.close()
        self.models.close()


def _shipped() -> FamilyBundle:
    from ..engine.bundle import FamilyBundle

    return FamilyBundle.load()


def _installed(label: str) -> FamilyBundle:
    from ..calculations.functions.bundle import load_bundle
    from ..workflows.inputs import find_family

    return load_bundle(*find_family(label).models.values())


def _first_answer(bundle: FamilyBundle) -> None:
    """Ask every model once: networks are read, and libraries imported, when they are first used."""
    from pymatgen.core import Lattice, Structure

    from ..engine.structure import inequivalent_absorbers

    crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.615), ["Cu"], [[0.0, 0.0, 0.0]])
    site = inequivalent_absorbers(crystal)[0].site
    for label in bundle.labels:
        task, kind = label.split("-")
        if task == "forward":
            bundle.predict(crystal, [site], kind)
        else:
            bundle.model(task, kind)


def free_port(wanted: int) -> int:
    """A port of 127.0.0.1 that nobody listens on: the wanted one, or any for 0.

    Raises:
        XastructError: if it is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError as error:
            raise XastructError(
                f"port {wanted} of 127.0.0.1 cannot be used ({error.strerror}); give another, or leave --port out."
            ) from error
        return int(probe.getsockname()[1])


def serve(explorer: Explorer, door: Door, show: bool) -> None:
    """Serve the pages on 127.0.0.1 until somebody stops it.

    Args:
        explorer: what the pages share.
        door: where, and the token.
        show: open a browser.
    """
    from nicegui import app, ui

    from .pages import crystal, home, jobs, provenance, screening, spectrum

    for page in (home, crystal, spectrum, screening, provenance, jobs):
        page.register(explorer)
    app.add_middleware(Guard, door=door)
    app.on_startup(explorer.warm)
    app.on_shutdown(explorer.close)
    ui.run(
        host="127.0.0.1",
        port=door.port,
        title="XAStruct explorer",
        favicon=Path(__file__).parent / "icon.svg",
        language="en-US",
        dark=None,
        show=f"/?token={door.token}" if show else False,
        reload=False,
        reconnect_timeout=60.0,  # a page that a busy machine lets wait is not made anew, without what was chosen on it
        show_welcome_message=False,
        uvicorn_logging_level="critical",  # pages log their own failures; a browser that leaves early is none
        loop="asyncio",  # AiiDA's own loops are of this kind
    )

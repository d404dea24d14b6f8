"""A crystal in three dimensions: atoms that can be clicked, and the cell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from nicegui import ui

from ..engine.structure import atomic_numbers

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: Colour of the mark around the absorber, and radius of a ball over the covalent one.
_CHOSEN, _SIZE = "#e69f00", 0.55


class CrystalView:
    """The drawing of one crystal, by three.js as NiceGUI has it."""

    def __init__(self, on_choose: Callable[[int], Awaitable[None]]) -> None:
        """Make an empty drawing.

        Args:
            on_choose: gets the index of the site that was clicked.
        """
        self._on_choose = on_choose
        self._atoms: list[Any] = []
        self._halo: Any = None
        self.scene = ui.scene(width=520, height=380, grid=False, background_color="#f4f6f8", on_click=self._clicked)
        self.scene.classes("w-full rounded border").style("height: 380px").props(
            'role=img aria-label="the crystal; choose a site in the list beside it"'
        )

    async def _clicked(self, event: Any) -> None:
        for hit in event.hits:
            if hit.object_name.startswith("site "):
                await self._on_choose(int(hit.object_name.removeprefix("site ")))
                return

    def draw(self, structure: Structure, chosen: int, most: int) -> None:
        """Draw a crystal from scratch; of more than `most` sites those nearest to the chosen one."""
        from ase.data import covalent_radii
        from ase.data.colors import jmol_colors

        self.scene.clear()
        self._atoms, self._halo = [], None
        numbers = atomic_numbers(structure)
        places, centre = structure.cart_coords, structure.lattice.get_cartesian_coords([0.5, 0.5, 0.5])
        near = np.argsort(np.linalg.norm(places - places[chosen], axis=1), kind="stable")[:most]
        with self.scene:
            for start, end in _edges(structure.lattice.matrix):
                self.scene.line(list(start - centre), list(end - centre)).material("#8a949e")
            for site in near:
                red, green, blue = (round(255 * float(part)) for part in jmol_colors[numbers[site]])
                ball = self.scene.sphere(_SIZE * float(covalent_radii[numbers[site]]))
                ball.material(f"#{red:02x}{green:02x}{blue:02x}").move(*(places[site] - centre)).with_name(f"site {site}")
                self._atoms.append((int(site), ball))
        self.choose(structure, chosen)
        reach = 0.45 * float(np.linalg.norm(structure.lattice.matrix, axis=1).sum()) / 3**0.5 + 2.5
        self.scene.move_camera(x=0.75 * reach, y=-0.75 * reach, z=0.45 * reach, look_at_x=0, look_at_y=0, look_at_z=0, duration=0)

    def choose(self, structure: Structure, site: int) -> None:
        """Mark the absorber."""
        from ase.data import covalent_radii

        if self._halo is not None:
            self._halo.delete()
        centre = structure.lattice.get_cartesian_coords([0.5, 0.5, 0.5])
        with self.scene:
            self._halo = self.scene.sphere(1.3 * _SIZE * float(covalent_radii[structure[site].specie.Z])).material(_CHOSEN, 0.45)
            self._halo.move(*(structure.cart_coords[site] - centre))

    def move(self, structure: Structure, chosen: int) -> None:
        """Put the atoms where a changed crystal has them; the cell stays drawn as it was."""
        centre = structure.lattice.get_cartesian_coords([0.5, 0.5, 0.5])
        for site, ball in self._atoms:
            ball.move(*(structure.cart_coords[site] - centre))
        if self._halo is not None:
            self._halo.move(*(structure.cart_coords[chosen] - centre))


def _edges(matrix: Any) -> list[tuple[Any, Any]]:
    """Start and end of the twelve edges of a cell (3, 3), angstrom."""
    found = []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        for first, second in product((0, 1), repeat=2):
            start = first * matrix[others[0]] + second * matrix[others[1]]
            found.append((start, start + matrix[axis]))
    return found

"""Curves at the strains of a slider, made ahead of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.structure import MINIMUM_DISTANCE
from aiida_xastruct.explore.crystals import MOST_STRAIN, Change, Crystal, changed, predict, read
from aiida_xastruct.explore.film import MOST_FILMED, STRAIN_STEP, Film, Scene, shoot
from aiida_xastruct.tools.plotting.contents import of_curves
from aiida_xastruct.tools.plotting.screen import draw


@pytest.fixture(scope="module")
def family() -> FamilyBundle:
    """The models that ship."""
    return FamilyBundle.load()


@pytest.fixture
def crystal(rocksalt: Path) -> Crystal:
    """Periclase."""
    return read("periclase.cif", rocksalt.read_bytes())


def test_frames_are_what_the_model_says_of_each_strain(crystal: Crystal, family: FamilyBundle) -> None:
    change = Change(site=0, move=(0.1, 0.0, 0.0))
    film = Film(Scene(crystal, 4, "XANES", change))
    frames = film.make(family, [-20, 30])
    assert sorted(frames) == [-20, 30]
    for step, frame in frames.items():
        strained = changed(crystal.structure, Change(step * STRAIN_STEP, 0, change.move))
        drawn = draw(of_curves([predict(family, strained, 4, "XANES")[1]]))["data"]
        assert len(frame["y"]) == len(drawn)
        for own, trace in zip(frame["y"], drawn, strict=True):
            np.testing.assert_allclose(own, trace["y"], atol=1e-3)
        assert frame["range"] == [min(map(min, frame["y"])), max(map(max, frame["y"]))]
    assert np.abs(np.subtract(frames[-20]["y"][-1], frames[30]["y"][-1])).max() > 0.01


def test_every_step_is_made_once_coarse_ones_first_and_near_the_slider(crystal: Crystal) -> None:
    film = Film(Scene(crystal, 0, "XANES", Change()))
    assert sorted(film.next_steps(1.25)) == [4, 8, 12, 16]
    order = []
    while steps := film.next_steps(0.0):
        order += steps
        film.keep(steps, {step: {} for step in steps if step != 3})
    last = round(MOST_STRAIN / STRAIN_STEP)
    assert sorted(order) == list(range(-last, last + 1))
    assert all(step % 4 == 0 for step in order[:25])
    assert not film.is_lacking
    assert film.has(-5.0)
    assert not film.has(0.3), "a strain that could not be answered has no frame"


def test_a_strain_under_which_atoms_overlap_has_no_frame(crystal: Crystal, family: FamilyBundle) -> None:
    toward = crystal.structure.cart_coords[4] - crystal.structure.cart_coords[0]
    distance = float(np.linalg.norm(toward))
    near = Change(site=0, move=tuple(toward * (1.0 - 1.02 * MINIMUM_DISTANCE / distance)))
    film = Film(Scene(crystal, 4, "XANES", near))
    assert sorted(film.make(family, [-50, 0])) == [0]


def test_nothing_is_made_of_large_cells_nor_when_nobody_looks(crystal: Crystal, family: FamilyBundle) -> None:
    large = Crystal("large.cif", crystal.structure * (2, 2, 2), {0: MOST_FILMED + 4})
    assert Film(Scene(large, 0, "XANES", Change())).next_steps(0.0) == []
    film, given = Film(Scene(crystal, 0, "XANES", Change())), []

    async def work(function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    asyncio.run(shoot(film, family, lambda: 0.0, lambda: len(given) < 2, work, given.append))
    assert len(given) == 2
    assert film.is_lacking
    assert film.has(0.0)
    assert not film.has(5.0)

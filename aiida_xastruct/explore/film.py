"""The curves of a crystal at every strain of the slider, made ahead: a browser that has them draws as fast as it can."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..engine.errors import StructureError
from ..tools.plotting.contents import Curve, of_curves
from ..tools.plotting.screen import draw
from .crystals import MOST_STRAIN, Change, Crystal, changed, predict_changes

if TYPE_CHECKING:
    from ..engine.bundle import FamilyBundle

#: Percent between two strains of the slider.
STRAIN_STEP = 0.1

#: Atoms of the largest cell that is answered ahead: more take minutes, and are answered one by one while the slider moves.
MOST_FILMED = 60

#: Strains that are answered at once; what a visitor asks meanwhile waits for them.
_AT_ONCE = 4

#: By the step of the slider: y of each of plotly's traces, whose x stay as they are, and the least and the greatest.
Frames = dict[int, dict[str, Any]]

#: Draws the frame of a slider's value; `PLOT` is the plot's number. Axes are drawn anew only where a curve would leave them, and what
#: FEFF said of another strain is taken away.
_PLAY = """(value) => {
  const plot = getHtmlElement(PLOT), frame = plot?.film?.[Math.round(value / STEP)];
  if (!frame) return;
  const waits = plot.nextFrame !== undefined;
  plot.nextFrame = frame;
  if (waits) return;
  requestAnimationFrame(async () => {
    const {Plotly} = getElement(PLOT), {y, range} = plot.nextFrame;
    plot.nextFrame = undefined;
    if (plot.data.length > y.length) await Plotly.deleteTraces(plot, plot.data.map((_, i) => i).slice(y.length));
    const [low, high] = plot.layout.yaxis.range, room = 0.05 * (range[1] - range[0]);
    if (range[0] < low || range[1] > high)
      await Plotly.relayout(plot, {'yaxis.range': [Math.min(low, range[0] - room), Math.max(high, range[1] + room)]});
    const still = {mode: 'immediate', transition: {duration: 0}, frame: {duration: 0, redraw: false}};
    await Plotly.animate(plot, {data: y.map(own => ({y: own})), traces: y.map((_, i) => i)}, still);
  });
}"""


@dataclass(frozen=True)
class Scene:
    """What a film is of: a crystal but for its strain, a site and a part of the spectrum."""

    crystal: Crystal
    site: int
    kind: str
    change: Change


class Film:
    """Frames of one scene, as far as they are made.

    Attributes:
        scene: what they show.
    """

    def __init__(self, scene: Scene) -> None:
        """No frame yet."""
        self.scene = scene
        last = round(MOST_STRAIN / STRAIN_STEP)
        few = len(scene.crystal.structure) <= MOST_FILMED
        self._lacking = set(range(-last, last + 1)) if few else set()
        self._made: set[int] = set()

    def has(self, strain: float) -> bool:
        """Whether a browser that was given all frames can draw this strain (percent)."""
        return _step_of(strain) in self._made

    @property
    def is_lacking(self) -> bool:
        """Whether there are frames to make."""
        return bool(self._lacking)

    def next_steps(self, strain: float) -> list[int]:
        """Steps to make next: every fourth of the slider at first, then every second, nearest to a strain (percent) before others."""
        near = _step_of(strain)
        return sorted(self._lacking, key=lambda step: (step % 4 != 0, step % 2 != 0, abs(step - near)))[:_AT_ONCE]

    def make(self, family: FamilyBundle, steps: list[int]) -> Frames:
        """Frames of these steps; none of a strain under which atoms would overlap."""
        scene, structures = self.scene, {}
        for step in steps:
            try:
                structures[step] = changed(scene.crystal.structure, replace(scene.change, strain=step * STRAIN_STEP))
            except StructureError:  # said when the slider rests there
                continue
        try:
            answers = predict_changes(family, list(structures.values()), scene.site, scene.kind) if structures else []
        except StructureError:  # as of atoms too far apart
            return {}
        return {step: _frame(curve) for step, (_, curve) in zip(structures, answers, strict=True)}

    def keep(self, steps: list[int], frames: Frames) -> None:
        """Note that the browser has frames, of the steps that were to be made."""
        self._lacking -= set(steps)
        self._made |= set(frames)


def _step_of(strain: float) -> int:
    """Step of the slider at a strain (percent)."""
    return round(strain / STRAIN_STEP)


async def shoot(film: Film, family: FamilyBundle, strain: Callable[[], float], wanted: Callable[[], bool], work: Any, give: Any) -> None:
    """Make a film's frames, nearest to where the slider stands first, as long as it is wanted.

    Args:
        film: what to make.
        family: models.
        strain: where the slider stands now, percent.
        wanted: whether somebody still looks.
        work: the explorer's thread for models.
        give: takes frames to the browser.
    """
    while wanted() and (steps := film.next_steps(strain())):
        frames = await work(film.make, family, steps)
        if wanted():
            give(frames)
            film.keep(steps, frames)


def _frame(curve: Curve) -> dict[str, Any]:
    lines = [trace["y"] for trace in draw(of_curves([curve]))["data"]]
    seen = [value for line in lines for value in line if value is not None]
    return {"y": lines, "range": [min(seen), max(seen)]}


def player(plot: int) -> str:
    """JavaScript that takes a value of the slider and draws its frame, where the browser has it, in a plot of NiceGUI (by number)."""
    return _PLAY.replace("PLOT", str(plot)).replace("STEP", str(STRAIN_STEP))


def frames_for(plot: int, frames: Frames | None) -> str:
    """JavaScript that gives a plot of NiceGUI (by number) more frames, or takes all away (None)."""
    film = f"getHtmlElement({plot}).film"
    return f"{film} = {{}}" if frames is None else f"Object.assign({film}, {json.dumps(frames)})"

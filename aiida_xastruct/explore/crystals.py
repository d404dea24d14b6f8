"""Crystals that are dropped on the page: read, strained, and answered by a model."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..engine.crystal_file import ENDINGS, is_crystal_name, read_crystal
from ..engine.errors import StructureError
from ..engine.features import site_rows
from ..engine.models.calibration import ForwardCalibration
from ..engine.point_band import point_band, with_share
from ..engine.sevennet import shared_features
from ..engine.structure import atomic_numbers, check_structure, inequivalent_absorbers, symbol
from ..tools.plotting.contents import Curve

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from ..engine.answers import ForwardAnswer
    from ..engine.bundle import FamilyBundle

#: Sites of a cell that the page draws: more are no longer told apart, and a browser slows down.
MOST_DRAWN = 400

#: Percent that the page strains a cell by, and angstrom that it moves an atom, at most.
MOST_STRAIN, MOST_MOVE = 5.0, 0.5


@dataclass(frozen=True, eq=False)
class Crystal:
    """A crystal on the page.

    Attributes:
        name: of its file.
        structure: as it was read.
        equivalents: of each element's inequivalent sites, how many sites of the cell it stands for, by site.
    """

    name: str
    structure: Structure
    equivalents: dict[int, int]

    def label(self, site: int) -> str:
        """What a site is called."""
        count = self.equivalents.get(site)
        return f"{symbol(self.structure, site)} {site}" + (f", one of {count} alike" if count and count > 1 else "")


@dataclass(frozen=True)
class Change:
    """What is done to a crystal before it is asked about.

    Attributes:
        strain: percent, the same along all three vectors.
        site: that is moved.
        move: angstrom along x, y and z.
    """

    strain: float = 0.0
    site: int = 0
    move: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def is_none(self) -> bool:
        """Whether the crystal stays as it is."""
        return self.strain == 0.0 and not any(self.move)


def read(name: str, content: bytes) -> Crystal:
    """The crystal in a file that was dropped.

    Raises:
        StructureError: if it is none that can be answered for, with the reason.
    """
    if not is_crystal_name(name):
        raise StructureError(f"{name} is no file of a crystal by its name; drop one that ends in {', '.join(ENDINGS)}.")
    if not content.strip():
        raise StructureError(f"{name} is empty; drop a CIF.")
    plain = Path(name).name
    with tempfile.TemporaryDirectory(prefix="xastruct-explore-") as folder:
        # Of the name only what tells the format is kept: the rest is a stranger's.
        path = Path(folder) / ("POSCAR" if Path(plain).suffix.lower() not in ENDINGS else f"crystal{Path(plain).suffix.lower()}")
        path.write_bytes(content)
        try:
            structure = read_crystal(path)
        except StructureError as error:
            raise StructureError(str(error).replace(path.name, plain)) from error
    return Crystal(plain, structure, {found.site: found.multiplicity for found in inequivalent_absorbers(structure)})


def first_absorber(crystal: Crystal) -> int:
    """The site that is asked about first: of the heaviest element, whose edge is the one most likely measured."""
    numbers = atomic_numbers(crystal.structure)
    return max(crystal.equivalents, key=lambda site: (numbers[site], -site))


def changed(structure: Structure, change: Change) -> Structure:
    """A copy of a structure under a strain, with one atom moved.

    Raises:
        StructureError: if atoms would overlap.
    """
    if change.is_none:
        return structure
    new = structure.copy()
    if change.strain:
        new.apply_strain(change.strain / 100.0)
    if any(change.move):
        new.translate_sites([change.site], list(change.move), frac_coords=False)
    check_structure(new)
    return new


def predict(family: FamilyBundle, structure: Structure, site: int, kind: str) -> tuple[ForwardAnswer, Curve]:
    """What the model says of a site: its answer, and the curve to draw.

    Args:
        family: models.
        structure: an ordered crystal.
        site: index of the absorber.
        kind: XANES or EXAFS.

    Raises:
        StructureError: if it cannot be answered.
        ModelError: if the family has no such model.
    """
    return predict_changes(family, [structure], site, kind)[0]


def predict_changes(family: FamilyBundle, structures: list[Structure], site: int, kind: str) -> list[tuple[ForwardAnswer, Curve]]:
    """What the model says of one site in several forms of a crystal, asked together; see `predict`."""
    model = family.model("forward", kind)
    learned = shared_features()(structures, [[site]] * len(structures))
    rows = [site_rows(structure, [site], own) for structure, own in zip(structures, learned, strict=True)]
    answers = model.predict_from_features(np.concatenate(rows), [symbol(structure, site) for structure in structures])
    promises = model.promises(ForwardCalibration)
    told = []
    for answer in answers:
        spectrum = with_share(answer.spectrum, promises)
        label = f"model, {spectrum.absorber} {site}"
        told.append((answer, Curve(label, spectrum, answer.band, point_band(spectrum.mu, answer.band, spectrum.settings))))
    return told

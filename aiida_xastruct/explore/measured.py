"""Spectra that are dropped on the page: read, normalised as the page's handles say, and answered by the models."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..engine.errors import SpectrumError
from ..engine.joint import infer_both
from ..engine.processing import ProcessingParameters, process
from ..engine.quality import Quality, with_quality
from ..engine.readers import read_measurement
from ..engine.scans import ScanParameters
from ..engine.spectrum import Spectrum, find_e0, own_end

if TYPE_CHECKING:
    from ..engine.answers import InverseAnswer
    from ..engine.bundle import FamilyBundle

Range = tuple[float, float]

#: eV above the edge from which on a scan has an EXAFS to read.
_EXAFS_FROM = 250.0


@dataclass(frozen=True, eq=False)
class Measured:
    """A spectrum on the page.

    Attributes:
        files: name and content of each that it was read from.
        spectrum: the scans in them, merged; or what a program computed.
        quality: what is to be said of it, by name; of a measurement only.
        e0: where its edge is, by larch, eV.
        pre_edge: where larch fits the line under the edge, eV from E0; None where nothing is to be normalised.
        post_edge: where larch fits the polynomial above it.
        kinds: what may be read of it: XANES, EXAFS, both.
    """

    files: tuple[tuple[str, bytes], ...]
    spectrum: Spectrum
    quality: dict[str, str]
    e0: float
    pre_edge: Range | None
    post_edge: Range | None
    kinds: tuple[str, ...]

    @property
    def name(self) -> str:
        """The file, or the first of some."""
        more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return self.files[0][0] + more


@dataclass(frozen=True)
class Reading:
    """How a spectrum is to be read.

    Attributes:
        kind: XANES, EXAFS or both.
        e0: eV; larch's if None.
        pre_edge: eV from E0; larch's if None.
        post_edge: the same.
        elements: that the sample is known to hold; any if empty.
    """

    kind: str
    e0: float | None = None
    pre_edge: Range | None = None
    post_edge: Range | None = None
    elements: tuple[str, ...] = ()

    @property
    def is_usual(self) -> bool:
        """Whether the normalisation is the one that models are used to."""
        return self.e0 is None and self.pre_edge is None and self.post_edge is None


def read(files: Sequence[tuple[str, bytes]], absorber: str = "", edge: str = "") -> Measured:
    """The spectrum in files that were dropped; scans are merged.

    Args:
        files: name and content of each.
        absorber: where the files do not say.
        edge: the same.

    Raises:
        SpectrumError: if they hold none, with the reason.
    """
    spectrum = with_quality(read_measurement(files, ScanParameters(absorber=absorber, edge=edge)))
    e0 = find_e0(spectrum)
    said = spectrum.settings.get("quality")
    is_raw = spectrum.method == "measured" and spectrum.normalisation == "raw"
    pre_edge, post_edge = _usual_ranges(spectrum, e0) if is_raw else (None, None)
    reaches = own_end(spectrum) - e0 >= _EXAFS_FROM
    kinds = ("XANES", "EXAFS", "both") if spectrum.method == "measured" and reaches else (spectrum.kind,)
    rows = Quality.from_dict(said).rows() if said else {}
    return Measured(tuple(files), spectrum, rows, e0, pre_edge, post_edge, kinds)


def _usual_ranges(spectrum: Spectrum, e0: float) -> tuple[Range, Range]:
    """Where larch fits before and behind the edge if nobody says, eV from E0."""
    from larch import Group
    from larch.xafs import pre_edge

    group = Group()
    end = own_end(spectrum)
    reach = {"norm2": end - e0} if end < spectrum.energy[-1] else {}
    pre_edge(np.array(spectrum.energy), np.array(spectrum.mu), group=group, e0=e0, **reach)
    found = group.pre_edge_details
    return (float(found.pre1), float(found.pre2)), (float(found.norm1), float(found.norm2))


def answer(family: FamilyBundle, measured: Measured, reading: Reading) -> tuple[Spectrum, InverseAnswer]:
    """The spectrum as it is read, and what the models say of it.

    Raises:
        SpectrumError: if it cannot be normalised or read so.
        ModelError: if the family has no such models.
    """
    spectrum = measured.spectrum
    if not reading.is_usual:
        if measured.pre_edge is None:
            raise SpectrumError("the spectrum came normalised; its ranges and E0 stay as they are.")
        wanted = ProcessingParameters(e0=reading.e0, pre_edge=reading.pre_edge, post_edge=reading.post_edge)
        spectrum = process(spectrum, wanted).spectrum
    elements = list(reading.elements) or None
    if reading.kind == "both":
        xanes, exafs = (replace(spectrum, kind=kind) for kind in ("XANES", "EXAFS"))
        return spectrum, infer_both(family, xanes, exafs, elements)
    own = replace(spectrum, kind=reading.kind) if spectrum.method == "measured" else spectrum  # type: ignore[arg-type]
    return own, family.infer(own, elements)


@contextmanager
def as_files(measured: Measured) -> Iterator[list[str]]:
    """Paths of its files, written out for a command that is to import them; gone when the context ends."""
    with tempfile.TemporaryDirectory(prefix="xastruct-explore-") as folder:
        paths = []
        for number, (name, content) in enumerate(measured.files):
            # The name tells the format to some readers, and people what the node is; nothing else of it may matter.
            place = Path(folder) / str(number)
            place.mkdir()
            path = place / (re.sub(r"[^\w.+-]", "_", Path(name).name) or "spectrum")
            path.write_bytes(content)
            paths.append(str(path))
        yield paths

"""`aiida-xastruct import`: files of a measurement, or of a program, become a stored spectrum."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import click

from .group import with_profile
from .output import echo_mapping, echo_rows, json_option

if TYPE_CHECKING:
    from aiida.orm import SinglefileData

    from ..data.spectrum import SpectrumData

MODES = ("transmission", "fluorescence", "reference")

_COLUMNS = ("source", "pk", "edge", "E0 - table (eV)", "edge step", "noise (%)", "k max", "glitches", "verdict")

#: What is no file but the id of a material of the Materials Project.
_MATERIAL = re.compile(r"mp-\d+")


class Imported(NamedTuple):
    """One spectrum that was stored, or the sentence that says why it was not."""

    source: str
    spectrum: SpectrumData | None
    problem: str


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-a", "--absorber", default="", help="Absorbing element, where the files do not say.")
@click.option("-e", "--edge", default="", help="Absorption edge.  [default: what the files say, else K up to Z 50 and L3 from Z 51]")
@click.option(
    "-k", "--kind", type=click.Choice(["XANES", "EXAFS"]), help="Range it is for.  [default: EXAFS from 250 eV above the edge on]"
)
@click.option("-m", "--mode", type=click.Choice(MODES), help="Detectors that make mu.  [default: what is there]")
@click.option(
    "-c", "--columns", multiple=True, metavar="ROLE=NAME,...", help="Columns by name or number, e.g. energy=1,i0=2,i1=3; may be repeated."
)
@click.option("-g", "--group", "groups", multiple=True, help="Label of a spectrum in a file of several; may be repeated.")
@click.option("-s", "--separate", is_flag=True, help="Store each file, and each spectrum in it, by itself instead of merging scans.")
@json_option
@with_profile
def import_command(
    files: tuple[str, ...],
    absorber: str,
    edge: str,
    kind: str | None,
    mode: str | None,
    columns: tuple[str, ...],
    groups: tuple[str, ...],
    separate: bool,
    as_json: bool,
) -> None:
    """Store the spectrum in each FILE: scans of one sample, which are merged, or with --separate each by itself.

    A FILE is XDI or other columns of text, NeXus, an Athena project, FEFF's xmu.dat or chi.dat, an export of this package, a document of
    the Materials Project or the id of a material there (mp-..., with a key in MP_API_KEY). It is kept as it is, as an input of what made
    the spectrum.
    """
    given = {"absorber": absorber, "edge": edge, "kind": kind, "mode": mode, "columns": columns_of(columns), "groups": list(groups)}
    parameters = {name: value for name, value in given.items() if value}
    if not separate:
        _report(import_files(files, parameters), as_json)
        return
    done = list(_each(files, parameters, as_json))
    if as_json:
        echo_mapping({item.source: _content(item.spectrum) if item.spectrum else {"refused": item.problem} for item in done}, True)
    else:
        echo_rows(_COLUMNS, map(_row, done), False)
    if any(item.spectrum is None for item in done):
        raise click.exceptions.Exit(1)


def columns_of(pairs: Iterable[str]) -> dict[str, str]:
    """`ROLE=NAME` options, several in one with commas between, as a dictionary."""
    found = dict(pair.strip().partition("=")[::2] for text in pairs for pair in text.split(","))
    if not all(found.values()):
        raise click.UsageError("give columns as ROLE=NAME, e.g. --columns i0=mon.")
    return found


def import_files(names: Sequence[str], parameters: dict[str, Any]) -> SpectrumData:
    """Store files and the spectrum that they hold.

    Args:
        names: paths, or ids of the Materials Project.
        parameters: fields of `engine.scans.ScanParameters`.

    Raises:
        SpectrumError: if a file is missing or cannot be used.
    """
    return _import([_raw(name) for name in names], parameters)


def _import(raw: Sequence[SinglefileData], parameters: dict[str, Any]) -> SpectrumData:
    from aiida.orm import Dict

    from ..calculations.functions.import_scans import import_scans
    from ..engine.errors import SpectrumError

    inputs = {f"scan_{index:03d}": node for index, node in enumerate(raw)}
    spectrum: Any
    spectrum, node = import_scans.run_get_node(parameters=Dict(parameters), **inputs)
    if not node.is_finished_ok:
        raise SpectrumError(str(node.exit_message))
    return cast("SpectrumData", spectrum)


def _raw(name: str) -> SinglefileData:
    """Node of a file, or of the documents of a material."""
    from aiida.orm import SinglefileData

    from ..engine.errors import SpectrumError
    from ..engine.readers.materials_project import fetch
    from ..engine.readers.text import MAX_BYTES

    path = Path(name)
    if not path.is_file():
        if _MATERIAL.fullmatch(name):
            return SinglefileData.from_bytes(fetch(name), f"{name}.json")
        raise SpectrumError(f"{name} is neither a file nor, alone, a stored spectrum; check the name.")
    if path.stat().st_size > MAX_BYTES:
        raise SpectrumError(f"{name} has {path.stat().st_size / 1e6:.0f} MB, more than any file of spectra; cut it down.")
    return SinglefileData(path.resolve())


def _each(names: Sequence[str], parameters: dict[str, Any], quiet: bool) -> Iterable[Imported]:
    """Import each spectrum of each file by itself."""
    from rich.console import Console
    from rich.progress import track

    from ..engine.errors import XastructError
    from ..engine.readers import labels_in
    from ..engine.scans import ScanParameters

    for name in track(names, "files", console=Console(stderr=True), transient=True, disable=quiet or len(names) < 2):
        try:
            raw = _raw(name)
            labels = labels_in(raw.get_content(mode="rb"), raw.filename, ScanParameters.from_dict(parameters))
        except XastructError as error:
            yield Imported(name, None, str(error))
            continue
        for label in labels:
            source = name if len(labels) == 1 else f"{name}: {label}"
            try:
                yield Imported(source, _import([raw], parameters | ({"groups": [label]} if len(labels) > 1 else {})), "")
            except XastructError as error:
                yield Imported(source, None, str(error))


def _content(spectrum: SpectrumData) -> dict[str, Any]:
    """What JSON says of a stored spectrum."""
    names = ("absorber", "edge", "kind", "method", "normalisation")
    quality = spectrum.settings.get("quality")
    return {"pk": spectrum.pk, "uuid": spectrum.uuid, **{name: getattr(spectrum, name) for name in names}, "quality": quality}


def _report(spectrum: SpectrumData, as_json: bool) -> None:
    """Print what was stored, and how good it is."""
    from ..engine.quality import Quality

    if as_json:
        echo_mapping(_content(spectrum), True)
        return
    quality = spectrum.settings.get("quality")
    rows = Quality.from_dict(quality).rows() if quality else {}
    formula = {"mu": spectrum.settings["formula"]} if "formula" in spectrum.settings else {}
    echo_mapping({"spectrum": spectrum.pk, "what": spectrum.get_description(), **formula, **rows}, False)


def _row(item: Imported) -> list[Any]:
    """A spectrum as a line of the table."""
    source = Path(item.source).name
    if item.spectrum is None:
        return [source, *[None] * 7, f"refused: {item.problem}"]
    found = item.spectrum.settings.get("quality")
    head = [source, item.spectrum.pk, f"{item.spectrum.absorber} {item.spectrum.edge}"]
    if found is None:
        return [*head, *[None] * 5, item.spectrum.method]
    step, noise = found["edge_step"], found["noise"]
    return [
        *head,
        f"{found['e0_minus_table']:+.1f}",
        None if step is None else f"{step:.3g}",
        None if noise is None else f"{100 * noise:.2g}",
        f"{found['k_max']:.1f}",
        len(found["glitches"]),
        " ".join(found["remarks"]) or "good",
    ]

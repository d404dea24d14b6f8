"""`aiida-xastruct compare`: how alike are two spectra? Two files need no AiiDA profile."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from .group import with_profile
from .launch import stored_or_file
from .output import echo_mapping, json_option

if TYPE_CHECKING:
    from ..engine.spectrum import Kind, Spectrum


@click.command("compare")
@click.argument("spectrum")
@click.argument("reference")
@click.option("-a", "--absorber", default="", help="Absorbing element, where the files do not say.")
@click.option("-e", "--edge", default="", help="Absorption edge.  [default: what the files say, else K up to Z 50 and L3 from Z 51]")
@click.option("-k", "--kind", type=click.Choice(["XANES", "EXAFS"]), help="What to compare.  [default: EXAFS if both are, else XANES]")
@click.option("--k-range", type=(float, float), default=(3.0, 12.0), show_default=True, help="Of an EXAFS, 1/angstrom.")
@click.option("--flat", is_flag=True, help="mu is normalised already, in files that do not say.")
@json_option
def compare(
    spectrum: str, reference: str, absorber: str, edge: str, kind: str | None, k_range: tuple[float, float], flat: bool, as_json: bool
) -> None:
    """Measure how alike SPECTRUM and REFERENCE are, after the shift in energy that brings them closest.

    Each is a stored spectrum (pk, UUID or label) or a file: FEFF's xmu.dat, an exported spectrum, a scan, or two columns of energy and mu.
    XANES are compared as flat mu, EXAFS as k^2 chi(k).
    """
    from ..engine import compare as engine
    from ..engine.scans import ScanParameters
    from ..engine.spectrum_file import read_pair

    given = [
        _stored(name) if not Path(name).is_file() else (Path(name).read_bytes(), name) for name in (spectrum, reference)
    ]
    first, second = read_pair(given, ScanParameters(absorber=absorber, edge=edge), flat)
    found = engine.compare(first, second, cast("Kind | None", kind), k_range)
    echo_mapping(asdict(found) if as_json else found.rows(), as_json)


@with_profile
def _stored(name: str) -> Spectrum:
    """The spectrum of a node.

    Raises:
        XastructError: if no node has that name.
    """
    # Files are read before; the third argument only makes the message name both.
    return cast("Spectrum", stored_or_file(name, "aiida.data:xastruct.spectrum", lambda path: path).to_engine())

"""`aiida-xastruct compare`: how alike are two spectra, and which of several candidates is the measured one? Two files need no profile."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from aiida.cmdline.params import types

from .candidates import candidates_of, spectrum_node, waiting
from .group import with_profile
from .launch import engine_inputs, engine_options, launch, report, stored_or_file
from .output import echo_mapping, echo_rows, json_option
from .structures import is_crystal, is_structure

if TYPE_CHECKING:
    from aiida.orm import AbstractCode

    from ..engine.spectrum import Kind, Spectrum


@click.command("compare")
@click.argument("spectrum")
@click.argument("candidates", nargs=-1, required=True, metavar="CANDIDATE...")
@click.option("-a", "--absorber", default="", help="Absorbing element, where the files do not say.")
@click.option("-e", "--edge", default="", help="Absorption edge.  [default: what the files say, else K up to Z 50 and L3 from Z 51]")
@click.option("-k", "--kind", type=click.Choice(["XANES", "EXAFS"]), help="What to compare.  [default: EXAFS if SPECTRUM is, else XANES]")
@click.option("--k-range", type=(float, float), help="Of two EXAFS, 1/angstrom.  [default: 3 12]")
@click.option("--flat", is_flag=True, help="mu is normalised already, in two files that do not say.")
@click.option("--max-shift", type=click.FloatRange(0.0, 10.0), help="eV that a candidate may be moved by from E0.  [default: 5]")
@click.option("--max-broadening", type=click.FloatRange(0.0, 5.0), help="Widest Gaussian for the XANES of candidates, eV.  [default: 1.5]")
@click.option("-F", "--family", help="Label of the models.  [default: the family that ships with this package]")
@click.option("-X", "--code", type=types.CodeParamType(), help="FEFF.  [default: the one that comes with this package, on this machine]")
@click.option("--fallback", type=click.Choice(["on", "off"]), help="When FEFF answers.  [default: on, where the model is unsure]")
@click.option("-R", "--reference", is_flag=True, help="Have the engine compute all crystals.")
@click.option("--protocol", type=click.Choice(["fast", "balanced", "stringent"]), help="Of the engine.  [default: fast]")
@engine_options("feff", "xspectra", "both")
@click.option("--daemon", is_flag=True, help="Submit to the daemon and return at once.")
@json_option
def compare(
    spectrum: str,
    candidates: tuple[str, ...],
    absorber: str,
    edge: str,
    kind: str | None,
    k_range: tuple[float, float] | None,
    flat: bool,
    max_shift: float | None,
    max_broadening: float | None,
    family: str | None,
    code: AbstractCode | None,
    fallback: str | None,
    reference: bool,
    protocol: str | None,
    engine: str | None,
    pw_code: AbstractCode | None,
    xspectra_code: AbstractCode | None,
    core_holes: str | None,
    daemon: bool,
    as_json: bool,
) -> None:
    """Rank CANDIDATEs by how much their spectra look like SPECTRUM, or measure how alike two spectra are.

    SPECTRUM is a stored one (pk, UUID or label) or a file: a scan, FEFF's xmu.dat, an exported spectrum, two columns of energy and mu. A
    CANDIDATE is the same, or a crystal (a CIF or another file of one, or a node), whose spectrum a model predicts, or FEFF where it is
    unsure. With --engine both a crystal is two candidates, one computed by FEFF and one by XSpectra. With one CANDIDATE that is a
    spectrum, it is the reference that SPECTRUM is judged by.

    XANES are compared as flat mu, EXAFS as k^2 chi(k), after the shift in energy that brings them closest.
    """
    from ..engine.errors import XastructError

    ranked = {"family": family, "fallback": "always" if reference else fallback, "protocol": protocol}
    if reference and fallback:
        raise XastructError("--reference has the engine compute all crystals, whatever --fallback says; give one of the two.")
    codes = {"engine": engine, "code": code, "pw_code": pw_code, "xspectra_code": xspectra_code, "core_holes": core_holes}
    if len(candidates) == 1 and not is_crystal(candidates[0]) and not _is_structure(candidates[0]):
        if any(value is not None for value in (*ranked.values(), *codes.values(), max_shift, max_broadening)) or daemon:
            raise XastructError("two spectra were given, and an option that is for crystals or several candidates; leave it out.")
        _pair(spectrum, candidates[0], {"absorber": absorber, "edge": edge}, cast("Kind | None", kind), k_range, flat, as_json)
        return
    if flat or k_range is not None:
        raise XastructError(
            "--flat and --k-range are for two spectra; candidates are ranked over 3 to 12 1/angstrom, of what their files say."
        )
    bounds = {"kind": kind, "largest_shift": max_shift, "broadest": max_broadening}
    _rank(spectrum, candidates, {"absorber": absorber, "edge": edge}, bounds, ranked, codes, daemon, as_json)


def _pair(
    spectrum: str,
    reference: str,
    stated: dict[str, str],
    kind: Kind | None,
    k_range: tuple[float, float] | None,
    flat: bool,
    as_json: bool,
) -> None:
    """Measure how alike two spectra are."""
    from ..engine import compare as engine
    from ..engine.scans import ScanParameters
    from ..engine.spectrum_file import read_pair

    given = [_stored(name) if not Path(name).is_file() else (Path(name).read_bytes(), name) for name in (spectrum, reference)]
    first, second = read_pair(given, ScanParameters(**stated), flat)  # type: ignore[arg-type]
    found = engine.compare(first, second, kind, k_range or engine.K_RANGE)
    echo_mapping(asdict(found) if as_json else found.rows(), as_json)


@with_profile
def _stored(name: str) -> Spectrum:
    """The spectrum of a node.

    Raises:
        XastructError: if no node has that name.
    """
    # Files are read before; the third argument only makes the message name both.
    return cast("Spectrum", stored_or_file(name, "aiida.data:xastruct.spectrum", lambda path: path).to_engine())


def _is_structure(name: str) -> bool:
    """Whether an argument that is no file names a crystal, stored or of a database."""
    return not Path(name).is_file() and _names_structure(name)


@with_profile
def _names_structure(name: str) -> bool:
    return is_structure(name)


@with_profile
def _rank(
    spectrum: str,
    candidates: tuple[str, ...],
    stated: dict[str, str],
    bounds: dict[str, Any],
    inputs: dict[str, Any],
    codes: dict[str, Any],
    daemon: bool,
    as_json: bool,
) -> None:
    """Put candidates in order."""
    from ..workflows.compare import CompareWorkChain

    target = spectrum_node(spectrum, stated)
    structures, spectra = candidates_of(candidates, {"absorber": target.absorber, "edge": target.edge})
    inputs = inputs | engine_inputs(**codes, needed=bool(structures and inputs["fallback"] != "off"))
    inputs |= {"parameters": {name: value for name, value in bounds.items() if value is not None} or None}
    with waiting(f"comparing with {len(candidates)} candidates"):
        outputs, node = launch(lambda: CompareWorkChain.get_builder_for(target, structures, spectra, **inputs), daemon)
    if outputs is None:
        return
    report(node)
    ranking = outputs["ranking"].get_dict()
    pks = {"target": target.pk, "ranking": outputs["ranking"].pk, "process": node.pk}
    pks |= {f"spectrum of {name}": one.pk for name, one in outputs.get("spectra", {}).items()}
    if as_json:
        echo_mapping(ranking | {"pk": pks}, as_json)
        return
    compared = "k^2 chi(k)" if ranking["kind"] == "EXAFS" else "flat mu"
    echo_mapping({"target": f"{ranking['absorber']} {ranking['edge']} {ranking['kind']}, compared as {compared}"}, False)
    broadened = "sigma2 (angstrom^2)" if ranking["kind"] == "EXAFS" else "broadening (eV)"
    columns = ("rank", "candidate", "method", "distance", "own error below", "R2", "shift (eV)", broadened, "remarks")
    echo_rows(columns, map(_row, ranking["candidates"]), False)
    refused = {f"{name} is not ranked": why for name, why in ranking["refused"].items()}
    echo_mapping({name: pks[name] for name in ("target", "ranking", "process")} | refused, False)


def _row(row: dict[str, Any]) -> list[Any]:
    """A candidate as a line of the table."""
    said = {"inside its own error": row["inside"], "shift at its limit": row["at_limit"], "the model is not sure": row["flagged"]}
    return [
        row["rank"],
        row["name"],
        row["method"],
        f"{row['distance']:.3f}",
        f"{row['error_bound']:.3f}" if row["error_bound"] else None,
        f"{row['r2']:.3f}",
        f"{row['shift']:+.1f}",
        f"{row['width']:.4g}",
        ", ".join(words for words, is_so in said.items() if is_so),
    ]

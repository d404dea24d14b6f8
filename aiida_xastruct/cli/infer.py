"""`aiida-xastruct infer`: which local structure made this spectrum?"""

from __future__ import annotations

from pathlib import Path

import click

from .group import with_profile
from .imports import MODES, columns_of, import_files
from .launch import launch, report, stored_or_file
from .output import echo_mapping, json_option

KINDS = ("XANES", "EXAFS", "both")


@click.command("infer")
@click.argument("spectra", nargs=-1, required=True, metavar="SPECTRUM...")
@click.option("-a", "--absorber", default="", help="Absorbing element, where the files do not say.")
@click.option("-e", "--edge", default="", help="Absorption edge.  [default: what the files say, else K up to Z 50 and L3 from Z 51]")
@click.option("-m", "--mode", type=click.Choice(MODES), help="Detectors that make mu.  [default: what is there]")
@click.option("-c", "--column", "columns", multiple=True, metavar="ROLE=NAME", help="Name of a column, e.g. i0=mon; may be repeated.")
@click.option("-g", "--group", "groups", multiple=True, help="Label of a spectrum in a file of several; may be repeated.")
@click.option("-k", "--kind", type=click.Choice(KINDS), help="Part to read.  [default: EXAFS where the scans reach that far]")
@click.option("-o", "--other", help="Stored spectrum of the other kind of the same site; both are read then.")
@click.option("-E", "--element", "elements", multiple=True, help="Element that the sample is known to hold; may be repeated.")
@click.option("-F", "--family", help="Label of the models.  [default: the family that ships with this package]")
@click.option("--daemon", is_flag=True, help="Submit to the daemon and return at once.")
@json_option
@with_profile
def infer(
    spectra: tuple[str, ...],
    absorber: str,
    edge: str,
    mode: str | None,
    columns: tuple[str, ...],
    groups: tuple[str, ...],
    kind: str | None,
    other: str | None,
    elements: tuple[str, ...],
    family: str | None,
    daemon: bool,
    as_json: bool,
) -> None:
    """Infer the nearest neighbours of the absorber from SPECTRUM: scans of one measurement, which are merged, or one stored node.

    Files are those that `aiida-xastruct import` takes: XDI and other columns of text, Athena projects.
    """
    from ..workflows.infer import InferWorkChain

    parameters = {"absorber": absorber, "edge": edge, "mode": mode or "", "columns": columns_of(columns), "groups": list(groups)}
    if len(spectra) == 1 and not Path(spectra[0]).exists():
        spectrum = stored_or_file(spectra[0], "aiida.data:xastruct.spectrum", None)
    else:
        spectrum = import_files(spectra, {name: value for name, value in parameters.items() if value})
    beside = None if other is None else stored_or_file(other, "aiida.data:xastruct.spectrum", None)
    outputs, node = launch(lambda: InferWorkChain.get_builder_for(spectrum, kind, list(elements) or None, family, beside), daemon)
    if outputs is None:
        return
    report(node)
    answer = outputs["answer"].get_dict()
    if as_json:
        echo_mapping(answer | {"pk": {"spectrum": spectrum.pk, "answer": outputs["answer"].pk, "process": node.pk}}, as_json)
        return
    low, high = answer["interval"]
    read = "XANES and EXAFS" if answer["kind"] == "both" else answer["kind"]
    content = {
        "read from": f"{answer['absorber']} {answer['edge']} {read}",
        "neighbours": " ".join(answer["neighbour_set"]),
        "probabilities": ", ".join(f"{element} {probability:.2f}" for element, probability in list(answer["neighbours"].items())[:8]),
        "mean distance": f"{answer['mean_distance']:.3f} angstrom, {100 * answer['coverage']:.0f} % interval {low:.3f} to {high:.3f}",
        "coordination": f"{answer['coordination']:.1f} (an estimate)",
        "in the domain": f"{'yes' if answer['in_domain'] else 'no'}: {answer['reason']}",
    }
    echo_mapping(content | {"spectrum": spectrum.pk, "answer": outputs["answer"].pk, "process": node.pk}, as_json)

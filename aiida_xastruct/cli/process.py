"""`aiida-xastruct process`: calibrate, clean and normalise a measured spectrum."""

from __future__ import annotations

from typing import Any

import click

from .candidates import spectrum_node
from .group import with_profile
from .imports import MODES
from .output import echo_mapping, json_option

RANGE = (float, float)


@click.command("process")
@click.argument("spectrum")
@click.option("-a", "--absorber", default="", help="Absorbing element of a file, where it does not say.")
@click.option("-e", "--edge", default="", help="Absorption edge of a file.  [default: what it says, else K up to Z 50 and L3 from Z 51]")
@click.option("-m", "--mode", type=click.Choice(MODES), help="Detectors that make mu of a file.  [default: what is there]")
@click.option("-r", "--reference", help="Spectrum of known edge on the same energies (a foil, the reference channel): node or file.")
@click.option("--reference-absorber", help="Absorber of the reference, where its file does not say.  [default: that of the spectrum]")
@click.option("--reference-mode", type=click.Choice(MODES), help="Detectors of a reference file.")
@click.option("--reference-energy", type=float, help="Where the reference's edge first rises, eV.  [default: the tabulated edge]")
@click.option("--energy-shift", type=float, help="Add this to the energies, eV.")
@click.option("-d", "--deglitch", is_flag=True, default=None, help="Take out the points that their neighbours contradict.")
@click.option("-g", "--glitch", "glitches", type=float, multiple=True, help="Take out the point at this energy, eV; may be repeated.")
@click.option("-C", "--composition", help="Formula of the sample, to undo over-absorption of a fluorescence.")
@click.option("--angle-in", type=float, help="Between beam and sample surface, degrees.  [default: 45]")
@click.option("--angle-out", type=float, help="Between sample surface and detector, degrees.  [default: 45]")
@click.option("--e0", type=float, help="Edge energy, eV.  [default: the steepest point of the edge]")
@click.option("--pre-edge", type=RANGE, help="Range of the pre-edge line, eV from E0.")
@click.option("--post-edge", type=RANGE, help="Range of the post-edge polynomial, eV from E0.")
@click.option("--post-degree", type=int, help="Degree of that polynomial.")
@click.option("--r-background", type=float, help="Below this R autobk takes what oscillates for background, angstrom.  [default: 1]")
@click.option("--k-weight", type=int, help="Power of k in background and transform.  [default: 2]")
@click.option("--k-range", type=RANGE, help="Range of the transform, 1/angstrom.  [default: 2 to the end of the data less 1]")
@click.option("--k-taper", type=float, help="Width of the slopes of its window, 1/angstrom.  [default: 1]")
@click.option("--window", help="Shape of those slopes.  [default: hanning]")
@json_option
@with_profile
def process(
    spectrum: str,
    absorber: str,
    edge: str,
    mode: str | None,
    reference: str | None,
    reference_absorber: str | None,
    reference_mode: str | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Process the measured SPECTRUM, a stored node or a file: energies, glitches, over-absorption, edge step, chi(k) and its transform.

    The raw spectrum stays as it is; the processed one is a new node, which `aiida-xastruct infer` reads too.
    """
    from ..calculations.functions.process_spectrum import process_spectrum
    from ..engine.errors import SpectrumError

    parameters = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if value not in (None, ())}
    raw = spectrum_node(spectrum, {"absorber": absorber, "edge": edge, "mode": mode})
    inputs: dict[str, Any] = {"spectrum": raw, "parameters": parameters}
    if reference is not None:
        inputs["reference"] = spectrum_node(reference, {"absorber": reference_absorber or raw.absorber, "mode": reference_mode})
    outputs: Any
    outputs, node = process_spectrum.run_get_node(**inputs)
    if not node.is_finished_ok:
        raise SpectrumError(str(node.exit_message))
    record = outputs["record"].get_dict()
    pks = {name: output.pk for name, output in outputs.items()}
    if as_json:
        echo_mapping(record | {"pk": pks}, True)
        return
    removed = record["points_removed"]
    rows = {
        "E0": f"{record['e0']:.2f} eV" + (f", energies moved by {record['energy_shift']:+.2f} eV" if record["energy_shift"] else ""),
        "edge step": f"{record['edge_step']:.4g}",
        "points taken out": ", ".join(f"{energy:.1f}" for energy in removed) + " eV" if removed else "none",
    }
    if reference := record.get("reference"):
        rows["reference"] = "{absorber} {edge}, whose first rise at {e0:.2f} eV was put at {known:.2f} eV".format(**reference)
    if over := record.get("over_absorption"):
        rows["over-absorption"] = f"undone for {over['composition']}: the white line is {over['white_line_raised_by']:.2f} times as high"
    if "k_range" in record:
        rows["transform"] = "k from {:.1f} to {:.1f} 1/angstrom".format(*record["k_range"])
    if record["remarks"]:
        rows["remarks"] = " ".join(record["remarks"])
    echo_mapping(rows | pks, False)

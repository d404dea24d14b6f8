"""`aiida-xastruct fit`: how much of each component does a mixture hold?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import click
from aiida.cmdline.params import types

from .candidates import candidates_of, spectrum_node, waiting
from .group import with_profile
from .launch import answering_code, launch, report
from .output import echo_mapping, echo_rows, json_option

if TYPE_CHECKING:
    from aiida.orm import AbstractCode, StructureData

    from ..data.spectrum import SpectrumData


@click.command("fit")
@click.argument("spectrum")
@click.argument("components", nargs=-1, required=True, metavar="COMPONENT...")
@click.option("-a", "--absorber", default="", help="Absorbing element, where the files do not say.")
@click.option("-e", "--edge", default="", help="Absorption edge.  [default: what the files say, else K up to Z 50 and L3 from Z 51]")
@click.option("-k", "--kind", type=click.Choice(["XANES", "EXAFS"]), default="XANES", show_default=True, help="Part that is fitted.")
@click.option("--sum-to-one/--free-sum", default=None, help="Hold the sum of the weights at one.  [default: of XANES, not of EXAFS]")
@click.option("--range", "limits", type=(float, float), help="eV from E0, or 1/angstrom.  [default: -20 45, or 3 12]")
@click.option("--align", type=click.Choice(["auto", "energy", "e0"]), help="How energies count.  [default: auto]")
@click.option("--max-shift", type=click.FloatRange(0.0, 10.0), help="eV that each component may be moved by.  [default: 0]")
@click.option("-F", "--family", help="Label of the models, for crystals.  [default: the family that ships with this package]")
@click.option("-X", "--code", type=types.CodeParamType(), help="FEFF.  [default: the one that comes with this package, on this machine]")
@click.option("--fallback", type=click.Choice(["on", "off", "always"]), help="When FEFF answers.  [default: on, where the model is unsure]")
@json_option
@with_profile
def fit(
    spectrum: str,
    components: tuple[str, ...],
    absorber: str,
    edge: str,
    kind: str,
    sum_to_one: bool | None,
    limits: tuple[float, float] | None,
    align: str | None,
    max_shift: float | None,
    family: str | None,
    code: AbstractCode | None,
    fallback: str | None,
    as_json: bool,
) -> None:
    """Fit SPECTRUM by a sum of COMPONENTs with weights of at least zero.

    Both are stored spectra (pk, UUID or label) or files, as for `compare`. A COMPONENT may be a crystal, whose spectrum is predicted.

    By `--align auto` measured XANES keep their energies, which must be on one scale; computed ones count from their E0.
    """
    from aiida.orm import Dict

    from ..calculations.functions.fit_combination import fit_combination
    from ..engine.errors import XastructError

    target = spectrum_node(spectrum, {"absorber": absorber, "edge": edge})
    structures, spectra = candidates_of(components, {"absorber": target.absorber, "edge": target.edge})
    inputs = {"kind": kind, "family": family, "code": code, "fallback": fallback}
    for name, structure in structures.items():
        with waiting(f"predicting {name}"):
            spectra[name] = _predicted(structure, target, inputs)
    given = {"sum_to_one": sum_to_one, "align": align, "largest_shift": max_shift}
    given |= dict(zip(("low", "high"), limits or (None, None), strict=True))
    parameters = {"kind": kind} | {name: value for name, value in given.items() if value is not None}
    with waiting(f"fitting {len(spectra)} components"):
        _, node = fit_combination.run_get_node(target=target, parameters=Dict(parameters), **cast("dict[str, Any]", spectra))
    if not node.is_finished_ok:
        raise XastructError(str(node.exit_message))
    found = node.outputs.fit.get_dict()
    pks = {"target": target.pk, "fit": node.outputs.fit.pk, "curves": node.outputs.curves.pk, "process": node.pk}
    if as_json:
        echo_mapping(found | {"pk": pks}, as_json)
        return
    rows = [
        [row["name"], f"{row['weight']:.3f}", f"{row['uncertainty']:.3f}", f"{100 * row['fraction']:.1f} %", f"{row['shift']:+.2f}"]
        for row in found["components"]
    ]
    unit, compared = ("eV from E0", "flat mu") if kind == "XANES" else ("1/angstrom", "k^2 chi(k)")
    low, high = found["range"]
    echo_mapping({"fitted": f"{found['absorber']} {found['edge']} {compared}, {low:g} to {high:g} {unit}, {found['points']} points"}, False)
    echo_rows(("component", "weight", "uncertainty", "fraction", "shift (eV)"), rows, False)
    content = {"sum of weights": f"{found['total']:.3f}", "R factor": f"{found['r_factor']:.3g}", "rms difference": f"{found['rms']:.3g}"}
    echo_mapping(content | ({"sigma2": f"{found['disorder']:g} angstrom^2"} if kind == "EXAFS" else {}) | pks, False)


def _predicted(structure: StructureData, target: SpectrumData, inputs: dict[str, Any]) -> SpectrumData:
    """The spectrum of the target's element in a crystal.

    Raises:
        XastructError: if it gets none.
    """
    from ..workflows.predict import PredictWorkChain

    code = answering_code(inputs["code"], inputs["fallback"] != "off")
    plain = {**inputs, "code": code, "absorber": target.absorber}
    outputs, node = launch(lambda: PredictWorkChain.get_builder_from_protocol(structure, **plain), False)
    report(node)
    spectrum: SpectrumData = outputs["spectrum"]
    return spectrum

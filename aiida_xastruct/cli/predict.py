"""`aiida-xastruct predict`: which spectrum does this crystal have?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from aiida.cmdline.params import types

from .group import with_profile
from .launch import engine_inputs, engine_options, launch, report
from .output import echo_mapping, json_option
from .structures import structure_node

if TYPE_CHECKING:
    from aiida.orm import AbstractCode


@click.command("predict")
@click.argument("structure")
@click.option("-a", "--absorber", help="Element whose inequivalent sites are answered.")
@click.option("-s", "--site", "sites", type=int, multiple=True, help="Index of a site, from 0, in place of --absorber; may be repeated.")
@click.option("-k", "--kind", type=click.Choice(["XANES", "EXAFS"]), help="Part of the spectrum.  [default: XANES]")
@click.option("-F", "--family", help="Label of the models.  [default: the family that ships with this package]")
@click.option("-X", "--code", type=types.CodeParamType(), help="FEFF.  [default: the one that comes with this package, on this machine]")
@click.option("--fallback", type=click.Choice(["on", "off", "always"]), help="When FEFF answers.  [default: on, where the model is unsure]")
@click.option("--protocol", type=click.Choice(["fast", "balanced", "stringent"]), help="Of the engine.  [default: fast]")
@engine_options("feff", "xspectra")
@click.option("--daemon", is_flag=True, help="Submit to the daemon and return at once.")
@json_option
@with_profile
def predict(
    structure: str,
    absorber: str | None,
    sites: tuple[int, ...],
    kind: str | None,
    family: str | None,
    code: AbstractCode | None,
    fallback: str | None,
    protocol: str | None,
    engine: str | None,
    pw_code: AbstractCode | None,
    xspectra_code: AbstractCode | None,
    core_holes: str | None,
    daemon: bool,
    as_json: bool,
) -> None:
    """Predict the spectrum of one element in STRUCTURE.

    STRUCTURE is a file (CIF, POSCAR, extended xyz, or another that pymatgen reads), a node (pk, UUID, label), a mineral or formula of the
    AMCSD or amcsd:ID, an id of the Materials Project (mp-...), or one of an OPTIMADE database (provider:id or its address).

    A learned model answers; where it is unsure, FEFF does, or XSpectra if asked for, and the answer says so.
    """
    from ..workflows.predict import PredictWorkChain

    crystal = structure_node(structure)
    codes = engine_inputs(engine, code, pw_code, xspectra_code, core_holes, fallback != "off")
    outputs, node = launch(
        lambda: PredictWorkChain.get_builder_from_protocol(
            crystal, absorber, list(sites) or None, kind=kind, protocol=protocol, fallback=fallback, family=family, **codes
        ),
        daemon,
    )
    if outputs is None:
        return
    report(node)
    answer = outputs["answer"].get_dict()
    content = {name: answer[name] for name in ("absorber", "edge", "kind", "method", "uncertainty", "threshold", "reason")}
    pks = {"spectrum": outputs["spectrum"].pk, "answer": outputs["answer"].pk, "process": node.pk}
    if as_json:
        echo_mapping(answer | {"pk": pks}, as_json)
        return
    content |= {"flagged": " ".join(answer["flagged"]), **pks}
    echo_mapping(content | {f"spectrum of {name}": spectrum.pk for name, spectrum in outputs["spectra"].items()}, as_json)

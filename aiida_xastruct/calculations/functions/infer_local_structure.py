"""From a spectrum to the nearest neighbours of its absorber, by learned models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiida.engine import ExitCode, calcfunction
from aiida.orm import Dict, List, Str

from ...data.model import ModelData
from ...data.spectrum import SpectrumData
from ...engine import ALGORITHM_VERSION
from ...engine.errors import SpectrumError, XastructError

if TYPE_CHECKING:
    from ...engine.answers import InverseAnswer
    from ...engine.spectrum import Spectrum

#: The versions of both questions as one text, e.g. `neighbours 1, distance 1`.
INVERSE_VERSION = ", ".join(f"{task} {ALGORITHM_VERSION[task]}" for task in ("neighbours", "distance"))


@calcfunction
def infer_local_structure(
    spectrum: SpectrumData,
    kind: Str,
    neighbours: ModelData,
    distance: ModelData,
    other: SpectrumData = None,  # type: ignore[assignment]
    neighbours_xanes: ModelData = None,  # type: ignore[assignment]
    distance_xanes: ModelData = None,  # type: ignore[assignment]
    elements: List = None,  # type: ignore[assignment]
    algorithm_version: Str = INVERSE_VERSION,  # type: ignore[assignment]
) -> Any:
    """Neighbour elements and mean distance of the first shell behind a spectrum, or behind XANES and EXAFS together.

    Args:
        spectrum: measured, by FEFF or learned.
        kind: part of the spectrum to read: XANES (the edge), EXAFS (chi(k)) or both; a measured scan that covers both can be read each way.
        neighbours: model of this task and kind, of EXAFS where both are read.
        distance: model of this task and kind, of EXAFS where both are read.
        other: where both are read, and `spectrum` was computed and holds one of them: the spectrum of the same site that holds the other.
        neighbours_xanes: where both are read, the model of XANES.
        distance_xanes: where both are read, the model of XANES.
        elements: symbols of the elements that the sample is known to hold; any if left out.
        algorithm_version: of both tasks, so that caches never mix two; leave it out.

    Returns:
        `Dict` with the keys of `describe`; exit status 310 with one sentence where the spectrum cannot be read.
    """
    from ...engine.errors import ModelError
    from ...engine.joint import infer_both
    from .bundle import load_bundle

    try:
        if algorithm_version.value != INVERSE_VERSION:
            asked = algorithm_version.value
            raise ModelError(f"{asked!r} was asked for, this installation computes {INVERSE_VERSION!r}; leave the input out.")
        present = None if elements is None else [str(element) for element in elements.get_list()]
        if kind.value == "both":
            if neighbours_xanes is None or distance_xanes is None:
                raise ModelError(
                    "XANES and EXAFS are to be read, and models of XANES are lacking; give neighbours_xanes and distance_xanes."
                )
            xanes, exafs = two_kinds(spectrum.to_engine(), (spectrum if other is None else other).to_engine())
            family = load_bundle(neighbours, distance, neighbours_xanes, distance_xanes)
            answer = infer_both(family, xanes, exafs, present)
        else:
            question = of_kind(spectrum.to_engine(), kind.value)
            answer = load_bundle(neighbours, distance).infer(question, elements_present=present)
    except XastructError as error:
        return ExitCode(310, str(error))
    return Dict(describe(answer) | {"absorber": spectrum.absorber, "edge": spectrum.edge, "kind": kind.value, "elements_given": present})


def of_kind(spectrum: Spectrum, kind: str) -> Spectrum:
    """The spectrum read as another kind, where it holds that.

    Raises:
        SpectrumError: if it was computed for another kind only: FEFF's EXAFS has no edge, and its XANES ends before chi(k) begins.
    """
    from dataclasses import replace

    if spectrum.kind == kind:
        return spectrum
    if spectrum.method != "measured":
        raise SpectrumError(f"the spectrum was computed as {spectrum.kind}; read it as that, or compute {kind}.")
    return replace(spectrum, kind=kind)  # type: ignore[arg-type]


def two_kinds(spectrum: Spectrum, other: Spectrum) -> tuple[Spectrum, Spectrum]:
    """XANES and EXAFS from two spectra, each of which may be measured and hold both.

    Raises:
        SpectrumError: if both were computed for one kind.
    """
    first, second = (spectrum, other) if spectrum.kind == "XANES" or other.kind == "EXAFS" else (other, spectrum)
    return of_kind(first, "XANES"), of_kind(second, "EXAFS")


def describe(answer: InverseAnswer) -> dict[str, Any]:
    """An answer as plain values: probabilities most likely first, distances in angstrom.

    `neighbour_set` answers best; `conformal_set` holds all true neighbours, and `interval` the true mean distance, in `coverage` of cases.
    """
    ranked = sorted(answer.neighbours.items(), key=lambda pair: (-pair[1], pair[0]))
    return {
        "neighbours": {element: float(probability) for element, probability in ranked},
        "neighbour_set": [str(element) for element in answer.neighbour_set],
        "conformal_set": [str(element) for element in answer.conformal_set],
        "mean_distance": float(answer.mean_distance),
        "interval": [float(limit) for limit in answer.interval],
        "coverage": float(answer.coverage),
        "nearest_distance": float(answer.nearest_distance),
        "coordination": float(answer.coordination),
        "in_domain": bool(answer.in_domain),
        "reason": str(answer.reason),
    }

"""Which of a few candidates has a measured spectrum?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from aiida.engine import ExitCode, calcfunction
from aiida.orm import Dict, Str

from ...data.spectrum import SpectrumData
from ...engine.errors import XastructError
from ...engine.ranking import RANKING_VERSION

Plain = TypeVar("Plain")


@calcfunction
def rank_candidates(
    target: SpectrumData,
    parameters: Dict,
    ranking_version: Str = RANKING_VERSION,  # type: ignore[assignment]
    **candidates: Any,
) -> Any:
    """Compare spectra of candidates with a target and put them in order; see `aiida_xastruct.engine.candidates`.

    Args:
        target: a spectrum, measured as a rule.
        parameters: `kind`, and `largest_shift` and `broadest` in eV where other than usual; `lost`, a sentence for each candidate that
            got no spectrum, by its name.
        ranking_version: of the distances, so that caches never mix two; leave it out.
        candidates: `spectra`, one `SpectrumData` by the name of each candidate; `answers`, by the same names, what `xastruct.predict` said
            of those that it answered, whose error bound is taken for a learned spectrum. Where there is none, the spectrum's band is.

    Returns:
        `Dict` with `absorber`, `edge`, `kind`, `candidates` (the best first, the fields of `aiida_xastruct.engine.candidates.Ranked`, and
        `flagged`: whether a model answered that was not sure), `refused` (a sentence for each that cannot be compared) and the bounds of
        shift and broadening. Exit status 310 with one sentence where nothing can be compared.
    """
    from ...engine.candidates import Candidate, Settings, describe, rank

    spectra, answers = candidates.get("spectra", {}), candidates.get("answers", {})
    try:
        if ranking_version.value != RANKING_VERSION:
            raise XastructError(f"ranking version {ranking_version.value!r} was asked for, this is {RANKING_VERSION!r}; leave it out.")
        content = parameters.get_dict()
        lost = content.pop("lost", {})
        settings = read_settings(Settings, content)
        said = {name: node.get_dict() for name, node in answers.items()}
        bounds = {name: error_bound(answer) for name, answer in said.items()}
        given = {name: Candidate(node.to_engine(), node.band, bounds.get(name)) for name, node in spectra.items()}
        ranking = rank(target.to_engine(), given, settings)
    except XastructError as error:
        return ExitCode(310, str(error))
    described = describe(ranking, settings)
    for row in described["candidates"]:
        answer = said.get(row["name"], {})
        row |= {"method": answer.get("method", row["method"]), "flagged": bool(answer.get("flagged"))}
    described["refused"] |= lost
    return Dict({"absorber": target.absorber, "edge": target.edge, **described})


def read_settings(cls: type[Plain], content: Mapping[str, Any]) -> Plain:
    """Settings of the engine, of a ranking or a fit, from plain values.

    Raises:
        XastructError: if there is none of that name, or a value is out of its range.
    """
    from dataclasses import fields

    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    if unknown := sorted(set(content) - set(names)):
        raise XastructError(f"parameters holds {unknown[0]!r}; what can be set is {', '.join(names)}.")
    return cls(**{"kind": "XANES", **content})


def error_bound(answer: Mapping[str, Any]) -> float | None:
    """What the error of the mean over the sites stays below: the mean of the learned sites' bounds. FEFF's sites state none.

    The root mean square of a sum is at most the sum of the root mean squares.
    """
    sites = list(answer["sites"].values())
    learned = [site for site in sites if site["method"] == "ml"]
    if not learned:
        return None
    return float(sum(site["multiplicity"] * site["error_bound"] for site in learned) / sum(site["multiplicity"] for site in sites))

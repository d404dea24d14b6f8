"""From the answers for an element's sites, learned or by a reference, to the one for the crystal."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, calcfunction
from aiida.orm import Dict

from ...data.spectrum import SpectrumData
from ...engine.errors import XastructError


@calcfunction
def combine_answers(decision: Dict, model_answer: Dict = None, **spectra: SpectrumData) -> Any:  # type: ignore[assignment]
    """Mean spectrum of an element over its sites, and a record of who answered for each and why.

    Args:
        decision: `sites`, by name (`site_<index>`): `method`, `reason` and `multiplicity` of each; and anything else that is to
            stand on the answer.
        model_answer: what `predict_spectra` said about each site; left out where the model had no answer at all.
        spectra: one a site, by the same names.

    Returns:
        `spectrum`: `SpectrumData`, the mean weighted by multiplicity (`engine.averaging.average`), flat; `answer`: `Dict` with `method`
        (ml, feff, xspectra or mixed), `uncertainty` (mean of the learned sites', weighted; null where a reference answered all),
        `threshold`, `reason`, `flagged` sites, and `decision` with what the model said added to each site. Exit status 310 with one
        sentence where the spectra cannot be averaged.
    """
    from ...engine.averaging import average

    content = decision.get_dict()
    said = {} if model_answer is None else model_answer.get_dict()
    sites = {name: {**said.get(name, {}), **site} for name, site in content.pop("sites").items()}
    names = sorted(spectra)
    weights = [int(sites[name]["multiplicity"]) for name in names]
    try:
        mean, band = average([spectra[name].to_engine() for name in names], weights, [spectra[name].band for name in names])
        spectrum = SpectrumData.from_engine(mean, multiplicity=sum(weights), band=band)
    except XastructError as error:
        return ExitCode(310, str(error))
    summary = {"absorber": mean.absorber, "edge": mean.edge, "kind": mean.kind}
    return {"spectrum": spectrum, "answer": Dict({**summary, **summarise(sites), **content, "sites": sites})}


def summarise(sites: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What holds for all sites together: method, uncertainty, threshold, reason, and which sites are flagged."""
    methods = {site["method"] for site in sites.values()}
    learned = [site for site in sites.values() if site["method"] == "ml"]
    count = sum(site["multiplicity"] for site in learned)
    reasons: dict[str, list[str]] = {}
    for name, site in sites.items():
        reasons.setdefault(site["reason"], []).append(name)
    many = len(reasons) > 1
    return {
        "method": "mixed" if len(methods) > 1 else methods.pop(),
        "uncertainty": sum(site["multiplicity"] * site["uncertainty"] for site in learned) / count if learned else None,
        "threshold": next((site["threshold"] for site in sites.values() if "threshold" in site), None),
        "reason": " ".join(f"{', '.join(names)}: {reason}" if many else reason for reason, names in reasons.items()),
        "flagged": sorted(name for name, site in sites.items() if site.get("flagged")),
    }

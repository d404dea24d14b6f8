"""From a crystal to the spectra of some of its sites, by a learned model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiida.engine import ExitCode, calcfunction
from aiida.orm import Dict, List, Str, StructureData

from ...data.model import ModelData
from ...data.spectrum import SpectrumData
from ...engine import ALGORITHM_VERSION
from ...engine.errors import StructureError, XastructError

if TYPE_CHECKING:
    from ...engine.answers import ForwardAnswer


@calcfunction
def predict_spectra(
    structure: StructureData, sites: List, kind: Str, model: ModelData, algorithm_version: Str = ALGORITHM_VERSION["forward"]  # type: ignore[assignment]
) -> Any:
    """Spectra of sites by a forward model.

    Args:
        structure: an ordered crystal.
        sites: indices of the absorbing sites, from 0. Each answer's multiplicity is the number of sites equivalent to it.
        kind: XANES or EXAFS.
        model: a forward model of this kind.
        algorithm_version: of this task, so that caches never mix two; leave it out.

    Returns:
        `spectra`: a `SpectrumData` with band for each site, named `site_<index>`; `answer`: `Dict` with what the model says about each
        (keys of `describe`, by the same names). Exit status 310 with one sentence where the question cannot be answered.
    """
    from ...engine.models.calibration import ForwardCalibration
    from ...engine.origin import origin_of
    from ...engine.point_band import with_share
    from ...engine.structure import check_structure, multiplicities
    from .bundle import check_version, load_bundle

    try:
        check_version("forward", algorithm_version.value)
        crystal = structure.get_pymatgen()
        check_structure(crystal)
        indices = sites.get_list()
        if not indices or not all(type(site) is int for site in indices):
            raise StructureError(f"sites is {indices}; give whole numbers from 0 on, at least one.")
        count = multiplicities(crystal, indices)
        bundle = load_bundle(model)
        answers = bundle.predict(crystal, indices, kind.value)
        promises = bundle.model("forward", kind.value).promises(ForwardCalibration)
        origins = [origin_of(crystal, site) for site in indices]
    except XastructError as error:
        return ExitCode(310, str(error))
    names = [f"site_{site}" for site in indices]
    spectra = {
        name: SpectrumData.from_engine(with_share(answer.spectrum, promises), site=site, multiplicity=n, band=answer.band, **origin)
        for name, site, n, answer, origin in zip(names, indices, count, answers, origins, strict=True)
    }
    return {"spectra": spectra, "answer": Dict({name: describe(answer) for name, answer in zip(names, answers, strict=True)})}


def describe(answer: ForwardAnswer) -> dict[str, Any]:
    """What a model says about its own spectrum, as plain values; errors are root mean squares of flat mu, or of k^2 chi in 1/angstrom^2.

    The error stays below `error_bound`, and the whole spectrum within its band, in `coverage` of cases.
    """
    return {
        "absorber": answer.spectrum.absorber,
        "edge": answer.spectrum.edge,
        "uncertainty": float(answer.uncertainty),
        "error_bound": float(answer.error_bound),
        "coverage": float(answer.coverage),
        "threshold": float(answer.threshold),
        "domain_score": float(answer.domain_score),
        "in_domain": bool(answer.in_domain),
        "needs_reference": bool(answer.needs_reference),
        "reason": str(answer.reason),
    }

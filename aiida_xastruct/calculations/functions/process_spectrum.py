"""From a raw measurement to a calibrated, normalised spectrum and its fine structure, every parameter on record."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, calcfunction
from aiida.orm import ArrayData, Dict

from ...data.spectrum import SpectrumData
from ...engine.errors import XastructError


@calcfunction
def process_spectrum(spectrum: SpectrumData, parameters: Dict, reference: SpectrumData | None = None) -> Any:
    """Process a measured spectrum; see `engine.processing.process`.

    Args:
        spectrum: of method measured, normalisation raw.
        parameters: fields of `engine.processing.ProcessingParameters`; `{}` for what models see.
        reference: spectrum of known edge on the same energy scale, which calibrates it: a foil, or the reference channel.

    Returns:
        `spectrum`: `SpectrumData` of normalisation flat, E0 filled in. `record`: `Dict` of all parameters and of what was found. Where the
        data reach 100 eV above the edge, `fine_structure`: `ArrayData` with `k` (m,) in 1/angstrom and `chi` (m,), and of its Fourier
        transform `r` (n,) in angstrom, `chi_r_real` and `chi_r_imaginary` (n,). Exit status 310 with one sentence where it cannot be done.
    """
    from ...engine.processing import ProcessingParameters, process

    try:
        options = ProcessingParameters.from_dict(parameters.get_dict())
        done = process(spectrum.to_engine(), options, None if reference is None else reference.to_engine())
        flat = SpectrumData.from_engine(done.spectrum, site=spectrum.site, multiplicity=spectrum.multiplicity, **spectrum.origin)
    except XastructError as error:
        return ExitCode(310, str(error))
    outputs: dict[str, Any] = {"spectrum": flat, "record": Dict(done.record)}
    if len(done.k):
        arrays = {"k": done.k, "chi": done.chi, "r": done.r, "chi_r_real": done.chi_r.real, "chi_r_imaginary": done.chi_r.imag}
        outputs["fine_structure"] = ArrayData({name: array.copy() for name, array in arrays.items()})
    return outputs

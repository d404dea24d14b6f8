"""One spectrum, or a pair that is to be compared, from files of any kind that `readers` knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .readers import columns, exports, feff, read_measurement
from .scans import ScanParameters
from .spectrum import Spectrum


def stated_edge(content: bytes) -> tuple[str, str]:
    """Absorber and edge that the head of a text file names; empty where it does not."""
    text = content.decode("utf-8", errors="replace")
    found = (module.stated_edge(text) for module in (exports, feff, columns))
    return next((edge for edge in found if edge[0]), ("", ""))


def read_spectrum(content: bytes, name: str, parameters: ScanParameters | None = None, flat: bool = False) -> Spectrum:
    """The spectrum in a file.

    Args:
        content: of the file.
        name: of the file, for messages.
        parameters: absorber, edge, kind, columns and groups, where the file does not say.
        flat: mu is normalised already, in files that do not say.

    Raises:
        SpectrumError: if it is no spectrum, or does not say which element absorbs.
        FeffError: if an output of FEFF is damaged.
    """
    spectrum = read_measurement([(name, content)], parameters)
    return replace(spectrum, normalisation="flat") if flat and spectrum.normalisation == "raw" else spectrum


def read_pair(
    given: Sequence[Spectrum | tuple[bytes, str]], parameters: ScanParameters | None = None, flat: bool = False
) -> tuple[Spectrum, Spectrum]:
    """Two spectra that are to be compared: where one file does not say its absorber and edge, they are the other's.

    Args:
        given: two spectra, each as it is or as the content and name of a file.
        parameters: as for `read_spectrum`.
        flat: as for `read_spectrum`.

    Raises:
        SpectrumError: if one cannot be read.
    """
    parameters = parameters or ScanParameters()
    edges = [(item.absorber, item.edge) if isinstance(item, Spectrum) else stated_edge(item[0]) for item in given]
    spectra = []
    for item, own, other in zip(given, edges, reversed(edges), strict=True):
        if isinstance(item, Spectrum):
            spectra.append(item)
            continue
        asked = (parameters.absorber, parameters.edge)
        absorber, edge = (first or second or third for first, second, third in zip(asked, own, other, strict=True))
        spectra.append(read_spectrum(*item, replace(parameters, absorber=absorber, edge=edge), flat))
    first, second = spectra
    return first, second

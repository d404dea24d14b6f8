"""X-ray absorption documents of the Materials Project, as its API and `mp-api` give them (Mathew et al., Sci. Data 5, 180151 (2018)).

Its spectra were computed by FEFF 9: XANES, EXAFS, or at K edges both joined (`XAFS`); of one site, or the mean over an element's sites.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import SpectrumError, StructureError, XastructError
from ..scans import Reading, ScanParameters, chosen
from ..spectrum import Kind, Spectrum
from .text import as_text

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: A joined spectrum is read by its edge; as EXAFS if the parameters ask for that.
_KINDS: dict[str, Kind] = {"XANES": "XANES", "EXAFS": "EXAFS", "XAFS": "XANES"}

#: Environment variables that hold a key of the Materials Project, as mp-api and pymatgen read them.
KEYS = ("MP_API_KEY", "PMG_MAPI_KEY")


def recognise(content: bytes, name: str) -> bool:
    """Whether this is JSON that holds such documents."""
    return content.lstrip()[:1] in (b"{", b"[") and b'"absorbing_element"' in content and b'"spectrum_type"' in content


def read(content: bytes, name: str, parameters: ScanParameters) -> list[Reading]:
    """The spectra of one document, of a list of them, or of an answer of the API (`data`).

    Documents that are not of the absorber, edge and kind of the parameters are passed over, and `groups` chooses by `spectrum_id`. What is
    known of the crystal comes in `settings["crystal"]`: site, hash and first shell.

    Raises:
        SpectrumError: if a document is damaged, its site is not of the absorber, or none is left.
    """
    try:
        given = json.loads(as_text(content, name))
    except (ValueError, RecursionError) as error:
        raise SpectrumError(f"{name} is damaged JSON ({error}); fetch it again.") from error
    documents = list(_documents(given))
    labels = [_label(document) for document in documents]
    kept = [documents[index] for index in chosen([(label, label) for label in labels], parameters.groups, name)]
    wanted = (parameters.absorber, parameters.edge, parameters.kind)
    found = [document for document in kept if all(not asked or asked in own for asked, own in zip(wanted, _of_what(document), strict=True))]
    if not found:
        has = ", ".join(" ".join((absorber, edge, kinds[0])) for absorber, edge, kinds in map(_of_what, kept))
        raise SpectrumError(f"{name} has no spectrum of {' '.join(filter(None, wanted)) or 'any kind'}; it has {has or 'none'}.")
    return [_spectrum(document, name, parameters) for document in found]


def access(what: str, error: type[XastructError]) -> tuple[str, Any]:
    """The key of the Materials Project, and the class of mp-api that takes it.

    Args:
        what: is to be fetched, for the message.
        error: kind of the message.

    Raises:
        XastructError: if either is missing.
    """
    key = next((os.environ[name] for name in KEYS if os.environ.get(name)), None)
    if key is None:
        raise error(f"there is no key of the Materials Project in {KEYS[0]}; get one at materialsproject.org/api and set it.")
    try:
        from mp_api.client import MPRester
    except ImportError as missing:
        raise error(f"{what} of the Materials Project are fetched by mp-api; `pip install mp-api` installs it.") from missing
    return key, MPRester


def fetch(material_id: str) -> bytes:
    """The documents of a material of the Materials Project, as `read` takes them; needs `mp-api` and a key in `MP_API_KEY`.

    Raises:
        SpectrumError: if `mp-api` or the key is missing, the material has no spectra, or the service does not answer.
    """
    key, client = access("spectra", SpectrumError)
    try:
        with client(key, use_document_model=False, mute_progress_bars=True) as rester:
            documents = rester.materials.xas.search(task_ids=[material_id])
    except Exception as error:  # network, service and key fail in classes of requests, of mp-api and of pydantic
        raise SpectrumError(f"the Materials Project did not give the spectra of {material_id}: {' '.join(str(error).split())}") from error
    if not documents:
        raise SpectrumError(f"the Materials Project has no spectra of {material_id}; look at its page for those that it has.")
    return json.dumps([dict(document) for document in documents], default=str).encode()


def _documents(given: Any) -> Iterator[Mapping[str, Any]]:
    """Documents, each with the fields of its spectrum beside its own."""
    if isinstance(given, Mapping) and isinstance(given.get("data"), list):
        given = given["data"]
    for item in given if isinstance(given, list) else [given]:
        if isinstance(item, Mapping):
            inner = item.get("spectrum")
            yield {**item, **(inner if isinstance(inner, Mapping) else {})}


def _text(value: Any) -> str:
    """An element or enumeration, which may come as its name or as a dictionary that holds it."""
    return str((value.get("element") or value.get("value") or "") if isinstance(value, Mapping) else value or "")


def _of_what(document: Mapping[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    """Absorber, edge, and the kinds that a spectrum can be read as, its own first."""
    kind = _KINDS.get(_text(document.get("spectrum_type")).upper())
    kinds = ("XANES", "EXAFS") if _text(document.get("spectrum_type")).upper() == "XAFS" else (kind or "",)
    return _text(document.get("absorbing_element")), _text(document.get("edge")), kinds


def _label(document: Mapping[str, Any]) -> str:
    absorber, edge, _ = _of_what(document)
    identifier = _text(document.get("task_id")) or _text(document.get("material_id"))
    made = "-".join(filter(None, (identifier, _text(document.get("spectrum_type")), absorber, edge)))
    return _text(document.get("spectrum_id")) or made


def _spectrum(document: Mapping[str, Any], name: str, parameters: ScanParameters) -> Spectrum:
    label = f"{name}: {_label(document)}"
    absorber, edge, kinds = _of_what(document)
    if not absorber or not edge or not kinds[0]:
        raise SpectrumError(f"{label} does not say absorbing_element, edge and spectrum_type (XANES, EXAFS, XAFS); fetch all its fields.")
    try:
        energy, mu = (np.array(document[key], dtype=np.float64) for key in ("x", "y"))
    except (KeyError, TypeError, ValueError) as error:
        raise SpectrumError(f"{label} has no arrays x and y of numbers; fetch all its fields.") from error
    if energy.ndim != 1 or energy.shape != mu.shape or energy.size < 10:
        raise SpectrumError(f"{label} has arrays x and y of shapes {energy.shape} and {mu.shape}; fetch it again.")
    # A joined spectrum repeats the energy at which its parts meet.
    energy, first = np.unique(energy, return_index=True)
    kind = parameters.kind or kinds[0]
    computed_from_edge = _text(document.get("spectrum_type")).upper() == "EXAFS"
    try:
        return Spectrum(
            energy=energy,
            mu=mu[first],
            absorber=absorber,
            edge=edge,
            kind=kind,  # type: ignore[arg-type]
            method="feff",
            energy_reference="feff",
            normalisation="feff_xsedge50",
            e0=float(energy[0]) if computed_from_edge else None,  # FEFF's EXAFS begins at k = 0
            settings={
                "files": [name],
                "group": _label(document),
                "source": "Materials Project",
                "material_id": _text(document.get("material_id")) or _text(document.get("task_id")),
                "spectrum_type": _text(document.get("spectrum_type")),
                "crystal": _crystal(document, absorber, label),
            },
        )
    except SpectrumError as error:
        raise SpectrumError(f"{label}: {error}") from error


def _crystal(document: Mapping[str, Any], absorber: str, label: str) -> dict[str, Any]:
    """Site, structure hash and first shell, as far as the document tells; the site is None for a mean over sites.

    Raises:
        SpectrumError: if the structure is damaged, lacks the absorber or the site, or has another element there.
    """
    site = document.get("absorbing_index")
    if not isinstance(document.get("structure"), Mapping):
        raise SpectrumError(f"{label} comes without its structure, so that nothing tells which site absorbs; fetch all its fields.")
    structure = _structure(document["structure"], label)
    symbols = [str(atom.specie.symbol) for atom in structure]
    if absorber not in symbols:
        raise SpectrumError(
            f"{label} is of {absorber}, which its structure {structure.composition.reduced_formula} does not hold; do not use it."
        )
    from ..origin import origin_of
    from ..sitecache import structure_hash

    if site is None:
        return {"site": None, "structure_hash": structure_hash(structure)}
    if isinstance(site, bool) or not isinstance(site, int) or not 0 <= site < len(symbols):
        raise SpectrumError(f"{label} names site {site}, and its structure has the sites 0 to {len(symbols) - 1}; do not use it.")
    if symbols[site] != absorber:
        raise SpectrumError(f"{label} says that {absorber} absorbs at site {site}, where its structure has {symbols[site]}; do not use it.")
    return {"site": site, **origin_of(structure, site)}


def _structure(given: Mapping[str, Any], label: str) -> Structure:
    """Lattice and sites of a structure; pymatgen's own loader imports the classes that a document names, which a stranger's must not."""
    from ..structure import check_structure, structure_of

    try:
        structure = structure_of(given)
        check_structure(structure)
    except StructureError as error:
        raise SpectrumError(f"{label} has a structure that cannot be read ({error}); fetch it again.") from error
    return structure

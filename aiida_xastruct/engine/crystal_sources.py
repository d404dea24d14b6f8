"""Crystals by name: from the AMCSD that comes with larixite, from the Materials Project, and from any database that speaks OPTIMADE.

amcsd:11639   tenorite   CuO          AMCSD, offline; a formula must be that of one mineral
mp-704645                             Materials Project, with a key
odbx:1234   https://.../structures/1  OPTIMADE (Andersen et al., Sci. Data 8, 217 (2021))
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from pymatgen.core import Composition, Structure

from .errors import StructureError
from .readers.materials_project import access
from .reference.sources import AmcsdSource, open_source
from .structure import check_structure, make_structure, of_elements

#: What a database may send, bytes, and may take for it, seconds.
MAX_BYTES, TIMEOUT = 8_000_000, 30.0

#: Sites of a crystal from a database at most; FEFF and the models see a few hundred.
MAX_SITES = 2000

_MATERIAL = re.compile(r"mp-\d+")
_AMCSD = re.compile(r"amcsd[:-](\w+)", re.IGNORECASE)
_OPTIMADE = re.compile(r"(?:optimade:)?([a-z][\w.-]*):(\S+)")
_ELEMENT = re.compile(r"[A-Z][a-z]?")
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)

#: Where an entry's title says that it was measured far from ambient conditions.
_EXTREME = re.compile(r"\b[TP]\s*=|\d\s*(?:GPa|kbar|kb|MPa|K)\b|\bdeg", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """A crystal and where it came from.

    Attributes:
        structure: ordered, checked.
        name: for people, such as `tenorite, AMCSD 11639`.
        source: `db_name`, `id` and, where there are, `db_uri`, `uri` and `version`: what AiiDA's `Data.source` takes.
    """

    structure: Structure
    name: str
    source: Mapping[str, str]


def is_address(text: str) -> bool:
    """Whether a text has the form of an id of a database: amcsd:ID, mp-ID, provider:ID or an address."""
    return any(pattern.match(text) for pattern in (_AMCSD, _ADDRESS)) or any(p.fullmatch(text) for p in (_MATERIAL, _OPTIMADE))


def find(text: str) -> Found:
    """The crystal that a text names.

    Raises:
        StructureError: if there is none, several could be meant, a service does not give it, or it cannot be used.
    """
    if match := _AMCSD.fullmatch(text):
        return _entry(match[1])[0]
    if _MATERIAL.fullmatch(text):
        return _materials_project(text)
    if _ADDRESS.match(text):
        return _optimade(text, text)
    if match := _OPTIMADE.fullmatch(text):
        return _optimade(_address(match[1], match[2]), text)
    return _mineral(text)


def is_mineral(text: str) -> bool:
    """Whether the AMCSD has entries of a mineral, or of a formula, that a text gives."""
    return bool(_entries_of(text))


class _Row(NamedTuple):
    """An entry of the AMCSD: its code, mineral in lower case, formula, and whether its title tells of heat, cold or pressure."""

    code: str
    mineral: str
    formula: str
    extreme: bool


@lru_cache(maxsize=1)
def _index() -> list[_Row]:
    """The entries of the AMCSD."""
    source = open_source("amcsd")
    assert isinstance(source, AmcsdSource)
    return [
        _Row(code, "" if mineral.startswith("<") else mineral.lower(), formula.replace(" ", ""), bool(_EXTREME.search(title)))
        for code, mineral, formula, title in source.titles()
    ]


def _reduced(formula: str) -> str:
    """Reduced formula; empty where a text is none."""
    try:
        return str(Composition(formula).reduced_formula) if formula.strip() else ""
    except (ValueError, KeyError, TypeError, ZeroDivisionError):
        return ""


def _entries_of(text: str) -> list[_Row]:
    """Entries of a mineral's name or else of a formula, those at ambient conditions first, then by code."""
    rows = [row for row in _index() if row.mineral and row.mineral == text.strip().lower()]
    if not rows and (formula := _reduced(text)):
        elements = set(_ELEMENT.findall(formula))  # pymatgen takes half a millisecond a formula, of which there are nine thousand
        rows = [row for row in _index() if set(_ELEMENT.findall(row.formula)) == elements and _reduced(row.formula) == formula]
        rows = [row for row in rows if row.mineral] or rows
    return sorted(rows, key=lambda row: (row.extreme, int(row.code)))


def _mineral(text: str) -> Found:
    """The first entry that can be used and whose hydrogen was found, or the first that can be used."""
    rows = _entries_of(text)
    if not rows:
        raise StructureError(f"the AMCSD has no mineral and no formula {text!r}; give amcsd:ID, mp-ID, an OPTIMADE id or a file.")
    minerals = sorted({row.mineral for row in rows})
    if len(minerals) > 1:
        raise StructureError(f"{text} is the formula of {', '.join(minerals)}; give the name of one, or amcsd:ID.")
    problem, second = "", None
    for row in rows:
        try:
            found, complete = _entry(row.code)
        except StructureError as error:
            problem = problem or str(error)
            continue
        if complete:
            return found
        second = second or found
    if second is not None:
        return second
    raise StructureError(f"none of the {len(rows)} entries of {text} in the AMCSD can be used: {problem}")


def _entry(code: str) -> tuple[Found, bool]:
    """The crystal of a code of the AMCSD, and whether its coordinates hold the hydrogen of its formula."""
    if not code.isdecimal():
        raise StructureError(f"{code!r} is no code of the AMCSD; give its number, e.g. amcsd:11639.")
    source = open_source("amcsd")
    structure, notes = source.structure(code)
    check_structure(structure)
    complete = not notes["missing_hydrogen"]
    mineral = next((row.mineral for row in _index() if row.code == code), "")
    name = ", ".join(word for word in (mineral, f"AMCSD {code}", "" if complete else "without its hydrogen atoms") if word)
    return Found(structure, name, {"db_name": "AMCSD", "id": code, "version": source.version}), complete


def _materials_project(material_id: str) -> Found:
    key, client = access("crystals", StructureError)
    try:
        with client(key, mute_progress_bars=True) as rester:
            structure = rester.get_structure_by_material_id(material_id)
    except Exception as error:  # network, service and key fail in classes of requests, of mp-api and of pydantic
        raise StructureError(f"the Materials Project did not give {material_id}: {' '.join(str(error).split())}") from error
    if not isinstance(structure, Structure):
        raise StructureError(f"the Materials Project has no crystal {material_id}; check the id.")
    structure = of_elements(structure)
    check_structure(structure)
    uri = f"https://materialsproject.org/materials/{material_id}"
    return Found(structure, material_id, {"db_name": "Materials Project", "id": material_id, "uri": uri})


def _address(provider: str, identifier: str) -> str:
    """Address of an entry of a provider that pymatgen knows."""
    from pymatgen.ext.optimade import OptimadeRester

    known = OptimadeRester.aliases
    if provider not in known:
        raise StructureError(f"{provider!r} is no known provider of OPTIMADE; give one of {', '.join(sorted(known))}, or the address.")
    return f"{known[provider].rstrip('/')}/v1/structures/{quote(identifier, safe='')}"


def _optimade(address: str, name: str) -> Found:
    if "/structures/" not in urlsplit(address).path:
        raise StructureError(f"{address} is no entry of an OPTIMADE database; its address holds /structures/ and the id.")
    return read_optimade(_download(address, name), name, address)


def read_optimade(content: bytes, name: str, address: str) -> Found:
    """The crystal in what a database answered.

    Args:
        content: of the answer.
        name: of the entry, for messages.
        address: that was asked.

    Raises:
        StructureError: if it holds none, or one that cannot be used.
    """
    try:
        answer = json.loads(content)
        data = answer["data"]
        if isinstance(data, list):
            (data,) = data
        structure, identifier = _structure(data["attributes"], name), str(data["id"])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        if isinstance(error, StructureError):
            raise
        raise StructureError(f"{name} is no crystal in an answer of OPTIMADE ({type(error).__name__}: {error}); check the id.") from error
    check_structure(structure)
    parts = urlsplit(address)
    return Found(structure, name, {"db_name": "OPTIMADE", "id": identifier, "db_uri": f"{parts.scheme}://{parts.netloc}", "uri": address})


def _download(address: str, name: str) -> bytes:
    request = Request(address, headers={"Accept": "application/vnd.api+json, application/json", "User-Agent": "aiida-xastruct"})
    content, deadline = bytearray(), time.monotonic() + TIMEOUT
    try:
        with urlopen(request, timeout=TIMEOUT) as stream:  # nosec B310
            while piece := stream.read1(MAX_BYTES + 1 - len(content)):
                content += piece
                if len(content) > MAX_BYTES:
                    raise StructureError(f"{name} answers with more than {MAX_BYTES / 1e6:.0f} MB; that is no single crystal.")
                if time.monotonic() > deadline:  # the timeout of a socket is that of one piece
                    raise TimeoutError(f"it takes longer than {TIMEOUT:.0f} s")
    except StructureError:
        raise
    except (URLError, OSError, ValueError, HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", None) or error).split()) or type(error).__name__
        raise StructureError(f"{name} could not be fetched ({reason}); check the id and the network.") from error
    return bytes(content)


def _structure(attributes: Mapping[str, Any], name: str) -> Structure:
    """The crystal of the attributes of an entry.

    Raises:
        StructureError: if it is not periodic in three dimensions, disordered or too large.
    """
    if list(attributes.get("dimension_types") or [1, 1, 1]) != [1, 1, 1]:
        raise StructureError(f"{name} is not periodic in three dimensions; give a crystal.")
    sites, positions = attributes["species_at_sites"], attributes["cartesian_site_positions"]
    if len(sites) > MAX_SITES:
        raise StructureError(f"{name} has {len(sites)} sites; the most is {MAX_SITES}.")
    symbols = {species["name"]: species for species in attributes.get("species") or []}
    elements = []
    for site in sites:
        species = symbols.get(site, {"chemical_symbols": [site], "concentration": [1.0]})
        chemical = species["chemical_symbols"]
        if len(chemical) != 1 or chemical[0] in ("X", "vacancy") or abs(species.get("concentration", [1.0])[0] - 1.0) > 1e-6:
            raise StructureError(f"{name} is disordered ({site}); give an ordered crystal.")
        elements.append(chemical[0])
    return make_structure(attributes["lattice_vectors"], elements, positions, cartesian=True)

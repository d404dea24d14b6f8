"""The input deck feff.inp of one absorber in one crystal."""

from __future__ import annotations

from functools import cache

import numpy as np
from pymatgen.core import Structure

from ..errors import FeffError, XastructError
from ..spectrum import Kind, atomic_number, edge_of, tabulated_edge
from ..structure import check_structure, symbol
from .cluster import Cluster, build_cluster
from .parameters import FEFF_EDGES, PROTOCOLS, FeffParameters, Sphere
from .programs import ENGINE_MARK

__all__ = ["ENGINE_MARK", "PROTOCOLS", "FeffParameters", "Sphere", "read_request", "resolve_edge", "write_deck"]

#: eV. Lithium's K edge, at 55 eV, is the shallowest core level; below lie valence shells, and a XANES could start below 0 eV.
LOWEST_EDGE = 50.0


def resolve_edge(absorber: str, edge: str = "") -> str:
    """The edge to compute for an absorber: the one given, or the one people measure.

    Raises:
        FeffError: for absorbers that FEFF has no spectrum of: H and He (one shell, no scattering theory of use) and Z above 98; for
            an edge below `LOWEST_EDGE`.
        SpectrumError: if the element has no such edge.
    """
    z = atomic_number(absorber)
    if z <= 2:
        raise FeffError(
            f"{absorber} cannot be the absorber: FEFF's muffin tins do not describe a bare valence shell; pick another element."
        )
    if z > 98:
        raise FeffError(f"{absorber} (Z {z}) is beyond the tables of edges and lifetimes; pick an element up to Cf.")
    chosen = edge or edge_of(absorber)
    energy = tabulated_edge(absorber, chosen)
    if energy < LOWEST_EDGE:
        raise FeffError(f"the {chosen} edge of {absorber} is at {energy:.0f} eV, where there is no core level; pick a deeper edge.")
    return chosen


@cache
def has_edge(element: str) -> bool:
    """Whether FEFF computes an edge of an element that is measured; not of H and He."""
    try:
        resolve_edge(element)
    except XastructError:
        return False
    return True


def write_deck(structure: Structure, site: int, parameters: FeffParameters) -> str:
    """Text of feff.inp for the absorber at `site`.

    Args:
        structure: an ordered crystal, angstrom.
        site: 0-based index of the absorbing atom.
        parameters: what to compute.

    Raises:
        StructureError: if the structure is disordered, damaged or lacks the site.
        FeffError: if FEFF cannot compute this absorber or cluster; the text says why.
    """
    check_structure(structure)
    absorber = symbol(structure, site)
    edge = resolve_edge(absorber, parameters.edge)
    cluster = build_cluster(structure, site, parameters)
    engine = parameters.resolved_engine
    lines = [
        f"{ENGINE_MARK} {engine}",
        f"TITLE {structure.composition.reduced_formula} site {site} {absorber} {edge} {parameters.kind}",
        *_head(edge, parameters),
        *(_xanes(cluster, parameters) if parameters.kind == "XANES" else _exafs(parameters)),
        *(f"{name} {_values(value)}".rstrip() for name, value in sorted(parameters.cards.items())),
        "",
        "POTENTIALS",
        *_potentials(cluster, engine),
        "",
        "ATOMS",
        *_atoms(cluster),
        "END",
        "",
    ]
    return "\n".join(lines)


def _values(value: object) -> str:
    return " ".join(f"{item:g}" for item in value) if isinstance(value, (list, tuple)) else f"{value:g}"


def _head(edge: str, parameters: FeffParameters) -> list[str]:
    return [
        f"EDGE {edge}",
        f"S02 {parameters.s02:g}",
        "CONTROL 1 1 1 1 1 1",
        "PRINT 0 0 0 0 0 0",
        f"EXCHANGE {parameters.exchange} 0 0",
    ]


def _xanes(cluster: Cluster, parameters: FeffParameters) -> list[str]:
    low, high = parameters.energy_range
    k_end = (0.26246842 * high) ** 0.5
    # Even steps through the edge region, where mu changes fastest; even steps in k beyond, where it oscillates.
    return [
        f"XANES {k_end:.2f} 0.06 0",
        f"SCF {cluster.scf_radius:g} 0 {parameters.scf_iterations} {parameters.scf_mixing:g} 1",
        f"FMS {cluster.fms_radius:g} 0",
        "RPATH 0.1",
        f"COREHOLE {parameters.core_hole}",
        "EGRID",
        f"e_grid {low:g} 20 {parameters.energy_step:g}",
        f"k_grid last {k_end:.2f} 0.06",
    ]


def _exafs(parameters: FeffParameters) -> list[str]:
    return [f"EXAFS {parameters.k_max:g}", f"RPATH {parameters.path_radius:g}", f"NLEG {parameters.path_legs}"]


def _potentials(cluster: Cluster, engine: str) -> list[str]:
    rows = []
    for index, (element, amount) in enumerate(zip(cluster.elements, cluster.stoichiometry, strict=True)):
        row = f"{index:5d} {atomic_number(element):4d} {element:<3s}"
        rows.append(f"{row} -1 -1 {amount:g}" if engine == "feff10" else row)
    return rows


def _atoms(cluster: Cluster) -> list[str]:
    rows = []
    # Rounded first, and zero added: -0.0 would print a sign that depends on the last bit.
    for (x, y, z), potential, distance in zip(np.round(cluster.positions, 5) + 0.0, cluster.potentials, cluster.distances, strict=True):
        rows.append(f"{x:12.5f} {y:12.5f} {z:12.5f} {potential:3d} {cluster.elements[potential]:<3s} {distance:9.5f}")
    return rows


#: Edges by the number of the core hole.
_HOLES = {"1": "K", "2": "L1", "3": "L2", "4": "L3", "8": "M4", "9": "M5"}

#: Cards of spectra that are not absorption; four letters name a card.
_OTHER_SPECTRA = ("XES", "DANE", "FPRI", "ELNE", "EXEL", "NRIX", "COMP", "RIXS")


def check_own_deck(deck: str) -> None:
    """Refuse a deck of a user's own that FEFF would misread without a word.

    Raises:
        FeffError: if several atoms have potential 0, of which FEFF10 takes one for the absorber.
    """
    absorbers, block = 0, ""
    for line in deck.splitlines():
        words = line.split("*")[0].split("!")[0].split()
        if words and words[0][0].isalpha():
            block = words[0].upper()
        elif block.startswith("ATOM") and words[3:4] == ["0"]:
            absorbers += 1
    if absorbers > 1:
        raise FeffError(f"{absorbers} atoms of the deck have potential 0, the absorber's; give it to one and another one to the others.")


def read_request(deck: str) -> tuple[str, str, Kind]:
    """Absorber, edge and kind that a deck asks for, whoever wrote it; EXAFS where no card says, as in FEFF 6 to 10.

    Raises:
        FeffError: if the deck names no absorber (potential 0), or asks for another spectrum than XANES and EXAFS.
    """
    from pymatgen.core import Element

    edge, kind, z, block = "K", "EXAFS", None, ""
    for line in deck.splitlines():
        words = line.split("*")[0].split("!")[0].split()
        if not words:
            continue
        card = words[0].upper()
        if card[0].isalpha():
            block = card
            if card in ("EDGE", "HOLE") and len(words) > 1:
                edge = _HOLES.get(words[1], words[1].upper())
            elif card.startswith("XANE"):
                kind = "XANES"
            elif card.startswith(_OTHER_SPECTRA):
                kind = card
        elif block.startswith("POTE") and words[0] == "0" and len(words) > 1 and words[1].isdigit():
            z = int(words[1])
    if z is None or not 1 <= z <= 103:
        raise FeffError("the deck names no absorber; give potential 0 with its atomic number under POTENTIALS.")
    if kind not in ("XANES", "EXAFS"):
        raise FeffError(f"the deck asks for {kind}, which is neither XANES nor EXAFS; other spectra cannot be read.")
    if edge not in FEFF_EDGES:
        raise FeffError(f"the deck asks for the edge {edge}; use one of {', '.join(FEFF_EDGES)}.")
    return str(Element.from_Z(z).symbol), edge, "XANES" if kind == "XANES" else "EXAFS"

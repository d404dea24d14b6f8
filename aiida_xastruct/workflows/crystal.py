"""What the workflows of all reference programs for a crystal share: who can call one can call another and read what it gives."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import WorkChain
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from ..data.spectrum import SpectrumData
from .inputs import DAMAGED_NODE, crystal_of, unreadable

PROTOCOLS = ("fast", "balanced", "stringent")


class CrystalWorkChain(WorkChain):
    """The spectrum of each symmetry-inequivalent site of an element in a crystal by one program, and their mean.

    A subclass adds its codes, what only its program can be told, and its outline.

    Inputs:
        structure: the crystal; ordered.
        absorber: symbol of the absorbing element; or
        sites: indices of inequivalent sites of one element, from 0.
        kind: XANES, or EXAFS where the program computes it.
        edge: the one that people measure if left out.
        protocol: fast, balanced or stringent.
        overrides: of the protocol.

    Outputs:
        spectrum: the mean weighted by multiplicity, flat, on one grid.
        spectra: that of each site, under `site_<index>`, with its multiplicity; energies on one scale.
        output_parameters: what the program's logs say.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:  # type: ignore[override]
        """Inputs, outputs and exit codes."""
        super().define(spec)
        text = orm.to_aiida_type
        spec.input("structure", valid_type=orm.StructureData, help="The crystal; ordered.")
        spec.input("absorber", valid_type=orm.Str, required=False, serializer=text, help="Symbol of the absorbing element; or")
        spec.input("sites", valid_type=orm.List, required=False, serializer=text, help="indices of inequivalent sites of one element.")
        spec.input("kind", valid_type=orm.Str, default=lambda: orm.Str("XANES"), serializer=text)
        spec.input("edge", valid_type=orm.Str, required=False, serializer=text)
        spec.input(
            "protocol", valid_type=orm.Str, default=lambda: orm.Str("fast"), serializer=text, validator=check_protocol,
            help="fast, balanced or stringent.",
        )  # fmt: skip
        spec.input("overrides", valid_type=orm.Dict, required=False, serializer=text, help="Of the protocol.")
        spec.output("spectrum", valid_type=SpectrumData)
        spec.output_namespace("spectra", valid_type=SpectrumData, dynamic=True)
        spec.output_namespace("output_parameters", valid_type=orm.Dict, dynamic=True)
        spec.exit_code(301, "ERROR_NO_SITES", message="{reason}")
        spec.exit_code(302, "ERROR_SITE_FAILED", message="There is no spectrum of every site, so no mean: {reason}")
        spec.exit_code(303, "ERROR_NO_MEAN", message="The spectra of the sites cannot be averaged: {reason}")
        spec.exit_code(304, "ERROR_INVALID_EDGE", message="{reason}")
        spec.exit_code(410, "WARNING_NOT_CONVERGED", message="The mean is there, but {reason}.")

    def absorbing_sites(self) -> tuple[str, list[int]]:
        """Symbol of the absorber, and indices of the sites that are asked for.

        Raises:
            XastructError: if the structure is disordered or damaged, the element is not in it, or two of the sites are equivalent.
        """
        from ..engine.structure import check_structure, inequivalent_absorbers, multiplicities, symbol

        crystal = crystal_of(self.inputs.structure)
        check_structure(crystal)
        if "sites" not in self.inputs:
            absorber = self.inputs.absorber.value
            return absorber, [item.site for item in inequivalent_absorbers(crystal, absorber)]
        sites = self.inputs.sites.get_list()
        multiplicities(crystal, sites)
        return symbol(crystal, sites[0]), sites


def site_name(site: int) -> str:
    """Link label of a site, in the outputs of all workflows."""
    return f"site_{site}"


def check_protocol(value: orm.Str | None, _: Any) -> str | None:
    """Refuse other protocols than those there are."""
    if value is None or value.value in PROTOCOLS:
        return None
    return f"protocol is {value.value!r}; use one of {', '.join(PROTOCOLS)}."


def check_question(inputs: Any) -> str | None:
    """Refuse what is no crystal, and what does not say which of its sites: a sentence, None where nothing is wrong.

    Args:
        inputs: with `structure`, and `absorber` or `sites`.
    """
    try:
        structure = inputs["structure"]
        if tuple(structure.pbc) != (True, True, True):
            return "the structure is not periodic in three dimensions; put a molecule or slab into a box and set pbc in all three."
        if ("absorber" in inputs) == ("sites" in inputs):
            return "give either absorber (an element) or sites (indices), not both and not neither."
        if structure.is_alloy or structure.has_vacancies:
            return "the structure is disordered; give an ordered supercell or pick one occupation."
        return _check_sites(inputs["sites"].get_list(), symbols_of(structure)) if "sites" in inputs else None
    except DAMAGED_NODE as error:
        return unreadable(error)


def symbols_of(structure: orm.StructureData) -> list[str]:
    """Symbol of the element at each site."""
    return [structure.get_kind(name).symbol for name in structure.get_site_kindnames()]


def _check_sites(sites: list[Any], symbols: list[str]) -> str | None:
    """Refuse what are not distinct indices of one element."""
    if not symbols:
        return "the structure has no atoms; give a crystal."
    if not sites:
        return "sites is empty; give at least one index."
    for site in sites:
        if isinstance(site, bool) or not isinstance(site, int) or not 0 <= site < len(symbols):
            return f"site {site!r} does not exist; the structure has sites 0 to {len(symbols) - 1}."
    if len(set(sites)) < len(sites):
        return "sites names a site twice; give each once."
    if len(elements := sorted({symbols[site] for site in sites})) > 1:
        return f"the sites are of different elements ({', '.join(elements)}); ask once for each element."
    return None

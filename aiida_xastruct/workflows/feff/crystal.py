"""The spectrum of an element in a crystal by FEFF: one run an inequivalent site, and their mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ToContext, WorkChain
from aiida.engine.processes.builder import ProcessBuilder
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from ...calculations.functions.average_spectra import average_spectra
from ...data.spectrum import SpectrumData
from .base import FeffBaseWorkChain


def _check_choice(*choices: str) -> Any:
    def check(value: orm.Str | None, _: Any) -> str | None:
        if value is not None and value.value not in choices:
            return f"{value.value!r} is unknown; use one of {', '.join(choices)}."
        return None

    return check


class FeffCrystalWorkChain(WorkChain):
    """FEFF on every symmetry-inequivalent site of an element, side by side, and the mean weighted by multiplicity.

    Outputs:
        spectrum: the mean, flat, on one grid.
        spectra: FEFF's own of each site, under `site_<index>`, with its multiplicity.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:  # type: ignore[override]
        """Inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input("code", valid_type=orm.AbstractCode, help="`xastruct-feff`, see `aiida_xastruct.tools.codes.bundled_feff_code`.")
        spec.input("structure", valid_type=orm.StructureData, help="The crystal; ordered.")
        spec.input("absorber", valid_type=orm.Str, serializer=orm.to_aiida_type, help="Symbol of the absorbing element.")
        spec.input(
            "kind",
            valid_type=orm.Str,
            default=lambda: orm.Str("XANES"),
            serializer=orm.to_aiida_type,
            validator=_check_choice("XANES", "EXAFS"),
        )
        spec.input(
            "protocol", valid_type=orm.Str, default=lambda: orm.Str("fast"), serializer=orm.to_aiida_type,
            validator=_check_choice("fast", "balanced", "stringent"),
        )  # fmt: skip
        spec.input(
            "overrides", valid_type=orm.Dict, required=False, serializer=orm.to_aiida_type,
            help="Of the protocol: see `FeffBaseWorkChain.get_builder_from_protocol`.",
        )  # fmt: skip
        spec.outline(cls.find_sites, cls.run_sites, cls.inspect_sites, cls.conclude)
        spec.output("spectrum", valid_type=SpectrumData)
        spec.output_namespace("spectra", valid_type=SpectrumData, dynamic=True)
        spec.exit_code(301, "ERROR_NO_SITES", message="{reason}")
        spec.exit_code(302, "ERROR_SITE_FAILED", message="FEFF gave no spectrum of every site, so no mean: {reason}")
        spec.exit_code(303, "ERROR_NO_MEAN", message="The spectra of the sites cannot be averaged: {reason}")
        spec.exit_code(410, "WARNING_SCF_NOT_CONVERGED", message="The mean is there, but SCF did not settle for {reason}.")

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        structure: orm.StructureData,
        absorber: str,
        kind: str = "XANES",
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> ProcessBuilder:
        """Builder; see `FeffBaseWorkChain.get_builder_from_protocol` for the arguments."""
        builder = cls.get_builder()
        builder.code, builder.structure, builder.absorber, builder.kind = code, structure, orm.Str(absorber), orm.Str(kind)
        if protocol is not None:
            builder.protocol = orm.Str(protocol)
        if overrides:
            builder.overrides = orm.Dict(dict(overrides))
        return builder

    def find_sites(self) -> ExitCode | None:
        """The inequivalent sites of the absorber."""
        from ...engine.errors import XastructError
        from ...engine.feff.deck import resolve_edge
        from ...engine.structure import check_structure, inequivalent_absorbers

        structure = self.inputs.structure.get_pymatgen_structure()
        try:
            check_structure(structure)
            found = inequivalent_absorbers(structure, self.inputs.absorber.value)
            resolve_edge(self.inputs.absorber.value)
        except XastructError as error:
            return self.exit_codes.ERROR_NO_SITES.format(reason=str(error))
        self.ctx.sites = [item.site for item in found]
        return None

    def run_sites(self) -> Any:
        """One restarting FEFF workflow a site."""
        running = {}
        overrides = self.inputs.overrides.get_dict() if "overrides" in self.inputs else None
        for site in self.ctx.sites:
            builder = FeffBaseWorkChain.get_builder_from_protocol(
                self.inputs.code, self.inputs.structure, site, self.inputs.kind.value, self.inputs.protocol.value, overrides
            )
            builder.metadata.call_link_label = f"site_{site}"
            running[f"site_{site}"] = self.submit(builder)
            self.report(f"site {site}: {running[f'site_{site}'].process_label}<{running[f'site_{site}'].pk}>")
        return ToContext(**running)

    def inspect_sites(self) -> ExitCode | None:
        """Keep what there is of each site; a mean needs all of them."""
        self.ctx.spectra, failed = {}, []
        for site in self.ctx.sites:
            node = self.ctx[f"site_{site}"]
            # A 4xx status comes with a spectrum and says what it lacks.
            if "spectrum" in node.outputs:
                self.ctx.spectra[f"site_{site}"] = node.outputs.spectrum
            else:
                failed.append(f"site {site}: {node.exit_message or f'exit status {node.exit_status}'}")
        self.out("spectra", dict(self.ctx.spectra))
        return self.exit_codes.ERROR_SITE_FAILED.format(reason=" ".join(failed)) if failed else None

    def conclude(self) -> ExitCode | None:
        """The mean, and which sites it is not sure of."""
        mean, node = average_spectra.run_get_node(**self.ctx.spectra)
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_NO_MEAN.format(reason=node.exit_message)
        self.out("spectrum", mean)
        unsettled = sorted(name for name in self.ctx.spectra if not self.ctx[name].is_finished_ok)
        return self.exit_codes.WARNING_SCF_NOT_CONVERGED.format(reason=", ".join(unsettled)) if unsettled else None

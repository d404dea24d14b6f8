"""The K-edge XANES of an element in a crystal by XSpectra: a supercell with a core hole for each inequivalent site, and their mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ToContext
from aiida.engine.processes.builder import ProcessBuilder
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from ...calculations.functions.average_spectra import average_spectra
from ...calculations.functions.core_hole_supercell import core_hole_supercell, hole_kind
from ...calculations.functions.xspectra_spectrum import xspectra_spectrum
from ...engine.errors import XastructError
from ...engine.spectrum import edge_of
from ..crystal import CrystalWorkChain, check_question, site_name
from ..steps import computed, fill
from .base import XspectraBaseWorkChain


def _check_kind(value: orm.Str | None, _: Any) -> str | None:
    if value is not None and value.value != "XANES":
        return f"kind is {value.value!r}; XSpectra computes XANES, FEFF (`xastruct.feff.crystal`) EXAFS."
    return None


def _check_edge(value: orm.Str | None, _: Any) -> str | None:
    if value is not None and value.value != "K":
        return f"edge is {value.value!r}; this workflow computes K edges, FEFF (`xastruct.feff.crystal`) others."
    return None


def _check_inputs(value: Any, namespace: Any) -> str | None:
    """Refuse a protocol or overrides that are unknown, and what does not say which sites."""
    if "structure" not in value or "structure" not in namespace:
        return None
    if words := check_question(value):
        return words
    overrides = value["overrides"].get_dict() if "overrides" in value else {}
    try:
        XspectraBaseWorkChain.settings(value["protocol"].value if "protocol" in value else None, overrides)
    except ValueError as error:  # an XastructError is one, too
        return str(error)
    return None


class XspectraCrystalWorkChain(CrystalWorkChain):
    """XSpectra on every symmetry-inequivalent site of an element, and the mean weighted by multiplicity.

    Each site gets a supercell of its own, in which it has a hole in 1s and the cell is charged, so that the electron is missing (full core
    hole). `pw.x` runs by aiida-quantumespresso's `quantumespresso.pw.base`, with its restarts, then `xspectra.x` for each polarisation by
    `xastruct.xspectra.base`. Spins are paired.

    Inputs:
        pw_code: `pw.x`.
        xspectra_code: `xspectra.x`.
        structure: the crystal; ordered.
        absorber: symbol of the absorbing element; or
        sites: indices of inequivalent sites of one element, from 0.
        family: label of the core-hole family; the one in the profile if left out and there is but one.
        kind: XANES.
        edge: K.
        protocol: fast, balanced or stringent.
        overrides: of the protocol: see `XspectraBaseWorkChain.settings`.

    Outputs:
        spectrum: the mean, flat, on one grid; the lowest empty level of the site that absorbs first lies at the tabulated edge.
        spectra: that of each site, under `site_<index>`, with its multiplicity, on the same scale of energy.
        output_parameters: what the logs of XSpectra say, under `site_<index>`, of the first polarisation.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:  # type: ignore[override]
        """Inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input("pw_code", valid_type=orm.AbstractCode, help="`pw.x`, see `aiida_xastruct.tools.codes.quantum_espresso_code`.")
        spec.input("xspectra_code", valid_type=orm.AbstractCode, help="`xspectra.x`, alike.")
        spec.input("family", valid_type=orm.Str, required=False, serializer=orm.to_aiida_type, help="Label of the core-hole family.")
        spec.inputs["kind"].validator, spec.inputs["kind"].help = _check_kind, "XANES."
        spec.inputs["edge"].validator, spec.inputs["edge"].help = _check_edge, "K."
        spec.inputs["overrides"].help = "Of the protocol: see `XspectraBaseWorkChain.settings`."
        spec.inputs.validator = _check_inputs
        spec.outline(cls.find_sites, cls.run_scf, cls.inspect_scf, cls.run_xspectra, cls.inspect_xspectra, cls.conclude)
        spec.exit_code(306, "ERROR_NO_PSEUDOS", message="{reason}")

    @classmethod
    def get_builder_from_protocol(
        cls,
        pw_code: orm.AbstractCode,
        xspectra_code: orm.AbstractCode,
        structure: orm.StructureData,
        absorber: str | None = None,
        kind: str | None = None,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        edge: str | None = None,
        family: str | None = None,
        sites: list[int] | None = None,
    ) -> ProcessBuilder:
        """Builder; see the inputs, and `XspectraBaseWorkChain.settings` for the overrides."""
        given = {
            "pw_code": pw_code, "xspectra_code": xspectra_code, "structure": structure, "absorber": absorber, "sites": sites,
            "kind": kind, "edge": edge, "protocol": protocol, "overrides": dict(overrides or {}) or None, "family": family,
        }  # fmt: skip
        return fill(cls.get_builder(), given)

    def find_sites(self) -> ExitCode | None:
        """The inequivalent sites of the absorber, their pseudopotentials, and a supercell for each."""
        from ..inputs import find_core_hole_family

        structure = self.inputs.structure
        try:
            self.ctx.absorber, self.ctx.sites = self.absorbing_sites()
        except XastructError as error:
            return self.exit_codes.ERROR_NO_SITES.format(reason=str(error))
        if "edge" not in self.inputs and (usual := edge_of(self.ctx.absorber)) != "K":
            words = f"spectra of {self.ctx.absorber} are of {usual}, and XSpectra computes K edges here; ask FEFF, or for edge K."
            return self.exit_codes.ERROR_INVALID_EDGE.format(reason=words)
        overrides = self.inputs.overrides.get_dict() if "overrides" in self.inputs else {}
        self.ctx.settings = XspectraBaseWorkChain.settings(self.inputs.protocol.value, overrides)
        try:
            family = find_core_hole_family(self.inputs.family.value if "family" in self.inputs else None)
            pair = family.get_core_hole_pair(structure, self.ctx.absorber)
            if family.core_level != "1s":
                return self.exit_codes.ERROR_NO_PSEUDOS.format(
                    reason=f"{family.label!r} has holes in {family.core_level}, a K edge needs 1s."
                )
            self.ctx.cutoffs = self._cutoffs(family)
        except XastructError as error:
            return self.exit_codes.ERROR_NO_PSEUDOS.format(reason=str(error))
        self.ctx.ground_state, self.ctx.core_hole = pair.ground_state, pair.core_hole
        self.ctx.pseudos = {name: node for name, node in family.pseudos.items() if name in structure.get_symbols_set()}
        self.ctx.family = {"label": family.label, "content_hash": family.content_hash, "functional": family.functional}
        return self._make_supercells()

    def _cutoffs(self, family: Any) -> tuple[float, float]:
        """Cutoffs of waves and density in Ry."""
        from ...engine.errors import PseudoError

        settings = self.ctx.settings
        if "cutoff_wfc" in settings and "cutoff_rho" in settings:
            return float(settings["cutoff_wfc"]), float(settings["cutoff_rho"])
        try:
            waves, density = family.get_recommended_cutoffs(structure=self.inputs.structure, unit="Ry")
        except ValueError as error:
            raise PseudoError(f"the family {family.label!r} recommends no cutoffs ({error}); give cutoff_wfc and cutoff_rho.") from error
        factor = float(settings["cutoff_factor"])
        return waves * factor, density * factor

    def _make_supercells(self) -> ExitCode | None:
        self.ctx.cells = {}
        for site in self.ctx.sites:
            outputs, node = computed(
                core_hole_supercell,
                structure=self.inputs.structure,
                site=orm.Int(site),
                image_distance=orm.Float(self.ctx.settings["image_distance"]),
            )
            if not node.is_finished_ok:
                return self.exit_codes.ERROR_NO_SITES.format(reason=node.exit_message)
            self.ctx.cells[site_name(site)] = outputs
            cell = outputs["cell"].get_dict()
            words = f"{cell['atoms']} atoms, images {cell['image_distance']:.2f} angstrom apart, {len(cell['polarisations'])} polarisations"
            self.report(f"{site_name(site)}: {words}")
        return None

    def run_scf(self) -> Any:
        """pw.x on the supercell of each site, side by side."""
        running = {}
        for site in self.ctx.sites:
            builder = self._scf(site)
            builder.metadata.call_link_label = f"{site_name(site)}_scf"
            running[f"{site_name(site)}_scf"] = self.submit(builder)
        return ToContext(**running)

    def _scf(self, site: int) -> ProcessBuilder:
        """Builder of the self-consistent calculation of a charged cell with a hole."""
        from aiida_quantumespresso.workflows.pw.base import PwBaseWorkChain

        supercell = self.ctx.cells[site_name(site)]["structure"]
        settings, hole = self.ctx.settings, hole_kind(self.ctx.absorber)
        pseudos = {kind.name: self.ctx.core_hole if kind.name == hole else self.ctx.pseudos[kind.symbol] for kind in supercell.kinds}
        electrons = sum(pseudos[site.kind_name].z_valence for site in supercell.sites) - 1
        occupied = math.ceil(electrons / 2)
        builder = PwBaseWorkChain.get_builder()
        builder.pw.code, builder.pw.structure, builder.pw.pseudos = self.inputs.pw_code, supercell, pseudos
        waves, density = self.ctx.cutoffs
        builder.pw.parameters = orm.Dict(
            {
                "CONTROL": {"calculation": "scf"},
                "SYSTEM": {
                    "ecutwfc": waves,
                    "ecutrho": density,
                    "tot_charge": 1.0,
                    "occupations": "smearing",
                    "smearing": "gaussian",
                    "degauss": 0.005,
                    # A few more than are full, so that the lowest empty level is known; a metal gets more by a handler.
                    "nbnd": occupied + max(4, occupied // 20),
                },
                "ELECTRONS": {"conv_thr": settings["conv_thr_per_atom"] * len(supercell.sites), "mixing_beta": 0.4},
            }
        )
        builder.pw.metadata.options = {"withmpi": False, **self._options()}
        builder.kpoints = self._mesh(supercell, "kpoints_spacing")
        return builder

    def _mesh(self, supercell: orm.StructureData, spacing: str) -> orm.KpointsData:
        """Mesh for a supercell by one of the spacings of the protocol."""
        from ...engine.xspectra.supercell import mesh

        points = orm.KpointsData()
        points.set_kpoints_mesh(mesh(supercell.get_pymatgen_structure().lattice, self.ctx.settings[spacing]))
        return points

    def _options(self) -> dict[str, Any]:
        return XspectraBaseWorkChain.job_options(int(self.ctx.settings["max_wallclock_seconds"]), self.ctx.settings)

    def inspect_scf(self) -> ExitCode | None:
        """Sites without a density are lost; the others go on."""
        self.ctx.lost = {}
        for site in self.ctx.sites:
            node = self.ctx[f"{site_name(site)}_scf"]
            if not node.is_finished_ok:
                self.ctx.lost[site_name(site)] = f"site {site}: pw.x: {node.exit_message or f'exit status {node.exit_status}'}"
        return self._lost() if len(self.ctx.lost) == len(self.ctx.sites) else None

    def _lost(self) -> ExitCode:
        return self.exit_codes.ERROR_SITE_FAILED.format(reason=" ".join(self.ctx.lost.values()))

    def _left(self) -> list[int]:
        """Sites that nothing has gone wrong with."""
        return [site for site in self.ctx.sites if site_name(site) not in self.ctx.lost]

    def run_xspectra(self) -> Any:
        """xspectra.x for each polarisation of each site, side by side."""
        running = {}
        for site in self._left():
            for number, direction in enumerate(self.ctx.cells[site_name(site)]["cell"]["polarisations"]):
                label = f"{site_name(site)}_polarisation_{number}"
                builder = self._xspectra(site, direction)
                builder.metadata.call_link_label = label
                running[label] = self.submit(builder)
        return ToContext(**running)

    def _xspectra(self, site: int, direction: list[float]) -> ProcessBuilder:
        from ...engine.xspectra.site import fermi_level

        supercell, scf = self.ctx.cells[site_name(site)]["structure"], self.ctx[f"{site_name(site)}_scf"].outputs
        settings, found = self.ctx.settings, scf.output_parameters.get_dict()
        builder = XspectraBaseWorkChain.get_builder()
        job = builder.xspectra
        job.code, job.parent_folder, job.ground_state = self.inputs.xspectra_code, scf.remote_folder, self.ctx.ground_state
        zero = fermi_level(scf.output_band.get_bands(), found["number_of_electrons"], found["fermi_energy"])
        if zero is not None:
            job.zero = orm.Float(zero)
        job.polarisation = orm.List(direction)
        job.species = orm.Int(sorted(supercell.get_kind_names()).index(hole_kind(self.ctx.absorber)) + 1)
        job.parameters = orm.Dict(settings["parameters"])
        job.kpoints = self._mesh(supercell, "spectrum_spacing")
        job.metadata.options = self._options()
        if "max_iterations" in settings:
            builder.max_iterations = orm.Int(settings["max_iterations"])
        return builder

    def inspect_xspectra(self) -> ExitCode | None:
        """Put all sites on one scale of energy."""
        from ...engine.xspectra.site import threshold

        self.ctx.curves, self.ctx.doubtful, thresholds = {}, [], []
        for site in self._left():
            name = site_name(site)
            labels = [f"{name}_polarisation_{number}" for number in range(len(self.ctx.cells[name]["cell"]["polarisations"]))]
            missing = [label for label in labels if "spectrum" not in self.ctx[label].outputs]
            if missing:
                nodes = {label: self.ctx[label] for label in missing}
                said = [f"{label}: {node.exit_message or f'exit status {node.exit_status}'}" for label, node in nodes.items()]
                self.ctx.lost[name] = " ".join(said)
                continue
            self.ctx.doubtful += [label for label in labels if not self.ctx[label].is_finished_ok]
            self.ctx.curves[name] = {f"polarisation_{number}": self.ctx[label].outputs.spectrum for number, label in enumerate(labels)}
            levels = self.ctx[labels[0]].outputs.output_parameters
            self.out(f"output_parameters.{name}", levels)
            total = float(self.ctx[f"{name}_scf"].outputs.output_parameters["energy"])
            thresholds.append(threshold(total, levels.get_dict()))
        if not thresholds:
            return self._lost()
        self.ctx.first = min(thresholds)
        return None

    def conclude(self) -> ExitCode | None:
        """The spectrum of each site, and the mean, which needs all of them."""
        spectra = {}
        for site in self._left():
            name = site_name(site)
            found, node = computed(
                xspectra_spectrum,
                structure=self.inputs.structure,
                site=orm.Int(site),
                total_energy=self.ctx[f"{name}_scf"].outputs.output_parameters,
                levels=self.ctx[f"{name}_polarisation_0"].outputs.output_parameters,
                first=orm.Float(self.ctx.first),
                settings=orm.Dict(self._said(site)),
                **self.ctx.curves[name],
            )
            if not node.is_finished_ok:
                return self.exit_codes.ERROR_NO_MEAN.format(reason=node.exit_message)
            spectra[name] = found
            self.out(f"spectra.{name}", found)
        if self.ctx.lost:
            return self._lost()
        mean, node = computed(average_spectra, **spectra)
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_NO_MEAN.format(reason=node.exit_message)
        self.out("spectrum", mean)
        names = ", ".join(self.ctx.doubtful)
        return self.exit_codes.WARNING_NOT_CONVERGED.format(reason=f"XSpectra did not converge for {names}") if names else None

    def _said(self, site: int) -> dict[str, Any]:
        """What is kept in the settings of a spectrum."""
        cell = self.ctx.cells[site_name(site)]["cell"].get_dict()
        kept = {name: self.ctx.settings[name] for name in ("kpoints_spacing", "spectrum_spacing", "parameters")}
        waves, density = self.ctx.cutoffs
        supercell = {name: cell[name] for name in ("multiples", "atoms", "image_distance")}
        cutoffs = {"cutoff_wfc_ry": waves, "cutoff_rho_ry": density}
        return {
            "protocol": self.inputs.protocol.value,
            "core_hole": "full",
            **kept,
            **cutoffs,
            "supercell": supercell,
            "spectrum_mesh": self.ctx[f"{site_name(site)}_polarisation_0"].inputs.xspectra.kpoints.get_kpoints_mesh()[0],
            "family": self.ctx.family,
        }

"""The spectrum of an element in a crystal by FEFF: its inequivalent sites, each in a job of its own or some in one, and their mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ToContext
from aiida.engine.processes.builder import ProcessBuilder
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from ...calculations.feff_batch import FeffBatchCalculation, cores
from ...calculations.functions.average_spectra import average_spectra
from ...calculations.functions.sum_edges import sum_edges
from ...data.spectrum import SpectrumData
from ..crystal import CrystalWorkChain, check_question, site_name
from ..steps import computed, fill
from .base import MAX_WALLCLOCK, FeffBaseWorkChain
from .checks import refused

#: Sites in a job where the caller does not say. What a job costs AiiDA, some seconds, is several sites of EXAFS, but a fraction of one of
#: XANES, which is better computed beside the others than after them.
SITES_PER_JOB = {"EXAFS": 50, "XANES": 1}

#: A job of many sites gets the wall time of its protocol for so many sites a core, and each site a quarter of it: what does not end then
#: is run again alone.
SITES_PER_WALLCLOCK = 16

#: Asked for as one edge: L3 and L2, and their sum.
BOTH_EDGES = "L2,3"


def pack_seconds(seconds: int, sites: int, resources: Mapping[str, Any]) -> int:
    """Wall time of a job of many sites of which each alone would get so many seconds; see `SITES_PER_WALLCLOCK`."""
    return seconds * math.ceil(math.ceil(sites / cores(resources)) / SITES_PER_WALLCLOCK)


def _check_choice(*choices: str) -> Any:
    def check(value: orm.Str | None, _: Any) -> str | None:
        if value is not None and value.value not in choices:
            return f"{value.value!r} is unknown; use one of {', '.join(choices)}."
        return None

    return check


def _check_edge(value: orm.Str | None, _: Any) -> str | None:
    from ...engine.feff.parameters import FEFF_EDGES

    return _check_choice(*FEFF_EDGES, BOTH_EDGES)(value, None)  # type: ignore[no-any-return]


def _check_count(value: orm.Int | None, _: Any) -> str | None:
    return f"sites_per_job is {value.value}; give 1 or more." if value is not None and value.value < 1 else None


def _check_inputs(value: Any, namespace: Any) -> str | None:
    """Refuse overrides that FEFF would refuse or misread, an edge that is given twice, and a sum over edges of EXAFS."""
    if "structure" not in value or "structure" not in namespace:
        return None
    if words := check_question(value):
        return words
    overrides = value["overrides"].get_dict() if "overrides" in value else {}
    if words := refused(overrides, FeffBaseWorkChain.OVERRIDES, value["kind"].value if "kind" in value else "XANES"):
        return words
    parameters = overrides.get("parameters", {})
    if "edge" not in value:
        return None
    if "edge" in parameters:
        return "the edge is given twice; leave it out of the overrides."
    if value["edge"].value == BOTH_EDGES and "kind" in value and value["kind"].value == "EXAFS":
        return f"{BOTH_EDGES} is a sum of XANES; EXAFS is analysed edge by edge, so ask for L3 or L2."
    return None


class FeffCrystalWorkChain(CrystalWorkChain):
    """FEFF on every symmetry-inequivalent site of an element, and the mean weighted by multiplicity.

    Sites run side by side, each by `xastruct.feff.base`, or packed, some in one `xastruct.feff_batch`. A packed site that fails, or whose
    SCF does not settle, is run again alone, so that the handlers of `xastruct.feff.base` apply to it too.

    Inputs:
        code: `xastruct-feff`; packing needs it, another FEFF runs its sites alone.
        structure: the crystal; ordered.
        absorber: symbol of the absorbing element; or
        sites: indices of inequivalent sites of one element, from 0.
        kind: XANES or EXAFS.
        edge: the one that people measure if left out; `L2,3` for L3 and L2 and their sum, over one range (XANES).
        protocol: fast, balanced or stringent.
        overrides: of the protocol: see `FeffBaseWorkChain.get_builder_from_protocol`. `options.resources` says how many sites of a packed
            job run at a time.
        sites_per_job: 50 for EXAFS and 1 for XANES if left out.

    Outputs:
        spectrum: the mean, flat, on one grid.
        spectra: FEFF's own of each site, under `site_<index>`, with its multiplicity; for `L2,3` the sum.
        edge_spectra: for `L2,3`, FEFF's own of each edge, under `L3.site_<index>` and `L2.site_<index>`.
        output_parameters: what the logs say, under `site_<index>` for a site alone and `pack_<number>` for a packed job.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:  # type: ignore[override]
        """Inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input("code", valid_type=orm.AbstractCode, help="`xastruct-feff`, see `aiida_xastruct.tools.codes.bundled_feff_code`.")
        spec.inputs["kind"].validator, spec.inputs["kind"].help = _check_choice("XANES", "EXAFS"), "XANES or EXAFS."
        spec.inputs["edge"].validator = _check_edge
        spec.inputs["edge"].help = "K, L1, L2, L3, M4 or M5; L2,3 for the sum of L3 and L2; the one that people measure if left out."
        spec.inputs["overrides"].help = "Of the protocol: see `FeffBaseWorkChain.get_builder_from_protocol`."
        spec.input(
            "sites_per_job", valid_type=orm.Int, required=False, serializer=orm.to_aiida_type, validator=_check_count,
            help="How many sites a job computes; 50 for EXAFS and 1 for XANES if left out.",
        )  # fmt: skip
        spec.inputs.validator = _check_inputs
        spec.outline(cls.find_sites, cls.run_packs, cls.inspect_packs, cls.run_sites, cls.inspect_sites, cls.add_edges, cls.conclude)
        spec.output_namespace("edge_spectra", valid_type=SpectrumData, dynamic=True)
        spec.exit_code(305, "ERROR_NO_SUM", message="The spectra of the edges cannot be summed: {reason}")

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        structure: orm.StructureData,
        absorber: str | None = None,
        kind: str | None = None,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        edge: str | None = None,
        sites_per_job: int | None = None,
        sites: list[int] | None = None,
    ) -> ProcessBuilder:
        """Builder; see the inputs, and `FeffBaseWorkChain.get_builder_from_protocol` for the overrides."""
        given = {
            "code": code, "structure": structure, "absorber": absorber, "sites": sites, "kind": kind, "edge": edge, "protocol": protocol,
            "overrides": dict(overrides or {}) or None, "sites_per_job": sites_per_job,
        }  # fmt: skip
        return fill(cls.get_builder(), given)

    def find_sites(self) -> ExitCode | None:
        """The inequivalent sites of the absorber, and the edges to compute."""
        from ...engine.errors import XastructError
        from ...engine.feff.deck import resolve_edge

        overrides = self.inputs.overrides.get_dict() if "overrides" in self.inputs else {}
        asked = self.inputs.edge.value if "edge" in self.inputs else overrides.get("parameters", {}).get("edge", "")
        try:
            absorber, self.ctx.sites = self.absorbing_sites()
            resolve_edge(absorber)
        except XastructError as error:
            return self.exit_codes.ERROR_NO_SITES.format(reason=str(error))
        try:
            self.ctx.overrides = _overrides_by_edge(absorber, asked, overrides)
        except XastructError as error:
            return self.exit_codes.ERROR_INVALID_EDGE.format(reason=str(error))
        self.ctx.alone = [[edge, site] for edge in self.ctx.overrides for site in self.ctx.sites]
        # By `_name`: spectra to keep, spectra of packed sites whose SCF did not settle; edge of each packed job by its label.
        self.ctx.found, self.ctx.unsettled, self.ctx.packs = {}, {}, {}
        return None

    def run_packs(self) -> Any:
        """Some sites in one job, where there is more than one of them and that is asked for."""
        limit = self.inputs.sites_per_job.value if "sites_per_job" in self.inputs else SITES_PER_JOB[self.inputs.kind.value]
        chunks = [
            (edge, self.ctx.sites[start : start + limit])
            for edge in self.ctx.overrides
            for start in range(0, len(self.ctx.sites), limit)
            if len(self.ctx.sites[start : start + limit]) > 1
        ]
        for number, (edge, sites) in enumerate(chunks):
            label = f"pack_{number}"
            self.ctx.packs[label] = edge
            node = self.submit(self._pack(edge, sites, label))
            self.report(f"{label}: {len(sites)} sites {edge} in {node.process_label}<{node.pk}>")
            self.to_context(**{label: node})

    def _pack(self, edge: str, sites: list[int], label: str) -> ProcessBuilder:
        """Builder of a job of many sites, with the parameters and options that each would have alone."""
        single = self._site(edge, sites[0]).feff
        options = dict(single.metadata.options)
        builder = FeffBatchCalculation.get_builder()
        builder.code, builder.structure, builder.parameters = self.inputs.code, self.inputs.structure, single.parameters
        builder.sites = orm.List(sites)
        builder.site_seconds = orm.Int(max(1, options["max_wallclock_seconds"] // 4))
        seconds = pack_seconds(options["max_wallclock_seconds"], len(sites), options["resources"])
        options["max_wallclock_seconds"] = max(options["max_wallclock_seconds"], min(seconds, MAX_WALLCLOCK))
        builder.metadata.options = options
        builder.metadata.call_link_label = label
        return builder

    def _site(self, edge: str, site: int) -> ProcessBuilder:
        """Builder of the restarting workflow of one site."""
        return FeffBaseWorkChain.get_builder_from_protocol(
            self.inputs.code, self.inputs.structure, site, self.inputs.kind.value, self.inputs.protocol.value, self.ctx.overrides[edge]
        )

    def inspect_packs(self) -> None:
        """Take what is well; the rest runs again alone."""
        for label, edge in self.ctx.packs.items():
            node = self.ctx[label]
            if "statuses" not in node.outputs:
                self.report(f"{label}: {node.exit_message or node.process_state}; its sites run alone.")
                continue
            self.out(f"output_parameters.{label}", node.outputs.statuses)
            for row in node.outputs.statuses["sites"]:
                name = self._name(edge, row["site"])
                if row["label"]:
                    self.report(f"{label} site {row['site']}: {row['label']}, {row['reason']} It runs again, alone.")
                    if row["output"]:
                        self.ctx.unsettled[name] = node.outputs.spectra[site_name(row["site"])]
                else:
                    self.ctx.found[name] = node.outputs.spectra[site_name(row["site"])]
        self.ctx.alone = [[edge, site] for edge, site in self.ctx.alone if self._name(edge, site) not in self.ctx.found]

    def run_sites(self) -> Any:
        """One restarting FEFF workflow for each site that no job of many has given."""
        running = {}
        for edge, site in self.ctx.alone:
            name = self._name(edge, site)
            builder = self._site(edge, site)
            builder.metadata.call_link_label = name
            running[name] = self.submit(builder)
            self.report(f"site {site} {edge}: {running[name].process_label}<{running[name].pk}>")
        return ToContext(**running)

    def inspect_sites(self) -> ExitCode | None:
        """Keep what there is of each site; a mean needs all of them."""
        failed, self.ctx.doubtful = [], []
        for edge, site in self.ctx.alone:
            name = self._name(edge, site)
            node = self.ctx[name]
            if "output_parameters" in node.outputs:
                self.out(f"output_parameters.{name}", node.outputs.output_parameters)
            # A 4xx status comes with a spectrum and says what it lacks.
            spectrum = node.outputs.spectrum if "spectrum" in node.outputs else self.ctx.unsettled.get(name)
            if spectrum is None:
                failed.append(f"site {site}: {node.exit_message or f'exit status {node.exit_status}'}")
                continue
            self.ctx.found[name] = spectrum
            if not node.is_finished_ok:
                self.ctx.doubtful.append(name)
        for edge in self.ctx.overrides:
            for site in self.ctx.sites:
                if self._name(edge, site) in self.ctx.found:
                    output = f"edge_spectra.{edge}.site_{site}" if self._both else f"spectra.site_{site}"
                    self.out(output, self.ctx.found[self._name(edge, site)])
        return self.exit_codes.ERROR_SITE_FAILED.format(reason=" ".join(failed)) if failed else None

    def add_edges(self) -> ExitCode | None:
        """The spectrum of each site: that of its edge, or the sum of L3 and L2."""
        self.ctx.spectra = {}
        for site in self.ctx.sites:
            if not self._both:
                self.ctx.spectra[site_name(site)] = self.ctx.found[site_name(site)]
                continue
            l3, l2 = (self.ctx.found[self._name(edge, site)] for edge in ("L3", "L2"))
            total, node = computed(sum_edges, l3=l3, l2=l2)
            if not node.is_finished_ok:
                return self.exit_codes.ERROR_NO_SUM.format(reason=node.exit_message)
            self.out(f"spectra.site_{site}", total)
            self.ctx.spectra[site_name(site)] = total
        return None

    def conclude(self) -> ExitCode | None:
        """The mean, what is to be said about it, and which sites it is not sure of."""
        mean, node = computed(average_spectra, **self.ctx.spectra)
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_NO_MEAN.format(reason=node.exit_message)
        self.out("spectrum", mean)
        for words in mean.settings.get("warnings", []):
            self.report(f"Warning: {words}")
        names = ", ".join(sorted(self.ctx.doubtful))
        return self.exit_codes.WARNING_NOT_CONVERGED.format(reason=f"SCF did not settle for {names}") if names else None

    @property
    def _both(self) -> bool:
        """Whether both L edges are asked for."""
        return len(self.ctx.overrides) > 1

    def _name(self, edge: str, site: int) -> str:
        """Label of a site's workflow."""
        return f"{site_name(site)}_{edge}" if self._both else site_name(site)


def _overrides_by_edge(absorber: str, asked: str, overrides: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Overrides of the protocol for each edge to compute; L3 reaches as far as L2 does where their sum is asked for.

    Raises:
        XastructError: if the element has no such edge, or L3 and L2 are too far apart for one XANES.
    """
    from ...engine.errors import FeffError
    from ...engine.feff.deck import resolve_edge
    from ...engine.feff.parameters import MAX_ENERGY, FeffParameters
    from ...engine.spectrum import tabulated_edge

    parameters = overrides.get("parameters", {})
    if asked != BOTH_EDGES:
        edge = resolve_edge(absorber, asked)
        return {edge: {**overrides, "parameters": {**parameters, "edge": edge}}}
    low, high = FeffParameters.from_dict(parameters).energy_range
    for edge in ("L3", "L2"):
        resolve_edge(absorber, edge)
    # FEFF's own distance of the edges may differ from the tabulated one by some eV.
    apart = tabulated_edge(absorber, "L2") - tabulated_edge(absorber, "L3")
    reach = high + apart + 10.0
    if reach > MAX_ENERGY:
        raise FeffError(
            f"the L3 and L2 edges of {absorber} lie {apart:.0f} eV apart and a XANES reaches at most {MAX_ENERGY:.0f} eV; "
            "ask for each alone."
        )
    third = {**parameters, "edge": "L3", "energy_range": [low, round(reach, 1)]}
    return {"L3": {**overrides, "parameters": third}, "L2": {**overrides, "parameters": {**parameters, "edge": "L2"}}}

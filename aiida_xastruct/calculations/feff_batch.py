"""CalcJob that runs FEFF on many absorbers, of one crystal or of many, in one job."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.exceptions import InputValidationError
from aiida.common.folders import Folder
from aiida.engine.processes.calcjobs.calcjob import CalcJobProcessSpec

from ..data.spectra import SpectraData
from ..data.spectrum import SpectrumData
from .feff import FeffCalculation, check_absorber, check_parameters, feff_parameters
from .recovery import RecoveringCalcJob

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: Share of the job's wall time after which the batch ends by itself, so that what it has is kept whatever the scheduler does.
TIME_SHARE = 0.95


def _check_indices(sites: Any) -> str | None:
    """Refuse what are not distinct indices."""
    if not isinstance(sites, list) or not sites:
        return f"`sites` holds {sites!r}; give a list of site indices for each structure."
    if any(isinstance(site, bool) or not isinstance(site, int) or site < 0 for site in sites) or len(set(sites)) < len(sites):
        return f"`sites` holds {sites!r}; give each index, from 0, once."
    return None


def _check_inputs(value: Any, namespace: Any) -> str | None:
    """Refuse sites without a structure, and absorbers that FEFF cannot compute as far as that can be seen without reading a file."""
    if not {"structure", "structures", "sites"} <= set(namespace):
        return None  # a work chain that wraps this one may leave the ports out
    structure, sites = value.get("structure"), value.get("sites")
    if (structure is None) == (value.get("structures") is None):
        return "give either `structure`, one crystal, or `structures`, a file of many."
    if sites is None:
        return None  # the port itself says that it is missing
    resources = value.get("metadata", {}).get("options", {}).get("resources", {})
    if resources.get("num_machines", 1) != 1:
        return f"a batch runs on one machine; set num_machines to 1, not {resources['num_machines']}."
    if structure is None:
        wanted = sites_by_name(sites)
        if not wanted:
            return "`sites` of many structures is a Dict of lists of site indices by the structures' names, or a List of [name, indices]."
        labels = [label_of(name) for name in wanted]
        if len(set(labels)) < len(labels) or "" in labels:
            return "two structures have names that differ in no letter or digit, or one has none; rename them."
        return next(filter(None, map(_check_indices, wanted.values())), None)
    if not isinstance(sites, orm.List):
        return "`sites` of one structure is a List of site indices."
    checks = (check_absorber(structure, site, value.get("parameters")) for site in sites.get_list())
    return _check_indices(sites.get_list()) or next(filter(None, checks), None)


def sites_by_name(sites: orm.List | orm.Dict) -> dict[str, Any]:
    """The sites of each of many structures: of a Dict, or of a List of [name, indices]. What is neither gives none.

    A List takes names with a dot, as files have them; the keys of AiiDA's Dict hold none.
    """
    if isinstance(sites, orm.Dict):
        return sites.get_dict()
    rows = sites.get_list()
    named = all(isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) for row in rows)
    return dict(rows) if named else {}


def label_of(name: str) -> str:
    """The name of a structure as AiiDA can label a link with it: other characters than letters and digits become single underscores."""
    label = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    return f"s{label}" if label[:1].isdigit() else label


def folder_of(name: str, site: int) -> str:
    """Sub-folder of a site in the job's folder: `site_0`, or `name.site_0` among many crystals."""
    return ".".join(filter(None, (label_of(name), f"site_{site}")))


def crystals(inputs: Mapping[str, Any]) -> Iterator[tuple[str, Structure, list[int]]]:
    """Name, crystal and sites of each structure of a batch; the name is empty where there is but one.

    Raises:
        StructureError: if the file of structures is none, or lacks one that sites are asked of.
    """
    from ..engine.errors import StructureError
    from .functions.predict_batch import read_structures

    if "structure" in inputs:
        yield "", inputs["structure"].get_pymatgen_structure(), inputs["sites"].get_list()
        return
    wanted = sites_by_name(inputs["sites"])
    for name, crystal in read_structures(inputs["structures"]):
        if name in wanted:
            yield name, crystal, wanted.pop(name)
    if wanted:
        raise StructureError(f"the file of structures has none named {next(iter(wanted))!r}; correct `sites`.")


class FeffBatchCalculation(RecoveringCalcJob):
    """FEFF on many absorbers in one job: each (structure, site) pair in a sub-folder of its own, one after the other or some at a time.

    A site that fails, hangs or is killed leaves the others alone; `statuses` says what became of each. What a job costs AiiDA, some
    seconds, is paid once. The spectra of one crystal are a node each, those of many are one node together, which AiiDA stores faster than
    as many nodes. The code is `xastruct-feff`. As many sites run at a time as `resources` asks processes for; the batch ends by
    itself after 95 % of `max_wallclock_seconds`.

    Inputs:
        structure: an ordered crystal; or
        structures: many, as `aiida_xastruct.calculations.functions.predict_batch.structures_node` makes it.
        sites: indices of the absorbing atoms, from 0: a `List` for one crystal; for many a `Dict` of lists by their names, or a
            `List` of [name, indices], which takes names with a dot.
        parameters: of all of them, as for `xastruct.feff`.
        site_seconds: wall time after which a site is stopped.

    Outputs:
        spectra: of one crystal, `spectra.site_<index>`, as `xastruct.feff` gives it.
        collection: of many crystals, a `SpectraData`: `collection.get_spectrum(name, site)`, or `for item in collection`.
        statuses: `Dict` with `sites`, a list of rows with `structure` (its name), `site`, `exit_status` (that `xastruct.feff` would end
            with), `label`, `reason`, `output` (the output that has the spectrum) and `facts`, which are its `output_parameters`.
    """

    #: A site is asked for and judged as in a job of its own.
    CACHE_VERSION = FeffCalculation.CACHE_VERSION

    #: Sites without a deck, and why: the only input file that is no deck.
    REFUSED = "refused.json"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Inputs, outputs and exit codes."""
        super().define(spec)
        spec.input("structure", valid_type=orm.StructureData, required=False, help="The crystal; ordered.")
        spec.input("structures", valid_type=orm.SinglefileData, required=False, help="Many crystals in one file.")
        spec.input(
            "sites", valid_type=(orm.List, orm.Dict), serializer=orm.to_aiida_type,
            help="0-based indices of the absorbing atoms; by the name of the structure where there are many.",
        )  # fmt: skip
        spec.input(
            "parameters", valid_type=orm.Dict, required=False, validator=check_parameters, serializer=orm.to_aiida_type,
            help="What to compute: fields of `aiida_xastruct.engine.feff.FeffParameters`; by default a fast XANES at the usual edge.",
        )  # fmt: skip
        spec.input(
            "site_seconds", valid_type=orm.Int, required=False, serializer=orm.to_aiida_type, help="Wall time of each site, in seconds."
        )
        spec.inputs.validator = _check_inputs
        options = spec.inputs["metadata"]["options"]
        options["parser_name"].default = "xastruct.feff_batch"
        options["resources"].default = {"num_machines": 1, "num_mpiprocs_per_machine": 1}
        options["withmpi"].default = False
        options["output_filename"].default = "xastruct-feff.log"
        options["max_wallclock_seconds"].default = 3600

        spec.output_namespace("spectra", valid_type=SpectrumData, dynamic=True, help="Of one crystal: `site_<index>`.")
        spec.output("collection", valid_type=SpectraData, required=False, help="Of many crystals: all spectra.")
        spec.output("statuses", valid_type=orm.Dict, help="What became of each site.")
        spec.default_output_node = "statuses"

        spec.exit_code(301, "ERROR_ALL_SITES_FAILED", message="FEFF gave no spectrum of any of {count} sites; the first: {reason}")
        # What a new run may mend is not taken from a cache.
        spec.exit_code(
            302, "ERROR_NO_SITE_ENDED", invalidates_cache=True,
            message="No site of {count} gave a spectrum, and some were stopped or not started; the first: {reason}",
        )  # fmt: skip
        spec.exit_code(
            410, "WARNING_SITES_FAILED", message="FEFF gave no spectrum, or no settled one, of {count} sites; the first: {reason}"
        )
        spec.exit_code(
            411, "WARNING_SITES_STOPPED", invalidates_cache=True,
            message="{count} sites have no spectrum or no settled one, some because they were stopped or not started; the first: {reason}",
        )  # fmt: skip

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write a sub-folder with its feff.inp for each site, and say what to run and to fetch."""
        from ..engine.feff.batch import ARCHIVE_FILE, REPORT_FILE

        refused = {}
        for name, site, deck, reason in self._decks():
            if deck is None:
                refused[folder_of(name, site)] = reason
            else:
                with folder.get_subfolder(folder_of(name, site), create=True).open("feff.inp", "w") as stream:
                    stream.write(deck)
        with folder.open(self.REFUSED, "w") as stream:
            json.dump(refused, stream, indent=1)
        seconds = self.options.max_wallclock_seconds
        code = CodeInfo()
        code.code_uuid = self.inputs.code.uuid
        code.cmdline_params = ["batch", "--cores", str(cores(self.options.resources))]
        if seconds:
            code.cmdline_params += ["--total", str(int(TIME_SHARE * seconds))]
        if "site_seconds" in self.inputs:
            code.cmdline_params += ["--timeout", str(self.inputs.site_seconds.value)]
        code.stdout_name = self.options.output_filename
        code.stderr_name = "xastruct-feff.stderr"
        info = CalcInfo()
        info.codes_info = [code]
        info.retrieve_list = [REPORT_FILE, ARCHIVE_FILE, code.stdout_name, code.stderr_name]
        return info

    def _decks(self) -> Iterator[tuple[str, int, str | None, str]]:
        """Name, site, deck, and the reason where FEFF cannot compute the site."""
        from ..engine.errors import XastructError
        from ..engine.feff.deck import write_deck

        parameters = feff_parameters(self.inputs.get("parameters"))
        try:
            for name, crystal, sites in crystals(self.inputs):
                for site in sites:
                    try:
                        deck, reason = write_deck(crystal, site, parameters), ""
                    except XastructError as error:
                        deck, reason = None, str(error)
                    yield name, site, deck, reason
        except XastructError as error:
            raise InputValidationError(str(error)) from error


def cores(resources: Mapping[str, Any]) -> int:
    """How many sites a job with these resources runs at a time."""
    processes = resources.get("tot_num_mpiprocs") or resources.get("num_mpiprocs_per_machine") or 1
    return int(processes) * int(resources.get("num_cores_per_mpiproc") or 1)

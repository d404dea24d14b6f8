"""CalcJob that runs FEFF on one absorber of a crystal, or on a deck of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine.processes.calcjobs.calcjob import CalcJobProcessSpec

from ..data.spectrum import SpectrumData
from .checks import refusal
from .recovery import RecoveringCalcJob

if TYPE_CHECKING:
    from ..engine.feff.outcome import Request
    from ..engine.feff.parameters import FeffParameters


def check_parameters(value: orm.Dict | None, _: Any) -> str | None:
    """Refuse parameters that FEFF would refuse or misread."""
    from ..engine.feff.parameters import FeffParameters

    return refusal(FeffParameters.from_dict, value)


def _check_inputs(value: Any, namespace: Any) -> str | None:
    """Refuse a structure without a site, a structure beside a deck, and an absorber that FEFF cannot compute."""
    if not {"structure", "feff_input"} & set(namespace):
        return None  # a work chain that wraps this one may leave the ports out
    structure, deck = value.get("structure"), value.get("feff_input")
    if (structure is None) == (deck is None):
        return "give either `structure` and `site`, or `feff_input` with a deck of your own."
    if deck is not None:
        given = [name for name in ("site", "parameters") if value.get(name) is not None]
        return f"`{given[0]}` has no effect beside `feff_input`; leave it out." if given else _check_deck(deck.get_content())
    if value.get("site") is None:
        return "`site` is missing; give the 0-based index of the absorbing atom in `structure`."
    return check_absorber(structure, value["site"].value, value.get("parameters"))


def _check_deck(deck: str) -> str | None:
    from ..engine.errors import XastructError
    from ..engine.feff.deck import check_own_deck

    try:
        check_own_deck(deck)
    except XastructError as error:
        return str(error)
    return None


def check_absorber(structure: orm.StructureData, site: int, parameters: orm.Dict | None) -> str | None:
    """Refuse a site that does not exist, is disordered, or holds an element that FEFF cannot compute."""
    from ..engine.errors import XastructError
    from ..engine.feff.deck import resolve_edge

    kinds = [structure.get_kind(item.kind_name) for item in structure.sites]
    if not 0 <= site < len(kinds):
        return f"`site` is {site}; `structure` has sites 0 to {len(kinds) - 1}."
    if kinds[site].is_alloy or kinds[site].has_vacancies:
        return f"site {site} is disordered; give an ordered supercell."
    try:
        resolve_edge(kinds[site].symbol, parameters.get_dict().get("edge", "") if parameters is not None else "")
    except XastructError as error:
        return str(error)
    return None


class FeffCalculation(RecoveringCalcJob):
    """FEFF on one absorber: XANES by FEFF10, EXAFS by FEFF 8.5L, or whatever `feff.inp` of one's own asks for.

    The code is `xastruct-feff`, which runs the FEFF that comes with this package (`aiida_xastruct.tools.codes.bundled_feff_code` makes it
    on localhost), or any executable of FEFF 6 to 10 that reads `feff.inp` in its folder and writes `xmu.dat`, or paths as FEFF 6L does.
    """

    #: Raised by a change of what a job asks FEFF for, or of what is read of its answer, so that AiiDA's cache gives no older run. It is
    #: part of a job's hash, in which the defaults of `FeffParameters` and the text of the deck are not.
    CACHE_VERSION = 1

    INPUT_FILE = "feff.inp"
    OUTPUT_FILE = "xastruct-feff.log"
    RETRIEVED = ("xmu.dat", "chi.dat", "xastruct-feff.json", "xastruct-feff.err", "xastruct-feff.log")

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Inputs, outputs and exit codes."""
        super().define(spec)
        spec.input("structure", valid_type=orm.StructureData, required=False, help="The crystal; ordered.")
        spec.input("site", valid_type=orm.Int, required=False, serializer=orm.to_aiida_type, help="0-based index of the absorbing atom.")
        spec.input(
            "parameters", valid_type=orm.Dict, required=False, validator=check_parameters, serializer=orm.to_aiida_type,
            help="What to compute: fields of `aiida_xastruct.engine.feff.FeffParameters`; by default a fast XANES at the usual edge.",
        )  # fmt: skip
        spec.input("feff_input", valid_type=orm.SinglefileData, required=False, help="A feff.inp of your own in place of the others.")
        spec.inputs.validator = _check_inputs
        options = spec.inputs["metadata"]["options"]
        options["parser_name"].default = "xastruct.feff"
        options["resources"].default = {"num_machines": 1, "num_mpiprocs_per_machine": 1}
        options["withmpi"].default = False
        options["output_filename"].default = cls.OUTPUT_FILE
        options["input_filename"].default = cls.INPUT_FILE
        options["max_wallclock_seconds"].default = 3600

        spec.output("spectrum", valid_type=SpectrumData, help="The spectrum of the absorber.")
        spec.output(
            "output_parameters", valid_type=orm.Dict, help="What the logs say: version, SCF, charges, CPU seconds, warnings, problems."
        )
        spec.default_output_node = "output_parameters"

        # What says nothing about the input is not taken from a cache: a handler that runs it again must get a run.
        spec.exit_code(301, "ERROR_NO_OUTPUT", message="FEFF wrote no spectrum: {reason}", invalidates_cache=True)
        spec.exit_code(302, "ERROR_OUTPUT_DAMAGED", message="FEFF's spectrum cannot be used: {reason}", invalidates_cache=True)
        spec.exit_code(303, "ERROR_INPUT_REFUSED", message="FEFF refused its input: {reason}")
        spec.exit_code(304, "ERROR_MISSING_POTENTIAL", message="A potential has no atom in the cluster: {reason}")
        spec.exit_code(305, "ERROR_MISSING_ABSORBER", message="The deck has not exactly one absorber: {reason}")
        spec.exit_code(306, "ERROR_CLUSTER_TOO_LARGE", message="The cluster is larger than FEFF's arrays: {reason}")
        spec.exit_code(307, "ERROR_ATOMS_TOO_CLOSE", message="Two atoms overlap: {reason}")
        spec.exit_code(308, "ERROR_POTENTIALS_FAILED", message="The muffin-tin potentials could not be made: {reason}")
        spec.exit_code(309, "ERROR_NEGATIVE_OCCUPATION", message="An orbital got an impossible occupation: {reason}")
        spec.exit_code(310, "ERROR_OUT_OF_WALLTIME", message="FEFF ran out of time: {reason}", invalidates_cache=True)
        spec.exit_code(311, "ERROR_KILLED", message="FEFF was killed: {reason}", invalidates_cache=True)
        spec.exit_code(312, "ERROR_NOT_INSTALLED", message="The computer lacks FEFF: {reason}", invalidates_cache=True)
        spec.exit_code(320, "ERROR_IMPLAUSIBLE", message="FEFF ended well but its spectrum fails the sanity check: {reason}")
        spec.exit_code(410, "WARNING_SCF_NOT_CONVERGED", message="SCF ended before it settled; the spectrum is there: {reason}")

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write feff.inp and say what to run and to fetch."""
        from ..engine.feff.path_files import PATH_FILES, PATH_LIST

        text = self.inputs.feff_input.get_content() if "feff_input" in self.inputs else self._deck()
        with folder.open(self.INPUT_FILE, "w") as stream:
            stream.write(text)
        code = CodeInfo()
        code.code_uuid = self.inputs.code.uuid
        code.stdout_name = self.options.output_filename
        code.stderr_name = "xastruct-feff.stderr"
        info = CalcInfo()
        info.codes_info = [code]
        # FEFF's logs are named by module, and which are there depends on the engine.
        info.retrieve_list = [*self.RETRIEVED, "xastruct-feff.stderr", ("log*.dat", ".", 1)]
        if "feff_input" in self.inputs:  # FEFF 6L ends with its paths, and leaves their sum to its readers
            info.retrieve_list += [(PATH_FILES, ".", 1), PATH_LIST, "feff.run"]
        return info

    def _deck(self) -> str:
        from aiida.common.exceptions import InputValidationError

        from ..engine.errors import XastructError
        from ..engine.feff.deck import write_deck

        try:
            structure = self.inputs.structure.get_pymatgen_structure()
            return write_deck(structure, self.inputs.site.value, feff_parameters(self.inputs.get("parameters")))
        except XastructError as error:
            raise InputValidationError(str(error)) from error


def request(absorber: str, parameters: FeffParameters) -> Request:
    """What is asked of FEFF for an absorber."""
    from ..engine.feff.deck import resolve_edge
    from ..engine.feff.outcome import Request

    return Request(absorber, resolve_edge(absorber, parameters.edge), parameters.kind, parameters.to_dict())


def feff_parameters(node: orm.Dict | None) -> FeffParameters:
    """`FeffParameters` of an input node; the defaults where there is none."""
    from ..engine.feff.parameters import FeffParameters

    return FeffParameters.from_dict(node.get_dict()) if node is not None else FeffParameters()

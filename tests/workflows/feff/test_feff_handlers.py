"""Handlers of the restarting workflow, each fed with a finished calculation; FEFF does not run."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from pymatgen.core import Lattice, Structure

from aiida_xastruct.calculations.feff import FeffCalculation
from aiida_xastruct.workflows.feff.base import FeffBaseWorkChain

from ..handlers import inspect_ended

CODES = FeffCalculation.exit_codes


@pytest.fixture
def chain(aiida_profile_clean, aiida_code_installed):
    """Function (parameters, own deck) -> a workflow that is set up and has not run anything."""

    def make(own_deck: bool = False, wallclock: int = 3600, **parameters) -> FeffBaseWorkChain:
        code = aiida_code_installed(default_calc_job_plugin="xastruct.feff", filepath_executable="/bin/true")
        options = {"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}, "max_wallclock_seconds": wallclock}
        inputs = {"code": code, "metadata": {"options": options}}
        if own_deck:
            inputs["feff_input"] = orm.SinglefileData.from_string("EXAFS\n", filename="feff.inp")
        else:
            crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.212), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
            inputs |= {"structure": orm.StructureData(pymatgen=crystal), "site": orm.Int(0), "parameters": orm.Dict(parameters)}
        process = instantiate_process(get_manager().get_runner(), FeffBaseWorkChain, feff=inputs)
        process.setup()
        return process

    return make


def finish(process: FeffBaseWorkChain, name: str, **outputs):
    """Let the workflow inspect a calculation that ended with an exit code; the exit code it returns, None to run again."""
    node = orm.CalcJobNode(process_type="aiida.calculations:xastruct.feff")
    return inspect_ended(process, getattr(CODES, name), node, lambda _: outputs)


def parameters(process: FeffBaseWorkChain) -> dict:
    return process.ctx.inputs["parameters"].get_dict()


@pytest.mark.parametrize(
    "name", ["ERROR_INPUT_REFUSED", "ERROR_MISSING_POTENTIAL", "ERROR_MISSING_ABSORBER", "ERROR_ATOMS_TOO_CLOSE", "ERROR_NOT_INSTALLED"]
)
def test_unrecoverable(chain, name):
    answer = finish(chain(), name)
    assert answer.status == FeffBaseWorkChain.exit_codes.ERROR_UNRECOVERABLE.status
    assert getattr(CODES, name).message.split("{")[0].strip() in answer.message


def test_cluster_too_large_shrinks_and_ends(chain):
    process = chain(kind="EXAFS", max_atoms=2000)
    assert finish(process, "ERROR_CLUSTER_TOO_LARGE") is None
    assert parameters(process)["max_atoms"] == 800
    assert parameters(process)["kind"] == "EXAFS"
    assert finish(chain(max_atoms=100), "ERROR_CLUSTER_TOO_LARGE").status == 304
    assert finish(chain(own_deck=True), "ERROR_CLUSTER_TOO_LARGE").status == 304


def test_walltime_doubles_then_protocol_steps_down(chain):
    process = chain(protocol="balanced", fms_radius=7.0)
    assert finish(process, "ERROR_OUT_OF_WALLTIME") is None
    assert process.ctx.inputs["metadata"]["options"]["max_wallclock_seconds"] == 7200
    assert parameters(process)["protocol"] == "balanced"
    assert finish(process, "ERROR_OUT_OF_WALLTIME") is None
    assert parameters(process)["protocol"] == "fast"
    assert parameters(process)["fms_radius"] is None
    assert finish(process, "ERROR_OUT_OF_WALLTIME").status == 304


def test_walltime_has_a_limit(chain):
    process = chain(protocol="fast", wallclock=80_000)
    assert finish(process, "ERROR_OUT_OF_WALLTIME").status == 304


def test_killed_runs_again_twice(chain):
    process = chain(kind="EXAFS")
    before = process.ctx.inputs["parameters"].uuid
    assert finish(process, "ERROR_KILLED") is None
    assert finish(process, "ERROR_KILLED") is None
    assert process.ctx.inputs["parameters"].uuid == before
    assert finish(process, "ERROR_KILLED").status == 304


def test_negative_occupation_drops_ion_then_mixes_less(chain):
    process = chain(cards={"ION": [0, 3], "RSIGMA": []})
    assert finish(process, "ERROR_NEGATIVE_OCCUPATION") is None
    assert parameters(process)["cards"] == {"RSIGMA": []}
    assert finish(process, "ERROR_NEGATIVE_OCCUPATION") is None
    assert parameters(process)["scf_mixing"] == pytest.approx(0.1)
    assert finish(process, "ERROR_NEGATIVE_OCCUPATION").status == 304


@pytest.mark.parametrize("name", ["ERROR_POTENTIALS_FAILED", "ERROR_IMPLAUSIBLE"])
def test_exafs_goes_to_the_other_engine_once(chain, name):
    process = chain(kind="EXAFS")
    assert finish(process, name) is None
    assert parameters(process)["engine"] == "feff10"
    assert finish(process, name).status == 304
    assert finish(chain(kind="XANES"), name).status == 304


def test_scf_not_converged_runs_again_then_keeps_the_spectrum(chain, spectrum):
    from aiida_xastruct.data.spectrum import SpectrumData

    process = chain(kind="XANES")
    kept = {"spectrum": SpectrumData.from_engine(spectrum), "output_parameters": orm.Dict({"scf_converged": False})}
    assert finish(process, "WARNING_SCF_NOT_CONVERGED") is None
    assert parameters(process)["scf_mixing"] == pytest.approx(0.1)
    assert parameters(process)["scf_iterations"] == 20
    assert finish(process, "WARNING_SCF_NOT_CONVERGED", **kept).status == 410
    assert process.outputs["spectrum"].uuid == kept["spectrum"].uuid


@pytest.mark.parametrize("name", ["ERROR_NO_OUTPUT", "ERROR_POTENTIALS_FAILED"])
def test_a_spectrum_that_did_not_settle_is_kept_where_the_next_run_fails(chain, spectrum, name):
    from aiida_xastruct.data.spectrum import SpectrumData

    process = chain(kind="XANES")
    kept = {"spectrum": SpectrumData.from_engine(spectrum), "output_parameters": orm.Dict({"scf_converged": False})}
    assert finish(process, "WARNING_SCF_NOT_CONVERGED", **kept) is None
    assert finish(process, name).status == 410
    assert process.outputs["spectrum"].uuid == kept["spectrum"].uuid


def test_unknown_failure_ends_the_workflow(chain):
    assert finish(chain(), "ERROR_NO_OUTPUT").status == FeffBaseWorkChain.exit_codes.ERROR_UNHANDLED_FAILURE.status


def test_protocols_and_overrides_are_checked(aiida_profile_clean, aiida_code_installed):
    code = aiida_code_installed(default_calc_job_plugin="xastruct.feff", filepath_executable="/bin/true")
    crystal = orm.StructureData(pymatgen=Structure(Lattice.cubic(3.0), ["Fe"], [[0, 0, 0]]))
    build = FeffBaseWorkChain.get_builder_from_protocol
    assert set(FeffBaseWorkChain.get_protocols()) == {"fast", "balanced", "stringent"}
    assert build(code, crystal, 0, protocol="balanced").feff.parameters["protocol"] == "balanced"
    assert build(code, crystal, 0, overrides={"parameters": {"k_max": 15}}).feff.parameters["k_max"] == 15
    with pytest.raises(ValueError, match="protocol 'quick' is unknown"):
        build(code, crystal, 0, protocol="quick")
    with pytest.raises(ValueError, match="override 'clean_workdir' is unknown"):
        build(code, crystal, 0, overrides={"clean_workdir": True})
    with pytest.raises(ValueError, match="did you mean 'scf_radius'"):
        build(code, crystal, 0, overrides={"parameters": {"scf_radus": 4}})

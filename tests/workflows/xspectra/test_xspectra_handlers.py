"""Handlers of XSpectra's restarting workflow, each fed with a finished calculation; XSpectra does not run."""

from __future__ import annotations

import io

import numpy as np
import pytest
from aiida import orm
from aiida.engine import ExitCode
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager

from aiida_xastruct.calculations.xspectra import XspectraCalculation
from aiida_xastruct.workflows.xspectra.base import XspectraBaseWorkChain

from ..handlers import inspect_ended

CODES = XspectraCalculation.exit_codes

WELL = ExitCode(0)


@pytest.fixture
def chain(aiida_profile_clean, aiida_code_installed, aiida_localhost, tmp_path):
    """A workflow that is set up and has not run anything."""
    code = aiida_code_installed(default_calc_job_plugin="xastruct.xspectra", filepath_executable="/bin/true")
    points = orm.KpointsData()
    points.set_kpoints_mesh([1, 1, 1])
    inputs = {
        "code": code,
        "parent_folder": orm.RemoteData(computer=aiida_localhost, remote_path=str(tmp_path)),
        "ground_state": orm.SinglefileData(io.BytesIO(b"nothing"), filename="C.UPF"),
        "kpoints": points,
        "polarisation": orm.List([1.0, 0.0, 0.0]),
        "species": orm.Int(1),
        "parameters": orm.Dict({"iterations": 500}),
    }
    process = instantiate_process(get_manager().get_runner(), XspectraBaseWorkChain, xspectra=inputs)
    process.setup()
    return process


def finish(process: XspectraBaseWorkChain, code: ExitCode, unconverged: int = 0) -> ExitCode | None:
    """Let the workflow inspect a calculation that ended with an exit code; the exit code it returns, None if there is none."""
    node = orm.CalcJobNode(process_type="aiida.calculations:xastruct.xspectra")

    def outputs(node: orm.CalcJobNode) -> dict[str, orm.Data]:
        curve = orm.XyData()
        curve.set_x(np.array([0.0, 1.0]), "energy", "eV")
        curve.set_y(np.array([0.0, 1.0]), "sigma", "n/a")
        folder = orm.RemoteData(computer=process.inputs.xspectra.parent_folder.computer, remote_path=f"/tmp/{node.pk}")
        return {"remote_folder": folder, "spectrum": curve, "output_parameters": orm.Dict({"unconverged": unconverged})}

    return inspect_ended(process, code, node, outputs)


def test_it_ends_itself_before_its_time_is_up(chain):
    assert chain.ctx.inputs["parameters"]["time_limit"] == pytest.approx(0.9 * 3600)


def test_what_is_refused_is_not_run_again(chain):
    answer = finish(chain, CODES.ERROR_INPUT_REFUSED)
    assert answer.status == XspectraBaseWorkChain.exit_codes.ERROR_UNRECOVERABLE.status
    assert "refused its input" in answer.message


def test_in_time_it_goes_on_from_where_it_was(chain):
    assert finish(chain, CODES.ERROR_TIME_LIMIT) is None
    assert chain.ctx.inputs["previous"].uuid == chain.ctx.children[0].outputs.remote_folder.uuid
    assert finish(chain, WELL) is None
    assert chain.ctx.is_finished


def test_killed_it_starts_again_with_twice_the_time(chain):
    finish(chain, CODES.ERROR_TIME_LIMIT)
    assert finish(chain, CODES.ERROR_KILLED) is None
    assert "previous" not in chain.ctx.inputs
    assert chain.ctx.inputs["metadata"]["options"]["max_wallclock_seconds"] == 7200
    assert chain.ctx.inputs["parameters"]["time_limit"] == pytest.approx(0.9 * 7200)


def test_three_times_the_vectors_once_then_the_spectrum_is_kept(chain):
    assert finish(chain, CODES.WARNING_LANCZOS_NOT_CONVERGED, 2) is None
    assert chain.ctx.inputs["parameters"]["iterations"] == 1500
    answer = finish(chain, CODES.WARNING_LANCZOS_NOT_CONVERGED, 1)
    assert answer.status == XspectraBaseWorkChain.exit_codes.WARNING_NOT_CONVERGED.status
    assert "spectrum" in chain.outputs


def test_k_points_that_an_earlier_part_left_unconverged_are_not_forgotten(chain):
    """A run that goes on says nothing of what the run before it computed."""
    finish(chain, CODES.ERROR_TIME_LIMIT, 1)
    assert finish(chain, WELL) is None
    assert not chain.ctx.is_finished
    assert chain.ctx.inputs["parameters"]["iterations"] == 1500
    assert "previous" not in chain.ctx.inputs
    finish(chain, CODES.ERROR_TIME_LIMIT, 2)
    answer = finish(chain, WELL)
    assert answer.status == XspectraBaseWorkChain.exit_codes.WARNING_NOT_CONVERGED.status
    assert "2 k points of an earlier part" in answer.message
    assert "spectrum" in chain.outputs

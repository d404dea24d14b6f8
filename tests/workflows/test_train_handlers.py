"""Handlers of the training workflow, each fed with a finished calculation; nothing is launched."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager

from aiida_xastruct.calculations.train import TrainCalculation
from aiida_xastruct.data.dataset import DatasetData
from aiida_xastruct.workflows.train import TrainWorkChain

from .handlers import inspect_ended

CODES, EXIT = TrainCalculation.exit_codes, TrainWorkChain.exit_codes
CONFIG = {"training": {"learning_rate": 0.002}, "training_of": {"forward-XANES": {"batch_size": 10, "learning_rate": 0.004, "epochs": 3}}}


@pytest.fixture
def inputs(aiida_profile_clean, aiida_code_installed, dataset_file):
    code = aiida_code_installed(default_calc_job_plugin="xastruct.train", filepath_executable="/bin/true")
    return {"code": code, "dataset": DatasetData.from_file(dataset_file)}


@pytest.fixture
def chain(inputs):
    """Function (inputs of the calculation) -> a workflow that is set up and has not run anything."""

    def make(**own) -> TrainWorkChain:
        options = {"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}, "max_wallclock_seconds": 1000}
        given = inputs | {"config": orm.Dict(CONFIG), "metadata": {"options": options}} | own
        process = instantiate_process(get_manager().get_runner(), TrainWorkChain, train=given)
        process.setup()
        return process

    return make


@pytest.fixture
def finish(aiida_localhost):
    """Function: the workflow inspects a job that ended with an exit code after so many epochs; the code it returns, None to run again."""

    def end(process: TrainWorkChain, name: str, epochs: int = 0):
        node = orm.CalcJobNode(process_type="aiida.calculations:xastruct.train", computer=aiida_localhost)
        return inspect_ended(
            process,
            getattr(CODES, name),
            node,
            lambda node: {
                "report": orm.Dict({"epochs_done": epochs}),
                "remote_folder": orm.RemoteData(computer=aiida_localhost, remote_path=f"/scratch/{node.pk}"),
            },
        )

    return end


def checkpoint(process: TrainWorkChain) -> str | None:
    node = process.ctx.inputs.get("checkpoint")
    return node.get_remote_path() if node is not None else None


@pytest.mark.parametrize("name", ["ERROR_INPUT_REFUSED", "ERROR_DATASET_UNFIT", "ERROR_ALGORITHM_VERSION"])
def test_what_is_refused_stays_refused(chain, finish, name):
    answer = finish(chain(), name)
    assert answer.status == EXIT.ERROR_CANNOT_TRAIN.status
    assert getattr(CODES, name).message in answer.message


def test_out_of_time_goes_on_while_epochs_are_gained(chain, finish):
    process = chain()
    for epochs in (3, 7, 9):
        assert finish(process, "WARNING_OUT_OF_WALLTIME", epochs) is None
        assert checkpoint(process) == process.ctx.children[-1].outputs.remote_folder.get_remote_path()
    answer = finish(process, "WARNING_OUT_OF_WALLTIME", 9)
    assert answer.status == EXIT.ERROR_NO_PROGRESS.status
    assert "more than 1000 s" in answer.message
    assert finish(chain(), "ERROR_OUT_OF_WALLTIME").status == EXIT.ERROR_NO_PROGRESS.status


def test_killed_goes_on_twice_without_an_epoch_in_between(chain, finish):
    process = chain()
    assert finish(process, "ERROR_KILLED") is None
    assert checkpoint(process) is None
    assert finish(process, "WARNING_KILLED", 4) is None
    assert checkpoint(process) is not None
    assert finish(process, "WARNING_KILLED", 4) is None
    assert finish(process, "WARNING_KILLED", 4).status == EXIT.ERROR_UNRECOVERABLE.status


def test_out_of_memory_halves_the_batch_down_to_a_floor(chain, finish):
    process = chain()
    finish(process, "WARNING_KILLED", 2)
    sizes = []
    while (answer := finish(process, "ERROR_OUT_OF_MEMORY")) is None:
        config = process.ctx.inputs["config"].get_dict()
        sizes.append((config["training"]["batch_size"], config["training_of"]["forward-XANES"]["batch_size"]))
        assert checkpoint(process) is None
    assert sizes == [(64, 8), (32, 8), (16, 8), (8, 8)]
    assert answer.status == EXIT.ERROR_OUT_OF_MEMORY.status
    assert config["training"]["learning_rate"] == 0.002


@pytest.mark.parametrize("name", ["ERROR_DIVERGED", "ERROR_STOPPED_AS_DIVERGED"])
def test_diverged_tries_a_quarter_of_the_rate_once(chain, finish, name):
    process = chain()
    finish(process, "WARNING_KILLED", 2)
    assert finish(process, name, 2) is None
    config = process.ctx.inputs["config"].get_dict()
    assert (config["training"]["learning_rate"], config["training_of"]["forward-XANES"]["learning_rate"]) == (0.0005, 0.001)
    assert config["training_of"]["forward-XANES"]["epochs"] == 3
    assert checkpoint(process) is None
    assert finish(process, "WARNING_OUT_OF_WALLTIME", 1) is None  # a new training, whose first epoch is a gain
    assert finish(process, name).status == EXIT.ERROR_DIVERGED.status


def test_a_missing_gpu_gives_way_to_a_cpu(chain, finish):
    process = chain(device=orm.Str("cuda"))
    assert finish(process, "ERROR_NO_DEVICE", 3) is None
    assert process.ctx.inputs["device"].value == "cpu"
    assert checkpoint(process) is not None
    assert finish(process, "ERROR_NO_DEVICE").status == EXIT.ERROR_UNRECOVERABLE.status
    assert finish(chain(), "ERROR_NO_DEVICE") is None


def test_unknown_failures_end_the_workflow(chain, finish):
    assert finish(chain(), "ERROR_FAILED").status == EXIT.ERROR_UNHANDLED_FAILURE.status


def test_protocols_and_overrides_are_checked(inputs):
    build = TrainWorkChain.get_builder_from_protocol
    assert set(TrainWorkChain.get_protocols()) == {"fast", "balanced", "stringent"}
    for protocol in TrainWorkChain.get_protocols():
        build(**inputs, protocol=protocol, tasks=["forward-EXAFS"])
    builder = build(**inputs, protocol="fast", seed=3, device="cpu", overrides={"config": {"training": {"epochs": 3}}})
    assert (builder.train.config["training"]["epochs"], builder.train.config["training"]["members"]) == (3, 1)
    assert (builder.train.seed.value, builder.train.device.value) == (3, "cpu")
    assert builder.train.monitors["loss"]["entry_point"] == "xastruct.training_loss"
    with pytest.raises(ValueError, match="protocol 'quick' is unknown"):
        build(**inputs, protocol="quick")
    with pytest.raises(ValueError, match="override 'epochs' is unknown"):
        build(**inputs, overrides={"epochs": 3})
    with pytest.raises(ValueError, match=r"unknown key training.epoch"):
        build(**inputs, overrides={"config": {"training": {"epoch": 4}}})


def test_the_last_protocol_is_the_family_that_ships():
    from pathlib import Path

    import yaml

    import aiida_xastruct
    from aiida_xastruct.engine.configuration import FamilyConfig

    root = Path(aiida_xastruct.__file__).parent
    own = yaml.safe_load((root / "workflows" / "train_protocols.yaml").read_text())["protocols"]["stringent"]["config"]
    shipped = FamilyConfig.from_dict(yaml.safe_load((root.parent / "configs" / "default.yaml").read_text()))
    config = FamilyConfig.from_dict(own)
    for name in ("architecture", "training", "training_of", "simulated"):
        assert getattr(config, name) == getattr(shipped, name), name


def test_tasks_without_spectra_are_refused_before_a_job(chain):
    with pytest.raises(ValueError, match="no XANES spectra"):
        chain(config=orm.Dict({"tasks": ["forward-XANES"]}))

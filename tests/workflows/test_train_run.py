"""Whole trainings by AiiDA on this machine, by the real `xastruct`: one without a GPU, one killed, one that diverges and hangs."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from aiida import orm
from aiida.engine import run_get_node
from click.testing import CliRunner

from aiida_xastruct.calculations.train import TrainCalculation
from aiida_xastruct.cli.root import cli
from aiida_xastruct.data.dataset import DatasetData
from aiida_xastruct.groups.family import ModelFamily
from aiida_xastruct.workflows.train import TrainWorkChain

pytestmark = pytest.mark.slow

XASTRUCT = Path(sys.executable).parent / "xastruct"
CONFIG = {
    "name": "tiny",
    "tasks": ["distance-XANES"],
    "architecture": {"width": 16, "depth": 1},
    "training": {"members": 1, "epochs": 200, "batch_size": 32, "devices": 1},
}


@pytest.fixture
def run(aiida_profile_clean, aiida_localhost, make_dataset, tmp_path):
    """Function (executable, configuration, inputs) -> outputs, node of the workflow."""
    aiida_localhost.set_minimum_job_poll_interval(0.5)
    make_dataset().save(tmp_path / "set.h5")
    dataset = DatasetData.from_file(tmp_path / "set.h5")

    def start(executable: Path = XASTRUCT, config: dict = CONFIG, **inputs):
        code = orm.InstalledCode(computer=aiida_localhost, filepath_executable=str(executable), label="xastruct", with_mpi=False)
        overrides = {"config": config, "max_iterations": 4}
        builder = TrainWorkChain.get_builder_from_protocol(code, dataset, "fast", overrides=overrides, **inputs)
        builder.train.monitors = {"loss": orm.Dict({"entry_point": "xastruct.training_loss", "minimum_poll_interval": 1})}
        return run_get_node(builder)

    return start


def weights(outputs) -> str:
    return outputs["models"]["distance_XANES"].base.repository.get_object_content("weights.safetensors", mode="rb")


def statuses(node) -> list[int]:
    return [job.exit_status for job in node.called]


class Killer(threading.Thread):
    """Kills the training in a folder of jobs once, by SIGKILL, after some epochs."""

    def __init__(self, work: Path) -> None:
        super().__init__(daemon=True)
        self.work, self.killed, self.done = work, 0, threading.Event()

    def run(self) -> None:
        while not self.killed and not self.done.is_set():
            time.sleep(0.02)
            for log in self.work.rglob(TrainCalculation.LOG_FILE):
                if len(log.read_text().splitlines()) > 5:
                    for process in psutil.process_iter():
                        with contextlib.suppress(psutil.Error):
                            if process.cwd() == str(log.parent) and str(XASTRUCT) in process.cmdline():
                                process.kill()
                                self.killed += 1


@pytest.mark.exhaustive
def test_a_killed_training_goes_on_and_comes_to_the_same_weights(run, aiida_localhost):
    """Without a GPU a CPU goes on, and the models can be installed; killed in the middle of that, nothing is lost."""
    killer = Killer(Path(aiida_localhost.get_workdir()))
    killer.start()
    outputs, node = run(device="cuda")
    killer.done.set()
    assert node.is_finished_ok, node.exit_message
    assert killer.killed == 1
    assert statuses(node) == ([] if torch.cuda.is_available() else [308]) + [411, 0]
    last = node.called[-1]
    assert last.inputs.checkpoint.uuid == node.called[-2].outputs.remote_folder.uuid
    report = outputs["report"].get_dict()
    assert report["losses"]["shell-XANES"][0]["epoch"] == list(range(1, 201))
    assert "finished" in report["ended"]
    # The first epochs are the killed job's own: the second did not do them again.
    before = node.called[-2].outputs.report["losses"]["shell-XANES"][0]
    done = len(before["epoch"])
    assert report["losses"]["shell-XANES"][0]["loss"][: done - 1] == before["loss"][: done - 1]

    result = CliRunner().invoke(cli, ["family", "install", str(node.pk), "--label", "mine"])
    assert result.exit_code == 0, result.output
    (model,) = ModelFamily.collection.get(label="mine").nodes
    assert model.uuid == outputs["models"]["distance_XANES"].uuid

    whole, undisturbed = run(config=CONFIG | {"name": "whole"}, device="cpu")
    assert statuses(undisturbed) == [0]
    assert weights(whole) == weights(outputs)


def test_a_training_that_diverges_and_hangs_is_stopped(run, tmp_path):
    """A rate that throws the weights out of all bounds, in a process that does not end, as one of several may that waits for the others."""
    hanging = tmp_path / "hanging"
    hanging.write_text(f'#!/bin/bash\n{XASTRUCT} "$@"\nexec sleep 3000\n')
    hanging.chmod(0o755)
    training = CONFIG["training"] | {"learning_rate": 1e30}
    _, node = run(hanging, CONFIG | {"training": training}, device="cpu")
    assert statuses(node) == [306, 306]
    assert node.exit_status == TrainWorkChain.exit_codes.ERROR_DIVERGED.status
    assert node.called[1].inputs.config["training"]["learning_rate"] == 2.5e29
    assert "not a number" in node.exit_message


def test_the_command_trains_and_installs(aiida_profile_clean, aiida_localhost, make_dataset, tmp_path, monkeypatch):
    import yaml

    make_dataset().save(tmp_path / "set.h5")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CONFIG | {"dataset": "set.h5", "training": CONFIG["training"] | {"epochs": 2}}))
    words = ["train", tmp_path / "set.h5", "--config", tmp_path / "c.yaml", "--protocol", "fast", "--device", "cpu", "--label", "mine"]
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert "distance-XANES" in result.stdout
    assert [model.name for model in ModelFamily.collection.get(label="mine").nodes] == ["distance-XANES"]

"""A training that is killed goes on and ends where it would have ended; several processes are one training."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.utils.data import TensorDataset

from aiida_xastruct.engine import training
from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.checkpoint import STATE_FOLDER, RunState, read_state, write_state
from aiida_xastruct.engine.cli import main
from aiida_xastruct.engine.errors import DeviceError, ModelError
from aiida_xastruct.engine.models.ensemble import Architecture
from aiida_xastruct.engine.models.tasks import Task
from aiida_xastruct.engine.training import SaveEveryEpoch, SiteModule, TrainingOptions, shuffled, train_ensemble

SMALL = Architecture(width=16, depth=1)
OPTIONS = TrainingOptions(members=2, epochs=5, batch_size=40, learning_rate=1e-2, accelerator="cpu", devices=1, progress=False)


# ---------------------------------------------------------------- files


def test_what_is_written_is_read(tmp_path):
    state = {
        "weights": {"a": torch.arange(3.0), "count": torch.tensor(7)},
        "optimizer": [{"state": {0: {"step": torch.tensor(2.0)}, 1: {}}, "betas": (0.9, 0.95), "foreach": None}],
        "loss": math.inf,
        "note": "x",
        "done": True,
    }
    write_state(tmp_path / "deep" / "state", state)
    found = read_state(tmp_path / "deep" / "state")
    assert torch.equal(found["weights"]["a"], torch.arange(3.0))
    assert found["weights"]["count"].shape == ()
    assert found["optimizer"][0]["state"][0]["step"] == 2.0
    assert found["optimizer"][0]["state"][1] == {}
    assert found["optimizer"][0]["betas"] == [0.9, 0.95]
    assert (found["loss"], found["note"], found["done"], found["optimizer"][0]["foreach"]) == (math.inf, "x", True, None)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["state"]


def test_a_state_that_cannot_be_written_leaves_the_last_one(tmp_path):
    write_state(tmp_path / "state", {"epoch": 1})
    with pytest.raises(TypeError, match="callback"):
        write_state(tmp_path / "state", {"epoch": 2, "callback": object()})
    assert read_state(tmp_path / "state") == {"epoch": 1}


@pytest.mark.parametrize("content", [b"", b"no state", None])
def test_a_damaged_state_is_refused(tmp_path, refused, content):
    path = tmp_path / "state"
    if content is None:
        write_state(path, {"a": torch.zeros(100)})
        path.write_bytes(path.read_bytes()[:-50])
    else:
        path.write_bytes(content)
    with refused(ModelError, "is no state of a training run", "remove it"):
        read_state(path)


def test_a_run_goes_on_with_the_same_fingerprint_only(tmp_path):
    run = RunState(tmp_path, "one")
    write_state(run.networks("distance-XANES") / "network-0.safetensors", {"loss": 1.0})
    run.finish("forward-XANES")
    again = RunState(tmp_path, "one")
    assert again.finished == ["forward-XANES"]
    assert (again.networks("distance-XANES") / "network-0.safetensors").is_file()
    other = RunState(tmp_path, "two")
    assert other.finished == []
    assert not other.networks("distance-XANES").exists()
    other.close()
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- a run that was stopped


class StoppedError(Exception):
    """The power fails."""


@pytest.fixture(scope="module")
def tables(make_dataset):
    dataset = make_dataset(kinds=("XANES", "EXAFS"), n=160)
    return {kind: (table.take(np.arange(120)), table.take(np.arange(120, 160))) for kind, table in dataset.tables.items()}


def weights(ensemble):
    return [member.state_dict() for member in ensemble.members]


@pytest.mark.parametrize(("name", "kind", "patience"), [("neighbours", "XANES", 0), ("forward", "EXAFS", 0), ("forward", "XANES", 2)])
def test_a_training_goes_on_after_its_last_epoch(tables, tmp_path, monkeypatch, name, kind, patience):
    """Stopped in the fourth epoch of the second network: the rest is done, nothing twice, and the weights are the same to the bit."""
    task, options = Task(name, kind), replace(OPTIONS, patience=patience)
    whole, losses = train_ensemble(task, *tables[kind], SMALL, options)
    steps, saved = [], []
    step, save = SiteModule.training_step, SaveEveryEpoch.on_train_epoch_end

    def counted(self, batch, index):
        steps.append((self.seed, self.current_epoch))
        return step(self, batch, index)

    def stopping(self, trainer, module):
        save(self, trainer, module)
        saved.append(module.seed)
        if saved.count(1000) == 3:
            saved.append(1000)
            raise StoppedError

    monkeypatch.setattr(SiteModule, "training_step", counted)
    monkeypatch.setattr(SaveEveryEpoch, "on_train_epoch_end", stopping)
    with pytest.raises(StoppedError):
        train_ensemble(task, *tables[kind], SMALL, options, state=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network-0.safetensors", "network-1.checkpoint"]
    steps.clear()
    resumed, again = train_ensemble(task, *tables[kind], SMALL, options, state=tmp_path)
    assert {seed for seed, _ in steps} == {1000}
    assert min(epoch for _, epoch in steps) == 3
    assert again == losses
    for one, other in zip(weights(whole), weights(resumed), strict=True):
        for key, tensor in one.items():
            assert torch.equal(tensor, other[key]), key
    steps.clear()
    train_ensemble(task, *tables[kind], SMALL, options, state=tmp_path)
    assert steps == []


def test_patience_ends_a_network_that_gets_no_better(tables, monkeypatch):
    """At a rate that throws it about; without patience it runs to the end of its schedule."""
    epochs = []
    monkeypatch.setattr(SiteModule, "on_train_epoch_start", lambda self: epochs.append(self.current_epoch), raising=False)
    options = replace(OPTIONS, members=1, epochs=15, learning_rate=2.0, matmul="highest")
    _, (never,) = train_ensemble(Task("forward", "XANES"), *tables["XANES"], SMALL, options)
    assert epochs == list(range(15))
    epochs.clear()
    _, (early,) = train_ensemble(Task("forward", "XANES"), *tables["XANES"], SMALL, replace(options, patience=3))
    assert 4 <= len(epochs) < 15
    assert early >= never


def config(folder: Path, **training) -> Path:
    usual = {"members": 2, "epochs": 2, "batch_size": 32, "accelerator": "cpu", "devices": 1, "progress": False}
    content = {
        "dataset": "set.h5",
        "tasks": ["forward-XANES", "neighbours-XANES", "distance-XANES"],
        "architecture": {"width": 16, "depth": 1},
    }
    content |= {"training": usual | training, "training_of": {"forward-XANES": {"epochs": 2, "members": 1}}}
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "aiida_xastruct.engine.cli", *map(str, arguments)]


def contents(family: Path) -> dict[str, bytes]:
    return {str(path.relative_to(family)): path.read_bytes() for path in family.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on(make_dataset, tmp_path, capsys):
    """Kill -9 in the second network of the second model; the same command again gives the family of a run that nothing stopped."""
    make_dataset().save(tmp_path / "set.h5")
    arguments = ["train", config(tmp_path, epochs=30), "-o"]
    family = tmp_path / "killed"
    waited_for = family / STATE_FOLDER / "shell-XANES" / "network-1.checkpoint"
    with subprocess.Popen(command(*arguments, family), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        end = time.monotonic() + 300
        while not waited_for.exists() and running.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    assert running.returncode == -signal.SIGKILL
    assert waited_for.exists()
    assert 0 < read_state(waited_for)["epoch"] + 1 < 30
    assert not (family / "family.json").exists()
    first = (family / "forward-XANES" / "weights.safetensors").stat().st_mtime_ns
    assert main([*map(str, arguments), str(family)]) == 0
    assert "forward-XANES: finished before" in capsys.readouterr().out
    assert (family / "forward-XANES" / "weights.safetensors").stat().st_mtime_ns == first
    assert main([*map(str, arguments), str(tmp_path / "whole")]) == 0
    assert "finished before" not in capsys.readouterr().out
    assert contents(family) == contents(tmp_path / "whole")
    assert not (family / STATE_FOLDER).exists()


def test_another_configuration_starts_anew(make_dataset, tmp_path, capsys):
    """What a stopped run left is of no use to it; a run that came to its end is no run to go on with."""
    make_dataset().save(tmp_path / "set.h5")
    family = tmp_path / "family"
    RunState(family, "of another run").finish("forward-XANES")
    for _ in range(2):
        assert main(["train", str(config(tmp_path, members=1, epochs=1)), "-o", str(family)]) == 0
        assert "finished before" not in capsys.readouterr().out
    assert FamilyBundle.load(family).labels == ["distance-XANES", "forward-XANES", "neighbours-XANES"]


# ---------------------------------------------------------------- several processes


@pytest.mark.parametrize("n", [64, 101])
def test_processes_share_the_rows_of_an_epoch(n):
    data = TensorDataset(torch.arange(n))
    own = [shuffled(data, 16, rank, 2, seed=5) for rank in range(2)]
    for batches in own:
        batches.set_epoch(3)
    rows = [[row for batch in batches for row in batch] for batches in own]
    assert len(rows[0]) == len(rows[1]) == math.ceil(n / 2)
    assert set(rows[0]) | set(rows[1]) == set(range(n))
    assert len(set(rows[0]) & set(rows[1])) <= n % 2
    own[0].set_epoch(4)
    assert [row for batch in own[0] for row in batch] != rows[0]


ONE_OF_TWO = """
import json, sys
from pathlib import Path
import numpy as np, torch
from aiida_xastruct.engine.dataset import Dataset
from aiida_xastruct.engine.models.ensemble import Architecture
from aiida_xastruct.engine.models.tasks import Task
from aiida_xastruct.engine import training

folder, rank = Path(sys.argv[1]), int(sys.argv[2])
path, batches = [], []
keep, step = training.KeepBest.on_validation_end, training.SiteModule.training_step
def kept(self, trainer, module):
    keep(self, trainer, module)
    path.append(float(trainer.callback_metrics["select_loss"]))
def stepped(self, batch, index):
    batches.append(len(batch[1]))
    return step(self, batch, index)
training.KeepBest.on_validation_end, training.SiteModule.training_step = kept, stepped
table = Dataset.load(folder / "set.h5").split("XANES")
options = training.TrainingOptions(members=1, epochs=3, batch_size=32, accelerator="cpu", devices=2, progress=False)
ensemble, losses = training.train_ensemble(
    Task("neighbours", "XANES"), table["train"], table["select"], Architecture(16, 1), options, state=folder / "state"
)
ensemble.save(folder / f"{rank}.safetensors")
backend = torch.distributed.get_backend()
sites = len(table["train"])
(folder / f"{rank}.json").write_text(json.dumps({"path": path, "losses": losses, "batches": batches, "backend": backend, "sites": sites}))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes_are_one_training(make_dataset, tmp_path):
    """Started as torchrun does it: over gloo, both see half of the sites, and both hold the same network after the same losses."""
    make_dataset().save(tmp_path / "set.h5")
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    running = []
    for rank in range(2):
        one = {**shared, "LOCAL_RANK": str(rank), "RANK": str(rank)}
        running.append(subprocess.Popen([sys.executable, "-c", ONE_OF_TWO, str(tmp_path), str(rank)], env=one, stderr=subprocess.PIPE))
    try:
        for process in running:
            _, said = process.communicate(timeout=400)
            assert process.returncode == 0, said.decode()[-3000:]
    finally:
        for process in running:
            process.kill()
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert one["backend"] == two["backend"] == "gloo"
    assert len(one["path"]) == 3
    assert one["path"] == two["path"]
    assert one["losses"] == two["losses"] == [min(one["path"])]
    assert (tmp_path / "0.safetensors").read_bytes() == (tmp_path / "1.safetensors").read_bytes()
    assert max(one["batches"]) == 16
    assert sum(one["batches"]) == sum(two["batches"]) == 3 * math.ceil(one["sites"] / 2)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["network-0.safetensors"]


def test_the_command_trains_with_two_processes(make_dataset, tmp_path):
    """`devices: 2` is all that it takes; one of the two writes and speaks."""
    make_dataset().save(tmp_path / "set.h5")
    family = tmp_path / "family"
    done = subprocess.run(
        command("train", config(tmp_path, devices=2), "-o", family), capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("wrote ") == 1
    assert FamilyBundle.load(family).labels == ["distance-XANES", "forward-XANES", "neighbours-XANES"]
    assert FamilyBundle.load(family).model("distance", "XANES").card["training"]["devices"] == 2
    assert not (family / STATE_FOLDER).exists()


@pytest.mark.exhaustive
def test_srun_starts_one_training_on_two_nodes(make_dataset, tmp_path):
    """Two processes with the variables that `srun` sets on two nodes of one task each are one training; one of them writes."""
    make_dataset().save(tmp_path / "set.h5")
    family, path = tmp_path / "family", config(tmp_path, nodes=2, devices=1, members=1)
    shared = {**os.environ, "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1"}
    shared |= {"SLURM_NNODES": "2", "SLURM_LOCALID": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    log, report = tmp_path / "log.jsonl", tmp_path / "report.json"
    words = command("train", path, "-o", family, "--log", log, "--report", report)
    running = [
        subprocess.Popen(words, env={**shared, "SLURM_PROCID": rank, "SLURM_NODEID": rank}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for rank in ("0", "1")
    ]
    try:
        said = [process.communicate(timeout=400) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], said[0][1].decode()[-2000:] + said[1][1].decode()[-2000:]
    assert json.loads(report.read_text())["processes"] == 2
    assert b"wrote" in said[0][0]
    assert said[1][0] == b""
    epochs = [(line["task"], line["epoch"]) for line in map(json.loads, log.read_text().splitlines()) if "epoch" in line]
    assert epochs == [(task, epoch) for task in ("forward-XANES", "shell-XANES") for epoch in (1, 2)]
    assert FamilyBundle.load(family).model("distance", "XANES").card["training"]["nodes"] == 2


@pytest.mark.parametrize(("name", "kind"), [("forward", "XANES"), ("forward", "EXAFS"), ("neighbours", "XANES")])
def test_mixed_precision_learns(tables, name, kind):
    """Half of the products in bfloat16: the weights stay in single precision, and the loss comes out much the same."""
    options = replace(OPTIONS, members=1, epochs=4)
    _, (single,) = train_ensemble(Task(name, kind), *tables[kind], SMALL, options)
    ensemble, (mixed,) = train_ensemble(Task(name, kind), *tables[kind], SMALL, replace(options, precision="bf16-mixed"))
    assert mixed == pytest.approx(single, rel=0.15)
    assert mixed != single
    assert {parameter.dtype for parameter in ensemble.members[0].parameters()} == {torch.float32}


def test_matrices_are_multiplied_as_exactly_as_asked(tables, monkeypatch):
    """Only while a network trains: what answers afterwards multiplies as the user's program does."""
    usual, seen = torch.get_float32_matmul_precision(), []
    monkeypatch.setattr(training.KeepBest, "on_train_start", lambda *_: seen.append(torch.get_float32_matmul_precision()))
    task, options = Task("distance", "XANES"), replace(OPTIONS, members=1, epochs=1)
    for asked in ("highest", "medium"):
        train_ensemble(task, *tables["XANES"], SMALL, replace(options, matmul=asked))
    assert seen == ["highest", "medium"]
    assert torch.get_float32_matmul_precision() == usual
    with pytest.raises(DeviceError, match="use highest, high or medium"):
        train_ensemble(task, *tables["XANES"], SMALL, replace(options, matmul="low"))


def test_checkpoints_hold_no_pickle(tables, tmp_path, monkeypatch):
    """What is read back is safetensors: torch's own reader, which unpickles, is never asked."""
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    monkeypatch.setattr(torch, "save", lambda *_, **__: pytest.fail("torch.save was called"))
    monkeypatch.setattr(training, "write_state", lambda *_: (_ for _ in ()).throw(StoppedError))
    task, options = Task("distance", "XANES"), replace(OPTIONS, members=1)
    with pytest.raises(StoppedError):
        train_ensemble(task, *tables["XANES"], SMALL, options, state=tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    _, (loss,) = train_ensemble(task, *tables["XANES"], SMALL, options, state=tmp_path)
    assert np.isfinite(loss)

"""A training that is looked after from elsewhere: its log, its end in time, what it says of how it ended. The errors are real ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml

from aiida_xastruct.engine import ALGORITHM_VERSION
from aiida_xastruct.engine.checkpoint import STATE_FOLDER
from aiida_xastruct.engine.cli import main
from aiida_xastruct.engine.errors import DeviceError, OutOfMemoryError
from aiida_xastruct.engine.watch import Watch, divergence, read_log, reported, short_of

#: As PyTorch's documentation of CUDA memory management gives it; no GPU was at hand.
CUDA_OUT_OF_MEMORY = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB of which 1.12 GiB is "
    "free. Including non-PyTorch memory, this process has 14.65 GiB memory in use."
)


@pytest.fixture
def train(make_dataset, tmp_path):
    """Function (options of the command, training options) -> exit status, report, lines of the log."""
    make_dataset().save(tmp_path / "set.h5")

    def run(*arguments: str, width: int = 16, **training):
        usual = {"members": 1, "epochs": 4, "batch_size": 32, "accelerator": "cpu", "devices": 1, "progress": False}
        content = {"tasks": ["distance-XANES"], "architecture": {"width": width, "depth": 1}, "training": usual | training}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
        log, report = tmp_path / "log.jsonl", tmp_path / "report.json"
        command = ["train", tmp_path / "config.yaml", "--dataset", tmp_path / "set.h5", "-o", tmp_path / "family"]
        status = main([str(word) for word in [*command, "--log", log, "--report", report, *arguments]])
        return status, json.loads(report.read_text()), log.read_text().splitlines() if log.exists() else []

    return run


def test_a_training_says_how_it_goes_and_how_it_ended(train, tmp_path):
    status, report, lines = train()
    assert status == 0
    assert (report["ended"], report["device"], report["processes"]) == ("finished", "cpu", 1)
    assert report["algorithm_version"] == ALGORITHM_VERSION
    assert report["family"]["models"] == ["distance-XANES"]
    log = read_log(lines)
    assert {(line["task"], line["network"], line["epochs"]) for line in log} == {("shell-XANES", 0, 4)}
    assert [line["epoch"] for line in log] == [1, 2, 3, 4]
    card = json.loads((tmp_path / "family" / "distance-XANES" / "card.json").read_text())
    assert card["training"]["best_select_loss"] == [min(line["select_loss"] for line in log)]
    assert all(line["loss"] > 0 for line in log)
    assert divergence(lines) == ""


def test_a_training_ends_in_time_and_goes_on(train, tmp_path, monkeypatch, capsys):
    """Told before its third epoch that time is up, it ends with its place kept; again, it does the rest, and the log is whole."""
    calls = []
    monkeypatch.setattr(Watch, "is_over", lambda self: calls.append(0) or len(calls) == 3)
    status, report, lines = train("--seconds", "3600")
    assert (status, report["ended"]) == (3, "out_of_time")
    assert "epoch 3 of 4 of shell-XANES; start it again" in capsys.readouterr().err
    assert len(read_log(lines)) == 2
    assert (tmp_path / "family" / STATE_FOLDER / "shell-XANES" / "network-0.checkpoint").is_file()
    monkeypatch.undo()
    status, report, lines = train("--seconds", "3600")
    assert (status, report["ended"]) == (0, "finished")
    assert [line["epoch"] for line in read_log(lines)] == [1, 2, 3, 4]


def test_no_epoch_is_begun_without_time_for_it(train):
    status, report, lines = train("--seconds", "0.001")
    assert (status, report["ended"], read_log(lines)) == (3, "out_of_time", [])


@pytest.mark.parametrize(
    ("arguments", "training", "ended", "words"),
    [
        ((), {"learning_rate": 1e30}, "diverged", "not a number"),
        ((), {"accelerator": "gpu"}, "no_device", "accelerator 'gpu'"),
        ((), {"epoch": 3}, "refused", "unknown key training.epoch"),
        ((), {"width": 40_000_000}, "out_of_memory", "can't allocate memory"),
        (("--dataset", "nowhere.h5"), {}, "dataset_unfit", "nowhere.h5"),
    ],
)
def test_how_a_training_fails(train, arguments, training, ended, words, capsys):
    """Each of them for real: a rate that throws the weights out of all bounds, a network of 6 petabytes."""
    if ended == "no_device" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    status, report, lines = train(*arguments, **training)
    assert (status, report["ended"]) == (1, ended)
    assert words in report["reason"]
    assert report["reason"] in capsys.readouterr().err
    assert bool(divergence(lines)) is (ended == "diverged")


def test_what_errors_say_of_memory():
    with pytest.raises(RuntimeError) as torch_error:
        torch.empty(10**17)
    with pytest.raises(MemoryError) as numpy_error:
        np.empty((10**9, 10**8))
    for text in (str(torch_error.value), f"{type(numpy_error.value).__name__}: {numpy_error.value}", CUDA_OUT_OF_MEMORY):
        assert isinstance(short_of(text), OutOfMemoryError)
    assert "(CUDA out of memory)" in str(short_of(CUDA_OUT_OF_MEMORY)).replace("OutOfMemoryError: ", "")
    assert isinstance(short_of("RuntimeError: CUDA error: out of memory"), OutOfMemoryError)
    assert isinstance(short_of("RuntimeError: CUDA error: device-side assert triggered\nCUDA kernel errors"), DeviceError)
    assert short_of("ValueError: batch_size") is None


def test_an_error_that_nobody_foresaw_is_reported_and_raised(tmp_path):
    with pytest.raises(KeyError), reported(tmp_path / "report.json", Watch()):
        raise KeyError("absent")
    assert json.loads((tmp_path / "report.json").read_text())["ended"] == "failed"


def test_a_report_says_from_the_start_that_it_runs(tmp_path):
    with reported(tmp_path / "report.json", Watch()) as more:
        assert json.loads((tmp_path / "report.json").read_text())["ended"] == "no"
        more["family"] = {"models": []}
    assert json.loads((tmp_path / "report.json").read_text())["family"] == {"models": []}


def test_a_log_is_that_of_its_last_run(tmp_path):
    watch = Watch(tmp_path / "log")
    watch.begin("one")
    watch.epoch("shell-XANES", 0, 1, 5, 2.0, 3.0)
    watch.begin("one")  # goes on
    watch.epoch("shell-XANES", 0, 1, 5, 2.0, 3.0)
    watch.epoch("shell-XANES", 0, 2, 5, 1.0, float("inf"))
    lines = [*(tmp_path / "log").read_text().splitlines(), '{"task": "cut of']
    assert [(line["epoch"], line["select_loss"]) for line in read_log(lines)] == [(1, 3.0), (2, None)]
    assert "epoch 2 is not a number" in divergence(lines)
    watch.begin("two")
    assert read_log((tmp_path / "log").read_text().splitlines()) == []

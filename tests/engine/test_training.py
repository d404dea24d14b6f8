"""One loop for every task: it learns, it repeats with its seed, and it stops with a sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from aiida_xastruct.engine.dataset import MAX_Z
from aiida_xastruct.engine.errors import DatasetError, DivergedError
from aiida_xastruct.engine.models.ensemble import Architecture
from aiida_xastruct.engine.models.shells import CANDIDATES
from aiida_xastruct.engine.models.tasks import Task
from aiida_xastruct.engine.paths import PATH_K
from aiida_xastruct.engine.training import TrainingOptions, train_ensemble

SMALL = Architecture(width=16, depth=1, dropout=0.0)
OPTIONS = TrainingOptions(
    members=1, epochs=2, batch_size=32, learning_rate=1e-2, weight_decay=0.0, accelerator="cpu", devices=1, progress=False
)


@pytest.fixture(scope="module")
def tables(make_dataset):
    dataset = make_dataset(kinds=("XANES", "EXAFS"), n=160)
    return {kind: (table.take(np.arange(120)), table.take(np.arange(120, 160))) for kind, table in dataset.tables.items()}


@pytest.mark.parametrize(
    ("name", "kind"), [("forward", "XANES"), ("forward", "EXAFS"), ("neighbours", "XANES"), ("shell", "XANES"), ("shell", "EXAFS")]
)
def test_the_loss_falls(tables, name, kind):
    """A few passes over 120 sites whose answers follow from one number beat the mean of all sites."""
    task = Task(name, kind)
    train, select = tables[kind]
    waves = flat_waves() if kind == "EXAFS" else None
    ensemble, (best,) = train_ensemble(task, train, select, SMALL, replace(OPTIONS, epochs=40, learning_rate=3e-3), waves=waves)
    inputs, target = task.inputs(task.source(select)), task.target(select)
    mean = float(task.loss(task.start(train).expand(len(select), -1), target))
    with torch.inference_mode():
        value, _ = ensemble.members[0](inputs, torch.as_tensor(select.absorber))
    assert float(task.loss(value, target)) < 0.8 * mean
    assert np.isfinite(best)


@pytest.mark.parametrize("kind", ["XANES", "EXAFS"])
def test_the_same_seed_gives_the_same_weights(tables, kind):
    """The draws of every epoch are part of it."""
    task = Task("distance", kind)
    waves = flat_waves() if kind == "EXAFS" else None
    trained = [train_ensemble(task, *tables[kind], SMALL, replace(OPTIONS, seed=seed), waves=waves)[0] for seed in (3, 3, 4)]
    first, second, other = (ensemble.members[0] for ensemble in trained)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert any(not torch.equal(tensor, other.state_dict()[name]) for name, tensor in first.state_dict().items())


def flat_waves():
    """Waves of one size and no phase, for networks that need some."""
    return torch.stack([torch.ones(MAX_Z, len(CANDIDATES), len(PATH_K)), torch.zeros(MAX_Z, len(CANDIDATES), len(PATH_K))], dim=2)


def test_inverse_exafs_needs_waves(tables, refused):
    with refused(DatasetError, "distance-EXAFS", "forward-EXAFS"):
        train_ensemble(Task("distance", "EXAFS"), *tables["EXAFS"], SMALL, OPTIONS)


def test_members_differ(tables):
    ensemble, losses = train_ensemble(Task("distance", "XANES"), *tables["XANES"], SMALL, replace(OPTIONS, members=2))
    assert len(losses) == 2
    assert not torch.equal(ensemble.members[0].enter.weight, ensemble.members[1].enter.weight)


def test_the_epoch_with_the_best_select_loss_is_kept(tables):
    """A rate at which the network gets worse with time: what is returned has the loss that is reported."""
    task = Task("forward", "XANES")
    train, select = tables["XANES"]
    ensemble, (best,) = train_ensemble(task, train, select, SMALL, replace(OPTIONS, epochs=6, learning_rate=0.5))
    with torch.inference_mode():
        value, _ = ensemble.members[0](task.inputs(task.source(select)), torch.as_tensor(select.absorber))
    assert float(task.loss(value, task.target(select))) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_training_of_a_few_steps_is_one(tables, epochs):
    """Five, ten and fifteen: at ten PyTorch's schedule with a rise of a tenth divides by nothing."""
    _, (best,) = train_ensemble(Task("distance", "XANES"), *tables["XANES"], SMALL, replace(OPTIONS, batch_size=24, epochs=epochs))
    assert np.isfinite(best)


def test_gaps_in_the_truth_are_no_problem(tables):
    train, select = tables["XANES"]
    holes = train.target.copy()
    holes[::2, :20] = np.nan
    _, (best,) = train_ensemble(Task("forward", "XANES"), replace(train, target=holes), select, SMALL, OPTIONS)
    assert np.isfinite(best)


def test_points_that_no_spectrum_reaches_go_on_as_the_nearest_one(tables):
    """A training set of one program may end early: the curve stays level there, and the kernel model is fitted all the same."""
    train, select = (replace(table, target=table.target.copy()) for table in tables["XANES"])
    train.target[:, -20:] = select.target[:, -20:] = np.nan
    ensemble, _ = train_ensemble(Task("forward", "XANES"), train, select, SMALL, OPTIONS)
    task = Task("forward", "XANES")
    assert torch.equal(task.start(train)[-21:], task.start(train)[-21].expand(21))
    assert ensemble.kernel is not None
    said = ensemble(task.inputs(task.source(select)), torch.as_tensor(select.absorber))
    assert torch.isfinite(said.value).all()


def test_a_loss_that_is_not_a_number_stops_with_a_sentence(tables, refused):
    train, select = tables["XANES"]
    wild = train.features.copy()
    wild[5, 3] = np.nan
    with refused(DivergedError, "forward-XANES", "not a number", "lower the learning rate"):
        train_ensemble(Task("forward", "XANES"), replace(train, features=wild), select, SMALL, OPTIONS)


@pytest.mark.parametrize(("n_train", "n_select"), [(19, 40), (120, 4)])
def test_too_few_sites_are_refused(tables, refused, n_train, n_select):
    train, select = tables["XANES"]
    with refused(DatasetError, f"{n_train} sites to train", f"{n_select} to select"):
        train_ensemble(Task("distance", "XANES"), train.take(np.arange(n_train)), select.take(np.arange(n_select)), SMALL, OPTIONS)

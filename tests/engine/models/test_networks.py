"""Tasks, networks and ensembles: shapes, gaps in the truth, and what is written is read."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from aiida_xastruct.engine.dataset import MAX_Z
from aiida_xastruct.engine.errors import ModelError
from aiida_xastruct.engine.models.ensemble import Architecture, Ensemble
from aiida_xastruct.engine.models.networks import ElementHead, element_descriptors
from aiida_xastruct.engine.models.tasks import NETWORK_COLUMNS, Task, curve_error, curve_weight, numpy_curve_error
from aiida_xastruct.engine.sevennet import SevenNetFeatures
from aiida_xastruct.engine.spectrum import EXAFS_GRID

LABELS = [(name, kind) for name in ("forward", "neighbours", "distance", "shell") for kind in ("XANES", "EXAFS")]
SMALL = Architecture(width=16, depth=1)


@pytest.fixture(scope="module")
def tables(make_dataset):
    return make_dataset(kinds=("XANES", "EXAFS"), n=24).tables


def members(task, count=2):
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        network = SMALL.build(task)
        for parameter in network.parameters():  # a fresh network's last layer is zero
            torch.nn.init.normal_(parameter, std=0.05) if parameter.ndim > 1 else None
        made.append(network)
    return made


@pytest.mark.parametrize(("name", "kind"), LABELS)
def test_shapes_of_every_task(tables, name, kind):
    task, table = Task(name, kind), tables[kind]
    source = task.source(table)
    inputs = task.inputs(source)
    drawn = task.inputs(source, torch.Generator().manual_seed(0))
    assert inputs.shape == drawn.shape == (24, task.n_in)
    assert torch.isfinite(drawn).all()
    assert task.target(table).shape == (24, task.n_out)
    assert task.start(table).shape == (task.n_out,)
    assert len(task.position(source, inputs)) == 24
    said = Ensemble(task, members(task))(inputs, torch.as_tensor(table.absorber))
    assert said.value.shape == said.spread.shape == (24, task.n_out)
    assert said.stated.shape[0] == 24
    assert (said.stated > 0).all()
    assert torch.isfinite(said.value).all()


@pytest.mark.parametrize(("name", "kind"), LABELS)
def test_losses_are_numbers_and_fall_towards_the_truth(tables, name, kind):
    task, table = Task(name, kind), tables[kind]
    target = task.target(table)
    good = target.clone()
    if name in ("neighbours", "shell"):
        good[:, -MAX_Z:] = 40.0 * (target[:, -MAX_Z:] - 0.5)
    value = torch.zeros_like(target)
    assert 0 <= float(task.loss(good, target)) < 1e-3 < float(task.loss(value, target))


@pytest.mark.parametrize(("name", "kind"), [("forward", "XANES"), ("distance", "EXAFS")])
def test_the_stated_error_is_best_where_it_is_true(tables, name, kind):
    task = Task(name, kind)
    target = torch.zeros(4000, task.n_out)
    value = 0.3 * torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    losses = {error: float(task.error_loss(torch.full((4000, task.n_error), math.log(error)), value, target)) for error in (0.1, 0.3, 0.9)}
    assert min(losses, key=losses.get) == 0.3


def test_neighbours_state_no_error():
    task = Task("neighbours", "XANES")
    assert float(task.error_loss(torch.ones(3, 1), torch.ones(3, MAX_Z), torch.zeros(3, MAX_Z))) == 0.0


def test_the_error_does_not_move_the_value():
    task = Task("forward", "XANES")
    torch.manual_seed(0)
    network = SMALL.build(task)
    torch.nn.init.normal_(network.value.weight)
    value, log_error = network(torch.randn(5, task.n_in), torch.full((5,), 26))
    task.error_loss(log_error, value, torch.zeros_like(value)).backward()
    assert network.value.weight.grad is None
    assert network.enter.weight.grad is None
    assert network.log_error.weight.grad.abs().max() > 0


@pytest.mark.parametrize(("name", "kind"), [("sideways", "XANES"), ("forward", "XES"), ("", "")])
def test_unknown_tasks_are_refused(refused, name, kind):
    with refused(ModelError, "is no task"):
        Task(name, kind)


def test_a_network_starts_from_the_mean(tables):
    """The last layer is zero: before any training the answer is the mean of all sites."""
    task, table = Task("distance", "XANES"), tables["XANES"]
    network = SMALL.build(task)
    inputs = task.inputs(task.source(table))
    network.start_from(inputs, torch.as_tensor(table.absorber), task.start(table))
    value, _ = network.eval()(inputs, torch.as_tensor(table.absorber))
    np.testing.assert_allclose(value[:, 0].detach().numpy(), table.mean_distance.mean(), rtol=1e-5)


def test_neighbours_start_from_their_frequency(tables):
    task, table = Task("neighbours", "XANES"), tables["XANES"]
    probability = torch.sigmoid(task.start(table))
    assert float(probability[8]) == pytest.approx(table.neighbours[:, 8].mean(), abs=1e-3)
    assert float(probability[50]) < 0.002


def test_curve_error_leaves_out_what_is_not_known():
    target = torch.tensor([[1.0, 2.0, float("nan"), 4.0] + [0.0] * 133])
    value = torch.nan_to_num(target, nan=1e6) + torch.tensor([0.1, -0.1, 0.0, 0.1] + [0.0] * 133)
    expected = math.sqrt(3 * 0.01 / 136)
    assert float(curve_error(value, target, "XANES")) == pytest.approx(expected, rel=1e-4)
    assert numpy_curve_error(value.numpy(), target.numpy(), "XANES")[0] == pytest.approx(expected, rel=1e-4)


def test_exafs_errors_are_weighted_by_k_squared():
    target = torch.zeros(2, len(EXAFS_GRID))
    value = target.clone()
    value[0, 0], value[1, -1] = 1.0, 1.0
    low, high = curve_error(value, target, "EXAFS")
    assert float(high / low) == pytest.approx((15.0 / 2.0) ** 2, rel=1e-3)
    assert torch.equal(curve_weight("XANES"), torch.ones(137))


def test_elements_near_in_the_table_look_alike():
    table = element_descriptors()
    assert table.shape == (MAX_Z, 25)
    assert torch.isfinite(table).all()
    distance = torch.cdist(table[[26]], table[[27, 11, 79]])[0]
    assert distance[0] < distance[1]
    assert distance[0] < distance[2]


# ---------------------------------------------------------------- ensembles


@pytest.mark.parametrize(("name", "kind"), LABELS)
def test_what_is_saved_is_loaded(tables, tmp_path, name, kind):
    task, table = Task(name, kind), tables[kind]
    ensemble = Ensemble(task, members(task))
    ensemble.save(tmp_path / "weights.safetensors")
    found = Ensemble.load(tmp_path / "weights.safetensors", task, SMALL)
    inputs, absorber = task.inputs(task.source(table)), torch.as_tensor(table.absorber)
    before, after = ensemble(inputs, absorber), found(inputs, absorber)
    assert len(found.members) == 2
    torch.testing.assert_close(after.value, before.value, atol=2e-2, rtol=2e-2)  # weights are kept in half precision
    found.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "weights.safetensors").read_bytes()


def test_each_network_of_xanes_sees_its_own_half_of_sevennet(tables, tmp_path):
    """What it does not see does not matter to it; all see the density of neighbours, none what follows; what is read back sees the same."""
    task, table = Task("forward", "XANES"), tables["XANES"]
    n_half = len(SevenNetFeatures.scalars)
    one, two = members(task)
    assert len(one.seen) == len(two.seen) == NETWORK_COLUMNS - n_half // 2
    assert set(one.seen.tolist()) != set(two.seen.tolist())
    inputs, absorber = task.inputs(task.source(table)), torch.as_tensor(table.absorber)
    ensemble = Ensemble(task, [one])
    before = ensemble(inputs, absorber).value
    hidden = torch.tensor(sorted(set(range(task.n_in)) - set(one.seen.tolist())))
    changed = inputs.clone()
    changed[:, hidden] += 5.0
    assert ((hidden < n_half) | (hidden >= NETWORK_COLUMNS)).all()
    assert torch.equal(ensemble(changed, absorber).value, before)
    changed[:, one.seen[0]] += 5.0
    assert not torch.allclose(ensemble(changed, absorber).value, before)
    ensemble.save(tmp_path / "weights.safetensors")
    assert torch.equal(Ensemble.load(tmp_path / "weights.safetensors", task, SMALL).members[0].seen, one.seen)


def test_mean_and_spread_of_the_members(tables):
    task, table = Task("distance", "XANES"), tables["XANES"]
    one, two = members(task)
    inputs, absorber = task.inputs(task.source(table)), torch.as_tensor(table.absorber)
    first, second, both = (Ensemble(task, chosen)(inputs, absorber) for chosen in ([one], [two], [one, two]))
    torch.testing.assert_close(both.value, (first.value + second.value) / 2)
    torch.testing.assert_close(both.spread, (first.value - second.value).abs() / 2, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(both.stated, ((first.stated**2 + second.stated**2) / 2).sqrt())
    assert (first.spread == 0).all()


@pytest.mark.parametrize("kind", ["XANES", "EXAFS"])
def test_networks_that_learned_both_inverse_questions_answer_each_alone(tables, kind):
    whole, table = Task("shell", kind), tables[kind]
    inputs, absorber = whole.inputs(whole.source(table)), torch.as_tensor(table.absorber)
    both = Ensemble(whole, members(whole))
    distance, neighbours = (both.part(Task(name, kind), SMALL)(inputs, absorber) for name in ("distance", "neighbours"))
    said = [member(inputs, absorber) for member in both.members]
    torch.testing.assert_close(distance.value, torch.stack([value[:, :3] for value, _ in said]).mean(dim=0))
    torch.testing.assert_close(neighbours.value, torch.sigmoid(torch.stack([value[:, 3:] for value, _ in said])).mean(dim=0))
    torch.testing.assert_close(distance.stated, torch.stack([torch.exp(2.0 * error) for _, error in said]).mean(dim=0).sqrt())


def test_neighbours_are_probabilities(tables):
    task, table = Task("neighbours", "XANES"), tables["XANES"]
    value = Ensemble(task, members(task))(task.inputs(task.source(table)), torch.as_tensor(table.absorber)).value
    assert 0 < float(value.min()) < float(value.max()) < 1


def test_batches_do_not_change_answers():
    """More rows than one pass holds."""
    task = Task("distance", "XANES")
    ensemble = Ensemble(task, members(task, 1))
    inputs = torch.randn(4100, task.n_in, generator=torch.Generator().manual_seed(0))
    absorber = torch.full((4100,), 29)
    torch.testing.assert_close(ensemble(inputs, absorber).value[-3:], ensemble(inputs[-3:], absorber[-3:]).value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("harm", ["missing", "cut", "text", "another width", "another task", "a member short"])
def test_damaged_weights_are_refused(tmp_path, refused, harm):
    from safetensors.torch import load_file, save_file

    task = Task("distance", "XANES")
    path = tmp_path / "weights.safetensors"
    Ensemble(task, members(task)).save(path)
    architecture = SMALL
    if harm == "missing":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-500])
    elif harm == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif harm == "another width":
        architecture = Architecture(width=32, depth=1)
    elif harm == "another task":
        task = Task("neighbours", "XANES")
    else:
        save_file({name: tensor for name, tensor in load_file(path).items() if name != "1.value.bias"}, path)
    with refused(ModelError, "install the family again"):
        Ensemble.load(path, task, architecture)


def test_an_ensemble_needs_a_member(refused):
    with refused(ModelError, "has no networks"):
        Ensemble(Task("distance", "XANES"), [])


def test_a_fresh_head_changes_no_logit():
    logits = torch.randn(5, MAX_Z)
    assert torch.equal(ElementHead(16)(logits, torch.randn(5, 16), torch.arange(1, 6)), logits)


def test_what_is_said_of_the_absorbers_own_element_holds_for_all_absorbers():
    head = ElementHead(16)
    torch.nn.init.constant_(head.own.bias, 2.0)
    absorber = torch.tensor([26, 29, 79])
    said = head(torch.zeros(3, MAX_Z), torch.randn(3, 16), absorber)
    assert torch.equal(said, 2.0 * torch.nn.functional.one_hot(absorber, MAX_Z).float())


def test_what_is_learned_of_one_element_is_said_of_those_like_it():
    head = ElementHead(4)
    with torch.no_grad():
        head.alike.weight[:, 0] = element_descriptors()[28] - element_descriptors().mean(dim=0)
    said = head(torch.zeros(1, MAX_Z), torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([8]))[0]
    assert said[27] > said[8]
    assert said[29] > said[8]
    assert said[28] > said[53]


@pytest.mark.parametrize("kind", ["XANES", "EXAFS"])
def test_only_networks_that_name_elements_have_a_head(kind):
    heads = {name: SMALL.build(Task(name, kind)) for name in ("neighbours", "distance", "shell")}
    assert {name: getattr(network, "named", None) is not None for name, network in heads.items()} == {
        "neighbours": True, "distance": False, "shell": True
    }  # fmt: skip

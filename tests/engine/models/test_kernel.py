"""The kernel model: beside scikit-learn's, its errors beside refits, and what is written is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aiida_xastruct.engine.errors import ModelError
from aiida_xastruct.engine.models import kernel as module
from aiida_xastruct.engine.models.ensemble import Architecture, Ensemble
from aiida_xastruct.engine.models.kernel import RIDGE, SHIFT_RIDGE, SMOOTH_RIDGE, WIDTH, SiteKernel
from aiida_xastruct.engine.models.tasks import KERNEL_BLOCKS, Task
from aiida_xastruct.engine.training import fit_kernel

N, BLOCKS = 60, [(3, 1.0), (2, 0.5)]


@pytest.fixture(scope="module")
def sites():
    """Inputs, atomic numbers, curves and materials of two sites each."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, 5, generator=generator)
    z = torch.full((N,), 29)
    curve = torch.sin(x[:, :1] + torch.arange(7)) + 0.3 * x[:, 1:2]
    return x, z, curve, np.arange(N) // 2


def fit(sites, **changed):
    x, z, curve, material = sites
    return SiteKernel.fit(x, z, changed.get("target", curve), changed.get("guess", torch.zeros_like(curve)), material, BLOCKS)


def test_it_is_kernel_ridge_regression(sites):
    """The same kernel, written out, in scikit-learn's KernelRidge, of registered curves and of their shifts."""
    from sklearn.kernel_ridge import KernelRidge

    x, z, curve, material = sites
    new = torch.randn(9, 5, generator=torch.Generator().manual_seed(1))
    weight = np.sqrt(np.concatenate([np.full(length, own / length) for length, own in BLOCKS]))

    def place(rows):
        return ((rows - x.mean(0)) / x.std(0)).numpy() * weight

    def kernel(one, other):
        return np.exp(-((WIDTH * np.linalg.norm(one - other)) ** 1.5))

    points = torch.as_tensor(place(x), dtype=torch.float64)
    learned = module._registered(curve.double(), module._inverse(module._kernel(points, z, points, z), SMOOTH_RIDGE), material)
    centred = (learned - learned.mean(0)).numpy()
    said = np.concatenate(
        [
            KernelRidge(alpha=ridge, kernel=kernel).fit(place(x), own).predict(place(new))
            for ridge, own in ((RIDGE, centred[:, :-1]), (SHIFT_RIDGE, centred[:, -1:]))
        ],
        axis=1,
    )
    said = torch.as_tensor(said) + learned.mean(0)
    value, _ = fit(sites)(new, z[:9])
    np.testing.assert_allclose(value.numpy(), module.moved(said[:, :-1], said[:, -1]).numpy(), atol=5e-3)  # places are rounded
    assert float((value - curve.mean(0)).abs().max()) > 0.3


def test_curves_are_moved_along_their_grid():
    curves = torch.tensor([[0.0, 1.0, 4.0, 9.0], [0.0, 1.0, 4.0, 9.0], [0.0, 1.0, 4.0, 9.0]])
    expected = torch.tensor([[0.0, 0.0, 1.0, 4.0], [1.0, 4.0, 9.0, 9.0], [0.0, 0.5, 2.5, 6.5]])
    torch.testing.assert_close(module.moved(curves, torch.tensor([1.0, -1.0, 0.5])), expected)


def test_curves_that_are_shifted_are_not_smeared(sites):
    """White lines of one shape, at energies that no feature tells: a new one is as sharp as they are, where their mean is not."""
    x, z, _, material = sites
    shift = torch.randint(-4, 5, (N,), generator=torch.Generator().manual_seed(3)).double()
    lines = torch.exp(-(((torch.arange(60.0) - 30.0 - shift[:, None]) / 2.0) ** 2)).float()
    assert float(lines.mean(dim=0).max()) < 0.6
    value, _ = fit((x, z, lines, material))(torch.randn(9, 5, generator=torch.Generator().manual_seed(1)), z[:9])
    assert float(value.max(dim=1).values.min()) > 0.8
    points = x.double()
    learned = module._registered(lines.double(), module._inverse(module._kernel(points, z, points, z), SMOOTH_RIDGE), material)
    left = learned[:, -1] - shift
    assert float(left.std()) < 0.5 * float(shift.std())


def test_errors_are_those_of_refits_without_the_material(sites):
    x, z, curve, material = sites
    points = x.double()
    kernel = module._kernel(points, z, points, z)
    ridges = (RIDGE, SHIFT_RIDGE)
    inverses = tuple(module._inverse(kernel, ridge) for ridge in ridges)
    steps = torch.linspace(-2.0, 2.0, N, dtype=torch.float64)[:, None]
    learned = torch.cat([curve.double(), steps], dim=1)
    errors = module._errors_of_materials(inverses, learned, curve, torch.isfinite(curve), material)
    for out in (0, 17):
        kept = torch.as_tensor(material != out)
        mean = learned.mean(dim=0)
        own, shift = (
            kernel[~kept][:, kept] @ module._inverse(kernel[kept][:, kept], ridge) @ (learned[kept] - mean) + mean for ridge in ridges
        )
        value = module.moved(own[:, :-1], shift[:, -1])
        torch.testing.assert_close(errors[~kept], ((value - curve[~kept]) ** 2).mean(dim=1).sqrt())


def test_where_a_curve_ends_the_guess_goes_on(sites):
    x, z, curve, _ = sites
    holes = curve.clone()
    holes[:30, 4:] = torch.nan
    same = fit(sites, target=holes, guess=curve)
    torch.testing.assert_close(same(x, z)[0], fit(sites)(x, z)[0])
    other = fit(sites, target=holes, guess=curve + 1.0)
    assert float((other(x[:30], z[:30])[0] - curve[:30])[:, 4:].mean()) > 0.5


def test_the_stated_error_is_larger_where_errors_are(sites):
    """Curves of one half of the space are noise; new sites there are expected to be worse."""
    x, z, curve, _ = sites
    noisy = torch.where(x[:, :1] > 0, curve + torch.randn(curve.shape, generator=torch.Generator().manual_seed(2)), curve)
    _, log_error = fit(sites, target=noisy)(x, z)
    assert log_error[x[:, 0] > 0.5].mean() > log_error[x[:, 0] < -0.5].mean() + 0.3


def test_absorbers_far_apart_share_less(sites):
    x, z, *_ = sites
    model = fit(sites)
    near, far = (float((model(x, z + shift)[0] - model.start[:-2]).abs().mean()) for shift in (1, 40))
    assert near > 2 * far


def test_more_sites_than_are_kept(sites, monkeypatch):
    monkeypatch.setattr(module, "MOST_SITES", 20)
    assert len(fit(sites).points) == 20


def test_an_ensemble_with_a_kernel_is_written_and_read(make_dataset, tmp_path, refused):
    task = Task("forward", "XANES")
    table = make_dataset(n=40).tables["XANES"]
    inputs, z = task.inputs(task.source(table)), torch.as_tensor(table.absorber)
    architecture = Architecture(width=16, depth=1)
    torch.manual_seed(0)
    networks = Ensemble(task, [architecture.build(task), architecture.build(task)])
    ensemble = Ensemble(task, networks.members, fit_kernel(networks, table))
    assert sum(length for length, _ in KERNEL_BLOCKS) == inputs.shape[1]
    alone, kernel = networks(inputs, z), ensemble.kernel(inputs, z)
    said = ensemble(inputs, z)
    torch.testing.assert_close(said.value, (alone.value + kernel[0]) / 2)
    torch.testing.assert_close(said.stated, ((alone.stated**2 + torch.exp(2 * kernel[1])) / 2).sqrt())
    apart = (alone.value - kernel[0]) / 2  # and the networks, both fresh, agree
    torch.testing.assert_close(said.spread, apart.abs(), atol=1e-4, rtol=1e-3)
    ensemble.save(tmp_path / "weights")
    read = Ensemble.load(tmp_path / "weights", task, architecture)
    torch.testing.assert_close(read.kernel(inputs, z)[0], kernel[0])
    with refused(ModelError, "incomplete or damaged"):
        SiteKernel({name: tensor for name, tensor in ensemble.kernel.tensors().items() if name != "weights"})
    with refused(ModelError, "incomplete or damaged"):
        SiteKernel(ensemble.kernel.tensors() | {"z": z[:3]})

"""Scattering paths: counted by hand in copper, and summed with FEFF's own amplitudes to FEFF's own chi(k)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine.feff import compute
from aiida_xastruct.engine.feff.deck import FeffParameters
from aiida_xastruct.engine.models.paths import PathNetwork, path_loss
from aiida_xastruct.engine.paths import (
    MAX_PATHS,
    PATH_COLUMNS,
    PATH_K,
    PATHS_SIZE,
    PathKind,
    PathTable,
    loudest_chi,
    path_rows,
    paths_around,
)
from aiida_xastruct.engine.reference.scattering import feff_paths
from aiida_xastruct.engine.spectrum import chi_k

COPPER = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.615), ["Cu"], [[0, 0, 0]])
ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def paths_of(structure, site=0):
    rows = path_rows(structure, [site]).reshape(MAX_PATHS, len(PATH_COLUMNS))
    return rows[rows[:, 3] > 0]


def some(paths, kind):
    return paths[paths[:, 0] == kind]


def test_copper_has_the_shells_of_an_fcc_metal():
    single = some(paths_of(COPPER), PathKind.SINGLE)
    single = single[np.argsort(single[:, 4])]
    assert single[:5, 3].tolist() == [12, 6, 24, 12, 24]
    assert single[:4, 4] == pytest.approx([2.5562, 3.615, 4.4275, 5.1124], abs=1e-3)


def test_the_fourth_shell_of_copper_is_focused_by_the_first():
    focus = some(paths_of(COPPER), PathKind.FOCUS)
    ahead = focus[np.isclose(focus[:, 4], 5.1124, atol=1e-3)]
    assert ahead[:, 3].sum() == 12
    assert ahead[0, 5:8] == pytest.approx([2.5562, 5.1124, 2.5562], abs=1e-3)


def test_opposite_neighbours_make_a_star():
    star = some(paths_of(ROCK_SALT), PathKind.STAR)
    there_and_back = star[np.isclose(star[:, 4], 4.21, atol=1e-3) & (star[:, 1] == 8) & (star[:, 2] == 8)]
    # 6 atoms alone (O - Mg - O over the same atom), 3 opposite pairs twice, and 12 pairs at right angles twice
    assert sorted(there_and_back[:, 3].tolist()) == [6, 6, 24]


def test_a_site_without_neighbours_has_no_paths():
    alone = Structure(Lattice.cubic(20.0), ["Ar"], [[0, 0, 0]])
    assert not path_rows(alone, [0]).any()
    assert paths_around(np.zeros((0, 3)), np.zeros(0, dtype=int)).shape == (0, 8)
    assert path_rows(COPPER, []).shape == (0, PATHS_SIZE)


@pytest.mark.parametrize("site", [0, 3, 4, 7])
def test_a_site_is_not_its_own_neighbour(site):
    paths = paths_of(ROCK_SALT, site)
    assert paths[:, 4:7].min() > 2.0
    single = some(paths, PathKind.SINGLE)
    assert single[single[:, 4].argmin(), 3] == 6


def test_turning_the_crystal_changes_nothing():
    turned = COPPER.copy()
    turned.apply_operation(_rotation(), fractional=False)
    ours, theirs = paths_of(COPPER), paths_of(turned)
    order = [np.lexsort(np.round(paths[:, [7, 6, 5, 4, 0]], 2).T) for paths in (ours, theirs)]
    assert ours[order[0]] == pytest.approx(theirs[order[1]], abs=2e-3)


def _rotation():
    from pymatgen.core.operations import SymmOp

    return SymmOp.from_axis_angle_and_translation([1, 2, 3], 37.0)


@pytest.mark.parametrize(("structure", "site"), [(COPPER, 0), (ROCK_SALT, 0)])
def test_our_paths_with_feffs_amplitudes_are_feffs_spectrum(structure, site):
    geometry, amplitude, _ = feff_paths(structure, site)
    chi = np.zeros(len(PATH_K))
    for path in paths_of(structure, site):
        alike = geometry[(geometry[:, :3] == path[:3]).all(axis=1)]
        if not len(alike):
            continue
        index = np.flatnonzero((geometry[:, :3] == path[:3]).all(axis=1))[np.abs(alike[:, 4:] - path[4:]).sum(axis=1).argmin()]
        if np.abs(geometry[index, 4:] - path[4:]).max() > 0.01:
            continue
        wave = (amplitude[index, 0] + 1j * amplitude[index, 1]) * np.exp(2j * PATH_K * path[4])
        chi += path[3] / (PATH_K * path[4] ** 2) * wave.imag
    k, feff = chi_k(compute(structure, site, FeffParameters(kind="EXAFS")).spectrum)
    used = (PATH_K >= 3) & (PATH_K <= 12)
    true = (np.interp(PATH_K, k, feff) * PATH_K**2)[used]
    assert 1 - ((chi * PATH_K**2)[used] - true).var() / true.var() > 0.95


@pytest.mark.parametrize("structure", [COPPER, ROCK_SALT])
def test_feff_stays_below_the_loudest_chi(structure):
    k, feff = chi_k(compute(structure, 0, FeffParameters(kind="EXAFS")).spectrum)
    bound = loudest_chi(path_rows(structure, [0])[0], k[k > 8])
    share = (np.abs(feff[k > 8]) / bound).max()
    assert 0.02 < share < 0.9


def test_paths_of_chosen_sites_are_renumbered():
    table = PathTable(np.array([0, 2, 2, 3]), np.arange(32, dtype=np.float32).reshape(4, 8), np.zeros((4, 2, 40), np.float32))
    chosen = table.of_sites(np.array([False, True, True, True]))
    assert chosen.site.tolist() == [1, 1, 2]
    assert chosen.geometry[0, 0] == 8


def test_the_network_learns_the_paths_of_copper():
    geometry, amplitude, _ = feff_paths(COPPER, 0)
    torch.manual_seed(0)
    network = PathNetwork(width=32)
    x, z = torch.as_tensor(path_rows(COPPER, [0])), torch.tensor([29])
    true, paths, site = torch.as_tensor(amplitude), torch.as_tensor(geometry), torch.zeros(len(geometry), dtype=torch.long)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    start = None
    for _ in range(500):
        loss = path_loss(network.amplitude(x, z, paths, site), true, paths)
        start = start or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.15 * start
    k, feff = chi_k(compute(COPPER, 0, FeffParameters(kind="EXAFS")).spectrum)
    grid = network.k.numpy()
    value = network(x, z)[0][0].detach().numpy() * grid**2
    true_curve = np.interp(grid, k, feff) * grid**2
    assert 1 - (value - true_curve).var() / true_curve.var() > 0.6

"""SevenNet features are what the network's own package computes, and do not depend on how a crystal is written down."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine.errors import ModelError, StructureError
from aiida_xastruct.engine.sevennet import FOLDER, MAX_EDGES, SevenNetFeatures, _batches, shared_features


@pytest.fixture(scope="module")
def features():
    return shared_features()


@pytest.fixture(scope="module")
def low_symmetry():
    """A made-up crystal in which no two sites are alike."""
    cell = Lattice.from_parameters(5.1, 6.2, 7.3, 82, 95, 103)
    places = [[0.1, 0.2, 0.3], [0.6, 0.55, 0.1], [0.35, 0.8, 0.7], [0.8, 0.1, 0.65], [0.15, 0.55, 0.95]]
    return Structure(cell, ["Fe", "O", "S", "Ca", "O"], places)


def same(one, other):
    np.testing.assert_allclose(one, other, atol=2e-4, rtol=2e-4)


def test_shape_and_type(features, low_symmetry):
    (found,) = features([low_symmetry], [[0, 3]])
    assert found.shape == (2, SevenNetFeatures.size) == (2, 1024)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert np.abs(found[0] - found[1]).max() > 0.1  # iron is not calcium


def test_rotation_changes_nothing(features, low_symmetry):
    from scipy.spatial.transform import Rotation

    turned = Structure(
        Lattice(low_symmetry.lattice.matrix @ Rotation.from_euler("xyz", [0.3, 1.1, -0.7]).as_matrix().T),
        low_symmetry.species,
        low_symmetry.frac_coords,
    )
    sites = list(range(len(low_symmetry)))
    same(features([turned], [sites])[0], features([low_symmetry], [sites])[0])


def test_translation_changes_nothing(features, low_symmetry):
    moved = low_symmetry.copy()
    moved.translate_sites(list(range(len(moved))), [0.37, -0.21, 0.83], to_unit_cell=True)
    same(features([moved], [[0, 2]])[0], features([low_symmetry], [[0, 2]])[0])


def test_a_supercell_changes_nothing(features, low_symmetry):
    double = low_symmetry.copy()
    double.make_supercell([1, 2, 1])
    iron = [i for i, site in enumerate(double) if site.specie.symbol == "Fe"]
    found = features([double], [iron])[0]
    same(found[0], found[1])
    same(found[0], features([low_symmetry], [[0]])[0][0])


def test_the_order_of_sites_changes_nothing(features, low_symmetry):
    order = [3, 0, 4, 2, 1]
    shuffled = Structure.from_sites([low_symmetry[i] for i in order])
    same(features([shuffled], [list(range(5))])[0], features([low_symmetry], [order])[0])


def test_a_small_displacement_changes_them(features, low_symmetry):
    """An invariance test alone would pass with constant features."""
    pushed = low_symmetry.copy()
    pushed.translate_sites([1], [0.03, 0, 0])
    assert np.abs(features([pushed], [[0]])[0] - features([low_symmetry], [[0]])[0]).max() > 1e-2


def test_a_batch_gives_what_single_structures_give(features, low_symmetry, crystal):
    structures = [crystal("NaCl"), low_symmetry, crystal("Fe")]
    sites = [[0, 4], [2], [1]]
    together = features(structures, sites)
    for structure, own, found in zip(structures, sites, together, strict=True):
        same(found, features([structure], [own])[0])


def test_batches_split_at_the_limit_and_keep_the_order():
    graphs = [{"pairs": np.empty((2, count)), "name": name} for name, count in enumerate([MAX_EDGES + 5, 10, MAX_EDGES - 10, 1, 3])]
    batches = [[graph["name"] for graph in batch] for batch in _batches(graphs)]
    assert batches == [[0], [1, 2], [3, 4]]


def test_equal_to_sevenns_own_network(features, low_symmetry, crystal):
    """Node features of the whole potential, of its own weights, with its own neighbour list, at each layer's gate."""
    from pathlib import Path

    import sevenn
    import torch
    from sevenn.atom_graph_data import AtomGraphData
    from sevenn.checkpoint import SevenNetCheckpoint
    from sevenn.train.dataload import unlabeled_atoms_to_graph

    own = SevenNetCheckpoint(
        Path(sevenn.__file__).parent / "pretrained_potentials" / "SevenNet_0__11Jul2024" / "checkpoint_sevennet_0.pth"
    ).build_model()
    own.set_is_batch_data(False)
    own.eval()
    layers = []
    for name, module in own.named_children():
        if name.endswith("_equivariant_gate"):
            module.register_forward_hook(lambda _module, _given, result: layers.append(result["x"].detach().numpy()))
    for structure in (low_symmetry, crystal("TiO2")):
        layers.clear()
        own(AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(structure.to_ase_atoms(), own.cutoff)))
        parts = []
        for layer in layers[:4]:  # 128 scalars, 64 vectors, 32 tensors of rank 2
            vectors = layer[:, 128 : 128 + 192].reshape(-1, 64, 3)
            tensors = layer[:, 128 + 192 :].reshape(-1, 32, 5)
            parts += [layer[:, :128], np.linalg.norm(vectors, axis=2), np.linalg.norm(tensors, axis=2)]
        expected = np.concatenate([*parts, layers[4]], axis=1)
        found = features([structure], [list(range(len(structure)))])[0]
        assert expected.shape == found.shape
        assert np.abs(expected - found).max() < 1e-4
    assert torch.is_tensor(next(own.parameters()))


def test_unknown_element_is_refused(features, refused):
    einsteinium = Structure(Lattice.cubic(4.0), ["Es"], [[0, 0, 0]])
    assert 99 not in features.elements
    assert len(features.elements) == 89
    with refused(StructureError, "Z 99", "use FEFF"):
        features([einsteinium], [[0]])


def test_atoms_out_of_reach_of_each_other_are_refused(features, refused):
    with refused(StructureError, "within 5 angstrom"):
        features([Structure(Lattice.cubic(20.0), ["Fe"], [[0, 0, 0]])], [[0]])


@pytest.mark.parametrize("harm", ["missing", "cut", "config"])
def test_damaged_weights_are_refused(tmp_path, refused, harm):
    folder = tmp_path / "sevennet0"
    shutil.copytree(FOLDER, folder)
    weights = folder / "weights.safetensors"
    if harm == "missing":
        weights.unlink()
    elif harm == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        (folder / "config.json").write_text(json.dumps({"source": {}}))
    with refused(ModelError, "cannot be read"):
        SevenNetFeatures(folder=folder)

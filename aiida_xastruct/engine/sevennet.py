"""Atom features from the layers of SevenNet-0, a network trained on the Materials Project's energies and forces.

What such a network must know of an atom's surroundings to give its energy is what the absorption edge of the atom depends on, too.
Park, Kim, Hwang and Han, J. Chem. Theory Comput. 20, 4857 (2024). The weights ship in `pretrained/sevennet0` (safetensors, JSON);
`scripts/convert_sevennet.py` made them from the `sevenn` wheel.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Structure

from .errors import ModelError, StructureError
from .orbits import Orbits, orbits

FOLDER = Path(__file__).parent.parent / "pretrained" / "sevennet0"

#: Edges in one pass through the network: about 1 GB of intermediate values.
MAX_EDGES = 60_000

Features = NDArray[np.float32]


class SevenNetFeatures:
    """The trunk of SevenNet-0 without its energy and force heads.

    Attributes:
        size: number of features of an atom: 128 scalars, 64 norms of vectors and 32 norms of l = 2 tensors in each of the layers
            1 to 4, and the 128 scalars of layer 5.
        scalars: columns of the scalars among the features.
        elements: atomic numbers that the network knows.
    """

    size = 4 * (128 + 64 + 32) + 128
    scalars = tuple(column for layer in range(5) for column in range(224 * layer, 224 * layer + 128))

    def __init__(self, device: str = "cpu", folder: Path = FOLDER) -> None:
        from e3nn.o3 import Irreps
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from sevenn.model_build import build_E3_equivariant_model

        try:
            config = json.loads((folder / "config.json").read_text())["architecture"]
            weights = load_file(folder / "weights.safetensors")
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise ModelError(f"SevenNet's weights in {folder} cannot be read ({error}); install aiida-xastruct again.") from error
        config["_type_map"] = {int(z): index for z, index in config["_type_map"].items()}
        network = build_E3_equivariant_model(config)
        for name in [name for name in network._modules if name.startswith(("reduce_", "rescale_", "force_"))]:
            network.delete_module_by_key(name)
        missing, unexpected = network.load_state_dict(weights, strict=False)
        trained = {name for name, _ in network.named_parameters() if _.numel()}
        if trained & set(missing) or unexpected:
            raise ModelError("SevenNet's weights do not fit the installed sevenn package; install the version that pyproject.toml names.")
        self.elements = frozenset(config["_type_map"])
        self.device = torch.device(device)
        self._cutoff = float(config["cutoff"])
        self._network = network.to(self.device).eval().requires_grad_(False)
        self._network.key_grad = None
        self._irreps = [Irreps(text) for text in config["irreps_manual"][1:]]

    def __call__(self, structures: Sequence[Structure], sites: Sequence[Sequence[int]]) -> list[Features]:
        """Features of the chosen sites of each structure.

        Args:
            structures: ordered crystals.
            sites: for each structure the site indices wanted.

        Returns:
            for each structure an array (len(sites), `size`).

        Raises:
            StructureError: if an element is unknown to SevenNet (it knows 89, up to Pu).
        """
        graphs = [self._graph(structure) for structure in structures]
        found: list[Features] = []
        for batch in _batches(graphs):
            atoms = self._atom_features(batch)
            start = 0
            for graph in batch:
                wanted = list(sites[len(found)])
                count = int(graph["num_atoms"])
                found.append(atoms[start : start + count][wanted])
                start += count
        return found

    def _graph(self, structure: Structure) -> dict[str, Any]:
        """Neighbours of every atom within the cutoff: vectors in angstrom from centre to neighbour, index pairs."""
        numbers = np.array([site.specie.Z for site in structure], dtype=np.int64)
        unknown = sorted(set(numbers.tolist()) - self.elements)
        if unknown:
            raise StructureError(f"SevenNet does not know the element with Z {unknown[0]}; use FEFF for this structure.")
        alike = orbits(structure)
        ones = np.unique(alike.first)
        centre, neighbour, image, distance = structure.get_neighbor_list(
            self._cutoff, sites=[structure[one] for one in ones], exclude_self=False
        )
        other = distance > 1e-8  # pymatgen tells an atom from itself only where all atoms are asked for
        centre, neighbour, image = ones[centre[other]], neighbour[other], image[other]
        if len(centre) == 0:
            raise StructureError("no two atoms are within 5 angstrom of each other; is the cell in angstrom?")
        cartesian, matrix = structure.cart_coords, structure.lattice.matrix
        vectors = cartesian[neighbour] + image @ matrix - cartesian[centre]
        return {
            "Z": numbers,
            "pairs": np.stack([centre, neighbour]),
            "vectors": vectors.astype(np.float32),
            "num_atoms": len(numbers),
            "orbits": alike,
        }

    def _atom_features(self, graphs: list[dict[str, Any]]) -> Features:
        import sevenn._keys as key

        starts = np.cumsum([0] + [graph["num_atoms"] for graph in graphs])
        numbers = torch.from_numpy(np.concatenate([graph["Z"] for graph in graphs])).to(self.device)
        pairs = np.concatenate([graph["pairs"] + start for graph, start in zip(graphs, starts, strict=False)], axis=1)
        data: dict[str, Any] = {
            key.NODE_FEATURE: numbers,
            key.ATOMIC_NUMBERS: numbers,
            key.EDGE_IDX: torch.from_numpy(pairs).to(self.device),
            key.EDGE_VEC: torch.from_numpy(np.concatenate([graph["vectors"] for graph in graphs])).to(self.device),
        }
        layers: list[torch.Tensor] = []
        copies = _Copies([graph["orbits"] for graph in graphs], starts, self.device)
        with torch.inference_mode():
            data = self._network._preprocess(data)
            for name, module in self._network.named_children():
                data = module(data)
                if name.endswith("_equivariant_gate"):
                    copies.fill(data[key.NODE_FEATURE], self._irreps[len(layers)])
                    layers.append(_invariants(data[key.NODE_FEATURE], self._irreps[len(layers)]))
        return np.asarray(torch.cat(layers, dim=1).cpu().numpy(), dtype=np.float32)


class _Copies:
    """Atoms whose features are those of another one, turned; see `engine.orbits`."""

    def __init__(self, alike: Sequence[Orbits], starts: NDArray[np.int64], device: torch.device) -> None:
        first = np.concatenate([own.first + start for own, start in zip(alike, starts, strict=False)])
        atoms = np.flatnonzero(first != np.arange(len(first)))
        rotation = torch.from_numpy(np.concatenate([own.rotation for own in alike])[atoms])
        self._atoms, self._first = torch.from_numpy(atoms).to(device), torch.from_numpy(first[atoms]).to(device)
        self._turns = {order: _turn(order, rotation).float().to(device) for order in (1, 2)} if len(atoms) else {}

    def fill(self, x: torch.Tensor, irreps: Any) -> None:
        """Put the features of the copies into (atoms, irreps) in place."""
        if not self._turns:
            return
        known, start = x[self._first], 0
        for multiplicity, irrep in irreps:
            block = known[:, start : start + multiplicity * irrep.dim]
            if irrep.l:
                turned = block.reshape(len(known), multiplicity, irrep.dim) @ self._turns[irrep.l]
                block = turned.reshape(len(known), -1)
            x[self._atoms, start : start + multiplicity * irrep.dim] = block
            start += multiplicity * irrep.dim


def _turn(order: int, rotation: torch.Tensor) -> torch.Tensor:
    """(n, 2 order + 1, 2 order + 1) matrices that turn spherical harmonics, as rows, by rotations (n, 3, 3).

    Solved for from the harmonics of a few directions: Euler angles have poles, which rotations of crystals hit.
    """
    from e3nn.o3 import spherical_harmonics

    directions = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=rotation.dtype)
    before = spherical_harmonics(order, directions, normalize=True)
    after = spherical_harmonics(order, directions @ rotation.transpose(1, 2), normalize=True)
    return torch.as_tensor(torch.linalg.pinv(before) @ after)


def _invariants(x: torch.Tensor, irreps: Any) -> torch.Tensor:
    """Rotation invariants of node features: scalars as they are, the norm of each vector and tensor."""
    parts, start = [], 0
    for multiplicity, irrep in irreps:
        block = x[:, start : start + multiplicity * irrep.dim]
        start += multiplicity * irrep.dim
        parts.append(block if irrep.l == 0 else block.reshape(len(x), multiplicity, irrep.dim).norm(dim=2))
    return torch.cat(parts, dim=1)


def _batches(graphs: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Consecutive graphs of together at most `MAX_EDGES` edges (a larger graph goes alone)."""
    batch: list[dict[str, Any]] = []
    edges = 0
    for graph in graphs:
        if batch and edges + graph["pairs"].shape[1] > MAX_EDGES:
            yield batch
            batch, edges = [], 0
        batch.append(graph)
        edges += graph["pairs"].shape[1]
    if batch:
        yield batch


@cache
def shared_features(device: str = "cpu") -> SevenNetFeatures:
    """One network a process and device; building it takes seconds."""
    return SevenNetFeatures(device)

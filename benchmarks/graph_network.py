"""A PyTorch Geometric network from crystal to XANES, trained from scratch: what `peer_split.py --graph` sets beside the shipped model.

A site is a graph of the absorber and the atoms within `RADIUS`. Every atom knows its element and its distance from the absorber, every edge
(absorber to atom, and between atoms in touch) its length, so that a message holds the triangle of absorber and two atoms, and with it the
angle. Messages are SchNet's continuous-filter convolutions (Schutt et al., J. Chem. Phys. 148, 241722 (2018)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from pymatgen.core import Structure
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import MessagePassing, global_add_pool

from aiida_xastruct.engine.models.networks import element_descriptors
from aiida_xastruct.engine.models.tasks import Task
from aiida_xastruct.engine.paths import atoms_around

#: Angstrom: how far atoms count, how far atoms in touch are apart; and the most atoms.
RADIUS, TOUCH, MOST_ATOMS = 5.0, 3.2, 48

EPOCHS, BATCH, RATE, DECAY = 40, 64, 2e-3, 0.05
LAYERS, CHANNELS = 3, 64

_CENTRES = torch.linspace(0.8, RADIUS, 28)


def gaussians(length: torch.Tensor) -> torch.Tensor:
    """(n, 28) of lengths (n,) in angstrom."""
    return torch.exp(-0.5 * ((length[:, None] - _CENTRES) / 0.16) ** 2)


def graphs(structure: Structure, sites: Sequence[int]) -> list[Data]:
    """A graph for each site: atomic numbers z, distances r from the absorber (node 0), edges and their lengths."""
    found = []
    for site, (positions, numbers, distances) in zip(sites, atoms_around(structure, sites, RADIUS), strict=True):
        places = np.concatenate([np.zeros((1, 3)), positions[:MOST_ATOMS]])
        apart = np.linalg.norm(places[:, None] - places[None], axis=2)
        edge = (apart < TOUCH) | (np.arange(len(places)) == 0) | (np.arange(len(places)) == 0)[:, None]
        pairs = np.argwhere(edge & ~np.eye(len(places), dtype=bool)).T
        z = np.concatenate([[structure[site].specie.Z], numbers[:MOST_ATOMS]])
        r = np.concatenate([[0.0], distances[:MOST_ATOMS]])
        edges = {"edge_index": torch.tensor(pairs), "length": torch.tensor(apart[pairs[0], pairs[1]], dtype=torch.float32)}
        found.append(Data(z=torch.tensor(z), r=torch.tensor(r, dtype=torch.float32), num_nodes=len(z), **edges))
    return found


class Filter(MessagePassing):  # type: ignore[misc]  # torch_geometric is untyped
    """A continuous-filter convolution."""

    def __init__(self) -> None:
        super().__init__(aggr="add")
        self.filter = nn.Sequential(nn.Linear(len(_CENTRES), CHANNELS), nn.SiLU(), nn.Linear(CHANNELS, CHANNELS))
        self.before = nn.Linear(CHANNELS, CHANNELS)
        self.after = nn.Sequential(nn.LayerNorm(CHANNELS), nn.Linear(CHANNELS, CHANNELS), nn.SiLU(), nn.Linear(CHANNELS, CHANNELS))

    def forward(self, h: torch.Tensor, edge_index: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        """Atoms (n, CHANNELS) after one round of messages along edges of Gaussians `shape`."""
        return h + self.after(self.propagate(edge_index, h=self.before(h), weight=self.filter(shape)))

    def message(self, h_j: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """What an edge carries."""
        return h_j * weight


class GraphNetwork(nn.Module):
    """Graphs to flat curves (b, n_out), from the mean of the training curves `start` (n_out,)."""

    def __init__(self, start: torch.Tensor) -> None:
        super().__init__()
        self.start = start
        self.elements = element_descriptors()
        self.enter = nn.Linear(2 * self.elements.shape[1] + len(_CENTRES), CHANNELS)
        self.layers = nn.ModuleList(Filter() for _ in range(LAYERS))
        self.leave = nn.Sequential(
            nn.Linear(2 * CHANNELS + self.elements.shape[1], 4 * CHANNELS), nn.SiLU(), nn.Dropout(0.1), nn.Linear(4 * CHANNELS, len(start))
        )

    def forward(self, graph: Batch) -> torch.Tensor:
        """(b, n_out)."""
        absorber = self.elements[graph.z[graph.ptr[:-1]]]
        h = self.enter(torch.cat([self.elements[graph.z], absorber[graph.batch], gaussians(graph.r)], dim=1))
        shape = gaussians(graph.length)
        for layer in self.layers:
            h = layer(h, graph.edge_index, shape)
        fade = 0.5 * (1.0 + torch.cos(math.pi * (graph.r / RADIUS).clamp(max=1.0)))
        around = global_add_pool(h * fade[:, None], graph.batch) / 10.0
        value: torch.Tensor = self.leave(torch.cat([h[graph.ptr[:-1]], around, absorber], dim=1)) + self.start
        return value


def train_graph_network(task: Task, sites: Sequence[Data], target: torch.Tensor, seed: int = 0, epochs: int = EPOCHS) -> GraphNetwork:
    """Train on graphs and their curves (n, n_out), NaN where unknown; AdamW on a one-cycle schedule, to its end."""
    torch.manual_seed(seed)
    network = GraphNetwork(torch.nanmean(target, dim=0))
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    steps = epochs * math.ceil(len(sites) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    for _ in range(epochs):
        for rows in torch.randperm(len(sites)).split(BATCH):
            loss = task.loss(network(Batch.from_data_list([sites[row] for row in rows])), target[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.inference_mode()
def predict(network: GraphNetwork, sites: Sequence[Data]) -> torch.Tensor:
    """(n, n_out) curves of graphs."""
    return torch.cat([network(Batch.from_data_list(list(sites[start : start + 256]))) for start in range(0, len(sites), 256)])

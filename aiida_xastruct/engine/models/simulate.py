"""EXAFS of strained crystals at random temperatures, made by a forward model, for inverse models to learn from.

FEFF takes a second a site, a forward model a millisecond: strain moves the distances that an inverse model must tell away from those that
go with an absorber's usual compounds, and disorder damps each path by exp(-2 sigma^2 k^2) as it does in a measurement.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..dataset import SiteTable
from ..errors import ModelError
from ..paths import MAX_PATHS, PATH_COLUMNS, PATHS_SIZE
from .ensemble import Ensemble
from .paths import PathNetwork

#: Largest strain of all distances alike, either way.
STRAIN = 0.06

#: Largest sigma^2 of a long path, angstrom^2.
DISORDER = 0.015

#: Share of the simulated spectra that have no disorder.
COLD = 0.3

#: Columns of a path that are lengths.
_LENGTHS = slice(PATH_COLUMNS.index("half_length"), len(PATH_COLUMNS))


def simulate(table: SiteTable, forward: Ensemble, variants: int, seed: int) -> SiteTable:
    """Spectra of the sites of a table under random strain and disorder.

    Args:
        table: n EXAFS sites; their spectra are not used, and of their features only the paths, which are the last.
        forward: the model of EXAFS; each variant asks another member.
        variants: spectra a site.
        seed: of strain and disorder.

    Returns:
        table of n x variants rows, without draws of their own and without features; `mean_distance` and `nearest_distance` are strained
        too. Spectra that the model makes up beyond measure (k^2 chi above 60) are left out.

    Raises:
        ModelError: if `forward` is no sum over paths.
    """
    made = []
    for variant in range(variants):
        network = forward.members[variant % len(forward.members)]
        if not isinstance(network, PathNetwork):
            raise ModelError("spectra are simulated by the forward model of EXAFS; give that one.")
        generator = torch.Generator().manual_seed(seed + variant)
        made.append(_variant(table, network, generator))
    return SiteTable.join(made)


@torch.inference_mode()
def _variant(table: SiteTable, network: PathNetwork, generator: torch.Generator) -> SiteTable:
    n = len(table)
    strain = 1.0 + STRAIN * (2.0 * torch.rand(n, generator=generator) - 1.0)
    paths = torch.as_tensor(table.features[:, -PATHS_SIZE:]).view(n, MAX_PATHS, len(PATH_COLUMNS)).clone()
    paths[..., _LENGTHS] *= strain[:, None, None]
    disorder = _disorder(paths[..., _LENGTHS.start], generator)
    absorber = torch.as_tensor(table.absorber)
    curves = torch.cat([network.chi(*part) for part in zip(paths.split(256), absorber.split(256), disorder.split(256), strict=True)])
    sound = ((curves * network.k**2).abs().amax(dim=1) < 60.0).numpy()
    factor = strain.numpy()
    curve = curves.numpy().astype(np.float32)
    moved = replace(
        without_features(table),
        curve=curve,
        target=curve,
        thermal=np.zeros((n, 0, curve.shape[1]), dtype=np.float32),
        mean_distance=table.mean_distance * factor,
        nearest_distance=table.nearest_distance * factor,
    )
    return moved.take(sound)


def without_features(table: SiteTable) -> SiteTable:
    """The same sites without features, which inverse models do not see and which are most of a table's memory."""
    return replace(table, features=np.zeros((len(table), 0), dtype=np.float32))


def each_draw(table: SiteTable) -> SiteTable:
    """The spectra of a table, each thermal draw that there is as a row of its own, without features."""
    bare = replace(without_features(table), thermal=table.thermal[:, :0])
    drawn = [replace(bare, curve=table.thermal[:, draw]) for draw in range(table.thermal.shape[1])]
    return SiteTable.join([bare, *(rows.take(np.flatnonzero(np.isfinite(rows.curve).any(axis=1))) for rows in drawn)])


def _disorder(half_length: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(n, MAX_PATHS) sigma^2 in angstrom^2: near neighbours move together, so it rises with length, and scatters by a quarter."""
    n = len(half_length)
    far = DISORDER * torch.rand(n, 1, generator=generator) ** 1.5
    cold = torch.rand(n, 1, generator=generator) < COLD
    together = 0.45 + 0.55 * (1.0 - torch.exp(-(half_length - 1.5).clamp(min=0.0) / 1.5))
    scatter = torch.exp(0.25 * torch.randn(half_length.shape, generator=generator))
    return torch.where(cold, 0.0, far * together * scatter)

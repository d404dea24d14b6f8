"""One training loop for every task: Lightning on a CPU, one GPU or several."""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

from .dataset import SiteTable
from .errors import DatasetError, ModelError
from .models.ensemble import Architecture, Ensemble, Network
from .models.kernel import SiteKernel
from .models.paths import PathNetwork, path_loss
from .models.shells import ShellNetwork
from .models.tasks import KERNEL_BLOCKS, Task
from .paths import PathTable

#: Scattering paths in a step of training, beside the spectra.
PATH_BATCH = 512


@dataclass(frozen=True)
class TrainingOptions:
    """How an ensemble is trained.

    AdamW on a one-cycle schedule, which does most of its work at its end, so that it always runs to it; the epoch with the best
    select loss is kept.
    """

    members: int = 4
    epochs: int = 150
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.2
    seed: int = 0
    accelerator: str = "auto"
    devices: int | str = "auto"
    precision: Any = "32-true"
    progress: bool = True


class SiteModule(lightning.LightningModule):
    """A network and its task."""

    def __init__(
        self,
        task: Task,
        network: Network,
        options: TrainingOptions,
        steps: int,
        seed: int,
        paths: _Paths | None = None,
    ) -> None:
        super().__init__()
        self.task, self.network, self.options, self.steps, self.seed, self.paths = task, network, options, steps, seed, paths
        self._generator: torch.Generator | None = None

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        """Loss of a batch, of a fresh random draw where the task has one."""
        if self._generator is None:
            self._generator = torch.Generator(self.device).manual_seed(self.seed + self.global_rank)
        value, log_error, target = self._answer(batch, self._generator)
        loss = self.task.loss(value, target) + self.task.error_loss(log_error, value, target)
        if self.paths is not None and isinstance(self.network, PathNetwork):
            loss = loss + self.paths.loss(self.network, self._generator)
        if not torch.isfinite(loss):
            raise ModelError(f"the loss of {self.task.label} is not a number at step {self.global_step}; lower the learning rate.")
        return loss

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        """Loss of a batch of the select part; the draws are the same in every epoch."""
        generator = torch.Generator(self.device).manual_seed(index)
        value, _, target = self._answer(batch, generator)
        self.log("select_loss", self.task.loss(value, target), prog_bar=True, batch_size=len(target), sync_dist=True)

    def _answer(self, batch: list[torch.Tensor], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        source, absorber, target = batch
        value, log_error = self.network(self.task.inputs(source, generator), absorber)
        return value, log_error, target

    def configure_optimizers(self) -> Any:
        """AdamW on a one-cycle schedule."""
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.options.learning_rate, weight_decay=self.options.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.options.learning_rate, total_steps=self.steps, pct_start=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Paths:
    """Random batches of scattering paths, for the amplitudes of a `PathNetwork`.

    A spectrum is the sum of many paths; with each path known by itself, far fewer epochs reach the same accuracy.
    """

    def __init__(self, table: PathTable, sites: SiteTable, task: Task) -> None:
        self._site = torch.as_tensor(table.site)
        self._geometry, self._amplitude = torch.as_tensor(table.geometry), torch.as_tensor(table.amplitude)
        self._inputs, self._absorber = task.inputs(task.source(sites)), torch.as_tensor(sites.absorber)

    def loss(self, network: PathNetwork, generator: torch.Generator) -> torch.Tensor:
        """Loss of a random batch."""
        device = generator.device
        chosen = torch.randint(len(self._site), (PATH_BATCH,), generator=generator, device=device).cpu()
        rows, site = torch.unique(self._site[chosen], return_inverse=True)
        geometry = self._geometry[chosen].to(device)
        said = network.amplitude(self._inputs[rows].to(device), self._absorber[rows].to(device), geometry, site.to(device))
        return path_loss(said, self._amplitude[chosen].to(device), geometry)


class KeepBest(Callback):
    """Remembers the weights of the epoch with the lowest select loss."""

    def __init__(self) -> None:
        self.loss = math.inf
        self.state: dict[str, torch.Tensor] = {}

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Copy the weights if they are the best so far."""
        if trainer.sanity_checking or "select_loss" not in trainer.callback_metrics:
            return
        loss = float(trainer.callback_metrics["select_loss"])
        if loss < self.loss:
            self.loss = loss
            network = pl_module.network
            assert isinstance(network, Network)
            self.state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def train_ensemble(
    task: Task,
    train: SiteTable,
    select: SiteTable,
    architecture: Architecture,
    options: TrainingOptions,
    paths: PathTable | None = None,
    waves: torch.Tensor | None = None,
) -> tuple[Ensemble, list[float]]:
    """Train the members of an ensemble one after another, each from its own seed; fit its kernel model where it has one.

    Args:
        task: what to learn.
        train: rows to learn from.
        select: rows that decide when to stop.
        architecture: size of the networks.
        options: how to train.
        paths: scattering paths of sites of `train`, which the forward network of EXAFS learns from beside the spectra.
        waves: of candidate neighbours (`models.shells.candidate_waves`), which the inverse networks of EXAFS compare spectra with.

    Returns:
        the ensemble, and each member's best select loss.

    Raises:
        DatasetError: if either table is too small.
        ModelError: if the loss stops being a number.
    """
    if len(train) < 20 or len(select) < 5:
        raise DatasetError(f"{task.label} has {len(train)} sites to train and {len(select)} to select on; at least 20 and 5 are needed.")
    members, losses = [], []
    for index in range(options.members):
        network, loss = _train_member(task, train, select, architecture, options, options.seed + 1000 * index, paths, waves)
        members.append(network)
        losses.append(loss)
    networks = Ensemble(task, members)
    return networks if task.label != "forward-XANES" else Ensemble(task, members, fit_kernel(networks, train)), losses


def fit_kernel(networks: Ensemble, train: SiteTable) -> SiteKernel:
    """The kernel model that answers beside networks, from what they were trained on; where a curve ends, theirs goes on."""
    task, z = networks.task, torch.as_tensor(train.absorber)
    inputs = task.inputs(task.source(train))
    return SiteKernel.fit(inputs, z, task.target(train), networks(inputs, z).value, train.material, KERNEL_BLOCKS)


def _train_member(
    task: Task,
    train: SiteTable,
    select: SiteTable,
    architecture: Architecture,
    options: TrainingOptions,
    seed: int,
    paths: PathTable | None,
    waves: torch.Tensor | None,
) -> tuple[Network, float]:
    lightning.seed_everything(seed, verbose=False)
    network = architecture.build(task)
    source = task.source(train)
    if isinstance(network, ShellNetwork):
        if waves is None:
            raise DatasetError(f"{task.label} compares spectra with waves of the forward-EXAFS model; train that one first.")
        network.waves.copy_(waves)
    network.start_from(task.inputs(source, torch.Generator().manual_seed(seed)), torch.as_tensor(train.absorber), task.start(train))
    per_epoch = math.ceil(len(train) / options.batch_size)
    own = _Paths(paths, train, task) if paths is not None and isinstance(network, PathNetwork) else None
    module = SiteModule(task, network, options, per_epoch * options.epochs, seed, own)
    best = KeepBest()
    with _quiet():
        trainer = _trainer(options, best)
        trainer.fit(module, _loader(task, train, options.batch_size, True), _loader(task, select, 4 * options.batch_size, False))
    if not best.state:
        raise ModelError(f"{task.label} gave no finite select loss in {options.epochs} epochs; lower the learning rate.")
    network.load_state_dict(best.state)
    return network.cpu(), best.loss


def _trainer(options: TrainingOptions, best: KeepBest) -> lightning.Trainer:
    """Lightning's trainer.

    Raises:
        ModelError: if this machine has no such accelerator, devices or precision.
    """
    try:
        return lightning.Trainer(
            max_epochs=options.epochs,
            accelerator=options.accelerator,
            devices=options.devices,
            precision=options.precision,
            gradient_clip_val=1.0,
            callbacks=[best],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=options.progress,
            deterministic="warn",
            num_sanity_val_steps=0,
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        raise ModelError(
            f"training cannot start with accelerator {options.accelerator!r}, devices {options.devices!r} and precision "
            f"{options.precision!r}: {str(error).splitlines()[0]}"
        ) from error


def _loader(task: Task, table: SiteTable, batch_size: int, shuffle: bool) -> DataLoader[Any]:
    """Whole batches by index: the tables are in memory, and one sample at a time would be most of an epoch's time."""
    data = TensorDataset(task.source(table), torch.as_tensor(table.absorber), task.target(table))
    order: Any = RandomSampler(data) if shuffle else SequentialSampler(data)
    return DataLoader(data, sampler=BatchSampler(order, batch_size, drop_last=False), batch_size=None)


class _quiet:  # noqa: N801
    """Hide Lightning's start-up notes; a progress bar says what the user needs."""

    def __enter__(self) -> None:
        self._levels = {name: logging.getLogger(name).level for name in _LOGGERS}
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._catch = warnings.catch_warnings()
        self._catch.__enter__()
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*number of training batches.*")

    def __exit__(self, *exc: Any) -> None:
        self._catch.__exit__(*exc)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)


_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")

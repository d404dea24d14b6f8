"""One training loop for every task: Lightning on a CPU, one GPU or several."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from .callbacks import KeepBest, KeepWatch, SaveEveryEpoch
from .checkpoint import SafetensorsIO, is_first_process, read_state, write_state
from .dataset import SiteTable
from .errors import DatasetError, DeviceError, DivergedError
from .models.ensemble import Architecture, Ensemble, Network
from .models.kernel import SiteKernel
from .models.paths import PathNetwork, path_loss
from .models.shells import ShellNetwork
from .models.tasks import KERNEL_BLOCKS, Task
from .paths import PathTable
from .watch import Watch

#: Scattering paths in a step of training, beside the spectra.
PATH_BATCH = 512

#: What PyTorch may be asked for; see `TrainingOptions.matmul`.
MATMULS = ("highest", "high", "medium")


@dataclass(frozen=True)
class TrainingOptions:
    """How an ensemble is trained.

    AdamW on a one-cycle schedule over `epochs`; the epoch with the best select loss is kept. The schedule does most of its work at its
    end, where the rate falls to nothing, so by default it always runs to it.

    Attributes:
        members: networks of the ensemble.
        epochs: passes over the training sites that the schedule is made for.
        batch_size: sites in a step, of all devices together.
        learning_rate: highest of the schedule.
        weight_decay: of AdamW.
        seed: of the first network; with it and the devices a training repeats itself.
        patience: stop a network when that many epochs brought no better select loss; 0 for never. Stopped early, a network goes without
            the end of the schedule: this is for trials, and for data on which the select loss only rises.
        accelerator: Lightning's: auto, cpu, gpu.
        devices: how many of each machine, or auto. Several share each step, one process each.
        nodes: machines that share each step; a scheduler or `torchrun` starts the processes.
        precision: Lightning's, such as bf16-mixed.
        matmul: PyTorch's precision of products of single-precision matrices: highest, high or medium. Medium rounds the factors to bfloat16
            where the processor multiplies these quicker; sums stay in single precision, and so does what is trained when it answers.
        progress: whether to show a bar.
    """

    members: int = 4
    epochs: int = 150
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.2
    seed: int = 0
    patience: int = 0
    accelerator: str = "auto"
    devices: int | str = "auto"
    nodes: int = 1
    precision: Any = "32-true"
    matmul: str = "medium"
    progress: bool = True


class SiteModule(lightning.LightningModule):
    """A network, its task and what it learns from."""

    def __init__(
        self,
        task: Task,
        network: Network,
        options: TrainingOptions,
        train: SiteTable,
        select: SiteTable,
        seed: int,
        paths: _Paths | None = None,
    ) -> None:
        super().__init__()
        self.task, self.network, self.options, self.seed, self.paths = task, network, options, seed, paths
        self._train, self._select = train, select
        self._generator = torch.Generator()

    def train_dataloader(self) -> DataLoader[Any]:
        """The batches of this process: its own part of every batch."""
        size = math.ceil(self.options.batch_size / self.trainer.world_size)
        return _loader(self.task, self._train, lambda data: shuffled(data, size, self.global_rank, self.trainer.world_size, self.seed))

    def val_dataloader(self) -> DataLoader[Any]:
        """The whole select part for every process: it is small, and so all agree on the best epoch."""
        size = 4 * self.options.batch_size
        return _loader(self.task, self._select, lambda data: BatchSampler(SequentialSampler(data), size, drop_last=False))

    def _seed_epoch(self) -> None:
        """Draws follow from seed, epoch and process alone, so that a run that goes on draws what it would have drawn."""
        drawn = np.random.SeedSequence((self.seed, self.current_epoch, self.global_rank)).generate_state(2)
        torch.manual_seed(int(drawn[0]))  # dropout
        self._generator = torch.Generator(self.device).manual_seed(int(drawn[1]))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        """Loss of a batch, of a fresh random draw where the task has one."""
        if index == 0:  # no earlier: the loaders draw too, how often depends on whether the run goes on
            self._seed_epoch()
        value, log_error, target = self._answer(batch, self._generator)
        loss = self.task.loss(value, target) + self.task.error_loss(log_error, value, target)
        loss = loss + 0.0 * log_error.sum()  # several processes wait for a gradient of every weight, also where no error is stated
        if self.paths is not None and isinstance(self.network, PathNetwork):
            loss = loss + self.paths.loss(self.network, self._generator)
        if not torch.isfinite(loss):
            raise DivergedError(f"the loss of {self.task.label} is not a number at step {self.global_step}; lower the learning rate.")
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
        steps = int(self.trainer.estimated_stepping_batches)
        rise = 0.1 if steps != 10 else 0.11  # a tenth of ten steps is a rise of no length, by which PyTorch divides
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.options.learning_rate, total_steps=steps, pct_start=rise)
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


def train_ensemble(
    task: Task,
    train: SiteTable,
    select: SiteTable,
    architecture: Architecture,
    options: TrainingOptions,
    paths: PathTable | None = None,
    waves: torch.Tensor | None = None,
    state: Path | None = None,
    watch: Watch | None = None,
    begun: Ensemble | None = None,
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
        state: folder that keeps what is done, and where a training with the same arguments goes on; nothing is kept if left out.
        watch: is told of every epoch, and may end the training in time.
        begun: networks to begin from, as many or more; random ones if left out.

    Returns:
        the ensemble, and each member's best select loss.

    Raises:
        DatasetError: if either table is too small.
        DivergedError: if the loss stops being a number.
        DeviceError: if this machine has no such accelerator, devices or precision.
        TimeIsUpError: if the watch says so.
    """
    if len(train) < 20 or len(select) < 5:
        raise DatasetError(f"{task.label} has {len(train)} sites to train and {len(select)} to select on; at least 20 and 5 are needed.")
    members, losses = [], []
    for index in range(options.members):
        own = _network(state, index) if state is not None else None
        kept = _finished(task, architecture, own)
        seed = options.seed + 1000 * index
        watching = KeepWatch(watch or Watch(), task, index)
        first = begun.members[index] if begun is not None else None
        network, loss = kept or _train_member(task, train, select, architecture, options, seed, paths, waves, own, watching, first)
        members.append(network)
        losses.append(loss)
    networks = Ensemble(task, members)
    return networks if task.label != "forward-XANES" else Ensemble(task, members, fit_kernel(networks, train)), losses


def fit_kernel(networks: Ensemble, train: SiteTable) -> SiteKernel:
    """The kernel model that answers beside networks, from what they were trained on; where a curve ends, theirs goes on."""
    task, z = networks.task, torch.as_tensor(train.absorber)
    inputs = task.inputs(task.source(train))
    return SiteKernel.fit(inputs, z, task.target(train), networks(inputs, z).value, train.material, KERNEL_BLOCKS)


def finished_ensemble(
    task: Task, architecture: Architecture, options: TrainingOptions, state: Path | None
) -> tuple[Ensemble, list[float]] | None:
    """What `train_ensemble` left in the folder `state`, if it trained all networks."""
    if state is None:
        return None
    kept = [_finished(task, architecture, _network(state, index)) for index in range(options.members)]
    whole = [item for item in kept if item is not None]
    return (Ensemble(task, [network for network, _ in whole]), [loss for _, loss in whole]) if len(whole) == len(kept) else None


def _network(state: Path, index: int) -> Path:
    """Where a network is kept when it is trained; its checkpoint lies beside it."""
    return state / f"network-{index}.safetensors"


def _finished(task: Task, architecture: Architecture, path: Path | None) -> tuple[Network, float] | None:
    """A network that was trained before this run was stopped, and its best select loss."""
    if path is None or not path.is_file():
        return None
    kept = read_state(path)
    network = architecture.build(task)
    network.load_state_dict(kept["state"])
    return network, float(kept["loss"])


def _train_member(
    task: Task,
    train: SiteTable,
    select: SiteTable,
    architecture: Architecture,
    options: TrainingOptions,
    seed: int,
    paths: PathTable | None,
    waves: torch.Tensor | None,
    state: Path | None,
    watching: KeepWatch,
    begun: Network | None,
) -> tuple[Network, float]:
    """A network, and its best select loss; `state` is the file that it is kept in."""
    lightning.seed_everything(seed, verbose=False)
    network = architecture.build(task)
    source = task.source(train)
    if begun is not None:
        network.load_state_dict(begun.state_dict())
    if isinstance(network, ShellNetwork):
        if waves is None:
            raise DatasetError(f"{task.label} compares spectra with waves of the forward-EXAFS model; train that one first.")
        network.waves.copy_(waves)
    if begun is None:
        network.start_from(task.inputs(source, torch.Generator().manual_seed(seed)), torch.as_tensor(train.absorber), task.start(train))
    own = _Paths(paths, train, task) if paths is not None and isinstance(network, PathNetwork) else None
    module = SiteModule(task, network, options, train, select, seed, own)
    best = KeepBest()
    checkpoint = state.with_suffix(".checkpoint") if state is not None else None
    with _quiet(), _matmul(options.matmul):
        trainer = _trainer(options, best, checkpoint, watching)
        try:
            trainer.fit(module, ckpt_path=checkpoint if checkpoint is not None and checkpoint.is_file() else None)
        except DivergedError as error:
            watching.watch.diverged(task.label, watching.network, str(error))
            raise
    network.load_state_dict(best.state)
    if state is not None and is_first_process():
        write_state(state, best.state_dict())
        state.with_suffix(".checkpoint").unlink(missing_ok=True)
    return network.cpu(), best.loss


def _trainer(options: TrainingOptions, best: KeepBest, checkpoint: Path | None, watching: KeepWatch) -> lightning.Trainer:
    """Lightning's trainer.

    Raises:
        DeviceError: if this machine has no such accelerator, devices or precision.
    """
    callbacks: list[Callback] = [best, watching]
    if options.patience:
        callbacks.append(EarlyStopping("select_loss", patience=options.patience))
    if checkpoint is not None:
        callbacks.append(SaveEveryEpoch(checkpoint))
    try:
        return lightning.Trainer(
            max_epochs=options.epochs,
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.nodes,
            precision=options.precision,
            gradient_clip_val=1.0,
            callbacks=callbacks,
            plugins=[SafetensorsIO()],
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=options.progress,
            deterministic="warn",
            num_sanity_val_steps=0,
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        raise DeviceError(
            f"training cannot start with accelerator {options.accelerator!r}, devices {options.devices!r} and precision "
            f"{options.precision!r}: {str(error).splitlines()[0]}"
        ) from error


@contextmanager
def _matmul(precision: str) -> Iterator[None]:
    """Products of matrices in the given precision for the time of a training.

    Raises:
        DeviceError: if PyTorch knows no such precision.
    """
    if precision not in MATMULS:
        raise DeviceError(f"matmul is {precision!r}; use {', '.join(MATMULS[:-1])} or {MATMULS[-1]}.")
    usual = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(usual)


def _loader(task: Task, table: SiteTable, batches: Callable[[TensorDataset], BatchSampler]) -> DataLoader[Any]:
    """Whole batches by index: the tables are in memory, and one sample at a time would be most of an epoch's time."""
    data = TensorDataset(task.source(table), torch.as_tensor(table.absorber), task.target(table))
    return DataLoader(data, sampler=batches(data), batch_size=None)


class _EpochBatches(BatchSampler):
    """Batches in an order that Lightning renews at the start of every epoch."""

    def __init__(self, order: DistributedSampler[Any], size: int) -> None:
        super().__init__(order, size, drop_last=False)
        self._order = order

    def set_epoch(self, epoch: int) -> None:
        self._order.set_epoch(epoch)


def shuffled(data: TensorDataset, size: int, rank: int, world_size: int, seed: int) -> BatchSampler:
    """Batches of one of several processes, which together see every row once an epoch (a few twice, to come out even)."""
    return _EpochBatches(DistributedSampler(data, world_size, rank, shuffle=True, seed=seed), size)


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

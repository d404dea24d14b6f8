"""What a training does beside learning: keep the best weights, keep its place, tell how it goes."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from .errors import DivergedError, TimeIsUpError
from .models.ensemble import Network
from .models.tasks import Task
from .watch import Watch


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

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"loss": self.loss, "state": self.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.loss, self.state = state_dict["loss"], state_dict["state"]


class SaveEveryEpoch(Callback):
    """Writes a checkpoint after every epoch, in the place of the last."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write it, but for an epoch that ends the run early: Lightning would go on after it, so that epoch is better done again."""
        if not trainer.should_stop:
            trainer.save_checkpoint(self.path)


class KeepWatch(Callback):
    """Writes a line a whole epoch, stops a network whose select loss is no number, and begins no epoch that would not end in time."""

    def __init__(self, watch: Watch, task: Task, network: int) -> None:
        self.watch, self.task, self.network = watch, task, network
        self._started, self._losses = 0.0, [torch.zeros(())]

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Note where it is trained."""
        self.watch.device, self.watch.processes = str(pl_module.device), trainer.world_size

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """End here if there is no time for an epoch; several processes end together."""
        if trainer.strategy.reduce_boolean_decision(self.watch.is_over(), all=False):
            epoch = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
            raise TimeIsUpError(f"time is up before {epoch} of {self.task.label}; start it again to go on.")
        self._started, self._losses = time.monotonic(), []

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, *_: Any) -> None:
        """Keep the loss of a step."""
        self._losses.append(outputs["loss"].detach())

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the line: the mean loss of all steps of all processes, and that of the select part."""
        loss = trainer.strategy.reduce(torch.stack(self._losses).mean(), reduce_op="mean")
        select = float(trainer.callback_metrics["select_loss"])
        self.watch.lasted(time.monotonic() - self._started)
        self.watch.epoch(self.task.label, self.network, trainer.current_epoch + 1, int(trainer.max_epochs or 0), float(loss), select)
        if not math.isfinite(select):
            raise DivergedError(f"the select loss of {self.task.label} is not a number; lower the learning rate.")

"""Where a training run stands, on disk: safetensors with JSON in its header, so that nothing that is read back is unpickled.

A run that was killed goes on when it is started again: models and networks that are finished are read, and the network that was in training
goes on after its last whole epoch.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.plugins.io import CheckpointIO

from .errors import ModelError

#: Where a family is made: what is done so far. The folder goes when the family is whole.
STATE_FOLDER = "training"

_RUN, _TENSOR, _ITEMS = "run.json", "__tensor__", "__items__"


def write_state(path: Path, state: Mapping[Any, Any]) -> None:
    """Write nested mappings and lists of tensors and plain values as one file, whole or not at all.

    Raises:
        TypeError: for a value that is neither a tensor nor plain.
    """
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    tree = _apart(state, "", tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    save_file(tensors, beside, metadata={"state": json.dumps(tree)})
    _put(beside, path)


def read_state(path: Path) -> dict[Any, Any]:
    """What `write_state` wrote; tuples come back as lists.

    Raises:
        ModelError: if the file is no such state.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tree = json.loads(file.metadata()["state"])
            found = _together(tree, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is no state of a training run ({str(error).splitlines()[0]}); remove it and train again.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no mapping, so it is no state of a training run; remove it and train again.")
    return found


def _put(beside: Path, path: Path) -> None:
    """Give a file that is written its name; a crash of the machine leaves the old or the new one, never half of it."""
    with beside.open("rb") as stream:
        os.fsync(stream.fileno())
    beside.replace(path)


def _apart(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Plain values, with the names of tensors in their places."""
    if isinstance(value, torch.Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        items = [[key, _apart(own, f"{name}/{key}", tensors)] for key, own in value.items()]
        return dict(items) if all(isinstance(key, str) for key in value) else {_ITEMS: items}  # an optimizer counts its weights
    if isinstance(value, list | tuple):
        return [_apart(own, f"{name}/{index}", tensors) for index, own in enumerate(value)]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, which no state of a training run can hold.")


def _together(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(tree, list):
        return [_together(own, tensors) for own in tree]
    if not isinstance(tree, dict):
        return tree
    if _TENSOR in tree:
        return tensors[tree[_TENSOR]]
    items = tree[_ITEMS] if _ITEMS in tree else tree.items()
    return {key: _together(own, tensors) for key, own in items}


class SafetensorsIO(CheckpointIO):
    """Lightning's checkpoints (weights, optimizer, schedule, loops, callbacks) by `write_state` and `read_state`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint."""
        write_state(Path(path), checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint onto the CPU; Lightning moves it where it belongs."""
        return read_state(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint."""
        Path(path).unlink(missing_ok=True)


class RunState:
    """Which models of a family are finished, and the networks that are or were in training.

    Of several processes of one training the first alone writes; the others read the same.
    """

    def __init__(self, family: Path, fingerprint: str) -> None:
        """Go on with the run in `family / STATE_FOLDER` if it has this fingerprint; what another run left is discarded."""
        self.folder, self._fingerprint = family / STATE_FOLDER, fingerprint
        try:
            kept = json.loads((self.folder / _RUN).read_text())
            finished = [label for label in kept["finished"] if isinstance(label, str)]
            self.finished: list[str] = finished if kept["fingerprint"] == fingerprint else []
            stale = kept["fingerprint"] != fingerprint
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            self.finished, stale = [], self.folder.exists()
        if is_first_process():
            if stale:
                shutil.rmtree(self.folder)
            self._write()

    def networks(self, label: str) -> Path:
        """Folder of the networks that were trained for a task, which several models may be made of."""
        return self.folder / label

    def finish(self, label: str) -> None:
        """A model is written."""
        self.finished.append(label)
        if is_first_process():
            self._write()

    def close(self) -> None:
        """The family is whole."""
        if is_first_process():
            shutil.rmtree(self.folder)

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = self.folder / (_RUN + ".part")
        beside.write_text(json.dumps({"fingerprint": self._fingerprint, "finished": self.finished}))
        _put(beside, self.folder / _RUN)


def is_first_process() -> bool:
    """Whether this is the one process of a training, or the first of several, who alone writes."""
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0


def wait_for_all() -> None:
    """Go on when all processes of a training are here."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()

"""A training that somebody looks after from elsewhere: a line of log an epoch, an end in time, and one file that says how it ended."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from . import ALGORITHM_VERSION
from .checkpoint import is_first_process
from .errors import DatasetError, DeviceError, DivergedError, OutOfMemoryError, TimeIsUpError, XastructError

#: How a training ended, by the error that ended it; the first that fits counts.
ENDS: tuple[tuple[type[XastructError], str], ...] = (
    (TimeIsUpError, "out_of_time"),
    (DivergedError, "diverged"),
    (OutOfMemoryError, "out_of_memory"),
    (DeviceError, "no_device"),
    (DatasetError, "dataset_unfit"),
    (XastructError, "refused"),
)

#: What PyTorch, NumPy, C++ and SLURM say where memory is short: of a GPU, of the machine, of the job.
_NO_MEMORY = re.compile(
    r"CUDA (error: )?out of memory"
    r"|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|DefaultCPUAllocator|not enough memory: you tried|Unable to allocate"
    r"|std::bad_alloc|Cannot allocate memory|MemoryError|oom[-_ ]kill|Exceeded (job|step) memory limit",
    re.IGNORECASE,
)

#: What they say of a GPU that is missing or failed.
_NO_DEVICE = re.compile(r"CUDA error|No CUDA GPUs|cuDNN error|CUDNN_STATUS|NCCL error|uncorrectable ECC", re.IGNORECASE)


@dataclass
class Watch:
    """What a training tells while it runs, and when it has to end.

    Attributes:
        log: file that a line of JSON is added to after every epoch: `task`, `network`, `epoch`, `epochs`, `loss`, `select_loss` (null
            where it is not a number) and `seconds` since the start.
        seconds: the training ends by itself before an epoch that would last beyond so many seconds.
        device: where the last network was trained.
        processes: how many shared it.
    """

    log: Path | None = None
    seconds: float = math.inf
    device: str = ""
    processes: int = 1
    _start: float = field(default_factory=time.monotonic)
    _longest: float = 0.0

    def begin(self, run: str) -> None:
        """A run starts, or goes on if the log's last run was the same."""
        self._write({"run": run})

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def lasted(self, seconds: float) -> None:
        """An epoch took so long."""
        self._longest = max(self._longest, seconds)

    def is_over(self) -> bool:
        """Whether another epoch would not end in time."""
        return self.elapsed() + 1.2 * self._longest > self.seconds

    def epoch(self, task: str, network: int, epoch: int, epochs: int, loss: float, select_loss: float) -> None:
        """An epoch is done; `epoch` counts from 1."""
        own = {"loss": _number(loss), "select_loss": _number(select_loss), "seconds": round(self.elapsed(), 3)}
        self._write({"task": task, "network": network, "epoch": epoch, "epochs": epochs, **own})

    def diverged(self, task: str, network: int, reason: str) -> None:
        """The loss is no number; any of several processes says so, for the others may wait for it in vain."""
        self._write({"task": task, "network": network, "diverged": reason}, everyone=True)

    def _write(self, line: dict[str, Any], everyone: bool = False) -> None:
        if self.log is not None and (everyone or is_first_process()):
            with self.log.open("a") as stream:
                stream.write(json.dumps(line) + "\n")


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def read_log(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Lines of the log's last run, each epoch once; a line that was cut off is left out."""
    run: str | None = None
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for text in lines:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if not isinstance(line, dict) or not all(isinstance(line.get(key, ""), str | int) for key in ("run", "task", "network", "epoch")):
            continue
        if "run" in line:
            run, found = line["run"], found if line["run"] == run else {}
        else:
            found[line.get("task"), line.get("network"), line.get("epoch")] = line
    return list(found.values())


def divergence(lines: Iterable[str]) -> str:
    """What a log says of a loss that is not a number; empty if all are."""
    for line in read_log(lines):
        where = f"network {line.get('network')} of {line.get('task')}"
        if "diverged" in line:
            return f"{where}: {line['diverged']}"
        if line.get("loss") is None or line.get("select_loss") is None:
            return f"{where}: the loss of epoch {line.get('epoch')} is not a number."
    return ""


def short_of(text: str) -> XastructError | None:
    """What the words of an error say of memory or a GPU that is missing; None if nothing."""
    if found := _NO_MEMORY.search(text):
        return OutOfMemoryError(f"memory is short ({_sentence(text, found)}); take a smaller batch_size, fewer sites or a larger machine.")
    if found := _NO_DEVICE.search(text):
        return DeviceError(f"the GPU is missing or failed ({_sentence(text, found)}); try another node, or train on cpu.")
    return None


def _sentence(text: str, found: re.Match[str]) -> str:
    """From the words that were found to the end of their sentence."""
    return re.split(r"\.\s|\n", text[found.start() :], maxsplit=1)[0].strip().rstrip(".")[:200]


@contextmanager
def reported(path: Path | None, watch: Watch) -> Iterator[dict[str, Any]]:
    """Write how the block ends into a file: at its start that it runs, so that a reader knows of one that was killed.

    Yields:
        further content of the file.

    Raises:
        OutOfMemoryError, DeviceError: in the place of what PyTorch raises for them.
    """
    more: dict[str, Any] = {}

    def write(ended: str, reason: str = "") -> None:
        if path is not None and is_first_process():
            own = {"device": watch.device, "processes": watch.processes, "seconds": round(watch.elapsed(), 3)}
            content = {"ended": ended, "reason": reason, "algorithm_version": ALGORITHM_VERSION, "version": __version__, **own, **more}
            beside = path.with_name(path.name + ".part")
            beside.write_text(json.dumps(content, indent=1) + "\n")
            beside.replace(path)

    write("no")
    try:
        yield more
    except XastructError as error:
        write(next(name for kind, name in ENDS if isinstance(error, kind)), str(error))
        raise
    except Exception as error:
        known = short_of(f"{type(error).__name__}: {error}")
        write(next(name for kind, name in ENDS if isinstance(known, kind)) if known else "failed", str(known or error))
        if known is None:
            raise
        raise known from error
    except KeyboardInterrupt:
        write("interrupted", "the training was interrupted.")
        raise
    write("finished")

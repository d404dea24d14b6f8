"""Networks of one task, and a kernel model where there is one, that answer together; their disagreement is part of the uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import ModelError
from ..sevennet import SevenNetFeatures
from .doubt import Doubt
from .kernel import SiteKernel
from .networks import SiteNetwork
from .paths import PathNetwork
from .shells import ShellNetwork
from .tasks import NETWORK_COLUMNS, Task

Network = SiteNetwork | PathNetwork | ShellNetwork

#: Size of a network at most that is read from a file.
MOST_WIDTH, MOST_DEPTH = 4096, 16

#: Shapes of what a file holds of `Doubt`.
_OF_DOUBT = {name: tuple(tensor.shape) for name, tensor in Doubt.none().tensors().items()}


@dataclass(frozen=True)
class Architecture:
    """Size of each network of an ensemble."""

    width: int = 256
    depth: int = 2
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("depth", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ModelError(f"the {name} of a network is {value!r}; give a whole number from {least} on.")
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, int | float) or not 0.0 <= self.dropout < 1.0:
            raise ModelError(f"the dropout of a network is {self.dropout!r}; give a number from 0 to below 1.")

    def build(self, task: Task) -> Network:
        """A network of this size for a task; forward XANES takes twice the width and half of SevenNet's scalars, EXAFS its own."""
        if task.name == "forward" and task.kind == "EXAFS":
            return PathNetwork(3 * self.width // 4)
        if task.kind == "EXAFS":
            reads_distance = task.name != "neighbours"
            return ShellNetwork(task.n_out, task.n_error, self.width, self.depth, self.dropout, reads_distance, task.names_elements)
        if task.name == "forward":
            n_half = len(SevenNetFeatures.scalars)
            return SiteNetwork(NETWORK_COLUMNS, task.n_out, task.n_error, 2 * self.width, self.depth, self.dropout, n_half)
        names_elements = task.names_elements
        return SiteNetwork(task.n_in, task.n_out, task.n_error, self.width, self.depth, self.dropout, names_elements=names_elements)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What an ensemble says.

    Attributes:
        value: (n, n_out) mean over the members; for neighbours the mean probability.
        stated: (n, n_error) root mean square of the errors that the members state.
        spread: (n, n_out) standard deviation over the members. A kernel model counts as much as all networks together.
    """

    value: torch.Tensor
    stated: torch.Tensor
    spread: torch.Tensor


class Ensemble:
    """Trained networks of one task, its kernel model where it has one (forward XANES), and the doubt that they lack (inverse models)."""

    def __init__(self, task: Task, members: Sequence[Network], kernel: SiteKernel | None = None, doubt: Doubt | None = None) -> None:
        if not members:
            raise ModelError(f"the {task.label} model has no networks; train it again.")
        self.task, self.kernel, self.doubt = task, kernel, doubt or Doubt.none()
        self.members = [member.eval().requires_grad_(False) for member in members]

    @torch.inference_mode()
    def __call__(self, inputs: torch.Tensor, absorber: torch.Tensor) -> Prediction:
        """Answer for inputs (n, n_in) and absorbers (n,), in batches that fit into 1 GB."""
        size = 256 if self.task.label == "forward-EXAFS" else 4096  # a sum over paths holds n x neighbours x k numbers
        parts = [self._answer(x, z) for x, z in zip(inputs.split(size), absorber.split(size), strict=True)]
        return Prediction(*(torch.cat([getattr(part, name) for part in parts]) for name in ("value", "stated", "spread")))

    def _answer(self, x: torch.Tensor, z: torch.Tensor) -> Prediction:
        answers = [member(x, z) for member in self.members]
        weight = torch.full((len(answers), 1, 1), 1.0 / len(answers), device=x.device)
        if self.kernel is not None:
            answers.append(self.kernel(x, z))
            weight = torch.cat([weight, weight.new_ones(1, 1, 1)]) / 2.0
        values = torch.stack([value for value, _ in answers])
        if self.task.name == "neighbours":
            values = torch.sigmoid(values)
        mean = (weight * values).sum(dim=0)
        stated = (weight * torch.stack([torch.exp(2.0 * log_error) for _, log_error in answers])).sum(dim=0).sqrt()
        spread = (weight * (values - mean) ** 2).sum(dim=0).sqrt()
        if self.task.name == "neighbours":
            return Prediction(self.doubt.mixed(mean, z), stated, spread)
        factor = self.doubt.error.to(z.device)[z][:, None]
        return Prediction(mean, factor * stated, factor * spread)

    def part(self, task: Task, architecture: Architecture) -> Ensemble:
        """Of networks that answer both inverse questions (`Task` "shell") those outputs that answer one, as networks of their own."""
        outputs, errors = task.of_shell
        members = []
        for member in self.members:
            state = member.state_dict()
            for name in ("value.weight", "value.bias", "start"):
                state[name] = state[name][outputs].clone()
            for name in ("log_error.weight", "log_error.bias"):
                state[name] = state[name][errors].clone()
            network = architecture.build(task)
            network.load_state_dict({name: tensor for name, tensor in state.items() if name in network.state_dict()})
            members.append(network)
        return Ensemble(task, members)

    @classmethod
    def joined(cls, task: Task, architecture: Architecture, neighbours: Ensemble, distance: Ensemble) -> Ensemble:
        """`part` undone: networks for `Task` "shell" from those of its two parts.

        Raises:
            ModelError: if the parts were not learned together.
        """
        apart = ModelError(f"the neighbours and the distance of {task.kind} were not learned together; begin from neither.")
        if len(neighbours.members) != len(distance.members):
            raise apart
        members = []
        for names, measures in zip(neighbours.members, distance.members, strict=True):
            of_neighbours, of_distance = names.state_dict(), measures.state_dict()
            own = {name for name in of_distance if name.partition(".")[0] in ("value", "log_error", "start")}
            if any(not torch.equal(of_distance[name], of_neighbours[name]) for name in set(of_distance) & set(of_neighbours) - own):
                raise apart
            ends = {name: torch.cat([of_distance[name], of_neighbours[name]]) for name in ("value.weight", "value.bias", "start")}
            network = architecture.build(task)
            network.load_state_dict({**of_neighbours, **of_distance, **ends})  # of the errors, those of distances: neighbours state none
            members.append(network)
        return cls(task, members)

    def save(self, path: Path) -> None:
        """Write all members into one safetensors file, weights in half precision, standardisation in single."""
        from safetensors.torch import save_file

        tensors = {}
        for index, member in enumerate(self.members):
            for name, tensor in member.state_dict().items():
                kept = tensor if name.rpartition(".")[2] in ("mean", "scale", "start", "seen", "log_mean_free_path") else tensor.half()
                tensors[f"{index}.{name}"] = kept.contiguous()
        if self.kernel is not None:
            tensors |= {f"kernel.{name}": tensor.contiguous() for name, tensor in self.kernel.tensors().items()}
        if self.task.name in ("neighbours", "distance"):
            tensors |= {f"doubt.{name}": tensor.contiguous() for name, tensor in self.doubt.tensors().items()}
        save_file(tensors, path)

    @classmethod
    def load(cls, path: Path, task: Task, architecture: Architecture) -> Ensemble:
        """Read what `save` wrote.

        Raises:
            ModelError: if the file is missing, damaged, or of another architecture.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if architecture.width > MOST_WIDTH or architecture.depth > MOST_DEPTH:  # memory is taken before weights are compared
            raise ModelError(f"the card of the {task.label} model says networks of {architecture}; install the family again.")

        try:
            tensors = load_file(path)
            kernel, doubt = (
                {name.removeprefix(part): tensors.pop(name) for name in sorted(tensors) if name.startswith(part)}
                for part in ("kernel.", "doubt.")
            )
            indices = sorted({int(name.split(".")[0]) for name in tensors})
            if indices != list(range(len(indices))) or not indices:
                raise ValueError(f"its networks are numbered {indices[:9]}")
            if not all(bool(torch.isfinite(tensor).all()) for part in (tensors, kernel, doubt) for tensor in part.values()):
                raise ValueError("a weight is not finite")
            if doubt and {name: tuple(tensor.shape) for name, tensor in doubt.items()} != _OF_DOUBT:
                raise ValueError("what it says of doubt is of another version")
            members = []
            for index in indices:
                network = architecture.build(task)
                own = {name.split(".", 1)[1]: tensor.float() for name, tensor in tensors.items() if name.startswith(f"{index}.")}
                network.load_state_dict(own)
                members.append(network)
            return cls(task, members, SiteKernel(kernel) if kernel else None, Doubt(**doubt) if doubt else None)
        except ModelError:
            raise
        except (OSError, SafetensorError, ValueError, RuntimeError, TypeError, IndexError) as error:
            raise ModelError(
                f"{path} does not hold the {task.label} model ({str(error).splitlines()[0]}); install the family again."
            ) from error

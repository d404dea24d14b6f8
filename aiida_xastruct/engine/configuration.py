"""What `xastruct train` is told: which models, of which size, trained how. Values are checked before anything is trained."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .dataset import GRIDS
from .errors import DatasetError, XastructError
from .models.ensemble import Architecture
from .training import TrainingOptions

#: Bytes of a configuration at most; the longest of this package has two thousand.
_MOST_BYTES = 1_000_000

TASKS = ("forward", "neighbours", "distance")


@dataclass(frozen=True)
class FamilyConfig:
    """What to train.

    `simulated` is the number of spectra a training site, and a site of a table of crystals, that inverse EXAFS models learn from beside
    FEFF's (`models.simulate`).
    `tasks` are labels such as `forward-XANES`; empty means all that the dataset has spectra for. `training` holds for every task but
    where `training_of` says otherwise, by label; `shell-EXAFS` are neighbours and distance together (`models.tasks`).
    """

    name: str = "family"
    version: str = "1"
    split_seed: int = 0
    simulated: int = 4
    tasks: tuple[str, ...] = ()
    architecture: Architecture = field(default_factory=Architecture)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    training_of: dict[str, TrainingOptions] = field(default_factory=dict)

    def options(self, label: str) -> TrainingOptions:
        """How the task of this label is trained."""
        return self.training_of.get(label, self.training)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FamilyConfig:
        """From the contents of a YAML file.

        Raises:
            XastructError: naming an unknown key and those allowed, or a value that cannot be used.
        """
        inner = {"architecture": Architecture, "training": TrainingOptions}
        values: dict[str, Any] = {}
        _check_mapping("", data, [item.name for item in fields(cls)])
        for key, value in data.items():
            if key == "training_of":
                continue
            if key in inner:
                values[key] = _changed(key, inner[key](), value)
            elif key == "tasks":
                if not isinstance(value, list | tuple) or not all(isinstance(label, str) for label in value):
                    raise XastructError(f"tasks is {value!r}; give a list such as [forward-XANES].")
                values[key] = tuple(value)
            else:
                values[key] = _usable(key, value, getattr(cls(), key))
        config = cls(**values)
        exceptions = data.get("training_of", {})
        _check_mapping("training_of", exceptions, [f"{task}-{kind}" for task in ("forward", "shell") for kind in GRIDS])
        own = {label: _changed(f"training_of.{label}", config.training, value) for label, value in exceptions.items()}
        return replace(config, training_of=own)


def read_content(path: Path) -> dict[str, Any]:
    """Content of a configuration file, unchecked but for that it is a mapping.

    Raises:
        DatasetError: if the file is no YAML mapping.
    """
    import yaml

    if path.stat().st_size > _MOST_BYTES:
        raise DatasetError(f"{path} has {path.stat().st_size / 1e6:.1f} MB, more than any configuration; give another file.")
    try:
        text = path.read_text()
        # A hundred bytes of aliases within aliases stand for any amount of memory.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise DatasetError(f"{path} uses aliases of YAML (*name), which no configuration needs; write the values out.")
        content = yaml.safe_load(text) or {}
    except DatasetError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"{path} is not YAML ({words}); mend it.") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path} must hold a mapping of keys to values.")
    return content


def _changed(key: str, usual: Any, value: Any) -> Any:
    """A dataclass with the values of a mapping in the place of its own."""
    _check_mapping(key, value, [item.name for item in fields(usual)])
    return replace(usual, **{name: _usable(f"{key}.{name}", own, getattr(usual, name)) for name, own in value.items()})


#: Numbers that may be zero; all others must be larger.
_ZERO_ALLOWED = ("seed", "split_seed", "simulated", "depth", "dropout", "weight_decay", "patience")


def _usable(key: str, value: Any, usual: Any) -> Any:
    """A value of a configuration, if it is of the type of the usual one; text may be given as a number."""
    name = key.rpartition(".")[2]
    if name in ("devices", "precision"):  # Lightning takes several types, and checks them itself
        return value
    if isinstance(usual, str):
        return str(value)
    if isinstance(usual, bool):
        if not isinstance(value, bool):
            raise XastructError(f"{key} is {value!r}; give true or false.")
        return value
    allowed = (int,) if isinstance(usual, int) else (int, float)
    if (
        not isinstance(value, allowed)
        or isinstance(value, bool)
        or not abs(value) <= sys.float_info.max  # of an integer that no float holds, math.isfinite is an error
        or value < 0
        or (value == 0 and name not in _ZERO_ALLOWED)
    ):
        kind = "whole number" if isinstance(usual, int) else "number (in YAML 2.0e-3, not 2e-3)"
        raise XastructError(f"{key} is {value!r}; give a {kind}{' of 0 or more' if name in _ZERO_ALLOWED else ' above 0'}.")
    return float(value) if isinstance(usual, float) else value  # AiiDA stores 1.0 as 1, and what follows is measured by its type


def _check_mapping(name: str, data: Any, allowed: list[str]) -> None:
    if not isinstance(data, dict):
        raise XastructError(f"{name or 'the configuration'} must be a mapping with keys among {', '.join(allowed)}.")
    for key in data:
        if key not in allowed:
            raise XastructError(f"unknown key {f'{name}.' if name else ''}{key} in the configuration; use {', '.join(allowed)}.")

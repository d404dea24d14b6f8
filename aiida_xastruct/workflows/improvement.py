"""What an improvement is told, how it trains, and the families that it makes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..calculations.checks import refused_options
from ..engine.errors import XastructError

if TYPE_CHECKING:
    from ..data.dataset import DatasetData
    from ..data.model import ModelData
    from ..groups.family import ModelFamily

#: What `training` may hold, and what its `config` may change: the rest is that of the model, without which no comparison would be one.
TRAINING, CHANGES = ("config", "options", "device"), ("architecture", "training")

#: What a card says of the machine and the data of a training, which are not those of the next one.
_NOT_KEPT = ("accelerator", "devices", "nodes", "progress", "best_select_loss", "training_data_hash")


def training_config(card: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that trains a forward model as its card says it was trained (at first, if it went on learning), with changes.

    Args:
        card: of the model.
        changes: `architecture` and `training`, keys as in `aiida_xastruct.engine.configuration.FamilyConfig`.

    Raises:
        XastructError: naming a change that the engine refuses.
    """
    from ..engine.configuration import FamilyConfig

    if not isinstance(changes, Mapping):
        raise XastructError(f"the config of training is {changes!r}; give a mapping with {' and '.join(CHANGES)}.")
    if unknown := sorted(set(changes) - set(CHANGES)):
        raise XastructError(f"training changes {unknown[0]!r}; what can be changed is {' and '.join(CHANGES)}.")
    FamilyConfig.from_dict(dict(changes))
    label = f"{card['task']}-{card['kind']}"
    first = card["training"]
    while "before" in first:  # networks that went on learning: the next ones begin at random, and need the training from there
        first = first["before"]
    usual = {key: value for key, value in first.items() if key not in _NOT_KEPT}
    training = {**usual, **changes.get("training", {})}
    config = {
        "tasks": [label],
        "split_seed": card["split"]["seed"],
        "architecture": {**card["architecture"], **changes.get("architecture", {})},
        "training": training,
        "training_of": {label: training},  # before what a protocol has for this task
    }
    FamilyConfig.from_dict(config)
    return config


def install_next(family: ModelFamily, model: ModelData, dataset: DatasetData, stem: str, number: int) -> ModelFamily:
    """The next version of a family: a new model in the place of its own, and its others.

    Args:
        family: that stands.
        model: stored.
        dataset: that the model was trained on.
        stem: label before the number.
        number: of the version before.

    Returns:
        the group `STEM/NUMBER` of the first number after that one that is free; one of the same models where there is one.
    """
    from aiida.orm import QueryBuilder

    from ..groups.family import ModelFamily, install_models

    others = {f"{task}_{kind}": node for (task, kind), node in family.models.items() if (task, kind) != (model.task, model.kind)}
    models = {**others, f"{model.task}_{model.kind}": model}
    while (taken := QueryBuilder().append(ModelFamily, filters={"label": f"{stem}/{number + 1}"}).first(flat=True)) is not None:
        if {node.uuid for node in taken.nodes} == {node.uuid for node in models.values()}:
            return taken
        number += 1
    manifest = {
        **family.manifest, "version": str(number + 1), "training_data_hash": dataset.content_hash,
        "models": sorted(node.name for node in models.values()),
    }  # fmt: skip
    description = f"{family.label} with {model.name} trained anew on {dataset.n_records[model.kind]} spectra."
    return install_models(models, manifest, f"{stem}/{number + 1}", description)


def numbered(label: str) -> tuple[str, int]:
    """Stem and number of a label: `mine/2` is version 2 of `mine`, which itself is version 1."""
    # The default family ends with eight digits of its hash, which may be decimal ones all.
    found = re.fullmatch(r"(.+)/(\d{1,7})", label)
    return (found[1], int(found[2])) if found else (label, 1)


def check_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Refuse what no round could be done with, before anything is stored."""
    from ..calculations.functions.pick_sites import read_holdout
    from ..calculations.predict import PredictCalculation
    from .crystal import check_protocol
    from .feff.checks import refused
    from .screen import FEFF

    if not inputs.get("structures"):
        return "there are no chunks of structures; make some with `structure_chunks`."
    if "dataset" not in inputs:
        return None  # the port itself says that it is missing
    for name in ("rounds", "sites_per_round", "sites_per_group", "max_concurrent"):
        if name in inputs and inputs[name].value < 1:
            return f"{name} is {inputs[name].value}; give 1 or more."
    if "margin" in inputs and not 0.0 <= inputs["margin"].value < 1.0:
        return f"margin is {inputs['margin'].value}; give a share of the old error, from 0 to less than 1."
    if words := check_protocol(inputs.get("protocol"), None):
        return words
    kind = inputs["kind"].value if "kind" in inputs else "XANES"
    if kind not in inputs["dataset"].kinds:
        return f"the dataset has no {kind} spectra; give the one that the model was trained on, or another kind."
    if "label" in inputs and not inputs["label"].value.strip():
        return "label is empty; give a name for the new families, or leave it out."
    try:
        read_holdout(inputs.get("holdout"))
    except XastructError as error:
        return str(error)
    feff, training, options = (inputs[name].get_dict() if name in inputs else {} for name in ("feff", "training", "predict_options"))
    return refused(feff, FEFF, kind) or refused_training(training) or refused_options(PredictCalculation, options, "predict_options")


def refused_training(given: Mapping[str, Any]) -> str | None:
    """A sentence of what is wrong with how and where is trained, beside the configuration; None where nothing is."""
    from ..calculations.train import TrainCalculation, refused_device

    if unknown := sorted(set(given) - set(TRAINING)):
        return f"training holds {unknown[0]!r}; what it can hold is {', '.join(TRAINING)}."
    if words := refused_device("the device of training", given.get("device", "auto")):
        return words
    return refused_options(TrainCalculation, given.get("options", {}), "training.options")

"""Which of two forward models is the better one, by spectra that neither has learned from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aiida.engine import ExitCode, calcfunction
from aiida.orm import Dict, Float

from ...data.dataset import DatasetData
from ...data.model import ModelData
from ...engine.errors import XastructError


@calcfunction
def compare_models(old: ModelData, new: ModelData, dataset: DatasetData, margin: Float) -> Any:
    """Ask two forward models about the *select* part of a dataset.

    Args:
        old: the model that stands.
        new: the one that would replace it.
        dataset: that holds the part.
        margin: share of the old error by which the new one must be less.

    Returns:
        `verdict`: `Dict` with the fields of `aiida_xastruct.engine.improvement.Verdict`: `old_error`, `new_error`, `decrease`,
        `standard_error`, `margin`, `better`, `part`, `sites`, `groups`. Exit status 310 where the models cannot be compared.
    """
    from ...engine.improvement import compare
    from .bundle import load_bundle

    try:
        models = (load_bundle(node).model(node.task, node.kind) for node in (old, new))
        verdict = compare(*models, dataset.load(), margin.value)
    except XastructError as error:
        return ExitCode(310, str(error))
    return {"verdict": Dict(asdict(verdict))}

"""What the card of a model must say for its answers to mean something: a card comes with the model, from whoever made it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .dataset import GRIDS
from .errors import ModelError, SpectrumError
from .spectrum import atomic_number

#: What a card must hold for a model to answer, and the type of it.
KEYS: Mapping[str, type] = {
    "training_sites": dict,
    "training_data_hash": str,
    "calibration": dict,
    "features": str,
    "edge_shift": dict,
    "edge_shift_by_engine": dict,
}

#: Numbers of the calibration that may be none or less than zero: an intercept may be any number.
_ANY_SIGN = ("weights", "chemistry", "pool", "set_threshold", "seldom_threshold")

#: Absorbers with a threshold of their own, as many as there are, and that threshold: a calibration may do without.
_LIST, _MAY_BE_NONE = "often", "seldom_threshold"

#: Calibrations within calibrations, which are looked at by themselves.
_NESTED = ("error_model", "calibration")


def check_card(name: str, kind: str, card: Mapping[str, Any]) -> None:
    """Refuse a card whose values are missing, of another type, not finite, or of another number than the task asks for.

    Args:
        name: of the task.
        kind: XANES or EXAFS.
        card: its content.

    Raises:
        ModelError: naming the value.
    """
    for key, expected in KEYS.items():
        if not isinstance(card.get(key), expected):
            raise ModelError(f"the card of the {name}-{kind} model has no proper {key!r}; install the family again.")
    for element, count in card["training_sites"].items():
        if not _known(element) or isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ModelError(f"the card of the {name}-{kind} model says {count!r} training sites of {element!r}; install the family again.")
    for shifts in (card["edge_shift"], *card["edge_shift_by_engine"].values()):
        if not isinstance(shifts, dict) or not all(_known(element) and _finite(value) for element, value in shifts.items()):
            raise ModelError(
                f"the card of the {name}-{kind} model has edge shifts that are no numbers of elements; install the family again."
            )
    lengths = {"forward": {"profile": len(GRIDS[kind])}, "distance": {"factors": 3}}.get(name, {})
    _check_numbers(name, kind, card["calibration"], lengths)
    if name == "forward":
        _check_numbers(name, kind, card["calibration"].get("error_model"), {"weights": 4})
    if name == "neighbours":
        composition = card.get("composition")
        _check_numbers(name, kind, composition, {"chemistry": 10, "pool": 4})
        _check_numbers(name, kind, composition.get("calibration") if isinstance(composition, dict) else None, {})


def _check_numbers(name: str, kind: str, values: Any, lengths: Mapping[str, int]) -> None:
    """Refuse values that are not finite numbers, or lists of them of the lengths given; what is nested is looked at by itself."""
    damaged = f"the {name}-{kind} model is calibrated with what is no finite number or too few"
    if not isinstance(values, dict) or not lengths.keys() <= values.keys():
        raise ModelError(f"{damaged} ({', '.join(lengths) or 'nothing'}); install a family of this version.")
    for key, value in values.items():
        if isinstance(value, dict) and key in _NESTED:
            continue
        if key == _MAY_BE_NONE and value is None:
            continue
        numbers = value if isinstance(value, list) else [value]
        if (isinstance(value, list) != (key in lengths or key == _LIST)) or (key in lengths and len(numbers) != lengths[key]):
            raise ModelError(f"{damaged} ({key}); install a family of this version.")
        if not all(_finite(number) and (number >= 0 or key in _ANY_SIGN) for number in numbers):
            raise ModelError(f"{damaged} ({key}); install a family of this version.")


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12 and math.isfinite(value)


def _known(element: Any) -> bool:
    try:
        return atomic_number(str(element)) > 0
    except SpectrumError:
        return False

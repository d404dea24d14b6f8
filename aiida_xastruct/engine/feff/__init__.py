"""FEFF as a reference engine: the input deck, the run, the output. Imports no AiiDA.

FEFF10 (Kas et al., J. Synchrotron Rad. 28, 1801 (2021)) comes with the wheel `feff10-rs`, FEFF 8.5L with xraylarch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .deck import FeffParameters, write_deck
    from .output import FeffResult, read_folder, read_xmu
    from .runner import compute, run

__all__ = ["FeffParameters", "FeffResult", "compute", "read_folder", "read_xmu", "run", "write_deck"]

_MODULES = dict.fromkeys(("FeffParameters", "write_deck"), "deck")
_MODULES |= dict.fromkeys(("FeffResult", "read_folder", "read_xmu"), "output")
_MODULES |= dict.fromkeys(("compute", "run"), "runner")


def __getattr__(name: str) -> Any:
    """Import what is asked for, then: `xastruct-feff` needs neither pymatgen nor numpy, and each site of a batch forks from it."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

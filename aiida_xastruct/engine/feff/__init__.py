"""FEFF as a reference engine: the input deck, the run, the output. Imports no AiiDA.

FEFF10 (Kas et al., J. Synchrotron Rad. 28, 1801 (2021)) comes with the wheel `feff10-rs`, FEFF 8.5L with xraylarch.
"""

from .deck import FeffParameters, write_deck
from .output import FeffResult, read_folder, read_xmu
from .runner import compute, run

__all__ = ["FeffParameters", "FeffResult", "compute", "read_folder", "read_xmu", "run", "write_deck"]

"""Errors that a user can mend. Their text is one sentence: what is wrong and what to do about it."""

from __future__ import annotations


class XastructError(ValueError):
    """Base of every error raised for bad input; the command line prints its text and nothing else."""


class SpectrumError(XastructError):
    """A spectrum that cannot be used: not finite, not increasing, wrong edge, too short."""


class StructureError(XastructError):
    """A structure that cannot be used: disordered, overlapping atoms, absorber not in it."""


class FeffError(XastructError):
    """FEFF cannot be run on this input, or its output cannot be read."""


class PseudoError(XastructError):
    """Pseudopotentials that cannot be used for a core hole, or with each other."""


class DatasetError(XastructError):
    """A training set that is malformed, or that holds what must never be trained on."""


class CacheError(XastructError):
    """A file that is to keep what is slow to compute, and cannot."""


class ModelError(XastructError):
    """A model that is damaged, missing or unfit for the question asked."""


class DivergedError(ModelError):
    """A training whose loss is no longer a number."""


class DeviceError(ModelError):
    """A training that this machine has no device for, or whose device failed."""


class OutOfMemoryError(XastructError):
    """The memory of the machine, or of its GPU, is too small for what was asked."""


class TimeIsUpError(XastructError):
    """A training that ends because it was told to end in time; what is done is kept."""

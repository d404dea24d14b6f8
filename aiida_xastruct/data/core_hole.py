"""Node for a pseudopotential with a hole in a core level."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from aiida_pseudo.data.pseudo.pseudo import PseudoPotentialDataCaching
from aiida_pseudo.data.pseudo.upf import UpfData


class _Caching(PseudoPotentialDataCaching):  # type: ignore[misc]
    """What its hash is made of: the file, and the level that its hole is said to be in."""

    def get_objects_to_hash(self) -> dict[str, Any]:
        """Element, checksum and core level."""
        return {**super().get_objects_to_hash(), "core_level": self._node.core_level}


class CoreHoleUpfData(UpfData):  # type: ignore[misc]
    """A pseudopotential in UPF format that was generated with an electron less in one core level.

    Attributes of the node, besides those of `UpfData` (element, valence electrons, MD5 of the file):
        core_level: the level, such as `1s`.
    """

    _CLS_NODE_CACHING = _Caching

    def __init__(self, source: str | Path | BinaryIO, filename: str | None = None, *, core_level: str = "1s", **kwargs: Any) -> None:
        super().__init__(source, filename, **kwargs)
        self.base.attributes.set("core_level", core_level)

    @property
    def core_level(self) -> str:
        """The level that holds an electron less."""
        return str(self.base.attributes.get("core_level", ""))

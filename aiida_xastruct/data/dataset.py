"""Node for a training set."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiida.common.exceptions import ValidationError
from aiida.orm import SinglefileData
from aiida.orm.pydantic import OrmMetadataField

from ..engine.errors import XastructError


class DatasetData(SinglefileData):
    """A training set: the HDF5 file of `aiida_xastruct.engine.dataset`, under one fixed name, and what is asked of it in queries.

    Make one with `DatasetData.from_file(path)`; read it with `node.load()` or `with node.as_path() as path`.
    """

    DEFAULT_FILENAME = "dataset.h5"

    class AttributesModel(SinglefileData.AttributesModel):
        """Attributes of the node."""

        content_hash: str = OrmMetadataField(description="SHA-256 over the materials and arrays, as `Dataset.content_hash` gives it")
        n_materials: int = OrmMetadataField(description="Number of materials")
        n_records: dict[str, int] = OrmMetadataField(description="Number of spectra of each kind")
        kinds: list[str] = OrmMetadataField(description="Kinds of spectra in it, sorted")
        elements: list[str] = OrmMetadataField(description="Symbols of the absorbers, by atomic number")
        engines: list[str] = OrmMetadataField(description="Programs that computed the spectra")
        split: dict[str, Any] = OrmMetadataField(description="Name of the default split and number of records of each kind in each part")

    # Where the data came from is no part of what it says. The file's bytes count, which may change with the HDF5 library: what holds the
    # same under any has the same `content_hash`.
    _hash_ignored_attributes = ("source",)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **kwargs: Any) -> DatasetData:
        """Node of a dataset file, its attributes read from its content.

        Args:
            path: HDF5 file that `aiida_xastruct.engine.dataset` wrote.
            kwargs: passed on to the node (`label`, `user`, ...).

        Raises:
            DatasetError: if the file is missing or not such a file.
        """
        path = Path(path).resolve()
        attributes = _describe(path)
        node = cls(str(path), filename=cls.DEFAULT_FILENAME, **kwargs)
        node.base.attributes.set_many(attributes)
        return node

    @classmethod
    def from_library(
        cls,
        folder: str | os.PathLike[str],
        holdout: str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        cores: int = 1,
        progress: Callable[[int, int], None] | None = None,
        **kwargs: Any,
    ) -> DatasetData:
        """Node of a reference library, the folder that `aiida-xastruct reference export` writes.

        It holds the spectra, and the scattering paths where the library has them. Sites that two shards hold count once, and rows are
        sorted by site, so that the content hash depends on the sites alone and not on how they were spread over shards. The node's
        `source` names the shards and says how many sites were left out for which reason.

        Args:
            folder: the library.
            holdout: folder with `holdout_ids.txt` and `holdout_formulas.txt`, materials to leave out; nothing is left out without it.
            cache: SQLite file that keeps first shells and features, which take 0.2 s a structure, for the next import; made if missing.
            cores: processes that compute what the cache lacks.
            progress: called with (structures done, structures in all).
            kwargs: passed on to the node (`label`, `user`, ...).

        Raises:
            DatasetError: if the folder holds no library, a shard is damaged, or no site can be used.
        """
        from ..engine.dataset import Holdout
        from ..engine.errors import DatasetError
        from ..engine.prepare import prepare, read_library
        from ..engine.reference.library import CITATION
        from ..engine.reference.scattering import read_paths

        held = Holdout(frozenset(), frozenset()) if holdout is None else Holdout.read(Path(holdout))
        refused: list[str] = []
        found = read_library(Path(folder), refused.append)
        records = sorted(found, key=lambda item: (item.source, item.source_id, item.site, item.spectrum.kind))
        paths = {(own.source, own.source_id, own.site): own for own in read_paths(Path(folder))}
        with TemporaryDirectory(prefix="xastruct-dataset-") as scratch:
            facts = Path(cache or Path(scratch) / "sites.sqlite")
            dataset, left_out = prepare(records, held, facts, cores, progress, [paths[key] for key in sorted(paths)])
            left_out.update(Counter(refused))
            if not dataset.tables:
                raise DatasetError(f"no site of the library {folder} can be trained on: {left_out}.")
            path = Path(scratch) / cls.DEFAULT_FILENAME
            dataset.save(path)
            node = cls.from_file(path, **kwargs)
        names = sorted(path.name for path in Path(folder).glob("*.h5"))
        node.source = {
            "db_name": "aiida-xastruct reference library",
            "description": CITATION,
            "extras": {"shards": names, "left_out": {reason: count for reason, count in left_out.items() if count}},
        }
        return node

    def load(self) -> Any:
        """The training set as `aiida_xastruct.engine.dataset.Dataset`, read into memory."""
        from ..engine.dataset import Dataset

        with self.as_path() as path:
            return Dataset.load(path)

    @property
    def content_hash(self) -> str:
        """SHA-256 over the materials and arrays."""
        return str(self.base.attributes.get("content_hash"))

    @property
    def n_materials(self) -> int:
        """Number of materials."""
        return int(self.base.attributes.get("n_materials"))

    @property
    def n_records(self) -> dict[str, int]:
        """Number of spectra of each kind."""
        return dict(self.base.attributes.get("n_records"))

    @property
    def kinds(self) -> list[str]:
        """Kinds of spectra in it, sorted."""
        return list(self.base.attributes.get("kinds"))

    @property
    def elements(self) -> list[str]:
        """Symbols of the absorbers, by atomic number."""
        return list(self.base.attributes.get("elements"))

    @property
    def engines(self) -> list[str]:
        """Programs that computed the spectra."""
        return list(self.base.attributes.get("engines"))

    @property
    def split(self) -> dict[str, Any]:
        """Name of the default split, and number of records of each kind in each part."""
        return dict(self.base.attributes.get("split"))

    def get_description(self) -> str:
        """One line for listings."""
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(self.n_records.items()))
        return f"{counts}, {self.n_materials} materials, {len(self.elements)} absorbers"

    def _validate(self) -> bool:
        """Refuse a file under another name, a damaged one, and attributes that are not those of the file."""
        super()._validate()  # type: ignore[no-untyped-call]
        if self.filename != self.DEFAULT_FILENAME:
            raise ValidationError(f"the file is named {self.filename}; make the node with `DatasetData.from_file(path)`.")
        try:
            with self.as_path() as path:
                expected = _describe(path)
        except XastructError as error:
            raise ValidationError(str(error)) from error
        for name, value in expected.items():
            if self.base.attributes.get(name, None) != value:
                raise ValidationError(f"the attribute {name} is not that of the file; make the node with `DatasetData.from_file(path)`.")
        return True


def _describe(path: Path) -> dict[str, Any]:
    """Attributes of a dataset file, read from its content."""
    import numpy as np
    import xraydb

    from ..engine.dataset import PARTS, Dataset

    dataset = Dataset.load(path)
    numbers = sorted({int(number) for table in dataset.tables.values() for number in np.unique(table.absorber)})
    parts = {kind: dataset.parts(kind) for kind in sorted(dataset.tables)}
    return {
        "content_hash": dataset.content_hash(),
        "n_materials": len(dataset.materials),
        "n_records": {kind: len(dataset.tables[kind]) for kind in sorted(dataset.tables)},
        "kinds": sorted(dataset.tables),
        "elements": [str(xraydb.atomic_symbol(number)) for number in numbers],
        "engines": list(dataset.engines),
        "split": {
            "name": "formula-prototype, seed 0",
            "counts": {kind: {name: int(masks[name].sum()) for name in PARTS} for kind, masks in parts.items()},
        },
    }

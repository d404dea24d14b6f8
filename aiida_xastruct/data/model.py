"""Node for one learned model."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from aiida.common.exceptions import ValidationError
from aiida.orm import Data
from aiida.orm.pydantic import OrmMetadataField

from ..engine.content import combine, hash_stream
from ..engine.errors import ModelError

CARD = "card.json"
WEIGHTS = "weights.safetensors"

#: Folder in the repository for files that several models of a family use. AiiDA keeps equal files once.
SHARED = "shared"

TASKS = ("forward", "neighbours", "distance")
KINDS = ("XANES", "EXAFS")

#: Formats that hold data and never code. Nothing that is unpickled is let in.
SAFE_SUFFIXES = frozenset({".safetensors", ".json", ".skops", ".npz", ".npy", ".txt", ".md", ".csv"})

#: Attributes copied from the card, with the type that each must have there.
COPIED: Mapping[str, type | tuple[type, ...]] = {
    "task": str,
    "kind": str,
    "edges": list,
    "elements": list,
    "training_data_hash": str,
    "metrics": dict,
    "engine_version": str,
    "algorithm_version": str,
}


class ModelData(Data):
    """A learned model that answers one question: its weights, and a card that says what it is fit for.

    The repository holds `card.json`, `weights.safetensors`, any further files of the model, and under `shared/` those that
    it has in common with others. Make one with `ModelData.from_folder(folder)`.
    """

    class AttributesModel(Data.AttributesModel):
        """Attributes of the node, copied from the card but for the content hash."""

        task: str = OrmMetadataField(description="Question it answers: forward, neighbours or distance")
        kind: str = OrmMetadataField(description="Kind of spectrum: XANES or EXAFS")
        edges: list[str] = OrmMetadataField(description="Absorption edges it was trained on")
        elements: list[str] = OrmMetadataField(description="Absorbers it was trained on")
        training_data_hash: str = OrmMetadataField(description="Content hash of its training set")
        metrics: dict[str, Any] = OrmMetadataField(description="Its scores, as the card gives them")
        engine_version: str = OrmMetadataField(description="Programs that computed its training spectra")
        algorithm_version: str = OrmMetadataField(description="Version of the algorithm that turns an input into its answer")
        content_hash: str = OrmMetadataField(description="SHA-256 over the names and contents of its files")

    _hash_ignored_attributes = ("source",)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], shared: Mapping[str, Path] | None = None, **kwargs: Any) -> ModelData:
        """Node of a model on disk.

        Args:
            folder: holds `card.json`, `weights.safetensors` and any further files of the model.
            shared: files that the model uses but does not own, by their path relative to the family's folder.
            kwargs: passed on to the node (`label`, `user`, ...).

        Raises:
            ModelError: if a file is missing, damaged or of a format that could hold code.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise ModelError(f"{folder} is not a folder; give the folder of one model.")
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        files |= {f"{SHARED}/{name}": path for name, path in sorted((shared or {}).items())}
        node = cls(**kwargs)
        for name, path in files.items():
            with path.open("rb") as stream:
                node.base.repository.put_object_from_filelike(stream, name)
        node.base.attributes.set_many(node._describe())
        return node

    @contextmanager
    def as_folder(self) -> Iterator[Path]:
        """The model's files in a temporary folder, `card.json` at its top; gone when the context ends."""
        with tempfile.TemporaryDirectory(prefix="xastruct-model-") as name:
            self.base.repository.copy_tree(name)
            yield Path(name)

    @property
    def card(self) -> dict[str, Any]:
        """The model's card, as it stands in its file.

        Raises:
            ModelError: if it is missing or no JSON object.
        """
        try:
            card = json.loads(self.base.repository.get_object_content(CARD, mode="r"))
        except FileNotFoundError as error:
            raise ModelError(f"the model has no {CARD}; give the folder of one model.") from error
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{CARD} is not JSON ({error}); make the model again.") from error
        if not isinstance(card, dict):
            raise ModelError(f"{CARD} holds no JSON object; make the model again.")
        return card

    @property
    def task(self) -> str:
        """Question it answers: forward, neighbours or distance."""
        return str(self.base.attributes.get("task"))

    @property
    def kind(self) -> str:
        """Kind of spectrum: XANES or EXAFS."""
        return str(self.base.attributes.get("kind"))

    @property
    def edges(self) -> list[str]:
        """Absorption edges it was trained on."""
        return list(self.base.attributes.get("edges"))

    @property
    def elements(self) -> list[str]:
        """Absorbers it was trained on."""
        return list(self.base.attributes.get("elements"))

    @property
    def training_data_hash(self) -> str:
        """Content hash of its training set."""
        return str(self.base.attributes.get("training_data_hash"))

    @property
    def metrics(self) -> dict[str, Any]:
        """Its scores, as the card gives them."""
        return dict(self.base.attributes.get("metrics"))

    @property
    def engine_version(self) -> str:
        """Programs that computed its training spectra."""
        return str(self.base.attributes.get("engine_version"))

    @property
    def algorithm_version(self) -> str:
        """Version of the algorithm that turns an input into its answer; `engine.ALGORITHM_VERSION` names the installed one."""
        return str(self.base.attributes.get("algorithm_version"))

    @property
    def content_hash(self) -> str:
        """SHA-256 over the names and contents of its files."""
        return str(self.base.attributes.get("content_hash"))

    @property
    def name(self) -> str:
        """Its folder in a family, such as `forward-XANES`."""
        return f"{self.task}-{self.kind}"

    def get_description(self) -> str:
        """One line for listings."""
        return f"{self.name}, {len(self.elements)} absorbers, {self.content_hash[:8]}"

    def file_names(self) -> list[str]:
        """Paths of the files in the repository, sorted, with forward slashes."""
        return sorted((PurePosixPath(*root.parts) / name).as_posix() for root, _, names in self.base.repository.walk() for name in names)

    def _validate(self) -> bool:
        """Refuse to store files that are damaged or could hold code, and attributes that are not the card's."""
        super()._validate()
        try:
            expected = self._describe()
        except ModelError as error:
            raise ValidationError(str(error)) from error
        for name, value in expected.items():
            if self.base.attributes.get(name, None) != value:
                raise ValidationError(f"the attribute {name} is not that of the files; make the node with `ModelData.from_folder(folder)`.")
        return True

    def _describe(self) -> dict[str, Any]:
        """Attributes that the files ask for; raises ModelError for files that are unfit."""
        hashes = {}
        for name in self.file_names():
            if PurePosixPath(name).suffix not in SAFE_SUFFIXES:
                raise ModelError(f"{name} may hold code; a model's files are {', '.join(sorted(SAFE_SUFFIXES))}.")
            with self.base.repository.open(name, mode="rb") as stream:
                hashes[name] = hash_stream(stream)
            if PurePosixPath(name).suffix == ".safetensors":
                self._check_safetensors(name)
        card = self.card
        if WEIGHTS not in hashes:
            raise ModelError(f"the model has no {WEIGHTS}; give the folder of one model.")
        for key, expected in COPIED.items():
            if not isinstance(card.get(key), expected):
                raise ModelError(f"{CARD} has no proper {key!r}; make the model again.")
        if card["task"] not in TASKS or card["kind"] not in KINDS:
            raise ModelError(f"{CARD} says task {card['task']!r}, kind {card['kind']!r}; use {'|'.join(TASKS)} and {'|'.join(KINDS)}.")
        return {key: card[key] for key in COPIED} | {"content_hash": combine(hashes)}

    def _check_safetensors(self, name: str) -> None:
        """Check a safetensors file's header against its length, without loading PyTorch."""
        size = self.base.repository.get_object_size(name)
        with self.base.repository.open(name, mode="rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= size - 8:
                raise ModelError(f"{name} is no safetensors file, or cut off; get the model again.")
            try:
                header = json.loads(stream.read(length))
                ends = [int(entry["data_offsets"][1]) for key, entry in header.items() if key != "__metadata__"]
            except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
                raise ModelError(f"{name} has a damaged header; get the model again.") from error
        if 8 + length + max(ends, default=0) != size:
            raise ModelError(f"{name} is cut off, or longer than its header says; get the model again.")

"""Group of models that belong together: one for each task and kind of spectrum."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiida.common.exceptions import IntegrityError, ModificationNotAllowed
from aiida.orm import Group, Node, QueryBuilder

from ..data.model import CARD, KINDS, SHARED, TASKS, ModelData
from ..engine.content import content_hash
from ..engine.errors import ModelError

MANIFEST = "family.json"

#: Lists every material that a family has seen; the engine writes it.
MATERIALS = "materials.txt"

#: Where the package keeps the family that it ships.
SHIPPED = Path(__file__).parent.parent / "pretrained" / "default"


class ModelFamily(Group):
    """Which model answers for a task (forward, neighbours, distance) and a kind of spectrum (XANES, EXAFS).

    A family on disk is a folder with `family.json`, one folder per model named `<task>-<kind>`, and files that models share. As a
    group it holds one `ModelData` node per model; `family.json` and the folder's content hash are extras of the group.
    """

    _KEY_MANIFEST = "manifest"
    _KEY_HASH = "content_hash"

    @classmethod
    def install(cls, folder: str | os.PathLike[str], label: str, description: str = "") -> ModelFamily:
        """Store a family from disk, all of it or nothing.

        Models that the database already has, by content hash, are used again. A family that is already installed under
        this label with the same content is returned as it is.

        Args:
            folder: the family on disk.
            label: name of the group.
            description: of the group.

        Returns:
            the stored group.

        Raises:
            ModelError: if the folder is no family, a model in it is damaged, or the label belongs to another family.
        """
        folder = Path(folder)
        manifest, models, shared = _read(folder)
        digest = content_hash(folder)
        found = cls._find(label, digest)
        if found is not None:
            return found
        # Everything that can fail for the folder's sake fails here, before the database is touched.
        nodes = [_stored_or_new(ModelData.from_folder(path, shared, label=path.name)) for path in models]
        for node, path in zip(nodes, models, strict=True):
            if node.name != path.name:
                raise ModelError(f"{path} holds a {node.name} model by its card; name the folder so.")
        return cls._make(nodes, manifest, digest, label, description)

    @classmethod
    def _make(cls, nodes: Sequence[ModelData], manifest: str, digest: str, label: str, description: str) -> ModelFamily:
        """A stored group of models, with all of them or not at all."""
        group = cls(label=label, description=description, extras={cls._KEY_MANIFEST: manifest, cls._KEY_HASH: digest})
        try:
            with group.backend.transaction():
                group.store()
                group.add_nodes([node.store() for node in nodes])
        except IntegrityError:
            # Another process has installed a family under this label since we looked.
            found = cls._find(label, digest)
            if found is None:
                raise
            return found
        return group

    @classmethod
    def _find(cls, label: str, digest: str) -> ModelFamily | None:
        """The family of this label and content, or None if there is none of this label."""
        found: ModelFamily | None = QueryBuilder().append(cls, filters={"label": label}).first(flat=True)
        if found is not None and found.content_hash != digest:
            raise ModelError(f"a family named {label!r} with other content exists already; choose another label.")
        return found

    @property
    def manifest(self) -> dict[str, Any]:
        """Content of `family.json`."""
        return dict(json.loads(self.base.extras.get(self._KEY_MANIFEST, "{}")))

    @property
    def content_hash(self) -> str:
        """Content hash of the folder that the family was installed from."""
        return str(self.base.extras.get(self._KEY_HASH, ""))

    @property
    def models(self) -> dict[tuple[str, str], ModelData]:
        """The models by task and kind."""
        return {(node.task, node.kind): node for node in self.nodes}

    def get_model(self, task: str, kind: str) -> ModelData:
        """The model that answers for a task and a kind of spectrum.

        Raises:
            ModelError: if the family has none.
        """
        builder = QueryBuilder()
        builder.append(ModelFamily, filters={"id": self.pk}, tag="family")
        builder.append(ModelData, with_group="family", filters={"attributes.task": task, "attributes.kind": kind})
        node: ModelData | None = builder.first(flat=True)
        if node is None:
            has = ", ".join(sorted(model.name for model in self.nodes)) or "no model"
            raise ModelError(f"the family {self.label!r} has no model for {task} of {kind} (it has {has}); choose another family.")
        return node

    def add_nodes(self, nodes: Node | Sequence[Node]) -> None:
        """Add models, none for a task and kind that the family already answers for.

        Raises:
            ModificationNotAllowed: if the family is not stored.
            TypeError: if a node is no `ModelData`.
            ModelError: if two models answer the same question.
        """
        if not self.is_stored:
            raise ModificationNotAllowed("store the family before adding models to it.")
        new = [nodes] if isinstance(nodes, Node) else list(nodes)
        taken = {key: model.uuid for key, model in self.models.items()}
        for node in new:
            if not isinstance(node, ModelData):
                raise TypeError(f"a family holds ModelData nodes, not {type(node).__name__}.")
            if taken.setdefault((node.task, node.kind), node.uuid) != node.uuid:
                raise ModelError(f"the family {self.label!r} already has a {node.name} model; install the other in a family of its own.")
        super().add_nodes(new)

    @contextmanager
    def as_folder(self) -> Iterator[Path]:
        """The family in a temporary folder, as `install` takes it and the engine loads it; gone when the context ends."""
        with tempfile.TemporaryDirectory(prefix="xastruct-family-") as name:
            folder = Path(name) / "family"
            self.export(folder)
            yield folder

    def export(self, folder: str | os.PathLike[str]) -> Path:
        """Write the family to a new folder.

        Raises:
            ModelError: if the folder exists already, or cannot be written; it is removed then.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            raise ModelError(f"{folder} exists already; choose another place.") from error
        except OSError as error:
            raise ModelError(f"{folder} cannot be made ({error.strerror}); choose another place.") from error
        try:
            return write_family(folder, list(self.nodes), self.base.extras.get(self._KEY_MANIFEST, "{}"))
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise ModelError(f"{folder} cannot be written ({error.strerror}); choose another place.") from error


def write_family(folder: Path, models: Sequence[ModelData], manifest: Mapping[str, Any] | str) -> Path:
    """Write models and `family.json` (its text, or its content) into an empty folder in the layout of a family.

    Returns:
        the folder.
    """
    for model in models:
        target = folder / model.name
        model.base.repository.copy_tree(target)
        shared = target / SHARED
        if shared.is_dir():
            _share(shared, folder)
            shutil.rmtree(shared)
    (folder / MANIFEST).write_text(manifest if isinstance(manifest, str) else json.dumps(manifest, indent=1) + "\n")
    return folder


def _share(shared: Path, folder: Path) -> None:
    """Copy files that a model has in common with others; what models of two trainings have seen, the family has seen all of."""
    seen, more = folder / MATERIALS, shared / MATERIALS
    if seen.is_file() and more.is_file():
        more.write_text("".join(sorted({*seen.read_text().splitlines(keepends=True), *more.read_text().splitlines(keepends=True)})))
    shutil.copytree(shared, folder, dirs_exist_ok=True)


def models_of(folder: Path, names: Collection[str] | None = None) -> dict[str, ModelData]:
    """New nodes of the models of a family on disk, by name.

    Args:
        folder: the family.
        names: of models in a folder that is no whole family yet; all of a whole one if left out.

    Raises:
        ModelError: if the folder is no family, or a model in it is damaged.
    """
    _, models, shared = _read(folder) if names is None else ("", [folder / name for name in sorted(names)], {})
    return {path.name: ModelData.from_folder(path, shared, label=path.name) for path in models}


def install_models(models: Mapping[str, ModelData] | Any, manifest: Mapping[str, Any], label: str, description: str = "") -> ModelFamily:
    """Group the models that a training made as a family, as if its folder were installed.

    Args:
        models: the outputs of that name, by any names.
        manifest: content of `family.json`.
        label: name of the group.
        description: of the group.

    Raises:
        ModelError: if the label belongs to another family.
    """
    nodes, text = [models[key] for key in models], json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    with tempfile.TemporaryDirectory(prefix="xastruct-family-") as name:
        # As the engine writes it: the family's hash is that of its files.
        digest = content_hash(write_family(Path(name), nodes, text))
    # The nodes themselves, whose provenance is known: a folder does not say which of the files that its models share came with which.
    return ModelFamily._find(label, digest) or ModelFamily._make(nodes, text, digest, label, description)


def load_default_family() -> ModelFamily:
    """The family that ships with the package, installed into the profile the first time it is asked for.

    Its label ends in its content hash, so that a new release of the package installs its own beside the old one.

    Raises:
        ModelError: if the package holds no family, which only a broken installation does.
    """
    if not (SHIPPED / MANIFEST).is_file():
        raise ModelError(f"{SHIPPED} holds no models; install aiida-xastruct again.")
    return ModelFamily.install(SHIPPED, f"xastruct/default/{content_hash(SHIPPED)[:8]}", "Shipped with aiida-xastruct.")


def _read(folder: Path) -> tuple[str, list[Path], dict[str, Path]]:
    """Text of the manifest, model folders and shared files (by relative path) of a family on disk."""
    try:
        manifest = (folder / MANIFEST).read_text()
        is_object = isinstance(json.loads(manifest), dict)
    except OSError as error:
        raise ModelError(f"{folder} has no {MANIFEST}; give the folder of a model family.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{folder / MANIFEST} is not JSON ({error}); get the family again.") from error
    if not is_object:
        raise ModelError(f"{folder / MANIFEST} holds no JSON object; get the family again.")
    models = sorted(path.parent for path in folder.glob(f"*/{CARD}"))
    names = {f"{task}-{kind}" for task in TASKS for kind in KINDS}
    for path in models:
        if path.name not in names:
            raise ModelError(f"{path} is not named after a task and a kind; use one of {', '.join(sorted(names))}.")
    if not models:
        raise ModelError(f"{folder} holds no model; give the folder of a model family.")
    owned = [*models, folder / MANIFEST]
    shared = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(path == owner or owner in path.parents for owner in owned)
    }
    return manifest, models, shared


def _stored_or_new(node: ModelData) -> ModelData:
    """The stored node of the same content, or the new one."""
    same = QueryBuilder().append(ModelData, filters={"attributes.content_hash": node.content_hash}).first(flat=True)
    return node if same is None else same

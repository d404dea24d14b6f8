"""Group of pseudopotentials in pairs: of the ground state, and with a hole in one core level."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aiida.common.exceptions import IntegrityError, ModificationNotAllowed
from aiida.orm import Group, Node, QueryBuilder, StructureData
from aiida_pseudo.data.pseudo.upf import UpfData
from aiida_pseudo.groups.family.pseudo import PseudoPotentialFamily
from aiida_pseudo.groups.mixins.cutoffs import RecommendedCutoffMixin

from ..data.core_hole import CoreHoleUpfData
from ..engine.content import combine, hash_stream
from ..engine.errors import PseudoError
from ..engine.xspectra.files import CORE_HOLE, GROUND_STATE, MANIFEST, PseudoFiles, read_files
from ..engine.xspectra.upf import Upf, amplitudes, read_upf


class CoreHolePair(NamedTuple):
    """The two pseudopotentials of an absorber."""

    ground_state: UpfData
    core_hole: CoreHoleUpfData


class CoreHolePseudoFamily(RecommendedCutoffMixin, PseudoPotentialFamily):  # type: ignore[misc]
    """Pseudopotentials of one functional for spectra of one core level: for each element the ground state, for absorbers the hole too.

    Of aiida-pseudo's families it has the nodes, `get_pseudos` (the ground state's) and the recommended cutoffs. Core level, functional and
    a hash of the content are extras of the group.
    """

    _pseudo_types = (UpfData,)
    _pseudos: dict[str, UpfData] | None = None

    _KEY_LEVEL = "core_level"
    _KEY_FUNCTIONAL = "functional"
    _KEY_HASH = "content_hash"

    @classmethod
    def install(
        cls, path: str | os.PathLike[str], label: str, description: str = "", core_level: str | None = None
    ) -> CoreHolePseudoFamily:
        """Store a family from disk, all of it or nothing.

        Pseudopotentials that the database already has, by their checksum, are used again. A family that is already installed under this
        label with the same content is returned as it is.

        Args:
            path: a folder or an archive of it: see `engine.xspectra.files`.
            label: name of the group.
            description: of the group; that of `family.json` if empty.
            core_level: where the hole is; what `family.json` says, else 1s, if None.

        Raises:
            PseudoError: if the two halves do not belong together, or the label belongs to another family.
        """
        files = read_files(Path(path))
        level = core_level or str(files.manifest.get("core_level", "1s"))
        ground = {name: read_upf(_text(content, name), name) for name, content in files.ground_state.items()}
        holes = {name: read_upf(_text(content, name), name) for name, content in files.core_hole.items()}
        functional = _check(ground, holes, level)
        cutoffs, unit = _cutoffs(files.manifest, {facts.element for facts in ground.values()})
        digest = _digest(files, level)
        if (found := cls._find(label, digest)) is not None:
            return found
        nodes = [_node(name, content, None) for name, content in files.ground_state.items()]
        nodes += [_node(name, content, level) for name, content in files.core_hole.items()]
        extras: dict[str, Any] = {cls._KEY_LEVEL: level, cls._KEY_FUNCTIONAL: functional, cls._KEY_HASH: digest}
        group = cls(label=label, description=description or str(files.manifest.get("description", "")), extras=extras)
        try:
            with group.backend.transaction():
                group.store()
                group.add_nodes([node.store() for node in nodes])
                if cutoffs:
                    group.set_cutoffs(cutoffs, "standard", unit=unit)
        except IntegrityError:
            # Another process has installed a family under this label since we looked.
            if (found := cls._find(label, digest)) is None:
                raise
            return found
        return group

    @classmethod
    def create_from_folder(cls, dirpath: str | os.PathLike[str], label: str, *, description: str = "", **_: Any) -> CoreHolePseudoFamily:
        """`install`, under the name that aiida-pseudo's families have."""
        return cls.install(dirpath, label, description)

    @classmethod
    def _find(cls, label: str, digest: str) -> CoreHolePseudoFamily | None:
        """The family of this label and content, or None if there is none of this label."""
        found: CoreHolePseudoFamily | None = QueryBuilder().append(cls, filters={"label": label}).first(flat=True)
        if found is not None and found.content_hash != digest:
            raise PseudoError(f"a core-hole family named {label!r} with other content exists already; choose another label.")
        return found

    @property
    def core_level(self) -> str:
        """Where the holes are, such as `1s`."""
        return str(self.base.extras.get(self._KEY_LEVEL, ""))

    @property
    def functional(self) -> str:
        """Functional of all pseudopotentials, such as PBE."""
        return str(self.base.extras.get(self._KEY_FUNCTIONAL, ""))

    @property
    def content_hash(self) -> str:
        """SHA-256 of what the family was installed from."""
        return str(self.base.extras.get(self._KEY_HASH, ""))

    @property
    def pseudos(self) -> dict[str, UpfData]:
        """Pseudopotentials of the ground state by element."""
        if self._pseudos is None:
            self._pseudos = {node.element: node for node in self.nodes if not isinstance(node, CoreHoleUpfData)}
        return dict(self._pseudos)

    @property
    def core_holes(self) -> dict[str, CoreHoleUpfData]:
        """Pseudopotentials with the hole, by element."""
        return {node.element: node for node in self.nodes if isinstance(node, CoreHoleUpfData)}

    def amplitudes(self, absorber: str) -> list[float]:
        """Of the orbitals that a matrix element of the absorber is made of, see `engine.xspectra.upf.Orbital.amplitude`.

        Raises:
            PseudoError: if the family has no hole in it, or its file is damaged.
        """
        if (node := self.core_holes.get(absorber)) is None:
            raise PseudoError(f"the family {self.label!r} has no core hole in {absorber}.")
        return amplitudes(node.get_content(), _final(self.core_level), node.filename)

    def update_pseudo_type(self) -> None:
        """Of two types by nature; what aiida-pseudo notes here holds for one."""

    def add_nodes(self, nodes: Node | Sequence[Node]) -> None:
        """Add pseudopotentials, one of the ground state and one with the hole for each element.

        Raises:
            ModificationNotAllowed: if the family is not stored.
            TypeError: if a node is no `UpfData`.
            PseudoError: if an element has one already, or a hole is in another level than those of the family.
        """
        if not self.is_stored:
            raise ModificationNotAllowed("store the family before adding pseudopotentials to it.")
        new = [nodes] if isinstance(nodes, Node) else list(nodes)
        taken = {(isinstance(node, CoreHoleUpfData), node.element): node.uuid for node in self.nodes}
        for node in new:
            if not isinstance(node, UpfData):
                raise TypeError(f"a core-hole family holds UpfData nodes, not {type(node).__name__}.")
            hole = isinstance(node, CoreHoleUpfData)
            if hole and node.core_level != self.core_level:
                raise PseudoError(f"{node.filename} has its hole in {node.core_level}, the family {self.label!r} in {self.core_level}.")
            if taken.setdefault((hole, node.element), node.uuid) != node.uuid:
                raise PseudoError(f"the family {self.label!r} has two {_half(hole)} pseudopotentials of {node.element}; keep one.")
        Group.add_nodes(self, new)
        self._pseudos = None

    def get_core_hole_pair(self, structure: StructureData, absorber: str) -> CoreHolePair:
        """The pseudopotentials of an absorber without and with the hole.

        Args:
            structure: an ordered crystal, all elements of which must be in the family.
            absorber: symbol of an element in it.

        Raises:
            PseudoError: if the family lacks what the crystal needs, or the crystal the absorber.
        """
        symbols = sorted(structure.get_symbols_set())
        if absorber not in symbols:
            raise PseudoError(f"{absorber} is not in the structure ({structure.get_formula()}); choose one of {', '.join(symbols)}.")
        ground, holes = self.pseudos, self.core_holes
        if lacking := [symbol for symbol in symbols if symbol not in ground]:
            raise PseudoError(f"the family {self.label!r} has no pseudopotential of {', '.join(lacking)}; install one that has.")
        if absorber not in holes:
            has = ", ".join(sorted(holes)) or "none"
            raise PseudoError(f"the family {self.label!r} has no core hole in {absorber} (it has {has}); install one that has.")
        return CoreHolePair(ground[absorber], holes[absorber])

    def export(self, folder: str | os.PathLike[str]) -> Path:
        """Write the family to a new folder, as `install` takes it.

        Raises:
            PseudoError: if the folder exists already.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            raise PseudoError(f"{folder} exists already; choose another place.") from error
        for half, nodes in ((GROUND_STATE, self.pseudos), (CORE_HOLE, self.core_holes)):
            (folder / half).mkdir()
            named = Counter(node.filename for node in nodes.values())
            for element, node in nodes.items():
                # A node that was there before keeps the name it was stored by, which may be that of another one here.
                name = node.filename if named[node.filename] == 1 else f"{element}.{node.filename}"
                (folder / half / name).write_bytes(node.get_content("rb"))
        manifest: dict[str, Any] = {"core_level": self.core_level, "description": self.description}
        if self.get_cutoff_stringencies():
            manifest |= {"cutoffs": self.get_cutoffs(), "cutoffs_unit": self.get_cutoffs_unit()}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
        return folder


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise PseudoError(f"{name} is no text; give pseudopotentials in UPF format.") from error


def _final(level: str) -> int:
    """Angular momentum that a dipole transition from a level leads to."""
    return "spdf".index(level[1]) + 1


def _half(hole: bool) -> str:
    return "core-hole" if hole else "ground-state"


def _check(ground: Mapping[str, Upf], holes: Mapping[str, Upf], level: str) -> str:
    """The functional of a family whose halves belong together.

    Raises:
        PseudoError: if they do not.
    """
    if len(level) != 2 or level[0] not in "1234567" or level[1] not in "spdf":
        raise PseudoError(f"the core level {level!r} is unknown; give one such as 1s.")
    functionals: dict[str, str] = {}
    for half, found in ((False, ground), (True, holes)):
        seen: dict[str, str] = {}
        for name, facts in found.items():
            functionals[facts.functional] = f"{CORE_HOLE if half else GROUND_STATE}/{name}"  # the halves may have the same names
            if (other := seen.setdefault(facts.element, name)) != name:
                raise PseudoError(f"{other} and {name} are two {_half(half)} pseudopotentials of {facts.element}; keep one.")
    if len(functionals) > 1:
        words = ", ".join(f"{name} is of {functional}" for functional, name in sorted(functionals.items()))
        raise PseudoError(f"the pseudopotentials are of different functionals ({words}); give those of one.")
    by_element = {facts.element: facts for facts in ground.values()}
    for name, facts in holes.items():
        _check_hole(name, facts, by_element.get(facts.element), level)
    for name, facts in ground.items():
        if facts.holes:
            raise PseudoError(f"{name} has a hole in {facts.holes[0]} by its own deck; it belongs into {CORE_HOLE}.")
    return next(iter(functionals))


def _check_hole(name: str, facts: Upf, ground: Upf | None, level: str) -> None:
    """Refuse a pseudopotential with a hole that has no fitting one without it."""
    if ground is None:
        raise PseudoError(f"{name} has no ground-state pseudopotential of {facts.element} beside it; add it to {GROUND_STATE}.")
    if facts.z_valence != ground.z_valence + 1.0:
        raise PseudoError(
            f"{name} has {facts.z_valence:g} valence electrons and the ground state of {facts.element} {ground.z_valence:g}; "
            "a core hole has one more."
        )
    if not facts.has_gipaw:
        raise PseudoError(f"{name} has no GIPAW reconstruction, without which there are no matrix elements; generate it with one.")
    if not ground.has_gipaw:
        raise PseudoError(f"the ground state of {facts.element} has no GIPAW reconstruction; generate it with one.")
    if level not in ground.core_levels:
        has = ", ".join(ground.core_levels) or "none"
        raise PseudoError(f"the ground state of {facts.element} holds no core orbital {level} (it has {has}); generate it with GIPAW.")
    final = _final(level)
    if final not in facts.projectors:
        raise PseudoError(f"{name} reconstructs no orbital of angular momentum {final}, the final state of {level}; generate it with one.")
    if facts.holes and facts.holes != (level,):
        raise PseudoError(f"{name} has its hole in {', '.join(facts.holes)} by its own deck, not in {level}; check the core level.")


def _cutoffs(manifest: Mapping[str, Any], elements: set[str]) -> tuple[dict[str, dict[str, float]], str]:
    """Recommended cutoffs and their unit; empty where the manifest has none."""
    cutoffs, unit = manifest.get("cutoffs") or {}, str(manifest.get("cutoffs_unit", "Ry"))
    if not cutoffs:
        return {}, unit
    try:
        if set(cutoffs) != elements:  # sets of which neither holds the other pass aiida-pseudo's own check
            raise ValueError(f"they are of {', '.join(sorted(cutoffs))}, the pseudopotentials of {', '.join(sorted(elements))}.")
        RecommendedCutoffMixin.validate_cutoffs(elements, cutoffs)
        RecommendedCutoffMixin.validate_cutoffs_unit(unit)
    except (ValueError, AttributeError, TypeError) as error:
        raise PseudoError(f"the cutoffs in {MANIFEST} are unfit: {error}") from error
    return dict(cutoffs), unit


def _digest(files: PseudoFiles, level: str) -> str:
    """SHA-256 of core level, cutoffs, names and contents."""
    said = json.dumps([level, files.manifest.get("cutoffs"), files.manifest.get("cutoffs_unit")], sort_keys=True)
    halves = ((GROUND_STATE, files.ground_state), (CORE_HOLE, files.core_hole))
    content = {f"{half}/{name}": hash_stream(io.BytesIO(data)) for half, found in halves for name, data in found.items()}
    return combine({**content, MANIFEST: hash_stream(io.BytesIO(said.encode()))})


def _node(name: str, content: bytes, level: str | None) -> UpfData:
    """The stored node of the same file, and the same level of a hole, or a new one.

    Raises:
        PseudoError: where aiida-pseudo refuses the file.
    """
    try:
        if level is None:
            return UpfData.get_or_create(io.BytesIO(content), filename=name)
        new = CoreHoleUpfData(io.BytesIO(content), name, core_level=level)
    except ValueError as error:
        raise PseudoError(f"{name} is no pseudopotential that AiiDA can store ({str(error)[:80]}); get the file again.") from error
    same = QueryBuilder().append(CoreHoleUpfData, filters={"attributes.md5": new.md5, "attributes.core_level": level}).first(flat=True)
    return new if same is None else same

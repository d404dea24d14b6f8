"""Which site a build computes next: a balanced order over the elements, without what is held out."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import XastructError
from ..feff.deck import has_edge, resolve_edge
from ..structure import inequivalent_absorbers, space_group
from .files import UNREADABLE
from .sources import open_source
from .state import Key


@dataclass(frozen=True)
class Task:
    """One site to compute."""

    source: str
    path: str
    source_id: str
    site: int
    multiplicity: int
    absorber: str
    edge: str
    kind: str

    @property
    def key(self) -> Key:
        """The key of the record that this task makes."""
        return (self.source, self.source_id, self.site, self.edge, self.kind)


@dataclass(frozen=True)
class Excluded:
    """What must not be computed because it would be useless for training: ids, and reduced formula with space-group number."""

    ids: frozenset[str] = frozenset()
    formulas: frozenset[tuple[str, int]] = frozenset()

    @classmethod
    def read(cls, paths: list[Path]) -> Excluded:
        """From text files with one id, or one reduced formula and space-group number, a line."""
        ids, formulas = set(), set()
        for path in paths:
            for line in path.read_text().splitlines():
                words = line.split()
                if len(words) == 1:
                    ids.add(words[0])
                elif len(words) == 2 and words[1].isdigit():
                    formulas.add((words[0], int(words[1])))
                elif words:
                    raise XastructError(f"{path} holds {line!r}; give one id, or a formula and a space-group number, a line.")
        return cls(frozenset(ids), frozenset(formulas))

    def reason(self, source_id: str, structure: Any) -> str:
        """Why a structure is left out; empty if it is not."""
        if source_id in self.ids:
            return "excluded by id."
        formula = structure.composition.element_composition.reduced_formula
        if any(formula == name for name, _ in self.formulas) and (formula, space_group(structure)) in self.formulas:
            return f"excluded: {formula} in this space group is held out."
        return ""


class RoundRobin:
    """Sites of a source, one element after the other, so that any prefix is balanced.

    Each element has its structures in random order; a structure is read when its turn comes and gives all its inequivalent sites of that
    element, one a round. Structures that cannot be used are reported to `reject` with the reason, once; those that hold an element of
    `without`, or more elements than `most_elements`, are passed over.
    """

    def __init__(
        self, source: str, path: str, seed: int, excluded: Excluded, reject: Callable[[str, str], None], rejected: set[str],
        without: Sequence[str] = (), most_elements: int | None = None,
    ) -> None:  # fmt: skip
        self._source, self._path = source, path
        self._collection = open_source(source, path)
        generator = random.Random(seed)
        self._structures: dict[str, deque[str]] = {}
        self._excluded, self._reject, self._rejected = excluded, reject, rejected
        by_element = self._collection.ids_by_element()
        for source_id in by_element.pop(UNREADABLE, []):
            self._read(source_id, UNREADABLE)
        left_out = rejected.union(*(by_element.get(element, ()) for element in without))
        if most_elements is not None:
            elements = Counter(source_id for ids in by_element.values() for source_id in set(ids))
            left_out.update(source_id for source_id, number in elements.items() if number > most_elements)
        for element, ids in by_element.items():
            if not has_edge(element):
                continue
            shuffled = [value for value in ids if value not in left_out]
            generator.shuffle(shuffled)
            self._structures[element] = deque(shuffled)
        self._order = list(self._structures)
        generator.shuffle(self._order)
        self._sites: dict[str, deque[tuple[str, int, int]]] = {element: deque() for element in self._order}

    def sites(self) -> Iterator[tuple[str, str, int, int]]:
        """(element, source id, site, multiplicity) for ever new sites, until no element has any."""
        while self._order:
            for element in list(self._order):
                found = self._next(element)
                if found is None:
                    self._order.remove(element)
                else:
                    yield (element, *found)

    def tasks(self, kind: str, skip: set[Key]) -> Iterator[Task]:
        """The sites as tasks of a kind, without those in `skip`, to which each is added."""
        for element, source_id, site, multiplicity in self.sites():
            task = Task(self._source, self._path, source_id, site, multiplicity, element, resolve_edge(element), kind)
            if task.key not in skip:
                skip.add(task.key)
                yield task

    def _next(self, element: str) -> tuple[str, int, int] | None:
        queue = self._sites[element]
        while not queue and self._structures[element]:
            queue.extend(self._read(self._structures[element].popleft(), element))
        return queue.popleft() if queue else None

    def _read(self, source_id: str, element: str) -> list[tuple[str, int, int]]:
        if source_id in self._rejected:
            return []
        try:
            structure, _ = self._collection.structure(source_id)
            if reason := self._excluded.reason(source_id, structure):
                raise XastructError(reason)
            return [(source_id, found.site, found.multiplicity) for found in inequivalent_absorbers(structure, element)]
        except XastructError as error:
            self._rejected.add(source_id)
            self._reject(source_id, str(error))
            return []

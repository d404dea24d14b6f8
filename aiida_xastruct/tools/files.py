"""Files of many nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, TypeVar, cast

from aiida.orm import SinglefileData

Single = TypeVar("Single", bound=SinglefileData)


def open_files(nodes: Iterable[Single]) -> Iterator[tuple[Single, IO[bytes]]]:
    """Each of some stored nodes with its file, which is open until the next is given; in any order.

    The repository is opened once for all of them: `node.open` does so twice for each, which takes several times as long as reading a table.
    """
    by_key: dict[str, list[Single]] = {}
    repository = None
    for node in nodes:
        by_key.setdefault(str(node.base.repository.get_object(node.filename).key), []).append(node)
        repository = node.backend.get_repository()
    if repository is not None:
        for key, stream in repository.iter_object_streams(list(by_key)):
            for node in by_key[key]:
                stream.seek(0)
                yield node, cast("IO[bytes]", stream)

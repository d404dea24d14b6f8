"""Many crystals in one file: gzipped JSON lines of `id`, `lattice` (angstrom), `species` and `frac`, or of `id` and `refused`."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO, Any, AnyStr, cast

from pymatgen.core import Structure

from .errors import StructureError
from .structure import atomic_numbers, check_structure, make_structure, symbol_of

FILENAME = "structures.jsonl.gz"

#: Letters of a line at most: ten times as many as a crystal of ten thousand atoms takes.
MOST_LINE = 10_000_000

#: A crystal by the name that its source has for it, or one sentence that says why there is none.
Entry = tuple[str, Structure | str]


def write_structures(entries: Iterable[Entry], stream: IO[bytes]) -> int:
    """Write crystals; one that nothing can answer for (`check_structure`) is written as the sentence that says so, so that none is lost.

    The same crystals make the same bytes. A name that comes again gets a number, `NAME#2`: rows and FEFF's jobs go by names.

    Returns:
        the number of entries.
    """
    count = 0
    seen: Counter[str] = Counter()
    # No date and no name in the head of the file; level 9 takes three times as long for 2 % less.
    with gzip.GzipFile(fileobj=stream, mode="wb", mtime=0, filename="", compresslevel=6) as lines:
        for name, given in entries:
            seen[name] += 1
            unique = name if seen[name] == 1 else f"{name}#{seen[name]}"
            while unique != name and seen[unique]:  # an entry may be called NAME#2 by itself
                seen[name] += 1
                unique = f"{name}#{seen[name]}"
            seen[unique] += unique != name
            lines.write((json.dumps({"id": unique, **_record(given)}) + "\n").encode())
            count += 1
    return count


def _record(given: Structure | str) -> dict[str, Any]:
    if isinstance(given, str):
        return {"refused": given}
    try:
        check_structure(given)
    except StructureError as error:
        return {"refused": str(error)}
    species = [symbol_of(number) for number in atomic_numbers(given)]
    return {"lattice": given.lattice.matrix.tolist(), "species": species, "frac": given.frac_coords.tolist()}


def read_structures(stream: IO[bytes], name: str = FILENAME) -> Iterator[Entry]:
    """What `write_structures` wrote, in its order.

    Args:
        stream: of the file.
        name: of the file, for the message.

    Raises:
        StructureError: if the file is of another format.
    """
    try:
        with gzip.open(stream, "rt") as lines:
            for line in whole_lines(lines):
                record = json.loads(line)
                if "refused" in record:
                    yield str(record["id"]), str(record["refused"])
                else:
                    yield str(record["id"]), make_structure(record["lattice"], record["species"], record["frac"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError, zlib.error) as error:
        raise StructureError(f"{name} is no file of structures ({error}); make it with `structures_node`.") from error


def whole_lines(lines: IO[AnyStr]) -> Iterator[AnyStr]:
    """Lines of a file that may have been made to take all memory.

    Raises:
        ValueError: if one is longer than any crystal or spectrum.
    """
    while line := lines.readline(MOST_LINE + 1):
        if len(line) > MOST_LINE:
            raise ValueError(f"a line is longer than {MOST_LINE / 1e6:.0f} MB")
        yield line


def count_structures(stream: IO[bytes]) -> int:
    """Number of entries in a file, without reading them.

    Raises:
        StructureError: if the file is not gzipped.
    """
    try:
        with gzip.open(stream, "rb") as lines:
            return sum(1 for _ in whole_lines(cast("IO[bytes]", lines)))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise StructureError(f"the file of structures cannot be read ({error}); make it with `structures_node`.") from error

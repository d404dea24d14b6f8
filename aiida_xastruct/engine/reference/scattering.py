"""Single scattering paths out of FEFF, for networks to learn how pairs of elements scatter.

A spectrum is the sum of many paths and says little of each. FEFF knows each of them, and a network learns amplitudes
from paths and spectra together. Shards `paths-<hash>.h5` lie beside those of the spectra, of sites of the library.

| dataset | shape, type | what |
| --- | --- | --- |
| source, source_id, fingerprint, absorber, edge, program | (n,) bytes | the site that was run, as in the spectra's shards |
| site, count | (n,) int32 | index in the crystal; number of its paths below |
| geometry | (m, 8) float32 | `engine.paths.PATH_COLUMNS`, site after site |
| amplitude | (m, 2, 40) float16 | real and imaginary part of A(k) on `PATH_K`; see `engine.paths.PathTable` |
"""

from __future__ import annotations

import io
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from ..arrays import DAMAGED_HDF5, hdf5_array, hdf5_word, open_hdf5
from ..errors import DatasetError, FeffError, XastructError
from ..feff.deck import FeffParameters, write_deck
from ..feff.path_files import PATH_FILES, PathFile, read_path
from ..feff.runner import run
from ..formats import check_format
from ..paths import PATH_K, PathKind
from .library import CITATION, MAX_BYTES, PATHS_PREFIX, ReferenceRecord, check_shard, read_reference, store_shard

FORMAT = "xastruct-paths-1"

#: Sites in a shard; see `MAX_BYTES`.
SITES_PER_SHARD = 700

_TEXT = ("source", "source_id", "fingerprint", "absorber", "edge", "program")


@dataclass(frozen=True, eq=False)
class SitePaths:
    """Paths of one site of the library: `geometry` (m, 8) and `amplitude` (m, 2, 40), see `engine.paths.PathTable`."""

    source: str
    source_id: str
    fingerprint: str
    site: int
    absorber: str
    edge: str
    program: str
    geometry: NDArray[np.float32]
    amplitude: NDArray[np.float32]


def feff_paths(structure: Structure, site: int, timeout: float = 300.0) -> tuple[NDArray[np.float32], NDArray[np.float32], str]:
    """The paths of a site by FEFF 8.5L, those of the kinds that `engine.paths` knows: geometry, amplitude, FEFF's version.

    Raises:
        XastructError: if FEFF cannot be run on the site or writes no paths.
    """
    # The last print level makes FEFF write one feffNNNN.dat a path.
    deck = write_deck(structure, site, FeffParameters(kind="EXAFS")).replace("PRINT 0 0 0 0 0 0", "PRINT 0 0 0 0 0 3")
    with tempfile.TemporaryDirectory(prefix="xastruct-paths-") as scratch:
        folder = Path(scratch)
        (folder / "feff.inp").write_text(deck)
        facts = run(folder, timeout=timeout)
        read = [_known(read_path(path.read_text())) for path in sorted(folder.glob(PATH_FILES))]
    known = [found for found in read if found is not None]
    if not known:
        raise FeffError("FEFF wrote no paths.")
    geometry, amplitude = zip(*known, strict=True)
    return np.array(geometry, dtype=np.float32), np.array(amplitude, dtype=np.float32), str(facts["version"])


def _known(path: PathFile) -> tuple[list[float], NDArray[np.float64]] | None:
    """Geometry and amplitude (2, 40) of a path; None if it is of another kind than `PathKind`."""
    geometry = _geometry(path)
    if geometry is None:
        return None
    angle = np.interp(PATH_K, path.k, path.phase)
    loss = np.exp(-2.0 * path.half_length / np.interp(PATH_K, path.k, path.mean_free_path))
    magnitude = np.interp(PATH_K, path.k, path.amplitude) * loss
    return geometry, np.stack([magnitude * np.cos(angle), magnitude * np.sin(angle)])


def _geometry(path: PathFile) -> list[float] | None:
    """`PATH_COLUMNS` of a path; None if it is of another kind than `PathKind`."""
    # The absorber may stand at either end of FEFF's list.
    legs, start = len(path.numbers), int(np.linalg.norm(path.positions, axis=1).argmin())
    positions, numbers = np.roll(path.positions, -start, axis=0), np.roll(path.numbers, -start)
    r = np.linalg.norm(positions, axis=1)
    if legs == 2:
        kind, first, second = PathKind.SINGLE, 1, 1
    elif legs == 3:
        kind, first, second = PathKind.TRIANGLE, 1, 2
    elif legs == 4 and r[2] < 1e-3:
        kind, first, second = PathKind.STAR, 1, 3
    elif legs == 4 and np.linalg.norm(positions[1] - positions[3]) < 1e-3:
        kind, first, second = PathKind.FOCUS, 1, 2
    else:
        return None
    if kind != PathKind.FOCUS and r[first] > r[second]:
        first, second = second, first
    between = float(np.linalg.norm(positions[first] - positions[second]))
    z = int(numbers[first]), int(numbers[second])
    return [float(kind), *z, path.degeneracy, path.half_length, float(r[first]), float(r[second]), between]


def balanced(records: Iterator[ReferenceRecord], per_element: int, seed: int = 0) -> list[ReferenceRecord]:
    """At most `per_element` EXAFS sites of each absorber, one of a crystal, in random order."""
    by_element: dict[str, dict[tuple[str, str], ReferenceRecord]] = defaultdict(dict)
    for record in records:
        by_element[record.absorber].setdefault((record.source, record.source_id), record)
    generator = random.Random(seed)
    chosen = []
    for own in by_element.values():
        crystals = list(own.values())
        chosen += generator.sample(crystals, min(per_element, len(crystals)))
    generator.shuffle(chosen)
    return chosen


def _compute(record: ReferenceRecord) -> SitePaths | str:
    try:
        geometry, amplitude, program = feff_paths(record.crystal(), record.site)
    except XastructError as error:
        return f"{record.source} {record.source_id} {record.absorber}: {error}"
    return SitePaths(
        record.source, record.source_id, record.fingerprint, record.site, record.absorber, record.edge, program, geometry, amplitude
    )


def make_paths(
    library: Path,
    per_element: int,
    cores: int = 1,
    seed: int = 0,
    failures: list[str] | None = None,
    watch: Callable[[Iterable[SitePaths | str], int], Iterable[SitePaths | str]] = lambda found, _: found,
) -> list[Path]:
    """Run FEFF on sites of the library that have no paths yet, and write what it gives as shards into the library.

    Args:
        library: the folder of shards.
        per_element: sites of each absorber, those that the library has already counted.
        cores: processes.
        seed: which sites.
        failures: takes the reasons of sites that gave no paths.
        watch: wraps the results as they come, given their number: a progress bar.

    Returns:
        the new shards.

    Raises:
        DatasetError: if the library is missing or damaged.
    """
    present = {(own.source, own.source_id, own.site) for own in read_paths(library)}
    wanted = balanced(read_reference(library, kinds=("EXAFS",)), per_element, seed)
    wanted = [record for record in wanted if (record.source, record.source_id, record.site) not in present]
    done: list[SitePaths] = []
    written = []
    with ProcessPoolExecutor(cores) as pool:
        for found in watch(pool.map(_compute, wanted, chunksize=4), len(wanted)):
            if isinstance(found, SitePaths):
                done.append(found)
            elif failures is not None:
                failures.append(found)
            if len(done) >= SITES_PER_SHARD:
                written += _write(done, library)
                done = []
    return written + (_write(done, library) if done else [])


def _write(sites: Sequence[SitePaths], library: Path) -> list[Path]:
    """One shard, or two where one would be too large."""
    import h5py

    packed = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["citation"] = CITATION
        for name in _TEXT:
            file.create_dataset(name, data=np.array([getattr(own, name).encode() for own in sites]), **packed)
        file.create_dataset("site", data=np.array([own.site for own in sites], dtype=np.int32), **packed)
        file.create_dataset("count", data=np.array([len(own.geometry) for own in sites], dtype=np.int32), **packed)
        file.create_dataset("geometry", data=np.concatenate([own.geometry for own in sites]), **packed)
        file.create_dataset("amplitude", data=np.concatenate([own.amplitude for own in sites]).astype(np.float16), **packed)
    content = buffer.getvalue()
    if len(content) > MAX_BYTES:
        half = len(sites) // 2
        return _write(sites[:half], library) + _write(sites[half:], library)
    return [store_shard(content, library, PATHS_PREFIX)]


def count_paths(library: Path) -> tuple[int, int]:
    """How many sites of the library have paths, and how many paths, read without them."""
    counts = []
    for path in sorted(library.glob(f"{PATHS_PREFIX}*.h5")):
        with open_hdf5(path) as file:
            counts.append(file["count"][()])
    every = np.concatenate(counts) if counts else np.zeros(0, dtype=np.int64)
    return len(every), int(every.sum())


def read_paths(library: Path) -> Iterator[SitePaths]:
    """Every site of the library that has paths; none where there are no such shards.

    Raises:
        DatasetError: if a shard is damaged.
    """
    for path in sorted(library.glob(f"{PATHS_PREFIX}*.h5")):
        check_shard(path)
        try:
            with open_hdf5(path) as file:
                check_format(path, hdf5_word(file, "format"), FORMAT, "`aiida-xastruct reference paths`")
                text: dict[str, list[str]] = {name: [value.decode() for value in hdf5_array(file, name)] for name in _TEXT}
                sites, counts = hdf5_array(file, "site"), hdf5_array(file, "count")
                geometry, amplitude = hdf5_array(file, "geometry"), hdf5_array(file, "amplitude").astype(np.float32)
        except DatasetError:
            raise
        except DAMAGED_HDF5 as error:
            raise DatasetError(f"{path} cannot be read ({error}); fetch it again.") from error
        columns: list[Any] = [counts, *text.values()]
        whole = len(geometry) == len(amplitude) == counts.sum() and all(len(column) == len(sites) for column in columns)
        if not whole or (counts < 0).any():
            raise DatasetError(f"{path} is damaged: its paths and their sites do not fit together; fetch it again.")
        ends = np.cumsum(counts)
        starts = ends - counts
        for index in range(len(sites)):
            own = slice(int(starts[index]), int(ends[index]))
            yield SitePaths(
                **{name: text[name][index] for name in _TEXT}, site=int(sites[index]), geometry=geometry[own], amplitude=amplitude[own]
            )

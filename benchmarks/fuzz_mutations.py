"""Damage to files, of the kinds that readers must stand: bytes, lines, numbers, trees of JSON, members of HDF5, npz, tar, parquet."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

#: A mutated file is cut here, so that memory is taken by readers and not by what they read.
MOST_BYTES = 200_000

_NUMBERS = (
    "nan",
    "inf",
    "-inf",
    "1e999",
    "-1",
    "0",
    "",
    "-",
    "1,5",
    "1D5",
    "1_000",
    "٣",
    "0x10",
    "1e-400",
    "9" * 400,
    "7.0",
    "1e5",
    "****",
    "True",
)
_VALUES: tuple[Any, ...] = (
    None, "", "x", "x" * 5000, "\ud800", "\x00", "Fe", "K", "XANES", -1, 0, 1, 2, 3.5, 1e308, -1e308, float("nan"), float("inf"), 10**30,
    2**63, True, False, [], {}, [[]], [None], ["Fe"], [1.0, 2.0], {"a": 1}, {"element": "Fe"}, [[1, 2], [3]], "../../etc/passwd",
    "1e400", "NaN",
)  # fmt: skip
_WORDS = (
    b"\x00",
    b"\xff\xfe",
    b"\x1f\x8b",
    b"# ",
    b"\n",
    b"\r\n",
    b"[record]",
    b"{",
    b"}",
    b"[",
    b"'",
    b'"',
    b"loop_",
    b"nan",
    b"\xed\xa0\x80",
    b"&a",
    b"*a",
    b"!!python/object:os.system",
)


def mutate(random: Random, name: str, content: bytes) -> bytes:
    """A damaged copy of a file, by what its name says that it is."""
    kind = name.removesuffix(".gz").rpartition(".")[2]
    own: list[Callable[[Random, bytes], bytes]] = {
        "json": [tree, tree, tree, text], "jsonl": [lines_of_json, lines_of_json, text], "yaml": [text, text, yaml_tree, yaml_tree],
        "h5": [hdf5, hdf5, damage], "nxs": [hdf5, hdf5, damage], "npz": [npz, npz, damage], "npy": [npy, npy, damage],
        "safetensors": [safetensors, safetensors, safetensors, damage], "parquet": [parquet, damage], "tar": [tar, tar, damage],
        "sqlite": [damage], "prj": [text, text, text, damage],
    }.get(kind, [text, text, text, damage])  # fmt: skip
    try:
        if name.endswith(".gz"):
            if random.random() < 0.2:
                return damage(random, content)[:MOST_BYTES]
            return gzip.compress(random.choice(own)(random, gzip.decompress(content))[: 20 * MOST_BYTES], 1, mtime=0)
        found = content
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            found = random.choice(own)(random, found)
        return found[:MOST_BYTES]
    except Exception:  # what is damaged already cannot be taken apart; it is damaged further
        return damage(random, content)[:MOST_BYTES]


def damage(random: Random, content: bytes) -> bytes:
    """Bytes changed, moved, taken away and put in."""
    found = bytearray(content or b" ")
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        place = random.randrange(len(found) + 1)
        kind = random.randrange(7)
        if kind == 0 and place < len(found):
            found[place] ^= 1 << random.randrange(8)
        elif kind == 1 and place < len(found):
            found[place] = random.randrange(256)
        elif kind == 2:
            del found[place : place + random.choice((1, 2, 8, 64, 512))]
        elif kind == 3:
            found[place:place] = random.choice(_WORDS)
        elif kind == 4:
            found[place : place + 8] = random.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)).to_bytes(8, "little")
        elif kind == 5:
            start = random.randrange(len(found) + 1)
            found[place:place] = found[start : start + random.choice((4, 64, 512))]
        else:
            del found[place:]
    return bytes(found)


def text(random: Random, content: bytes) -> bytes:
    """Lines and words changed, as by an editor, another locale or a transfer that broke off."""
    lines = content.decode("utf-8", errors="surrogateescape").split("\n")
    for _ in range(random.choice((1, 1, 2, 5))):
        place, kind = random.randrange(len(lines)), random.randrange(9)
        words = lines[place].split(" ")
        if kind <= 3:
            word = random.randrange(len(words))
            words[word] = random.choice(_NUMBERS) if kind else random.choice(words)
            lines[place] = " ".join(words)
        elif kind == 4 and len(lines) > 1:
            del lines[place : place + random.choice((1, 1, 3, 20))]
            lines = lines or [""]
        elif kind == 5:
            lines.insert(random.randrange(len(lines)), lines[place])
        elif kind == 6:
            lines[place] = lines[place][: random.randrange(len(lines[place]) + 1)]
        elif kind == 7:
            lines[place] = lines[place].replace(
                random.choice((" ", ":", "=", ",", "#", "_", "'")), random.choice(("", "\t", ";", "#", "'", "  "))
            )
        else:
            return damage(random, "\n".join(lines).encode("utf-8", errors="surrogateescape"))
    return "\n".join(lines).encode("utf-8", errors="surrogateescape")


def _places(value: Any, found: list[tuple[Any, Any]], depth: int = 0) -> list[tuple[Any, Any]]:
    """Containers and keys of all values of a tree, of long lists the first few."""
    if depth >= 12 or len(found) > 2000:  # trees of aliases have more places than time has seconds
        return found
    if isinstance(value, dict):
        for key, own in value.items():
            found.append((value, key))
            _places(own, found, depth + 1)
    elif isinstance(value, list):
        for index in range(min(len(value), 6)):
            found.append((value, index))
            _places(value[index], found, depth + 1)
    return found


def change_tree(random: Random, value: Any) -> Any:
    """A tree of plain values with some of them replaced, left out or of another type."""
    value = [value]
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        container, key = random.choice(_places(value, []))
        own, kind = container[key], random.randrange(8)
        if kind <= 2:
            container[key] = random.choice(_VALUES)
        elif kind == 3 and isinstance(container, dict):
            del container[key]
        elif kind == 4 and isinstance(container, dict):
            container[str(random.choice(_VALUES))] = container.pop(key)
        elif kind == 5 and isinstance(own, list):
            container[key] = own[: random.randrange(len(own) + 1)] if random.random() < 0.5 else own + own[-1:]
        elif kind == 6:
            container[key] = str(own) if not isinstance(own, str) else random.choice((0, [own], {own: own}, own + " "))
        elif kind == 7 and isinstance(own, int | float) and not isinstance(own, bool):
            container[key] = random.choice((-own, own + 1, own * 1e3, own / 1e3, float(own)))
    return value[0] if value else None


def tree(random: Random, content: bytes) -> bytes:
    """JSON with another tree; now and then one that is nested deeply."""
    if random.random() < 0.02:
        return b"[" * random.choice((100, 3000, 100_000))
    try:
        return json.dumps(change_tree(random, json.loads(content))).encode()
    except (ValueError, TypeError, RecursionError):
        return damage(random, content)


def yaml_tree(random: Random, content: bytes) -> bytes:
    """YAML with another tree, or with the anchors that make a small file large."""
    import yaml

    if random.random() < 0.03:
        return b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
            f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n".encode() for before, name in zip("abcdefgh", "bcdefghi", strict=True)
        )
    try:
        return yaml.safe_dump(change_tree(random, yaml.safe_load(content))).encode("utf-8", errors="surrogatepass")
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, AttributeError):
        return damage(random, content)


def lines_of_json(random: Random, content: bytes) -> bytes:
    """JSON lines, one of them changed."""
    lines = content.split(b"\n")
    place = random.randrange(len(lines))
    lines[place] = tree(random, lines[place]) if lines[place] else random.choice((b"{}", b"[]", b"1", b"null", b"\xff"))
    return b"\n".join(lines)


def strange_array(random: Random, like: Any = None) -> np.ndarray[Any, Any]:
    """An array of another shape or type, or with other values, than the one it takes the place of."""
    if like is not None and getattr(like, "size", 0) and random.random() < 0.6:
        array = np.array(like)
        kind = random.randrange(6)
        if kind == 0:
            return array[: random.randrange(len(array) + 1)] if array.ndim else array[None]
        if kind == 1:
            return array[None]
        if kind == 2 and array.dtype.kind in "fiu":
            flat = array.reshape(-1)
            wild = [0, 1, 127] if array.dtype.itemsize < 8 else [-1, 10**12, 2**62]
            flat[random.randrange(flat.size)] = random.choice((np.nan, np.inf, -1e30)) if array.dtype.kind == "f" else random.choice(wild)
            return array
        if kind == 3:
            return array.astype(random.choice(("f8", "f4", "i8", "S6", "?", "u1", "c16"))) if array.dtype.kind in "fiu?" else array[::-1]
        return array.reshape(-1) if kind == 4 else np.concatenate([array, array]) if array.ndim else array
    return random.choice(
        [np.zeros(0), np.array(1.0), np.array(b"text"), np.zeros((2, 3)), np.full(12, np.nan), np.arange(9), np.array([b"Fe", b"\xff"]),
         np.array([1 + 2j] * 5), np.zeros(3, dtype="i4,f8"), np.array([-(2**40)] * 6), np.array([True] * 4), np.zeros(7, dtype=">f4")]
    )  # fmt: skip


def hdf5(random: Random, content: bytes) -> bytes:
    """HDF5 with members left out, put in, linked elsewhere or declared larger than any memory."""
    import h5py

    from aiida_xastruct.engine.arrays import open_hdf5

    stream = io.BytesIO(content)
    try:
        open_hdf5(content).close()  # HDF5 would walk a damaged heap forever
        with h5py.File(stream, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            if not names:
                return damage(random, content)
            name = random.choice(names)
            owner, kind = file[name], random.randrange(9)
            if kind <= 1 and list(owner.attrs or file.attrs):
                attrs = owner.attrs if len(owner.attrs) else file.attrs
                attrs[random.choice(list(attrs))] = random.choice(("", "x", "[]", "{}", 3, np.zeros(3), "NXxas", "EXAFS"))
                return stream.getvalue()
            like = owner[()] if isinstance(owner, h5py.Dataset) and owner.size and owner.size < 1e6 else None
            parent, _, last = name.rpartition("/")
            group = file[parent] if parent else file
            del group[last]
            if kind == 2:
                group[last] = h5py.ExternalLink("/etc/passwd", "/x")
            elif kind == 3:
                group[last] = h5py.SoftLink(random.choice(("/nowhere", f"/{name}", "/")))
            elif kind == 4:
                shape = random.choice(((10**11,), (10**7, 137), (10**6, 10**6)))
                group.create_dataset(last, shape=shape, dtype="f8", chunks=tuple(min(1000, one) for one in shape), compression="gzip")
            elif kind == 5:
                group.create_dataset(last, data=random.choice(("text", h5py.Empty("f4"), [b"a", b"bb"], ["x", "é"])))
            elif kind <= 7:
                group.create_dataset(last, data=strange_array(random, like))
        return stream.getvalue()
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError):
        return damage(random, content)


def npy(random: Random, content: bytes) -> bytes:
    """One array in another shape or type, objects that would be unpickled, or a head that claims more than there is."""
    stream = io.BytesIO()
    kind = random.randrange(4)
    if kind == 0:
        np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif kind == 1:
        start = content.find(b"'shape': (")
        size = random.choice((b"9", b"99999999999", b"-1", b"10000000, 10000", b""))
        return content[: start + 10] + size + content[start + 10 + len(size) :] if start > 0 else damage(random, content)
    else:
        try:
            like = np.load(io.BytesIO(content), allow_pickle=False)
        except (ValueError, OSError, EOFError, MemoryError, SyntaxError, TypeError, OverflowError):
            like = None
        np.save(stream, strange_array(random, like), allow_pickle=False)
    return stream.getvalue()


def npz(random: Random, content: bytes) -> bytes:
    """A table of arrays with one of them changed, left out, or zeros that pack a thousandfold."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as given:
            members = {name: given.read(name) for name in given.namelist()}
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError, RuntimeError, EOFError):
        return damage(random, content)
    if members:
        name = random.choice(list(members))
        kind = random.randrange(5)
        if kind == 0:
            del members[name]
        elif kind == 1:
            members[random.choice(("../../evil.npy", "/x.npy", "ids", "x.txt"))] = members.pop(name)
        else:
            members[name] = npy(random, members[name]) if kind < 4 else damage(random, members[name])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        for name, own in members.items():
            made.writestr(name, own)
    return stream.getvalue()


def safetensors(random: Random, content: bytes) -> bytes:
    """Weights whose head or whose numbers are others."""
    length = int.from_bytes(content[:8], "little")
    head, data = content[8 : 8 + length], content[8 + length :]
    kind = random.randrange(4)
    if kind == 0:
        return content[:8] + head + damage(random, data)
    if kind == 1 and len(data) >= 8:
        place = 4 * random.randrange(len(data) // 4)
        wild = np.array([random.choice((np.nan, np.inf, 6e4))], dtype=random.choice(("<f4", "<f2"))).tobytes()
        return content[:8] + head + data[:place] + wild + data[place + len(wild) :]
    changed = tree(random, head)
    if kind == 2:
        changed = changed.ljust(min(length, MOST_BYTES))
    return len(changed).to_bytes(8, "little") + changed + data


def parquet(random: Random, content: bytes) -> bytes:
    """A table with columns left out, renamed or of another type."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content))
        name = random.choice(table.column_names)
        place, kind = table.column_names.index(name), random.randrange(4)
        if kind == 0:
            table = table.drop_columns([name])
        elif kind == 1:
            table = table.rename_columns([random.choice(("x", "id", own)) if own == name else own for own in table.column_names])
        elif kind == 2:
            wild = [random.choice((None, "x", "")) for _ in range(len(table))]
            table = table.set_column(place, name, pa.array(wild, pa.string()))
        else:
            table = table.slice(random.randrange(len(table) + 1))
        stream = io.BytesIO()
        pq.write_table(table, stream)
        return stream.getvalue()
    except (pa.ArrowException, OSError, ValueError, KeyError, IndexError, MemoryError):
        return damage(random, content)


def tar(random: Random, content: bytes) -> bytes:
    """An archive with members that would leave the folder they are unpacked to, or that are no files."""
    stream = io.BytesIO()
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as given, tarfile.open(fileobj=stream, mode="w") as made:
            for member in given:
                own = given.extractfile(member)
                data = own.read() if own is not None else b""
                if random.random() < 0.4:
                    kind = random.randrange(6)
                    if kind == 0:
                        member.name = random.choice(
                            ("../x", "/tmp/x", "a/../../x", "a", "a/b/c", "", "a/\x01", "./a/b", "..", "x" * 300 + "/y")
                        )
                    elif kind == 1:
                        member.type, member.linkname = (
                            random.choice((tarfile.SYMTYPE, tarfile.LNKTYPE)),
                            random.choice(("/etc/passwd", "x")),
                        )
                        member.size, data = 0, b""
                    elif kind == 2:
                        member.type, member.size, data = random.choice((tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)), 0, b""
                    elif kind == 3:
                        data = text(random, data)[:MOST_BYTES]
                        member.size = len(data)
                    elif kind == 4:
                        continue
                made.addfile(member, io.BytesIO(data))
    except (tarfile.TarError, OSError, ValueError, EOFError, KeyError):
        return damage(random, content)
    return stream.getvalue() if random.random() < 0.9 else damage(random, stream.getvalue())

"""Damaged files for every reader of files from outside: how many, what was raised beside a sentence, what hung, how much memory it took.

    python benchmarks/fuzz.py --inputs 1000000 --seconds 3600 --json fuzz.json
    python benchmarks/fuzz.py --table fuzz.json > docs/reference/fuzzing.md

Inputs are made from the files in `tests/fuzz/corpus` (`fuzz_seeds.py` wrote the sound ones) by `fuzz_mutations.py`: bytes, lines, numbers,
trees of JSON and YAML, members of HDF5, npz, tar, parquet and safetensors. One that is refused with words not seen before is mutated
further, so that what lies behind a first check is reached.

A reader may refuse (an error of the family XastructError) or answer with finite numbers. It may take 5 s of processor time for an input,
and 1 GiB of address space beyond what its libraries hold; the page gives the most that a process ever held. What breaks a rule is kept in
the folder of `--keep`, and becomes a file of the corpus with the mending, which `tests/fuzz/test_corpus.py`
reads in every run of the tests.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import resource
import signal
import struct
import sys
import time
import traceback
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from fuzz_mutations import mutate
from fuzz_readers import READERS, Files, feed, load_corpus
from pages import described, parse

#: Seconds of processor time, and bytes of memory, that an input may take.
LIMIT_S, LIMIT_BYTES = 5.0, 2**30

#: Seconds on the clock after which an input that takes no processor time counts as hanging, too.
WAIT_S = 60.0

#: Seconds that a process feeds one reader before it makes room for the next, and inputs that are mutated further.
SLICE_S, POOL = 20.0, 200

#: What these readers do takes longer than what others do; they get this share of the usual slice.
SHARE = {"crystal": 1.5, "spectrum": 3.0, "settings": 0.5, "training_log": 0.3}


class TookTooLongError(BaseException):
    """An input took more than its time."""


def _too_long(_: int, __: FrameType | None) -> None:
    raise TookTooLongError


class Feeder:
    """Makes inputs for a reader, and goes on from those whose refusal is new."""

    def __init__(self, reader: str, seed: int) -> None:
        self.reader, self.seed = reader, seed
        self.pool: list[dict[str, bytes]] = list(load_corpus(reader).values())
        self.seen: set[str] = set()

    def make(self, number: int) -> dict[str, bytes]:
        """The input of this number."""
        random = Random(f"{self.seed}/{self.reader}/{number}")
        files = dict(random.choice(self.pool))
        name = random.choice(sorted(files))
        files[name] = mutate(random, name, files[name])
        if len(files) > 1 and random.random() < 0.02:
            del files[name]
        return files

    def learn(self, files: dict[str, bytes], words: str) -> None:
        """Keep an input whose refusal was not seen before."""
        alike = re.sub(r"[\d.]+|'[^']*'|/\S+", "", words)[:120]
        if alike not in self.seen and len(self.pool) < POOL:
            self.seen.add(alike)
            self.pool.append(files)


def where(error: BaseException) -> str:
    """Type and place of an error: the last line of this package that it passed through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "aiida_xastruct" in frame.filename]
    place = f"{frames[-1].filename.rpartition('aiida_xastruct/')[2]}:{frames[-1].lineno} {frames[-1].name}" if frames else "outside"
    return f"{type(error).__name__} at {place}"


def _memory_of_libraries() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def feed_slice(reader: str, seed: int, first: int, most: int, seconds: float, shared: mmap.mmap, keep: Path) -> dict[str, Any]:
    """Feed a reader for some time, in a process of its own.

    Args:
        reader: its name.
        seed: of the inputs.
        first: number of the first one.
        most: number of inputs at most.
        seconds: time on the clock.
        shared: memory in which the parent reads the number of the input at work.
        keep: folder for what breaks a rule.
    """
    resource.setrlimit(resource.RLIMIT_AS, (_memory_of_libraries() + LIMIT_BYTES,) * 2)
    signal.signal(signal.SIGPROF, _too_long)
    feeder, started, number, slowest = Feeder(reader, seed), time.monotonic(), first, 0.0
    broken: dict[str, list[int]] = {}
    refused = 0
    while number < first + most and time.monotonic() - started < seconds:
        files = feeder.make(number)
        note(shared, number, files)
        before = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
        try:
            words = feed(reader, files)
            refused += bool(words)
            feeder.learn(files, words)
        except BaseException as error:
            found = broken.setdefault(where(error), [])
            found.append(number)
            if len(found) == 1:
                write(files, keep / reader / re.sub(r"\W+", "-", where(error))[:80])
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0.0)
        slowest = max(slowest, time.process_time() - before)
        number += 1
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"inputs": number - first, "refused": refused, "slowest": slowest, "peak": peak, "broken": broken}


def note(shared: mmap.mmap, number: int, files: Files) -> None:
    """Put the input at work where the parent finds it if this process dies."""
    content = b"".join(struct.pack("<qq", len(name.encode()), len(own)) + name.encode() + own for name, own in files.items())
    shared[: 16 + len(content)] = struct.pack("<qq", number, len(content)) + content


def noted(shared: mmap.mmap) -> tuple[int, dict[str, bytes]]:
    """What `note` put there."""
    number, length = struct.unpack("<qq", shared[:16])
    files, place = {}, 16
    while place < 16 + length:
        n, m = struct.unpack("<qq", shared[place : place + 16])
        files[shared[place + 16 : place + 16 + n].decode()] = shared[place + 16 + n : place + 16 + n + m]
        place += 16 + n + m
    return number, files


def write(files: Files, folder: Path) -> None:
    """Keep an input."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def in_process(reader: str, seed: int, first: int, most: int, seconds: float, keep: Path) -> dict[str, Any]:
    """`feed_slice` in a fork, whose death or silence is a finding as well."""
    shared = mmap.mmap(-1, 16 * 2**20)
    note(shared, first, {})
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            result = feed_slice(reader, seed, first, most, seconds, shared, keep)
            with os.fdopen(write_end, "w") as stream:
                json.dump(result, stream)
        finally:
            os._exit(0)
    os.close(write_end)
    last, since = first, time.monotonic()
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        time.sleep(0.1)
        (at,) = struct.unpack("<q", shared[:8])
        if at != last:
            last, since = at, time.monotonic()
        elif time.monotonic() - since > WAIT_S:
            os.kill(pid, signal.SIGKILL)
    with os.fdopen(read_end) as stream:
        said = stream.read()
    if said:
        return dict(json.loads(said))
    last, files = noted(shared)
    write(files, keep / reader / f"died-{last}")
    return {"inputs": last - first + 1, "refused": 0, "slowest": 0.0, "peak": 0, "broken": {"the process died or was silent": [last]}}


def run(options: Any) -> dict[str, Any]:
    """Feed all readers in turn until there are enough inputs, or time is up."""
    import torch

    torch.set_num_threads(1)
    for reader in options.reader:  # the libraries are loaded once, before the first fork
        for files in load_corpus(reader).values():
            feed(reader, files)
    total: dict[str, dict[str, Any]] = {
        name: {"inputs": 0, "refused": 0, "slowest": 0.0, "peak": 0, "broken": {}} for name in options.reader
    }
    started = time.monotonic()
    while time.monotonic() - started < options.seconds and sum(own["inputs"] for own in total.values()) < options.inputs:
        for name, own in total.items():
            found = in_process(name, options.seed, own["inputs"], 10**9, options.slice * SHARE.get(name, 1.0), options.keep)
            for key in ("inputs", "refused"):
                own[key] += found[key]
            for key in ("slowest", "peak"):
                own[key] = max(own[key], found[key])
            for place, numbers in found["broken"].items():
                own["broken"].setdefault(place, []).extend(numbers[: max(0, 5 - len(own["broken"].get(place, [])))])
        inputs, kinds = sum(own["inputs"] for own in total.values()), sum(len(own["broken"]) for own in total.values())
        result = {
            "limit_s": LIMIT_S,
            "limit_bytes": LIMIT_BYTES,
            "seed": options.seed,
            "seconds": time.monotonic() - started,
            "readers": total,
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{result['seconds']:.0f} s: {inputs} inputs, {kinds} broken", file=sys.stderr)
    return result


def page(result: dict[str, Any]) -> str:
    """The page of a result."""
    readers = result["readers"]
    broken = {name: own["broken"] for name, own in readers.items() if own["broken"]}
    hangs = sum("TookTooLong" in place or "silent" in place for own in broken.values() for place in own)
    total, peak = sum(own["inputs"] for own in readers.values()), max(own["peak"] for own in readers.values())
    lines = [
        "# Fuzzing",
        "",
        "Files from outside are damaged and given to what reads them; it must refuse them in a sentence or give numbers that are finite. "
        "How the files are made, and the limits, stand in the head of `benchmarks/fuzz.py`, which made this page:",
        "",
        "```console",
        "$ python benchmarks/fuzz.py --inputs 1000000 --seconds 3600 --json fuzz.json",
        "$ python benchmarks/fuzz.py --table fuzz.json > docs/reference/fuzzing.md",
        "```",
        "",
        f"**{total:,} inputs** in {result['seconds'] / 60:.0f} minutes; uncaught: {sum(len(own) for own in broken.values()) - hangs}, "
        f"hangs over {result['limit_s']:.0f} s: {hangs}, most memory of a process: {peak / 2**20:.0f} MiB, its libraries included.",
        "",
        "| reader | what it reads | inputs | refused | uncaught | slowest (s) | most memory (MiB) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, own in readers.items():
        what = (READERS[name].__doc__ or "").split("\n")[0].rstrip(".")
        row = (
            name,
            what,
            f"{own['inputs']:,}",
            f"{own['refused']:,}",
            len(own["broken"]),
            f"{own['slowest']:.2f}",
            f"{own['peak'] / 2**20:.0f}",
        )
        lines.append("| " + " | ".join(map(str, row)) + " |")
    for name, own in broken.items():
        lines += ["", f"{name}: " + "; ".join(f"{place} (numbers {', '.join(map(str, numbers))})" for place, numbers in own.items()) + "."]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = described(__doc__)
    parser.add_argument("--reader", action="append", choices=list(READERS), help="only this one, may be given again; all if left out")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--slice", type=float, default=SLICE_S, help="seconds that a reader is fed at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"), help="folder for inputs that break a rule")
    options = parse(parser, page)
    options.reader = options.reader or list(READERS)
    result = run(options)
    if any(own["broken"] for own in result["readers"].values()):
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Every damaged file that was once a crash, a hang or a wrong number, and the sound ones that `benchmarks/fuzz.py` starts from."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

BENCHMARKS = str(Path(__file__).parent.parent.parent / "benchmarks")
sys.path.insert(0, BENCHMARKS)
try:
    import fuzz_mutations
    import fuzz_readers
finally:
    sys.path.remove(BENCHMARKS)

CASES = [(reader, name) for reader in fuzz_readers.READERS for name in fuzz_readers.load_corpus(reader)]

#: Names of what was found bear the error, or `hang`; all others are sound.
FOUND = re.compile(r"\w*Error-|error-|hang")


def test_every_reader_has_sound_files():
    sound = {reader for reader, name in CASES if not FOUND.match(name)}
    assert sound == set(fuzz_readers.READERS)


@pytest.mark.parametrize("reader", fuzz_readers.READERS)
def test_files_are_taken_or_refused_in_a_sentence(reader):
    for name, files in fuzz_readers.load_corpus(reader).items():
        words = fuzz_readers.feed(reader, files)
        if not FOUND.match(name):
            assert words == "", name
        elif words:
            assert words.rstrip()[-1] in ".?)", (name, words)


def test_damage_is_the_same_for_the_same_seed():
    from random import Random

    for reader in ("spectrum", "dataset", "batch", "feff_archive", "configuration"):
        for files in fuzz_readers.load_corpus(reader).values():
            name = sorted(files)[0]
            made = [fuzz_mutations.mutate(Random(seed), name, files[name]) for seed in (1, 1)]
            assert made[0] == made[1]

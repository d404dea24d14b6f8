"""What it saves to compute the features of one atom of each orbit, and turn them for the others (`engine.orbits`).

    python benchmarks/orbits.py --structures ../shared/data/mp_structures.npz --json orbits.json
    python benchmarks/orbits.py --table orbits.json > docs/reference/orbits.md

SevenNet's features of all atoms of crystals drawn at random are computed both ways on one thread, one crystal at a time. Differences are of
single features, over the largest feature of the crystal; beside them stands how far apart features of atoms that are alike come out
where each is computed by itself, which is the noise of single precision.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from matmul import processor
from pages import described, parse
from pymatgen.core import Structure

from aiida_xastruct.engine import sevennet
from aiida_xastruct.engine.orbits import Orbits, orbits
from aiida_xastruct.engine.reference.sources import open_source

#: Atoms of a cell from which a row of the table begins.
SIZES = (1, 5, 11, 21, 41)


def compared(structure: Structure) -> dict[str, Any]:
    """CPU seconds both ways, and how far the features are apart."""
    network, sites, seconds, found = sevennet.shared_features(), [list(range(len(structure)))], {}, {}
    for way, how in (("by itself", lambda crystal: Orbits.each_for_itself(len(crystal))), ("by orbits", orbits)):
        with patch.object(sevennet, "orbits", how):
            start = time.process_time()
            found[way] = network([structure], sites)[0]
            seconds[way] = time.process_time() - start
    itself, scale = found["by itself"], float(np.abs(found["by itself"]).max())
    first = orbits(structure).first
    return {
        "atoms": len(structure), "orbits": len(np.unique(first)), "seconds": seconds,
        "apart": float(np.abs(itself - found["by orbits"]).max()) / scale,
        "noise": float(np.abs(itself - itself[first]).max()) / scale,
    }  # fmt: skip


def run(structures: Path, count: int, seed: int) -> dict[str, Any]:
    """Compare on crystals drawn at random."""
    torch.set_num_threads(1)
    source = open_source("npz", str(structures))
    names = sorted({name for own in source.ids_by_element().values() for name in own})
    chosen = np.random.default_rng(seed).choice(names, count, replace=False)
    crystals = [source.structure(str(name))[0] for name in chosen]
    compared(crystals[0])  # the network is read and its code compiled by then
    return {"processor": processor(), "torch": torch.__version__, "seed": seed, "crystals": [compared(crystal) for crystal in crystals]}


def table(result: dict[str, Any]) -> str:
    """Markdown of a result."""
    lines = [
        "# Features of one atom of each orbit", "", *(__doc__ or "").splitlines()[2:], "",
        f"{len(result['crystals'])} crystals, seed {result['seed']}; {result['processor']}, PyTorch {result['torch']}.", "",
        "| atoms | crystals | atoms an orbit | ms a crystal, each atom by itself | by orbits | ratio | largest difference | noise |",
        "|---" * 8 + "|",
    ]  # fmt: skip
    groups = [(low, high - 1) for low, high in zip(SIZES, (*SIZES[1:], 10**6), strict=True)] + [(1, 10**6)]
    for low, high in groups:
        own = [crystal for crystal in result["crystals"] if low <= crystal["atoms"] <= high]
        if not own:
            continue
        itself, turned = (1e3 * sum(crystal["seconds"][way] for crystal in own) / len(own) for way in ("by itself", "by orbits"))
        share = sum(crystal["atoms"] for crystal in own) / sum(crystal["orbits"] for crystal in own)
        name = "all" if (low, high) == groups[-1] else f"{low} and more" if high >= 10**5 else f"{low} to {high}"
        apart, noise = (max(crystal[key] for crystal in own) for key in ("apart", "noise"))
        lines.append(
            f"| {name} | {len(own)} | {share:.1f} | {itself:.0f} | {turned:.0f} | {itself / turned:.1f} | {apart:.0e} | {noise:.0e} |"
        )
    return "\n".join([*lines, ""])


def main() -> int:
    """Run the benchmark."""
    parser = described(__doc__)
    parser.add_argument("--structures", type=Path, help="npz of structures")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parse(parser, table, "structures")
    options.json.write_text(json.dumps(run(options.structures, options.count, options.seed), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

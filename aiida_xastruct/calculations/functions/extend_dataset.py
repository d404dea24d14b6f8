"""A training set with the spectra that FEFF computed for it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida.engine import ExitCode, calcfunction
from aiida.orm import Dict

from ...data.dataset import DatasetData
from ...data.spectra import SpectraData
from ...engine.errors import XastructError
from .pick_sites import SOURCE, read_holdout
from .predict_batch import read_structures

if TYPE_CHECKING:
    from ...engine.prepare import Record


@calcfunction
def extend_dataset(**nodes: Any) -> Any:
    """Add FEFF's spectra of chosen sites to the training part of a dataset; its other parts stay what they are.

    Args:
        nodes: `dataset`, what there is; `picks` and `structures`, of `pick_sites`; `collection_<number>` and `statuses_<number>` of FEFF's
            jobs; `options`, a `Dict` with `split_seed`; `holdout`, a `Dict` of materials that nothing may be trained on.

    Returns:
        `dataset`: the larger one. `growth`: `Dict` with `asked` and `added` (sites), `failed` (rows with `id`, `site`, `absorber` and
        `reason`, where FEFF gave no spectrum), `warned` (the same of spectra that FEFF warns of, which are added), and `left_out`, counts
        by reason.
        Exit status 310 where an input cannot be used, 311 where there is nothing to add.
    """
    from ...engine.improvement import grow
    from ...engine.prepare import prepare

    rows = nodes["picks"]["sites"]
    said = {(row["structure"], row["site"]): row for _, node in _of(nodes, "statuses", Dict) for row in node["sites"]}
    try:
        records = list(_records(nodes, rows))
        have = {(record.source_id, record.site) for record in records}
        failed, warned = [], []
        for row in rows:
            status = said.get((row["name"], row["site"]), {"label": "ERROR", "reason": "its job gave no report."})
            words = {key: row[key] for key in ("id", "site", "absorber")} | {"reason": status["reason"] or status["label"]}
            if (row["source_id"], row["site"]) not in have:
                failed.append(words)
            elif status["label"]:
                warned.append(words)
        if not records:
            first = failed[0]["reason"] if failed else "no site was asked for."
            return ExitCode(311, f"FEFF gave no spectrum of {len(rows)} sites; the first: {first}")
        with tempfile.TemporaryDirectory(prefix="xastruct-dataset-") as scratch:
            new, left_out = prepare(records, read_holdout(nodes.get("holdout")), Path(scratch) / "sites.sqlite")
            old = nodes["dataset"].load()
            grown, refused = grow(old, new, nodes["options"]["split_seed"])
            before, after = (sum(map(len, one.tables.values())) for one in (old, grown))
            if after == before:
                reasons = ", ".join(f"{count} {reason}" for reason, count in {**left_out, **refused}.items() if count)
                return ExitCode(311, f"of {len(records)} new spectra none can be trained on ({reasons}).")
            path = Path(scratch) / DatasetData.DEFAULT_FILENAME
            grown.save(path)
            node = DatasetData.from_file(path)
    except XastructError as error:
        return ExitCode(310, str(error))
    counts = {reason: count for reason, count in {**left_out, **refused}.items() if count}
    growth = {"asked": len(rows), "added": after - before, "failed": failed, "warned": warned, "left_out": counts}
    return {"dataset": node, "growth": Dict(growth)}


def _records(nodes: Mapping[str, Any], rows: list[dict[str, Any]]) -> Iterator[Record]:
    """FEFF's spectra with their crystals, by the names that these have in the file of structures, in the order of the choice."""
    from ...engine.prepare import Record

    crystals = dict(read_structures(nodes["structures"]))
    spectra = {(item.structure, item.site): item.spectrum for _, node in _of(nodes, "collection", SpectraData) for item in node}
    for row in rows:
        key = (row["name"], row["site"])
        if key in spectra:
            spectrum = spectra[key]
            yield Record(SOURCE, row["source_id"], crystals[row["name"]], row["site"], spectrum, str(spectrum.settings["program"]))


def _of(nodes: Mapping[str, Any], prefix: str, kind: type) -> Iterator[tuple[str, Any]]:
    """Nodes of a type whose name begins so, sorted by name."""
    for name in sorted(nodes):
        if name.startswith(f"{prefix}_") and isinstance(nodes[name], kind):
            yield name, nodes[name]

"""The batches of a screening, what FEFF computed beside them, and what a target is like, as one table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida.engine import ExitCode, calcfunction
from aiida.orm import ArrayData, Dict

from ...data.spectra import SpectraData
from ...data.spectrum import SpectrumData
from ...data.table import FILENAME, TableData
from ...engine.errors import XastructError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

#: Crystals that the summary lists.
BEST = 100

#: What FEFF's answer leaves of a row: the model's own doubts stay in `needs_reference` and `reason`.
_MODEL_ONLY = ("uncertainty", "error_bound", "threshold")

#: And what it puts into one.
_BY_FEFF = ("row", "e0", "method")

#: What the summary says of a crystal.
_SHOWN = ["rank", "id", "formula", "distance", "shift", "method", "needs_reference"]


class _References:
    """FEFF's spectra on the models' grid, by chunk, structure and site, and why others failed or are doubtful."""

    def __init__(self, nodes: Mapping[str, Any], kind: str) -> None:
        import numpy as np

        from ...engine.dataset import GRIDS
        from ...engine.spectrum import find_e0, model_curve

        self.rows: dict[tuple[str, str, int], tuple[int, float]] = {}
        #: What FEFF says of sites that failed, and of those whose spectrum it warns of.
        self.failures: dict[tuple[str, str, int], str] = {}
        curves = []
        for name, node in _of(nodes, "collection", SpectraData):
            chunk = name.rpartition("_")[0]
            for item in node:
                curve = model_curve(item.spectrum) + (1.0 if kind == "EXAFS" else 0.0)
                self.rows[chunk, item.structure, item.site] = (len(curves), find_e0(item.spectrum))
                curves.append(curve)
        for name, node in _of(nodes, "statuses", Dict):
            chunk = name.rpartition("_")[0]
            for row in node["sites"]:
                if row["label"]:
                    words = row["reason"] or row["label"]
                    self.failures[chunk, row["structure"], row["site"]] = words if words.endswith(".") else f"{words}."
        self.mu = np.array(curves, dtype=np.float32).reshape(len(curves), len(GRIDS[kind]))

    def answers(self, keys: Iterable[tuple[str, str, int]]) -> Iterator[tuple[int, int, float]]:
        """Position among the keys of a chunk's rows (chunk, id, site), row of `mu` and E0 of each that FEFF answered."""
        for position, key in enumerate(keys if self.rows else ()):
            if (found := self.rows.get(key)) is not None:
                yield position, *found


@calcfunction
def merge_batches(**nodes: Any) -> Any:
    """One table of a screening.

    Args:
        nodes: `table_<chunk>` of each batch, and with a target `spectra_<chunk>`; `collection_<chunk>_<number>` and
            `statuses_<chunk>_<number>` of FEFF's jobs; `target`, a spectrum to rank crystals by; `facts`, which the summary passes on.

    Returns:
        `table`: all rows, with `chunk` and, of the target's edge, `distance`, `shift` and `rank` of the crystal among all; rows with method
        `feff` count in `reference`: arrays as a batch's `spectra`; `summary`: counts, and the best crystals. Exit status 310 where the
        target cannot be compared.
    """
    import numpy as np
    import pyarrow.parquet as pq

    from ...engine.batch import energy_grid
    from .predict_batch import spectra_node

    tables = dict(_of(nodes, "table", TableData))
    kind = next(iter(tables.values())).base.attributes.get("kind")
    references = _References(nodes, kind)
    try:
        ranking = _rank(tables, nodes, references, kind) if "target" in nodes else {}
    except XastructError as error:
        return ExitCode(310, str(error))
    absorber = nodes["target"].absorber if "target" in nodes else ""
    best: list[dict[str, Any]] = []
    first = 0
    with tempfile.TemporaryDirectory(prefix="xastruct-") as folder:
        path = Path(folder) / FILENAME
        writer: Any = None
        for chunk, node in tables.items():
            table = _merged(chunk, node.read(), references, ranking.get(chunk, {}), absorber)
            best = sorted([*best, *_best(table, first)], key=lambda row: row["rank"])[:BEST]
            first += table.num_rows
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
        writer.close()
        merged = TableData.from_file(path, kind)
    outputs: dict[str, Any] = {"table": merged}
    if len(references.mu):
        outputs["reference"] = spectra_node(energy_grid(kind), references.mu, np.full_like(references.mu, np.nan))
    attributes = merged.base.attributes
    said = {name: attributes.get(name) for name in ("n_structures", "n_rows", "n_spectra", "n_refused", "methods", "needs_reference")}
    facts = nodes["facts"].get_dict() if "facts" in nodes else {}
    spoken, answered = references.failures.keys(), references.rows.keys()
    counts = {"feff_failed": len(spoken - answered), "feff_warned": len(spoken & answered)}
    outputs["summary"] = Dict({**facts, **said, "kind": kind, **counts, "best": best})
    return outputs


def _of(nodes: Mapping[str, Any], prefix: str, kind: type) -> Iterator[tuple[str, Any]]:
    """Nodes of a type whose name begins so, by the rest of the name, sorted."""
    for name in sorted(nodes):
        if name.startswith(f"{prefix}_") and isinstance(nodes[name], kind):
            yield name.removeprefix(f"{prefix}_"), nodes[name]


def _rank(tables: Mapping[str, TableData], nodes: Mapping[str, Any], references: _References, kind: str) -> dict[str, dict[int, Any]]:
    """Distance, shift and rank of each crystal with the target's edge, by chunk and position in the chunk's file."""
    import numpy as np

    from ...engine.ranking import distances, structure_means

    target: SpectrumData = nodes["target"]
    goal = target.to_engine()
    found: list[tuple[float, float, str, int]] = []
    for chunk, node in tables.items():
        table = node.read(["row", "structure", "id", "site", "absorber", "edge", "multiplicity"])
        spectra: ArrayData = nodes[f"spectra_{chunk}"]
        rows = table.to_pydict()
        own = [
            i
            for i, (row, absorber, edge) in enumerate(zip(rows["row"], rows["absorber"], rows["edge"], strict=True))
            if row is not None and (absorber, edge) == (goal.absorber, goal.edge)
        ]
        if not own:
            continue
        curves: np.ndarray[Any, Any] = spectra.get_array("mu")[[rows["row"][i] for i in own]]
        spectra.clear_internal_cache()  # it would keep the arrays of all chunks
        place = {position: index for index, position in enumerate(own)}
        keys = ((chunk, name, site) for name, site in zip(rows["id"], rows["site"], strict=True))
        for position, row, _ in references.answers(keys):
            if position in place:
                curves[place[position]] = references.mu[row]
        structures, means = structure_means(
            np.array([rows["structure"][i] for i in own]), np.array([rows["multiplicity"][i] for i in own]), curves
        )
        said = distances(goal, means, kind)  # type: ignore[arg-type]
        found += [
            (float(distance), float(shift), chunk, int(structure))
            for structure, distance, shift in zip(structures, said.distance, said.shift, strict=True)
            if np.isfinite(distance)
        ]
    ranking: dict[str, dict[int, Any]] = {}
    for rank, (distance, shift, chunk, structure) in enumerate(sorted(found, key=lambda item: (item[0], item[2], item[3])), start=1):
        ranking.setdefault(chunk, {})[structure] = (distance, shift, rank)
    return ranking


def _merged(chunk: str, table: pa.Table, references: _References, ranking: Mapping[int, Any], absorber: str) -> pa.Table:
    """A chunk's table with FEFF's answers and, of the absorber, the ranking in it."""
    import pyarrow as pa

    columns = {name: table[name] for name in table.column_names}
    keys = [(chunk, name, site) for name, site in zip(table["id"].to_pylist(), table["site"].to_pylist(), strict=True)]
    answered, said = list(references.answers(keys)), [(position, key) for position, key in enumerate(keys) if key in references.failures]
    # Most chunks have nothing by FEFF; only what it alters is taken apart.
    altered = {name: table[name].to_pylist() for name in (*_BY_FEFF, *_MODEL_ONLY) if answered}
    for position, row, e0 in answered:
        altered["row"][position], altered["e0"][position], altered["method"][position] = row, e0, "feff"
        for name in _MODEL_ONLY:
            altered[name][position] = None
    if said:
        altered["reason"] = table["reason"].to_pylist()
    for position, key in said:
        # What has both a spectrum and words is one that FEFF warns of, such as an SCF that did not settle.
        altered["reason"][position] += f". FEFF {'warns' if key in references.rows else 'failed'}: {references.failures[key]}"
    columns |= {name: pa.array(values, table.schema.field(name).type) for name, values in altered.items()}
    own = [None] * table.num_rows
    if ranking:
        rows = zip(*(columns[name].to_pylist() for name in ("structure", "row", "absorber")), strict=True)
        own = [ranking.get(structure) if row is not None and element == absorber else None for structure, row, element in rows]
    extra = {
        "chunk": pa.array([chunk] * table.num_rows, pa.dictionary(pa.int32(), pa.string())),
        "distance": pa.array([one and one[0] for one in own], pa.float64()),
        "shift": pa.array([one and one[1] for one in own], pa.float64()),
        "rank": pa.array([one and one[2] for one in own], pa.int32()),
    }
    return pa.table({**columns, **extra})


def _best(table: pa.Table, first: int) -> list[dict[str, Any]]:
    """The best crystals of a chunk whose first row is number `first`: the row of each one's first site, and all methods behind it."""
    found: dict[int, dict[str, Any]] = {}
    import numpy as np

    ranks = table["rank"].to_numpy()  # NaN where there is none
    for number in np.flatnonzero(ranks <= BEST).tolist():
        row = table.select(_SHOWN).slice(number, 1).to_pylist()[0]
        doubt = bool(row.pop("needs_reference")) and row["method"] == "ml"
        known = found.setdefault(row["rank"], {**row, "flagged": False, "row": first + number})
        known["flagged"] = known["flagged"] or doubt
        if row["method"] not in known["method"].split("+"):
            known["method"] = "+".join(sorted({*known["method"].split("+"), row["method"]}))
    return list(found.values())

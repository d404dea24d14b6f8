"""Does a spectrum find its own crystal among thousands? FEFF's EXAFS of materials that no model has seen, each among all screened crystals.

    python benchmarks/ranking.py --dataset dataset.h5 --cache features.sqlite --json ranking.json
    python benchmarks/ranking.py --table ranking.json > docs/reference/ranking.md

Targets: EXAFS by FEFF 8.5L (`../shared/data/feff_mp.*`) of materials in the *report* part of the default family's split, where the absorber
has one inequivalent site, so that the spectrum is the crystal's. Absorbers: of those from Ca on with at least `--cap` crystals in
`mp_structures.npz` the ones with the most such targets, until there are `--targets`. Candidates of an absorber: its targets' materials and
the first of the others, in the order of a hash of their ids, `--cap` in all. Nothing is excluded from them: they are predicted, no more.

Each candidate's curve is predicted as `xastruct.screen` does and the target ranked by `engine.ranking`, the package's own. Candidates that
`StructureMatcher` takes for the answer (of its formula, default tolerances) count as the answer; the rank is one more than the number of
others that are closer than the closest of these. Beside it:

- *composition only*: a candidate's curve is the mean of the training sites of its absorber whose composition is nearest (sum of absolute
  differences of the fractions), ranked by the same distance, ties sharing their mean rank; of several numbers of sites the one that ranks
  these targets best is shown;
- *random*: an order drawn 1,000 times.

Features are kept in `--cache`, so that a run that is stopped goes on; `--only` computes those of some absorbers and ends, so that several
processes can share the work.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pages import described, parse
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Element, Structure

from aiida_xastruct.engine import ALGORITHM_VERSION
from aiida_xastruct.engine.batch import predict_batch
from aiida_xastruct.engine.bundle import DEFAULT_FAMILY, FamilyBundle
from aiida_xastruct.engine.content import content_hash
from aiida_xastruct.engine.dataset import Dataset, Holdout, group_label, part_of
from aiida_xastruct.engine.prepare import Record, read_jsonl, unfit
from aiida_xastruct.engine.ranking import RANKING_VERSION, distances, structure_means
from aiida_xastruct.engine.reference.sources import open_source
from aiida_xastruct.engine.spectrum import atomic_number
from aiida_xastruct.engine.structure import inequivalent_absorbers, prototype, space_group

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
KIND = "EXAFS"

#: Candidates that are predicted at a time.
BLOCK = 256

NEAREST = (1, 2, 3, 5, 10, 20)
DRAWS = 1000

Curves = NDArray[np.float32]


def report_records(folder: Path, seed: int) -> list[Record]:
    """Targets: EXAFS of *report* materials whose absorber has one inequivalent site, one of each material and absorber."""
    holdout, known, found = Holdout.read(folder), {}, {}
    for record in read_jsonl(folder / "feff_mp.spectra.jsonl.gz", folder / "feff_mp.structures.jsonl.gz"):
        if record.spectrum.kind != KIND or unfit(record):
            continue
        formula = record.structure.composition.reduced_formula
        if record.source_id not in known:
            group = space_group(record.structure)
            label = group_label({"formula": formula, "prototype": prototype(record.structure, group)})
            held_out = holdout.excludes(record.source, record.source_id, formula, group)
            known[record.source_id] = "" if held_out else part_of(label, seed)
        if known[record.source_id] == "report" and len(inequivalent_absorbers(record.structure, record.spectrum.absorber)) == 1:
            found.setdefault((record.source_id, record.spectrum.absorber), record)
    return list(found.values())


def hashed(name: str) -> str:
    """What candidates are ordered by."""
    return hashlib.sha256(name.encode()).hexdigest()


def choose(records: list[Record], by_element: dict[str, list[str]], count: int, cap: int) -> dict[str, list[Record]]:
    """Targets by absorber."""
    ids = {element: set(names) for element, names in by_element.items()}
    usable = [one for one in records if one.source_id in ids.get(one.spectrum.absorber, ())]
    many = Counter(one.spectrum.absorber for one in usable)
    chosen: dict[str, list[Record]] = {}
    for element, _ in sorted(many.items(), key=lambda item: (-item[1], item[0])):
        if len(ids[element]) < cap or atomic_number(element) < 20 or (left := count - sum(map(len, chosen.values()))) <= 0:
            continue
        own = sorted((one for one in usable if one.spectrum.absorber == element), key=lambda one: hashed(one.source_id))
        chosen[element] = own[:left]
    return chosen


def candidates(element: str, targets: list[Record], by_element: dict[str, list[str]], cap: int) -> list[str]:
    """Ids, the targets' own first."""
    own = [one.source_id for one in targets]
    return own + sorted(set(by_element[element]) - set(own), key=hashed)[: cap - len(own)]


def predicted(family: FamilyBundle, element: str, names: list[str], source: Any, cache: Path) -> tuple[list[str], Curves]:
    """Ids of the candidates with an answer, and their curves on the models' grid."""
    ids: list[str] = []
    curves: list[Curves] = []
    for start in range(0, len(names), BLOCK):
        block = names[start : start + BLOCK]
        batch = predict_batch(family, [(name, source.structure(name)[0]) for name in block], element, KIND, cache=cache)
        answered = [row for row in batch.rows if row.get("row") is not None]
        structures, multiplicities = (np.array([row[name] for row in answered]) for name in ("structure", "multiplicity"))
        index, means = structure_means(structures, multiplicities, batch.mu)
        ids += [block[one] for one in index]
        curves.append(means.astype(np.float32))
        print(f"{element} {start + len(block)} of {len(names)}: {time.process_time():.0f} s of CPU", flush=True)
    return ids, np.concatenate(curves)


class NearestCompositions:
    """Curves by composition alone: means of the training sites of the absorber whose composition is nearest."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self._table = dataset.tables[KIND]
        self._fractions = np.array([fractions(material["formula"]) for material in dataset.materials])[self._table.material]
        self._train = dataset.parts(KIND, seed)["train"]

    def __call__(self, absorber: int, compositions: NDArray[Any], count: int) -> Curves:
        """(n, grid) 1 + chi for compositions (n, 118), means of `count`."""
        rows = np.flatnonzero(self._train & (self._table.absorber == absorber))
        apart = np.abs(compositions[:, None, :] - self._fractions[rows][None]).sum(axis=2)
        nearest = np.argsort(apart, axis=1, kind="stable")[:, :count]
        return np.asarray(1.0 + np.nanmean(self._table.curve[rows[nearest]], axis=1), dtype=np.float32)


def fractions(formula: str) -> NDArray[np.float32]:
    """(118,) shares of the elements by atomic number - 1."""
    found = np.zeros(118, dtype=np.float32)
    for element, share in Composition(formula).fractional_composition.items():
        found[Element(str(element.symbol)).Z - 1] = share
    return found


def rank(distance: NDArray[np.float64], is_answer: NDArray[np.bool_]) -> float:
    """Of the closest answer among those that are none: one more than those that are closer, those as close count half."""
    best = np.nanmin(distance[is_answer], initial=np.inf)
    if not np.isfinite(best):
        return float((~is_answer).sum() + 1)
    others = distance[~is_answer]
    return 1.0 + float((others < best).sum()) + 0.5 * float((others == best).sum())


def twins(answer: Structure, formulas: list[str], crystals: list[Structure]) -> NDArray[np.bool_]:
    """Which candidates are the answer."""
    matcher, formula = StructureMatcher(), answer.composition.reduced_formula
    return np.array([own == formula and matcher.fit(answer, crystal) for own, crystal in zip(formulas, crystals, strict=True)])


def share(ranks: list[float], most: int) -> float:
    """Of the ranks that are at most so."""
    return sum(one <= most for one in ranks) / len(ranks)


def measure(options: Any) -> dict[str, Any]:
    """Every number of the page."""
    family = FamilyBundle.load("default")
    model = family.model("forward", KIND)
    seed = int(model.card["split"]["seed"])
    source = open_source("npz", str(options.structures))
    by_element = source.ids_by_element()
    targets = choose(report_records(SHARED, seed), by_element, options.targets, options.cap)
    if options.only:
        for element in options.only:
            predicted(family, element, candidates(element, targets[element], by_element, options.cap), source, options.cache)
        sys.exit(0)
    compositions = NearestCompositions(Dataset.load(options.dataset), seed)
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    drawn: list[NDArray[np.float64]] = []
    for element, records in targets.items():
        names, curves = predicted(family, element, candidates(element, records, by_element, options.cap), source, options.cache)
        crystals = [source.structure(name)[0] for name in names]
        formulas = [crystal.composition.reduced_formula for crystal in crystals]
        shares = np.array([fractions(one) for one in formulas])
        by_composition = {count: compositions(atomic_number(element), shares, count) for count in NEAREST}
        for record in records:
            answer = twins(record.structure, formulas, crystals)
            answer[[index for index, name in enumerate(names) if name == record.source_id]] = True
            said = distances(record.spectrum, curves, KIND)
            row: dict[str, Any] = {"id": record.source_id, "formula": record.structure.composition.reduced_formula, "absorber": element}
            row |= {"candidates": len(names), "answers": int(answer.sum()), "rank": rank(said.distance, answer)}
            row["composition"] = {
                count: rank(distances(record.spectrum, own, KIND).distance, answer) for count, own in by_composition.items()
            }
            row["distance"] = float(np.nanmin(said.distance[answer], initial=np.inf))
            row["first"] = formulas[int(np.nanargmin(said.distance))]
            order = random.permuted(np.broadcast_to(answer, (DRAWS, len(answer))), axis=1)
            drawn.append(1.0 + order.argmax(axis=1))
            rows.append(row)
            print(row, flush=True)
    chance = np.array(drawn)
    count = min(NEAREST, key=lambda count: statistics.median(row["composition"][count] for row in rows))
    for row in rows:
        row["composition"] = row["composition"][count]
    return {
        "version": family.card["version"], "kind": KIND, "cap": options.cap, "model": content_hash(DEFAULT_FAMILY / f"forward-{KIND}"),
        "algorithm_version": ALGORITHM_VERSION["forward"], "ranking_version": RANKING_VERSION, "nearest_compositions": count, "rows": rows,
        "random": {"median": float(np.median(chance)), **{str(most): float(np.mean(chance <= most)) for most in (1, 10, 100)}},
    }  # fmt: skip


def page(found: dict[str, Any]) -> str:
    """The page of the documentation."""
    rows = found["rows"]
    elements = list(dict.fromkeys(row["absorber"] for row in rows))
    sizes = [row["candidates"] for row in rows]
    lines = [
        "# Ranking",
        "",
        "Which of these crystals looks like this spectrum? Printed by `python benchmarks/ranking.py --table ranking.json` from what the",
        "same script measured; its head says how.",
        f"{len(rows)} targets, FEFF's {found['kind']} of materials of the *report* part, over {len(elements)} absorbers, each among "
        f"{min(sizes):,} to {max(sizes):,} crystals with that absorber. {sum(row['answers'] for row in rows)} candidates count as answers.",
        f"Version {found['version']} of the family: model `{found['model'][:16]}`, algorithm version {found['algorithm_version']}, "
        f"ranking version {found['ranking_version']}. "
        f"Composition only: mean of the {found['nearest_compositions']} nearest.",
        "",
        "| by | median rank | first | among the first 10 | among the first 100 |",
        "|---|---|---|---|---|",
    ]
    for title, name in (("predicted spectra", "rank"), ("composition only", "composition")):
        ranks = [row[name] for row in rows]
        shares = " | ".join(f"{share(ranks, most):.0%}" for most in (1, 10, 100))
        lines.append(f"| {title} | {statistics.median(ranks):,.0f} | {shares} |")
    random = found["random"]
    lines.append(f"| random | {random['median']:,.0f} | {random['1']:.1%} | {random['10']:.1%} | {random['100']:.1%} |")
    lines += [
        "",
        "| absorber | targets | candidates | median rank | among the first 10 | composition only, median |",
        "|---|---|---|---|---|---|",
    ]
    for element in elements:
        own = [row for row in rows if row["absorber"] == element]
        ranks, others = [row["rank"] for row in own], [row["composition"] for row in own]
        lines.append(
            f"| {element} | {len(own)} | {own[0]['candidates']:,} | {statistics.median(ranks):,.0f} | {share(ranks, 10):.0%} | "
            f"{statistics.median(others):,.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = described(__doc__)
    parser.add_argument("--dataset", type=Path, help="that the default family was trained on, for the composition")
    parser.add_argument("--cache", type=Path, help="SQLite file of features, read and filled")
    parser.add_argument("--structures", type=Path, default=SHARED / "mp_structures.npz", help="npz table of the candidates")
    parser.add_argument("--targets", type=int, default=50)
    parser.add_argument("--cap", type=int, default=2000, help="candidates of an absorber (2000)")
    parser.add_argument("--only", nargs="+", help="absorbers whose features are computed and kept; nothing is measured")
    options = parse(parser, page, "dataset", "cache")
    options.json.write_text(json.dumps(measure(options), indent=1) + "\n")
    print(page(json.loads(options.json.read_text())))


if __name__ == "__main__":
    main()

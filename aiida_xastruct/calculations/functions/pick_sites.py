"""From what a model says of many crystals to the few sites that FEFF should compute for it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida.engine import ExitCode, calcfunction
from aiida.orm import Dict

from ...engine.errors import DatasetError, XastructError
from .predict_batch import read_structures, structures_node

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from ...engine.acquisition import Gate
    from ...engine.bundle import ModelBundle
    from ...engine.dataset import Holdout
    from ...engine.sitecache import SiteCache

#: The name by which a training set knows that a site came from here.
SOURCE = "screened"

#: What is looked at of each row of a batch.
_COLUMNS = ("id", "hash", "site", "absorber", "uncertainty")

#: File that features are read from; what it lacks is computed. The choice does not depend on it.
_cache: Path | None = None


@contextmanager
def features_from(cache: Path | None) -> Iterator[None]:
    """Features inside the block are read from this file of a `SiteCache`, where it has them."""
    global _cache
    before, _cache = _cache, cache
    try:
        yield
    finally:
        _cache = before


@calcfunction
def pick_sites(**nodes: Any) -> Any:
    """Choose sites for FEFF by the error that the model expects, and by what the training set and the choice have already.

    Args:
        nodes: `table_<chunk>` and `structures_<chunk>` of each batch of a screening; `model`, that answered; `dataset`, the training set;
            `options`, a `Dict` with `count` (sites wanted), `per_group` (of one formula and prototype), `split_seed` and
            `acquisition_version`; and `holdout`, a `Dict` with `ids` and `twins` that nothing may be trained on (`holdout_node`).

    Returns:
        `picks`: `Dict` with `sites`, the most worth first, each with `name` (in `structures`), `id`, `source_id` (in the training set),
        `chunk`, `hash`, `site`, `absorber`, `formula`, `prototype`, `expected_error` and `gain`; `candidates`, their number; `left_out`,
        counts by reason; and `covered`, before and after. `structures`: their crystals. Exit status 310 where an input cannot be used, 311
        where no site is left to choose from.
    """
    import numpy as np

    from ...engine.acquisition import ACQUISITION_VERSION, Candidates, Gate, Known, choose, places
    from ...engine.spectrum import atomic_number
    from .bundle import load_bundle

    options = nodes["options"].get_dict()
    if options["acquisition_version"] != ACQUISITION_VERSION:
        return ExitCode(310, f"this installation chooses by version {ACQUISITION_VERSION}, not {options['acquisition_version']}.")
    try:
        kind, dataset = nodes["model"].kind, nodes["dataset"].load()
        model = load_bundle(nodes["model"]).model("forward", kind)
        gate = Gate.of(dataset, kind, options["split_seed"], read_holdout(nodes.get("holdout")))
        rows, left_out = _candidates(nodes, gate, model)
        if not rows:
            reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "the model has no answer for any"
            return ExitCode(311, f"no site of these crystals can be added to the training part ({reasons}); give others.")
        table = dataset.tables[kind].take(dataset.parts(kind, options["split_seed"])["train"])
        place, group = ([row.pop(name) for row in rows] for name in ("place", "group"))
        absorber = np.array([atomic_number(row["absorber"]) for row in rows])
        expected = np.array([row["expected_error"] for row in rows])
        candidates = Candidates(np.array(place), absorber, expected, np.array(group))
        known = Known(places(model, table.features), table.absorber)
        choice = choose(candidates, known, options["count"], options["per_group"])
        picked = [rows[row] | {"gain": float(gain)} for row, gain in zip(choice.rows, choice.gain, strict=True)]
        named = _name(picked, _crystals(nodes, picked))
    except XastructError as error:
        return ExitCode(310, str(error))
    said = {"sites": picked, "candidates": len(rows), "left_out": left_out, "covered": list(choice.covered)}
    return {"picks": Dict(said), "structures": structures_node(named)}


def _candidates(nodes: Mapping[str, Any], gate: Gate, model: ModelBundle) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows of the sites that may be chosen, each with its place and group, and counts of the others by reason."""
    from ...engine.dataset import group_label
    from ...engine.sitecache import SiteCache, structure_hash
    from ...engine.structure import prototype, space_group

    found: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    seen: set[str] = set()
    with ExitStack() as stack:
        cache = stack.enter_context(SiteCache(_cache)) if _cache is not None else None
        for chunk in sorted(name.removeprefix("table_") for name in nodes if name.startswith("table_")):
            answered: dict[tuple[str, str], list[dict[str, Any]]] = {}
            for row in nodes[f"table_{chunk}"].read(_COLUMNS).to_pylist():
                if row["uncertainty"] is not None:
                    answered.setdefault((row["id"], row["hash"]), []).append(row)
            for name, crystal in read_structures(nodes[f"structures_{chunk}"]):
                digest = structure_hash(crystal)
                own = answered.get((name, digest), [])
                if not own:
                    continue
                if digest in seen:
                    left_out["of a crystal that comes twice"] += len(own)
                    continue
                seen.add(digest)
                number = space_group(crystal)
                material = {"source": SOURCE, "source_id": name, "formula": crystal.composition.reduced_formula, "space_group": number}
                material["prototype"] = prototype(crystal, number)
                reasons = [gate.refusal(material, row["absorber"]) for row in own]
                left_out.update(filter(None, reasons))
                free = [row for row, reason in zip(own, reasons, strict=True) if not reason]
                for row, place in zip(free, _places(model, cache, digest, crystal, free), strict=True):
                    words = {key: row[key] for key in ("id", "hash", "site", "absorber")} | {"chunk": chunk}
                    words |= {"formula": material["formula"], "prototype": material["prototype"], "expected_error": row["uncertainty"]}
                    found.append(words | {"place": place, "group": group_label(material)})
    return found, dict(left_out)


def _crystals(nodes: Mapping[str, Any], picked: Sequence[Mapping[str, Any]]) -> list[Structure]:
    """The crystal of each row, read again: all of a large screening would not fit into memory."""
    wanted = {(row["chunk"], row["id"]) for row in picked}
    found = {}
    for chunk in {chunk for chunk, _ in wanted}:
        for name, crystal in read_structures(nodes[f"structures_{chunk}"]):
            if (chunk, name) in wanted:
                found[chunk, name] = crystal
    return [found[row["chunk"], row["id"]] for row in picked]


def _places(
    model: ModelBundle, cache: SiteCache | None, digest: str, crystal: Structure, rows: Sequence[Mapping[str, Any]]
) -> NDArray[np.float64]:
    """(n, p) where sites of one crystal lie among what the model was trained on."""
    import numpy as np

    from ...engine.acquisition import places
    from ...engine.features import SITE_SIZE, site_rows

    features = np.zeros((len(rows), SITE_SIZE), dtype=np.float32)
    missing = []
    for index, row in enumerate(rows):
        known = cache.get_absorbers(digest, row["absorber"]) if cache is not None else None
        sites = [absorber.site for absorber in known.absorbers] if known is not None else []
        if known is not None and row["site"] in sites:
            features[index] = known.features[sites.index(row["site"])]
        else:
            missing.append(index)
    if missing:
        features[missing] = site_rows(crystal, [rows[index]["site"] for index in missing])
    return places(model, features)


def _name(picked: list[dict[str, Any]], crystals: Sequence[Structure]) -> dict[str, Structure]:
    """Crystals of the chosen sites by names that a job can have as keys, which have no dots, say.

    The rows get the name, and as `source_id` the id by which a training set knows the crystal, with a number where another has that id too.
    """
    known: dict[str, tuple[str, str]] = {}
    named: dict[str, Structure] = {}
    for row, crystal in zip(picked, crystals, strict=True):
        if row["hash"] not in known:
            plain, ids = re.sub(r"[^A-Za-z0-9]+", "_", row["id"]).strip("_"), {source_id for _, source_id in known.values()}
            name = next(name for name in _numbered(plain or "crystal", "_") if name not in named)
            known[row["hash"]] = name, next(source_id for source_id in _numbered(row["id"], "#") if source_id not in ids)
            named[name] = crystal
        row["name"], row["source_id"] = known[row["hash"]]
    return named


def _numbered(text: str, mark: str) -> Iterator[str]:
    """A text, and then the same with numbers from 2 on."""
    yield text
    yield from (f"{text}{mark}{number}" for number in count(2))


def read_holdout(node: Dict | None) -> Holdout:
    """Materials that nothing may be trained on, as the engine has them; none for None.

    Raises:
        DatasetError: if the node does not hold `ids` and `twins`.
    """
    from ...engine.dataset import Holdout

    if node is None:
        return Holdout(frozenset(), frozenset())
    try:
        twins = frozenset((str(formula), int(number)) for formula, number in node["twins"])
        return Holdout(frozenset(map(str, node["ids"])), twins)
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"holdout is no mapping with `ids` and `twins` ({error}); make it with `holdout_node(folder)`.") from error


def holdout_node(folder: Path) -> Dict:
    """Unstored node of a folder with `holdout_ids.txt` and `holdout_formulas.txt`.

    Raises:
        DatasetError: if either is missing.
    """
    from ...engine.dataset import Holdout

    found = Holdout.read(folder)
    return Dict({"ids": sorted(found.ids), "twins": [list(twin) for twin in sorted(found.twins)]})

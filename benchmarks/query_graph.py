"""A provenance graph as large as that of a year's work, for `benchmarks/queries.py`.

Every kind of process is run once for real; the database's rows of what it took and made are then copied by the storage backend's bulk
insert, with links of the same types and labels. What queries ask for differs from copy to copy: structure, absorber, edge, surroundings,
hash, identity. Arrays are those of the original, under the same keys of the repository.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

#: Copies are inserted so many units at a time: what is in memory.
SLAB = 500

#: Elements of the copies.
ABSORBERS = ("Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Zr", "Nb", "Mo", "Ru", "Rh", "Pd", "Ag")
SHELLS = (["O"], ["O"], ["S"], ["F"], ["Cl"], ["O", "S"], ["Se"], ["N", "O"], ["C"], ["P"])

#: Columns of a node, all but its pk.
COLUMNS = (
    "uuid", "node_type", "process_type", "label", "description", "ctime", "mtime", "attributes", "extras", "repository_metadata",
    "dbcomputer_id", "user_id",
)  # fmt: skip

#: Batches of FEFF behind a training set, and sites in each.
JOBS, SITES = 100, 50


class Link(NamedTuple):
    """The node at the other end of a process's link, its pk, and the link's type and label."""

    node: Any
    pk: int
    kind: str
    label: str


class Originals:
    """What the package's own processes made of one crystal with four copper sites, EXAFS, with the family and the FEFF that it ships."""

    def __init__(self) -> None:
        from aiida import orm
        from aiida.engine import run_get_node

        from aiida_xastruct.calculations.feff import FeffCalculation
        from aiida_xastruct.calculations.feff_batch import FeffBatchCalculation
        from aiida_xastruct.calculations.functions.infer_local_structure import infer_local_structure
        from aiida_xastruct.calculations.functions.predict_batch import structures_node
        from aiida_xastruct.calculations.functions.predict_spectra import predict_spectra
        from aiida_xastruct.groups.family import load_default_family
        from aiida_xastruct.tools.codes import bundled_feff_code

        family = load_default_family()
        self.model = family.get_model("forward", "EXAFS")
        crystal = _crystal()
        self.structure = orm.StructureData(pymatgen=crystal).store()
        inputs = {"structure": self.structure, "sites": orm.List([0, 1, 2, 3]), "kind": orm.Str("EXAFS"), "model": self.model}
        self.predict = predict_spectra.run_get_node(**inputs)[1]
        code = bundled_feff_code()
        parameters = orm.Dict({"kind": "EXAFS"})
        options = {"options": {"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}}}
        feff = {"code": code, "structure": self.structure, "site": orm.Int(0), "parameters": parameters, "metadata": options}
        self.feff = run_get_node(FeffCalculation, **feff)[1]
        models = {task: family.get_model(task, "EXAFS") for task in ("neighbours", "distance")}
        self.infer = infer_local_structure.run_get_node(spectrum=self.feff.outputs.spectrum, kind=orm.Str("EXAFS"), **models)[1]
        batch = {"code": code, "structures": structures_node({"copper": crystal}), "sites": orm.Dict({"copper": [0]}), "metadata": options}
        self.batch = run_get_node(FeffBatchCalculation, parameters=parameters, **batch)[1]
        for node in (self.predict, self.feff, self.infer, self.batch):
            if not node.is_finished_ok:
                raise RuntimeError(f"{node.process_label}: {node.exit_message}")
        self.dataset = _dataset(crystal, self.feff.outputs.spectrum).store()


def _crystal() -> Any:
    from pymatgen.core import Lattice, Structure

    crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.25), ["Cu", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    crystal.perturb(0.02, seed=0)
    return crystal


def _dataset(crystal: Any, spectrum: Any) -> Any:
    """Unstored training set of one spectrum, as `extend_dataset` makes them."""
    from aiida_xastruct.data.dataset import DatasetData
    from aiida_xastruct.engine.dataset import Holdout
    from aiida_xastruct.engine.prepare import Record, prepare

    with tempfile.TemporaryDirectory() as folder:
        record = Record("benchmark", "copper", crystal, 0, spectrum.to_engine(), "feff8l")
        dataset, _ = prepare([record], Holdout(frozenset(), frozenset()), Path(folder) / "sites.sqlite")
        dataset.save(Path(folder) / "dataset.h5")
        return DatasetData.from_file(Path(folder) / "dataset.h5")


class Copier:
    """Inserts copies of stored nodes and of the links between them."""

    def __init__(self) -> None:
        from aiida.manage import get_manager

        self.backend = get_manager().get_profile_storage()
        self.nodes: list[dict[str, Any]] = []
        self.links: list[tuple[int | str, int | str, str, str]] = []

    def row(self, node: Any) -> dict[str, Any]:
        """The database's row of a stored node."""
        from aiida.orm import Node, QueryBuilder

        found = QueryBuilder().append(Node, filters={"id": node.pk}, project=list(COLUMNS)).first()
        return dict(zip(COLUMNS, found, strict=True))

    def add(self, row: dict[str, Any], **changes: Any) -> str:
        """Remember a copy with other attributes, and a hash and a UUID of its own; the UUID."""
        uuid = str(uuid4())
        extras = row["extras"] | {"_aiida_hash": changes.pop("digest", None) or hex64()}
        self.nodes.append(row | {"uuid": uuid, "extras": extras, "attributes": row["attributes"] | changes})
        return uuid

    def again(self, row: dict[str, Any]) -> str:
        """Remember a copy that says the same, such as a number that each run stores anew; the UUID."""
        return self.add(row, digest=row["extras"].get("_aiida_hash"))

    def link(self, source: int | str, target: int | str, kind: str, label: str) -> None:
        """Remember a link between pks or UUIDs of copies."""
        self.links.append((source, target, kind, label))

    def insert(self) -> dict[str, int]:
        """Insert what is remembered; pks of the copies by UUID."""
        from aiida.orm import Node, QueryBuilder
        from aiida.orm.entities import EntityTypes

        with self.backend.transaction():
            self.backend.bulk_insert(EntityTypes.NODE, self.nodes)
            query = QueryBuilder().append(Node, filters={"uuid": {"in": [row["uuid"] for row in self.nodes]}}, project=["uuid", "id"])
            pks = dict(query.iterall(batch_size=10_000))
            rows = [
                {"input_id": pks.get(a, a), "output_id": pks.get(b, b), "label": label, "type": kind} for a, b, kind, label in self.links
            ]
            self.backend.bulk_insert(EntityTypes.LINK, rows)
        self.nodes, self.links = [], []
        return pks


_random = random.Random(0)


def hex64() -> str:
    """Sixty-four hexadecimal digits."""
    return f"{_random.getrandbits(256):064x}"


@cache
def _links(process: Any, outgoing: bool) -> list[Link]:
    """A process's links to data."""
    from aiida.common.links import LinkType

    kind = LinkType.CREATE if outgoing else LinkType.INPUT_CALC
    found = process.base.links.get_outgoing(link_type=kind) if outgoing else process.base.links.get_incoming(link_type=kind)
    return [Link(entry.node, entry.node.pk, kind.value, entry.link_label) for entry in found.all()]


def _surroundings() -> dict[str, Any]:
    return {"neighbours": _random.choice(SHELLS), "mean_distance": round(_random.uniform(1.8, 2.8), 6)}


def _element() -> dict[str, Any]:
    absorber = _random.choice(ABSORBERS)
    return {"absorber": absorber, "e0": _edge(absorber)}


@cache
def _edge(absorber: str) -> float:
    """Energy of the K edge, eV."""
    from xraydb import xray_edge

    return float(xray_edge(absorber, "K").energy)


def make_nodes(originals: Originals, spectra: int, models: list[Any]) -> Iterator[int]:
    """Copies of: a structure, four predicted spectra, one by FEFF, and for one in four structures what that says of its neighbours.

    One structure in fifty is there twice, under two UUIDs, with equal spectra.

    Yields:
        number of spectra so far.
    """
    copier = Copier()
    row = {node.pk: copier.row(node) for node in _all(originals)}
    known: list[dict[str, Any]] = []
    for unit in range(spectra // 5):
        again = unit % 50 == 49
        if not again:
            sites = [_surroundings() for _ in range(4)]
            digests = [hex64() for _ in range(6)]
            known.append({"hash": hex64(), "element": _element(), "sites": sites, "digests": digests})
        facts = known[-1]
        _unit(copier, originals, row, facts, models[unit % len(models)], unit % 4 == 0)
        if unit % SLAB == SLAB - 1 or unit == spectra // 5 - 1:
            copier.insert()
            yield (unit + 1) * 5


def _all(originals: Originals) -> Iterable[Any]:
    yield originals.structure
    for process in (originals.predict, originals.feff, originals.infer, originals.batch):
        yield process
        yield from (link.node for outgoing in (False, True) for link in _links(process, outgoing))


def _unit(copier: Copier, originals: Originals, row: dict[int, Any], facts: dict[str, Any], model: Any, inferred: bool) -> None:
    """One structure and all that was made of it."""
    *digests, of_structure = facts["digests"]
    cell = [[value * _random.uniform(0.95, 1.05) for value in vector] for vector in row[originals.structure.pk]["attributes"]["cell"]]
    structure = copier.add(row[originals.structure.pk], digest=of_structure, cell=cell)
    feff: Any = None
    for process in (originals.predict, originals.feff):
        copy = copier.add(row[process.pk])
        shared = {originals.structure.pk: structure, originals.model.pk: model.pk}
        for link in _links(process, outgoing=False):
            # Lists and numbers are made anew for each run; models, codes and parameters are shared.
            own = copier.again(row[link.pk]) if link.label in ("sites", "site", "kind") else shared.get(link.pk, link.pk)
            copier.link(own, copy, link.kind, link.label)
        for link in _links(process, outgoing=True):
            changes: dict[str, Any] = {}
            if "structure_hash" in row[link.pk]["attributes"]:
                site = row[link.pk]["attributes"]["site"]
                changes = {**facts["element"], **facts["sites"][site], "structure_hash": facts["hash"]}
                changes["digest"] = digests[site] if process is originals.predict else digests[4]
            uuid = copier.add(row[link.pk], **changes)
            copier.link(copy, uuid, link.kind, link.label)
            feff = uuid if link.label == "spectrum" else feff
    if inferred:
        copy = copier.add(row[originals.infer.pk])
        for link in _links(originals.infer, outgoing=False):
            copier.link(feff if link.label == "spectrum" else link.pk, copy, link.kind, link.label)
        for link in _links(originals.infer, outgoing=True):
            shell = _surroundings()
            says = {"neighbour_set": shell["neighbours"], "mean_distance": shell["mean_distance"], "absorber": facts["element"]["absorber"]}
            copier.link(copy, copier.add(row[link.pk], **says), link.kind, link.label)


def make_models(originals: Originals, rounds: int) -> list[Any]:
    """Models trained on sets that grow by `JOBS` batches of FEFF a round, as `xastruct.improve` makes them."""
    from aiida.common.links import LinkType
    from aiida.orm import load_node

    copier = Copier()
    row = {node.pk: copier.row(node) for node in [*_all(originals), originals.dataset, originals.model]}
    extend = row[originals.infer.pk] | {
        "process_type": "aiida.calculations:xastruct.functions.extend_dataset", "label": "extend_dataset",
    }  # fmt: skip
    models, dataset = [], originals.dataset.pk
    for _ in range(rounds):
        process, digest = copier.add(extend), hex64()
        copier.link(dataset, process, LinkType.INPUT_CALC.value, "dataset")
        for number in range(JOBS):
            copier.link(_job(copier, originals, row), process, LinkType.INPUT_CALC.value, f"collection_{number}")
        dataset = copier.add(row[originals.dataset.pk], content_hash=digest)
        copier.link(process, dataset, LinkType.CREATE.value, "dataset")
        model = copier.add(row[originals.model.pk], training_data_hash=digest, content_hash=hex64())
        pks = copier.insert()
        dataset = pks[dataset]
        models.append(load_node(pks[model]))
    return models


def _job(copier: Copier, originals: Originals, row: dict[int, Any]) -> str:
    """One batch of FEFF; the UUID of its spectra."""
    from aiida_xastruct.engine.origin import prefixes

    job = copier.add(row[originals.batch.pk])
    for link in _links(originals.batch, outgoing=False):
        copier.link(copier.again(row[link.pk]) if link.label == "sites" else link.pk, job, link.kind, link.label)
    collection = ""
    for link in _links(originals.batch, outgoing=True):
        changes: dict[str, Any] = {}
        if link.label == "collection":
            (first,) = row[link.pk]["attributes"]["spectra"]
            rows = [
                {**first, **_element(), **_surroundings(), "structure_hash": hex64(), "structure": f"crystal-{number}"}
                for number in range(SITES)
            ]
            absorbers = sorted({one["absorber"] for one in rows})
            changes = {"spectra": rows, "n_spectra": SITES, "absorbers": absorbers}
            changes["hash_prefixes"] = prefixes(one["structure_hash"] for one in rows)
        uuid = copier.add(row[link.pk], **changes)
        copier.link(job, uuid, link.kind, link.label)
        collection = uuid if link.label == "collection" else collection
    return collection


def make_batches(count: int, rows: int, models: list[Any], known: list[tuple[str, str]]) -> None:
    """Batches: crystals, tables and arrays as `predict_batch` takes and makes them, two and a half rows a crystal; stored by the ORM.

    Args:
        count: of batches.
        rows: in each.
        models: that answer in turn.
        known: hash and absorber of crystals that FEFF has answered; one row in a hundred is of one of them.
    """
    import numpy as np
    from aiida.common.links import LinkType
    from aiida.orm import CalcFunctionNode, Str

    from aiida_xastruct.calculations.functions.predict_batch import batch_nodes, structures_node
    from aiida_xastruct.engine.batch import Batch, energy_grid

    width = len(energy_grid("EXAFS"))
    curves = np.ones((rows, width), dtype=np.float32)
    for number in range(count):
        crystals = {f"{number}-{crystal}": _salt() for crystal in range(rows * 2 // 5)}
        nodes = batch_nodes(Batch("EXAFS", list(_rows(crystals, known)), curves, curves))
        process = CalcFunctionNode()
        process.process_type = "aiida.calculations:xastruct.functions.predict_batch"
        inputs = {
            "structures": structures_node(crystals), "absorber": Str(""), "kind": Str("EXAFS"), "model": models[number % len(models)],
        }  # fmt: skip
        for label, node in inputs.items():
            process.base.links.add_incoming(node.store(), LinkType.INPUT_CALC, label)
        process.store()
        for label, node in nodes.items():
            node.base.links.add_incoming(process, LinkType.CREATE, label)
            node.store()


def _salt() -> Any:
    """A distorted rock salt of one of the elements, its four sites first, with its neighbours at 1.8 to 2.8 angstrom."""
    from pymatgen.core import Lattice, Structure

    absorber, anion = _random.choice(ABSORBERS), _random.choice([shell[0] for shell in SHELLS])
    halves = [(0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)]
    corners = [*halves, *((x + 0.5, y, z) for x, y, z in halves)]
    places = [[value + _random.uniform(-0.01, 0.01) for value in corner] for corner in corners]
    return Structure(Lattice.cubic(_random.uniform(3.6, 5.6)), [absorber] * 4 + [anion] * 4, places)


def _rows(crystals: dict[str, Any], known: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Rows of two sites of one crystal, three of the next, and so on; one in a hundred is of a crystal that FEFF has answered."""
    from aiida_xastruct.engine.sitecache import structure_hash

    row = 0
    for position, (name, crystal) in enumerate(crystals.items()):
        absorber, digest = crystal[0].specie.symbol, structure_hash(crystal)
        for site in range(2 + position % 2):
            own = {"hash": digest, "absorber": absorber, "site": site}
            if row % 100 == 0:
                found = _random.choice(known)
                own = {"hash": found[0], "absorber": found[1], "site": 0}
            yield {
                **own, "row": row, "structure": position, "id": name, "formula": crystal.composition.reduced_formula, "edge": "K",
                "multiplicity": 4, "e0": _edge(own["absorber"]), "method": "ml", "uncertainty": _random.uniform(0.1, 1.0),
                "error_bound": 1.0, "threshold": 0.6, "domain_score": 0.5, "in_domain": True, "needs_reference": row % 7 == 0,
                "reason": "the model is sure of it.",
            }  # fmt: skip
            row += 1

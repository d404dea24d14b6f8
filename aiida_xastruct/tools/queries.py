"""The questions that one asks of a database of spectra, as AiiDA's `QueryBuilder`s.

Each function returns a builder that is yet to be run. It can be extended: its tags, which each docstring names, take further filters
(`builder.add_filter("spectrum", {"attributes.kind": "XANES"})`), projections (`builder.add_projection`) and neighbours in the provenance
(`builder.append(Group, with_node="spectrum")`). Rows of batches are searched by `aiida_xastruct.tools.query_rows`.

What makes them fast: they walk along links from a few nodes where they can, which both databases have indices of. Where attributes decide,
the type is asked for without its subclasses, so that the index of types leaves only the nodes of that type to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aiida.common.exceptions import MultipleObjectsError, NotExistent
from aiida.orm import CalcFunctionNode, CalcJobNode, CalculationNode, Data, Dict, Node, QueryBuilder, StructureData, load_node

from ..data.dataset import DatasetData
from ..data.model import ModelData
from ..data.spectra import SpectraData
from ..data.spectrum import SpectrumData
from ..data.table import TableData
from ..engine.errors import XastructError
from ..engine.origin import PREFIX
from ..groups.family import ModelFamily

#: Processes that run FEFF.
FEFF = ("aiida.calculations:xastruct.feff", "aiida.calculations:xastruct.feff_batch")

#: Processes that predict.
PREDICT = (
    "aiida.calculations:xastruct.functions.predict_spectra", "aiida.calculations:xastruct.functions.predict_batch",
    "aiida.calculations:xastruct.predict",
)  # fmt: skip

INFER = "aiida.calculations:xastruct.functions.infer_local_structure"

#: Links to the spectra that a process made: `spectrum` of one, `spectra__<site>` of many.
SPECTRA = {"label": {"like": "spectr%"}}

#: Least digits of a content hash that name a model.
LEAST_DIGITS = 8

#: One model, or some.
Models = ModelData | Iterable[ModelData]


def find_models(identifier: str) -> list[ModelData]:
    """The models that a word names, and those of the same content.

    Args:
        identifier: label of a family; pk, UUID or label of a model; or at least eight digits of a model's content hash.

    Raises:
        XastructError: if there is none.
    """
    builder = QueryBuilder().append(ModelFamily, filters={"label": identifier}, tag="family")
    found = builder.append(ModelData, with_group="family").all(flat=True)
    if not found and len(identifier) >= LEAST_DIGITS and set(identifier) <= set("0123456789abcdef"):
        found = _models({"attributes.content_hash": {"like": f"{identifier}%"}})
    if not found:
        try:
            found = [load_node(identifier)]
        except (NotExistent, MultipleObjectsError, ValueError):
            found = _models({"label": identifier})
    if not found or not all(isinstance(node, ModelData) for node in found):
        raise XastructError(f"{identifier} is neither a family nor a model; `aiida-xastruct family list` names them.")
    return _models({"attributes.content_hash": {"in": sorted({node.content_hash for node in found})}})


def _models(filters: dict[str, Any]) -> list[ModelData]:
    return QueryBuilder().append(ModelData, subclassing=False, filters=filters).all(flat=True)


def _among(nodes: Node | Iterable[Node]) -> dict[str, Any]:
    """Filter for one node or some; for none, one that nothing passes."""
    return _of_pks(node.pk for node in ([nodes] if isinstance(nodes, Node) else nodes))


def _of_pks(pks: Iterable[int]) -> dict[str, Any]:
    return {"id": {"in": sorted(set(pks)) or [0]}}  # pks begin at 1, and an empty list is refused


def predicted_spectra(models: Models | None = None, output: type[Data] = SpectrumData) -> QueryBuilder:
    """Spectra that models have predicted, one node each; tags `model` (where models are given), `process`, `spectrum`.

    A row of a batch that was made a spectrum of its own is found as a row, not again as that spectrum.

    Args:
        models: as `find_models` gives them; all if None.
        output: `TableData` for the tables of batches, tag `table`, each row of which with a spectrum is a prediction.
    """
    builder = QueryBuilder()
    if models is None:
        builder.append(CalculationNode, filters={"process_type": {"in": list(PREDICT)}}, tag="process")
    else:
        builder.append(ModelData, filters=_among(models), tag="model")
        builder.append(CalculationNode, with_incoming="model", tag="process")
    # By the link's label already, so that the process's other outputs are not looked at.
    if output is TableData:
        return builder.append(output, with_incoming="process", edge_filters={"label": "table"}, tag="table")
    return builder.append(output, with_incoming="process", edge_filters=SPECTRA, tag="spectrum")


def feff_spectra() -> QueryBuilder:
    """Spectra that FEFF has computed, one node each; tags `run`, `spectrum`. Those of many crystals together: `collections`."""
    builder = QueryBuilder().append(CalcJobNode, filters={"process_type": {"in": list(FEFF)}}, tag="run")
    return builder.append(SpectrumData, with_incoming="run", edge_filters=SPECTRA, tag="spectrum")


def training_sets(models: Models) -> list[DatasetData]:
    """What models were trained on, and what those sets grew from, as far as it is in the database.

    The content hash on the model's card leads there, so that models that were installed from a folder are no exception.
    """
    hashes = sorted({node.training_data_hash for node in ([models] if isinstance(models, ModelData) else models)}) or [""]
    builder = QueryBuilder().append(DatasetData, subclassing=False, filters={"attributes.content_hash": {"in": hashes}})
    found = {node.pk: node for node in builder.all(flat=True)}
    new = list(found.values())
    while new:
        builder = QueryBuilder().append(DatasetData, filters=_among(new), tag="grown")
        builder.append(CalcFunctionNode, with_outgoing="grown", tag="process")
        new = [node for node in builder.append(DatasetData, with_outgoing="process").all(flat=True) if node.pk not in found]
        found |= {node.pk: node for node in new}
    return list(found.values())


def feff_runs(models: Models) -> QueryBuilder:
    """Every FEFF job whose spectra models have learned from; tags `dataset`, `process`, `spectra`, `run`.

    Sets that were imported have no jobs behind them: their `source` says where they came from. A job that gave several nodes is found once
    for each; `builder.distinct()` with one projection leaves it once.
    """
    # Not by `with_descendants`: where a set grew by screenings, there are as many ways to it as chunks were screened, and that follows all.
    builder = QueryBuilder().append(DatasetData, filters=_among(training_sets(models)), tag="dataset")
    builder.append(CalcFunctionNode, with_outgoing="dataset", tag="process")
    builder.append((SpectrumData, SpectraData), with_outgoing="process", tag="spectra")
    builder.append(CalcJobNode, with_outgoing="spectra", filters={"process_type": {"in": list(FEFF)}}, tag="run")
    return builder


def inferred_neighbours(
    absorber: str, neighbours: Sequence[str] = (), distance: tuple[float, float] | None = None, in_domain: bool | None = None
) -> QueryBuilder:
    """Spectra of an element behind which models see neighbours at a distance; tags `process`, `answer`, `spectrum`.

    What is asked are the answers of `infer_local_structure`: `neighbour_set` and `mean_distance`.

    Args:
        absorber: symbol of the absorbing element.
        neighbours: elements that the first shell must hold, among others.
        distance: least and greatest mean distance of the first shell, angstrom.
        in_domain: whether the models know such spectra; either if None.
    """
    filters = _shell(absorber, "neighbour_set", neighbours, distance)
    if in_domain is not None:
        filters["attributes.in_domain"] = in_domain
    builder = QueryBuilder().append(CalcFunctionNode, filters={"process_type": INFER}, tag="process")
    builder.append(Dict, with_incoming="process", filters=filters, tag="answer")
    # XANES and EXAFS of one site may have been read together: both are found.
    builder.append(SpectrumData, with_outgoing="process", tag="spectrum")
    return builder


def known_neighbours(
    absorber: str, neighbours: Sequence[str] = (), distance: tuple[float, float] | None = None, method: str | None = None
) -> QueryBuilder:
    """Spectra of an element in crystals where it has neighbours at a distance; tag `spectrum`.

    What is asked are the attributes `neighbours` and `mean_distance` that a spectrum gets from its crystal when it is made.

    Args:
        absorber: symbol of the absorbing element.
        neighbours: elements that the first shell must hold, among others.
        distance: least and greatest mean distance of the first shell, angstrom.
        method: feff or ml; either if None.
    """
    filters = _shell(absorber, "neighbours", neighbours, distance)
    if method is not None:
        filters["attributes.method"] = method
    return QueryBuilder().append(SpectrumData, subclassing=False, filters=filters, tag="spectrum")


def _shell(absorber: str, name: str, neighbours: Sequence[str], distance: tuple[float, float] | None) -> dict[str, Any]:
    filters: dict[str, Any] = {"attributes.absorber": absorber}
    if distance is not None:
        filters["attributes.mean_distance"] = {"and": [{">=": float(distance[0])}, {"<=": float(distance[1])}]}
    if neighbours:
        filters[f"attributes.{name}"] = {"contains": sorted(neighbours)}  # last, as SQLite asks Python here
    return filters


def spectra_of_crystals(
    method: str | None = None, absorber: str | None = None, kind: str | None = None, structure_hash: str | None = None
) -> QueryBuilder:
    """Spectra of which the crystal is known; tag `spectrum`.

    Args:
        method: feff or ml; either if None, as for all that follows.
        absorber: symbol of the absorbing element.
        kind: XANES or EXAFS.
        structure_hash: of the crystal, `engine.sitecache.structure_hash`.
    """
    wanted = {"method": method, "absorber": absorber, "kind": kind}
    filters: dict[str, Any] = {f"attributes.{name}": value for name, value in wanted.items() if value is not None}
    filters["attributes.structure_hash"] = {"of_type": "string"} if structure_hash is None else structure_hash
    return QueryBuilder().append(SpectrumData, subclassing=False, filters=filters, tag="spectrum")


def tables(absorber: str | None = None, kind: str | None = None, structure_hash: str | None = None) -> QueryBuilder:
    """Tables of batches and screenings that may have rows of an absorber, a kind and a crystal, by their attributes; tag `table`."""
    return _batches(TableData, absorber, structure_hash, {} if kind is None else {"attributes.kind": kind}, "table")


def collections(absorber: str | None = None, kind: str | None = None, structure_hash: str | None = None) -> QueryBuilder:
    """Batches of FEFF that may have spectra of an absorber, a kind and a crystal, by their attributes; tag `collection`."""
    filters = {} if kind is None else {"attributes.kinds": {"contains": [kind]}}
    return _batches(SpectraData, absorber, structure_hash, filters, "collection")


def _batches(cls: type[Data], absorber: str | None, structure_hash: str | None, filters: dict[str, Any], tag: str) -> QueryBuilder:
    if absorber is not None:
        filters["attributes.absorbers"] = {"contains": [absorber]}
    if structure_hash is not None:
        filters["attributes.hash_prefixes"] = {"contains": [structure_hash[:PREFIX]]}
    return QueryBuilder().append(cls, subclassing=False, filters=filters, tag=tag)


def same_structures(structure: StructureData) -> QueryBuilder:
    """Structures that say the same as one, itself among them: their hashes by AiiDA are equal; tag `structure`."""
    filters = {"extras._aiida_hash": structure.base.caching.get_hash()}
    return QueryBuilder().append(StructureData, subclassing=False, filters=filters, tag="structure")


def downstream(structure: StructureData) -> QueryBuilder:
    """All that was made of a structure, of others that say the same, and of rows of batches of that crystal; tag `node`.

    It follows the provenance of data, and workflows from their inputs to what they returned. A set that a spectrum of the crystal was added
    to is downstream, so are the models that learned from it, and what they predict. Rows of tables are not nodes:
    `query_rows.rows_of_crystal` finds them.
    """
    starts = set(_pks(same_structures(structure), "structure")) | {structure.pk}
    if (digest := crystal_hash(structure)) is not None:
        starts |= set(_pks(spectra_of_crystals(structure_hash=digest), "spectrum"))
        builder = collections(structure_hash=digest)
        builder.add_projection("collection", ["id", "attributes.spectra"])
        starts |= {pk for pk, rows in builder.iterall() if any(row["structure_hash"] == digest for row in rows)}
    return _made_from(starts, {structure.pk})


def made_from(node: Node) -> QueryBuilder:
    """All that was made of a node, near and far, along the same links as `downstream`; tag `node`."""
    return _made_from({node.pk}, {node.pk})


def _made_from(starts: Iterable[int], without: set[int]) -> QueryBuilder:
    from aiida.common.links import LinkType
    from aiida.tools.graph.graph_traversers import traverse_graph

    types = (LinkType.INPUT_CALC, LinkType.CREATE, LinkType.INPUT_WORK, LinkType.RETURN)
    found = traverse_graph(sorted(starts), links_forward=types)["nodes"]
    return QueryBuilder().append(Node, filters=_of_pks(found - without), tag="node")


def crystal_hash(structure: StructureData) -> str | None:
    """What spectra and rows call the crystal of a structure, `engine.sitecache.structure_hash`; None of one that is no crystal."""
    from ..engine.sitecache import structure_hash

    return structure_hash(structure.get_pymatgen_structure()) if all(structure.pbc) else None


def _pks(builder: QueryBuilder, tag: str) -> list[int]:
    builder.add_projection(tag, "id")
    return builder.all(flat=True)


def contents(cls: type[Node]) -> QueryBuilder:
    """The hash of what each node of a type says, `content_key`; tag `node`. Two nodes of one hash say the same, whatever their labels."""
    # As text a hash need not be read as JSON.
    return QueryBuilder().append(cls, subclassing=False, project=[{content_key(cls): {"cast": "t"}}], tag="node")


def content_key(cls: type[Node]) -> str:
    """Where the hash of what a node says is: the content hash of models and training sets, AiiDA's own hash of others."""
    return "attributes.content_hash" if issubclass(cls, (ModelData, DatasetData)) else "extras._aiida_hash"

"""What a result rests on, found by walking its provenance: models, programs, data and software."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from aiida.orm import Node, ProcessNode, QueryBuilder, SinglefileData, StructureData

from ..data.dataset import DatasetData
from ..data.model import ModelData
from ..data.spectra import SpectraData
from ..data.spectrum import SpectrumData
from ..data.table import TableData
from ..engine.citation import Work, references
from ..groups.family import MATERIALS, SHIPPED, ModelFamily

#: Papers of sources of structures, by what a node's `source` or a material's record calls them.
SOURCES = {
    "amcsd": ("amcsd",), "AMCSD": ("amcsd",), "Materials Project": ("materials_project",), "OPTIMADE": ("optimade",),
    "feff_mp": ("materials_project",), "omnixas_feff": ("omnixas", "materials_project"),
}  # fmt: skip

#: How the Materials Project's ids begin, by which crystals of a table (npz) that anybody may have made are known to be its.
MATERIALS_PROJECT = "mp-"

#: A whole id of the Materials Project.
_OF_MATERIALS_PROJECT = re.compile(rf"{MATERIALS_PROJECT}\d+")

#: What a row of a group names: the node of its crystal.
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

#: Nodes looked for in one question; PostgreSQL takes 65,535 values.
_ASKED = 30_000

#: Papers of programs, by how their versions begin.
PROGRAMS = {"FEFF 10": "feff10", "FEFF10": "feff10", "FEFF 9": "feff9", "FEFF 8": "feff8", "FEFF8": "feff8", "FEFF 6": "feff8"}

#: Software that every result rests on, and the papers that ask to be cited for it.
SOFTWARE = {"aiida-xastruct": "xastruct", "aiida-core": "aiida", "pymatgen": "pymatgen", "xraylarch": "larch", "xraydb": "xraydb"}


def ancestry(node: Node) -> list[Node]:
    """A node, what a process gave, and all that they were made from, the oldest first."""
    roots = {node.pk}
    if isinstance(node, ProcessNode):
        roots |= {link.node.pk for link in node.base.links.get_outgoing() if not isinstance(link.node, ProcessNode)}
        roots |= {link.node.pk for link in node.base.links.get_incoming()}
    builder = QueryBuilder().append(Node, filters={"id": {"in": list(roots)}}, tag="result")
    builder.append(Node, with_descendants="result", project="id")
    found = QueryBuilder().append(Node, filters={"id": {"in": [*roots, *builder.all(flat=True)]}}).order_by({Node: "id"})
    return list(found.all(flat=True))


def works_of(node: Node) -> list[Work]:
    """The works that a result rests on: models and data that are no paper first, then papers and software, each once."""
    own: dict[str, Work] = {}
    notes: dict[str, list[str]] = {}

    def cite(key: str, note: str = "") -> None:
        said = notes.setdefault(key, [])
        if note and note not in said:
            said.append(note)

    for name, key in SOFTWARE.items():
        own[name] = Work(name, {"type": "software", "title": name, "version": _version(name)})
        cite(key)
    for ancestor in ancestry(node):
        if isinstance(ancestor, ModelData):
            _model(ancestor, own, cite)
        elif isinstance(ancestor, StructureData):
            _structure(ancestor, cite)
        elif isinstance(ancestor, (SpectrumData, SpectraData)):
            _spectrum(ancestor, own, cite)
        elif isinstance(ancestor, DatasetData):
            own[f"dataset-{ancestor.content_hash[:8]}"] = _dataset(ancestor)
        elif isinstance(ancestor, TableData):
            _table(ancestor, cite)
        elif isinstance(ancestor, SinglefileData):
            _file(ancestor, cite)
    papers = [Work(key, references()[key], tuple(said)) for key, said in notes.items()]
    return [*own.values(), *papers]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _model(model: ModelData, own: dict[str, Work], cite: Any) -> None:
    """A model, what it was trained on, and whose spectra those were."""
    get = model.base.attributes.get
    families = QueryBuilder().append(ModelData, filters={"id": model.pk}, tag="model")
    labels = sorted(families.append(ModelFamily, with_node="model", project="label").all(flat=True))
    name = f"{get('task')} {get('kind')}"
    digest, trained = str(get("content_hash")), str(get("training_data_hash"))
    programs = _card(model).get("reference_programs", [])
    facts = [
        f"family {', '.join(labels) or 'none'}", f"content hash {digest}", f"trained on data of hash {trained}",
        *([f"training spectra by {', '.join(programs)}"] if programs else []),
    ]  # fmt: skip
    own[f"model-{digest[:8]}"] = Work(
        f"model-{digest[:8]}",
        {"type": "misc", "title": f"Model of aiida-xastruct: {name}", "version": get("algorithm_version")},
        tuple(facts),
    )
    for program in programs:
        _program(program, f"training data of the {name} model", cite)
    for key in training_works(trained):
        cite(key, f"training data of the {name} model")
    if get("task") == "forward":
        cite("sevennet", f"features of the {name} model")


def _card(model: ModelData) -> dict[str, Any]:
    import json

    content: dict[str, Any] = json.loads(model.base.repository.get_object_content("card.json"))
    return content


@cache
def training_works(digest: str) -> tuple[str, ...]:
    """Papers of the structures in a training set, by its content hash: that of the shipped family, or a set in the profile."""
    import json

    # Models that a family kept learned from an earlier state of the data, whose materials its list holds too.
    if digest in {json.loads(card.read_text())["training_data_hash"] for card in SHIPPED.glob("*/card.json")}:
        lines = [line.split(maxsplit=2) for line in (SHIPPED / MATERIALS).read_text().splitlines() if line.strip()]
        found = {(source, source_id) for source, source_id, _ in lines}
    else:
        dataset = QueryBuilder().append(DatasetData, filters={"attributes.content_hash": digest}).first(flat=True)
        materials = [] if dataset is None else dataset.load().materials
        found = {(str(material["source"]), str(material["source_id"])) for material in materials}
    return tuple(sorted({key for source, source_id in found for key in papers_of(source, source_id)}))


def papers_of(source: str, source_id: str) -> tuple[str, ...]:
    """Keys of the papers to cite for a crystal, none where its source is not known to have any."""
    if source == "npz" and source_id.startswith(MATERIALS_PROJECT):
        return SOURCES["Materials Project"]
    return SOURCES.get(source, ())


def _papers(source: Mapping[str, Any]) -> tuple[str, ...]:
    """The same of a node's `source`."""
    return papers_of(str(source.get("db_name", "")), str(source.get("id", "")))


def _program(text: str, note: str, cite: Any) -> None:
    """A program by its version, such as `FEFF 8.5L (xraylarch 2026.3.1)`."""
    for start, key in PROGRAMS.items():
        if text.startswith(start) and not (start == "FEFF 10" and not re.match(r"FEFF 10\b", text)):
            cite(key, f"{text}: {note}")
            return


def _structure(structure: StructureData, cite: Any) -> None:
    source = structure.base.attributes.get("source", None) or {}
    papers = _papers(source)
    # OPTIMADE is how a database is asked; whose the crystal is, its address says.
    database = f" of {source['db_uri']}" if source.get("db_uri") else ""
    for key in papers:
        cite(key, f"crystal {source.get('id', '')}".strip() + database)
    if (source.get("extras") or {}).get("reference"):
        cite(papers[0] if papers else "pymatgen", str(source["extras"]["reference"]))


def _spectrum(spectrum: SpectrumData | SpectraData, own: dict[str, Work], cite: Any) -> None:
    """A spectrum by the program that computed it, or by those who measured it."""
    settings = spectrum.base.attributes.get("settings", {})
    program = settings.get("program") or settings.get("version") or ""
    _program(str(program), "spectra in the provenance", cite)
    if settings.get("source") == "Materials Project":
        for key in ("materials_project", "materials_project_xas"):
            cite(key, f"spectrum of {settings.get('material_id', '')}".strip())
    if spectrum.base.attributes.get("method", "") != "measured":
        return
    cite("larch", "reading and processing of measured spectra")
    head = settings.get("xdi") or {}
    said = [f"{space}.{tag}: {value}" for space, tag, value in _said(head)]
    files = ", ".join(map(str, settings.get("files") or ([settings["file"]] if "file" in settings else [])))
    title = f"Measured {spectrum.base.attributes.get('absorber')} {spectrum.base.attributes.get('edge')} spectrum"
    # One and the same measurement goes through several nodes: as imported, as processed.
    key = f"measured-{re.sub(r'[^A-Za-z0-9]+', '-', files or spectrum.label or str(spectrum.uuid)[:8]).strip('-')[:60]}"
    own[key] = Work(key, {"type": "misc", "title": title}, (*([f"files {files}"] if files else []), f"node {spectrum.uuid}", *said))
    if head:
        cite("xdi", f"head of {files}" if files else "")


def _said(head: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What the head of a file says of who measured, where and what."""
    wanted = {"facility": ("name",), "beamline": ("name",), "sample": ("name", "reference"), "scan": ("start_time",)}
    for space, tags in wanted.items():
        for tag in tags:
            if (head.get(space) or {}).get(tag):
                yield space, tag, head[space][tag]


def _table(table: TableData, cite: Any) -> None:
    """The crystals of a batch or a screening: of a table (npz) by their ids, of a group by their nodes. Counted, as there are thousands."""
    names = [str(name) for name in table.read(["id"])["id"].unique().to_pylist()]
    # A file of a folder may begin with these letters too: only what is nothing but an id is the Materials Project's.
    found = Counter(key for name in names if _OF_MATERIALS_PROJECT.fullmatch(name) for key in papers_of("npz", name))
    nodes = [name for name in names if _UUID.fullmatch(name)]  # PostgreSQL refuses a comparison with what is none
    for start in range(0, len(nodes), _ASKED):
        filters = {"uuid": {"in": nodes[start : start + _ASKED]}}
        for source in QueryBuilder().append(StructureData, filters=filters, project="attributes.source").all(flat=True):
            found.update(_papers(source or {}))
    for key, count in found.items():
        cite(key, f"{count} crystal{'s' if count > 1 else ''} of {table.filename} <{table.uuid}>")


def _dataset(dataset: DatasetData) -> Work:
    get = dataset.base.attributes.get
    engines = ", ".join(map(str, get("engines", [])))
    facts = (f"content hash {dataset.content_hash}", f"{get('n_records')} spectra of {get('n_materials')} materials", f"by {engines}")
    return Work(f"dataset-{dataset.content_hash[:8]}", {"type": "misc", "title": f"Training set {dataset.label}".strip()}, facts)


def _file(file: SinglefileData, cite: Any) -> None:
    """A file that was imported, where it came from a database."""
    source = file.base.attributes.get("source", None) or {}
    for key in _papers(source):
        cite(key, f"file {file.filename}")

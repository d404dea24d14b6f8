"""Where a node came from and where it went, as the page tells it; every function here runs in AiiDA's thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from ..engine.errors import XastructError
from ..tools.plotting.figure import Figure
from ..tools.report.provenance import BOX, Graph, graph_of

if TYPE_CHECKING:
    from aiida.orm import Node

#: Links, lines and figures of a page at most.
MOST_LINKS, MOST_LINES, MOST_FIGURES = 50, 40, 6

#: Characters of a box's text, and digits of a pk at most.
_LETTERS, _DIGITS = 24, 18


@dataclass(frozen=True)
class Link:
    """A node that is named: its pk, and what it is."""

    pk: int
    what: str


@dataclass(frozen=True)
class Group:
    """Nodes under a heading, and how many more there are."""

    heading: str
    links: tuple[Link, ...]
    more: int = 0


@dataclass(frozen=True, eq=False)
class Lineage:
    """What the page tells of a node.

    Attributes:
        title: what it is.
        facts: by name.
        figures: of what it says.
        graph: what it was made from.
        groups: what was made from it, and other questions that fit it.
        report: what a process reported, the last lines.
    """

    title: str
    facts: dict[str, str]
    figures: tuple[Figure, ...]
    graph: Graph
    groups: tuple[Group, ...]
    report: tuple[str, ...]


def find(text: str) -> int:
    """The pk of the node that a pk, the digits of a UUID, or a label names.

    Raises:
        XastructError: if there is none, or several bear the label.
    """
    from aiida.common.exceptions import MultipleObjectsError, NotExistent
    from aiida.orm import Node, QueryBuilder, load_node

    text = text.strip()
    try:
        if text.isdecimal() and len(text) > _DIGITS:
            raise NotExistent(text)  # more than a database counts to
        return int(load_node(text).pk or 0)
    except (NotExistent, MultipleObjectsError, ValueError):
        found = QueryBuilder().append(Node, filters={"label": text}, project="id").limit(2).all(flat=True)
    if len(found) != 1:
        many = "several nodes bear" if found else "there is no node of"
        raise XastructError(f"{many} the pk, UUID or label {text!r} in this profile; give another.")
    return int(found[0])


def latest() -> Group:
    """The newest results of the profile."""
    from aiida.orm import ProcessNode, QueryBuilder

    from ..data.model import ModelData
    from ..data.spectrum import SpectrumData
    from ..data.table import TableData

    builder = QueryBuilder().append((SpectrumData, TableData, ModelData, ProcessNode), tag="node")
    builder.order_by({"node": {"ctime": "desc"}}).limit(MOST_LINKS)
    return Group("The newest results", tuple(_links(builder.all(flat=True))))


def lineage(pk: int) -> Lineage:
    """What there is to tell of a node.

    Raises:
        XastructError: if there is no such node.
    """
    from aiida.common.exceptions import NotExistent
    from aiida.orm import ProcessNode, load_node

    from ..tools.report.gather import gather, identity_of

    try:
        node: Any = load_node(pk)
    except NotExistent as error:
        raise XastructError(f"there is no node <{pk}> in this profile; give another.") from error
    facts, graph = identity_of(node), None
    figures: tuple[Figure, ...] = ()
    with contextlib.suppress(XastructError):  # no result of this package: a structure, a file, a process that failed
        told = gather(node)
        facts |= {name: value for name, value in {**told.asked, **told.answer}.items() if name not in facts}
        figures, graph = tuple(told.figures)[:MOST_FIGURES], told.graph
    report = tuple(_report(node)) if isinstance(node, ProcessNode) else ()
    title = str(node.process_label) if isinstance(node, ProcessNode) else type(node).__name__
    return Lineage(f"{title} <{pk}>", facts, figures, graph or graph_of(node), tuple(_groups(node)), report)


def _groups(node: Node) -> Iterable[Group]:
    """What was made from a node, and the named questions that fit it."""
    from aiida.orm import StructureData

    from ..data.model import ModelData
    from ..tools import queries

    yield _limited("Made from it, the next step", [link.node for link in node.base.links.get_outgoing().all()])
    if isinstance(node, StructureData):
        yield _some("Everything downstream of this crystal, wherever it stands", queries.downstream(node))
    else:
        yield _some("Everything downstream of it", queries.made_from(node))
    if isinstance(node, ModelData):
        sets = queries.training_sets(node)
        yield _limited("What it was trained on" if sets else "What it was trained on is not in this profile, nor are its FEFF runs", sets)
        runs = queries.feff_runs(node)
        runs.add_projection("run", "*")
        yield _some("FEFF runs that trained it", runs.distinct())
        spectra = queries.predicted_spectra(node)
        spectra.add_projection("spectrum", "*")
        yield _some("Spectra that it predicted", spectra)


def _some(heading: str, builder: Any) -> Group:
    """The first nodes of a builder that projects one node, and how many more it finds; no more are loaded."""
    total = int(builder.count())
    return Group(heading, tuple(_links(builder.limit(MOST_LINKS).all(flat=True))), max(0, total - MOST_LINKS))


def _limited(heading: str, nodes: Iterable[Any]) -> Group:
    distinct = list({node.pk: node for node in nodes}.values())
    return Group(heading, tuple(_links(distinct[:MOST_LINKS])), max(0, len(distinct) - MOST_LINKS))


def _links(nodes: Iterable[Any]) -> Iterable[Link]:
    for node in nodes:
        kind = getattr(node, "process_label", None) or type(node).__name__
        yield Link(int(node.pk), f"{kind} {node.label}".strip())


def _report(node: Node) -> list[str]:
    """What a process and those that it called reported, the last lines."""
    from aiida.orm import Log, QueryBuilder

    pks = [node.pk, *(child.pk for child in node.called_descendants)]
    builder = QueryBuilder().append(Log, filters={"dbnode_id": {"in": pks}}, project=["time", "levelname", "message"], tag="log")
    found = builder.order_by({"log": {"time": "desc"}}).limit(MOST_LINES).all()
    return [f"{time:%H:%M:%S} {level} {message}"[:400] for time, level, message in reversed(found)]


def drawing(graph: Graph) -> str:
    """A graph as SVG, whose boxes lead to the pages of their nodes; what nodes say of themselves is escaped."""
    width, height = BOX
    parts = [
        f'<svg role="group" aria-label="what the node was made from, the origin on the left" width="{graph.width + 8}" '
        f'height="{graph.height + 8}" viewBox="-4 -4 {graph.width + 8} {graph.height + 8}" style="max-width: none">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#888888"/></marker></defs>'
    ]
    parts += [f'<line x1="{a}" y1="{b}" x2="{c}" y2="{d}" stroke="#888888" marker-end="url(#tip)"/>' for a, b, c, d in graph.arrows]
    for box in graph.boxes:
        title, detail = (escape(text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…") for text in (box.title, box.detail))
        shape = f'rx="{height // 2}" stroke-dasharray="4 2"' if box.process else 'rx="4"'
        parts.append(
            f'<a href="/provenance?node={box.pk}"><title>{escape(f"{box.title} {box.detail}")}</title>'
            f'<rect x="{box.x}" y="{box.y}" width="{width}" height="{height}" {shape} fill="transparent" stroke="#1f7fcf"/>'
            f'<text x="{box.x + 10}" y="{box.y + 17}" font-size="12" fill="currentColor">{title}</text>'
            f'<text x="{box.x + 10}" y="{box.y + 32}" font-size="11" fill="currentColor">{detail}</text></a>'
        )
    return "".join([*parts, "</svg>"])

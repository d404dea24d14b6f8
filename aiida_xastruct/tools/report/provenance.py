"""The provenance of a node as a drawing: what it was made from, in columns, the origin on the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiida.orm import Node, ProcessNode

#: How far back the drawing goes, and how many nodes it holds.
MOST_STEPS, MOST_NODES = 6, 40

#: Size of a box, and room between two, in pixels.
BOX = (170, 40)
GAP = (50, 16)


@dataclass(frozen=True)
class Box:
    """A node in the drawing: its pk, its place in pixels, two lines of text, and whether it is a process."""

    pk: int
    x: int
    y: int
    title: str
    detail: str
    process: bool


@dataclass(frozen=True)
class Graph:
    """Boxes, arrows between them as (x, y, x, y), the size of the drawing, and how many nodes were left out."""

    boxes: Sequence[Box]
    arrows: Sequence[tuple[int, int, int, int]]
    width: int
    height: int
    left_out: int


def graph_of(node: Node) -> Graph:
    """What a node was made from, back to `MOST_STEPS`; of a process its outputs too."""
    column: dict[int, int] = {node.pk: 0}
    nodes: dict[int, Node] = {node.pk: node}
    edges: list[tuple[int, int]] = []
    left_out = 0
    frontier = [node]
    if isinstance(node, ProcessNode):
        for link in node.base.links.get_outgoing():
            if isinstance(link.node, ProcessNode):
                continue
            if len(nodes) >= MOST_NODES // 2:
                left_out += 1
                continue
            nodes[link.node.pk], column[link.node.pk] = link.node, 1
            edges.append((node.pk, link.node.pk))
    for step in range(1, MOST_STEPS + 1):
        following = []
        for child in frontier:
            for link in child.base.links.get_incoming():
                parent = link.node
                if parent.pk not in nodes:
                    if len(nodes) >= MOST_NODES:
                        left_out += 1
                        continue
                    nodes[parent.pk], column[parent.pk] = parent, -step
                    following.append(parent)
                edges.append((parent.pk, child.pk))
        frontier = following
    first = min(column.values())
    count: dict[int, int] = {}
    boxes: dict[int, Box] = {}
    for pk in sorted(nodes):
        own = nodes[pk]
        row = count.get(column[pk], 0)
        count[column[pk]] = row + 1
        x, y = (column[pk] - first) * (BOX[0] + GAP[0]), row * (BOX[1] + GAP[1])
        process = isinstance(own, ProcessNode)
        title = str(own.process_label) if isinstance(own, ProcessNode) else type(own).__name__
        boxes[pk] = Box(pk, x, y, title, f"{pk} {own.label}".strip(), process)
    middle = BOX[1] // 2
    arrows = [
        (boxes[a].x + BOX[0], boxes[a].y + middle, boxes[b].x, boxes[b].y + middle)
        for a, b in dict.fromkeys(edges)
        if boxes[a].x < boxes[b].x
    ]
    width = (max(column.values()) - first + 1) * (BOX[0] + GAP[0]) - GAP[0]
    return Graph(list(boxes.values()), arrows, width, max(count.values()) * (BOX[1] + GAP[1]), left_out)

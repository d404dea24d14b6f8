"""What the demo shows at its end: tables, figures and the provenance of an answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from aiida.common.links import LinkType
from aiida.orm import CalcJobNode, Code, Data, Dict, Node, ProcessNode, StructureData
from rich.console import Console
from rich.table import Table

from aiida_xastruct.data.model import ModelData
from aiida_xastruct.data.spectrum import SpectrumData
from aiida_xastruct.engine.compare import compare
from aiida_xastruct.engine.spectrum import find_e0, flatten
from aiida_xastruct.tools.plotting import contents, paper
from aiida_xastruct.tools.plotting.figure import Figure


def answers_table(console: Console, rows: list[dict[str, Any]]) -> None:
    """One row an answer: who spoke, how sure the model was, and why."""
    caption = "error: the model's expected root mean square error, of flat mu (XANES) or of k²χ in 1/Å² (EXAFS)"
    table = Table(title="Which spectrum does this crystal have?", caption=caption)
    for name in ("structure", "class", "absorber", "kind", "method", "error", "threshold", "reason"):
        table.add_column(name, no_wrap=name != "reason", justify="right" if name in ("error", "threshold") else "left")
    for row in rows:
        answer = row["answer"]
        sites = list(answer["sites"].values())
        errors = [site["uncertainty"] for site in sites if "uncertainty" in site]
        table.add_row(
            row["name"],
            row["class"],
            f"{answer['absorber']} {answer['edge']}",
            answer["kind"],
            f"[bold yellow]{answer['method']}[/]" if answer["method"] != "ml" else "[bold green]ml[/]",
            f"{max(errors):.3g}" if errors else "",
            f"{answer['threshold']:.3g}" if answer["threshold"] is not None else "",
            answer["reason"],
        )
    console.print(table)


def inference_table(console: Console, rows: list[dict[str, Any]], truth: dict[str, Any]) -> None:
    """What the measured spectrum says of the local structure, beside the crystal that was measured."""
    table = Table(title="Which local structure made this spectrum? (goethite, measured)")
    for name in ("read from", "neighbours (probability)", "answer", "mean distance, Å (90 % interval)", "in domain"):
        table.add_column(name)
    for row in rows:
        answer = row["answer"]
        ranked = ", ".join(f"{element} {probability:.2f}" for element, probability in list(answer["neighbours"].items())[:4])
        low, high = answer["interval"]
        distance = f"{answer['mean_distance']:.2f} ({low:.2f} to {high:.2f})"
        domain = "yes" if answer["in_domain"] else f"no: {answer['reason']}"
        table.add_row(row["name"], ranked, " ".join(answer["neighbour_set"]), distance, domain)
    table.add_row(truth["name"], "", " ".join(truth["neighbours"]), f"{truth['mean_distance']:.2f}", "", style="bold")
    console.print(table)


def draw(path: Path, compared: list[dict[str, Any]], measured: SpectrumData) -> None:
    """A figure of predicted against FEFF with the bands, one panel an answer, and the merged measurement.

    Args:
        path: PNG to write.
        compared: `name`, `ml` and `feff`, spectra of one site each.
        measured: raw or flat.
    """
    scans = flatten(measured.to_engine()).settings["n_scans"]
    merged = replace(contents.of_spectra([measured], "mu"), title=f"goethite, Fe K, measured: {scans} scans merged")
    paper.draw(*map(_panel, compared), merged).savefig(path, dpi=100)


def _panel(item: dict[str, Any]) -> Figure:
    """FEFF's spectrum beside the learned one, moved to where it fits best: their edges have different zeros."""
    learned, reference = item["ml"].to_engine(), item["feff"].to_engine()
    found = compare(reference, learned)
    moved = replace(reference, energy=reference.energy + found.shift, e0=find_e0(learned))
    figure = contents.of_spectra([item["ml"], SpectrumData.from_engine(moved, label=f"moved by {found.shift:+.1f} eV")])
    return replace(figure, title=f"{item['name']}: root mean square error {found.mse**0.5:.2g}")


def describe(node: Node) -> str:
    """One line for a node."""
    if isinstance(node, SpectrumData | ModelData):
        words = node.get_description()
    elif isinstance(node, StructureData):
        words = f"{node.get_formula()} {node.label}"
    elif isinstance(node, Code):
        words = node.full_label
    elif isinstance(node, CalcJobNode):
        words = f"{node.process_label}, exit status {node.exit_status}"
    elif isinstance(node, ProcessNode):
        words = str(node.process_label)
    elif isinstance(node, Dict):
        words = f"of {', '.join(sorted(node.get_dict()))}"
    elif isinstance(node, Data):
        text = str(getattr(node, "value", "")) or (getattr(node, "filename", "") or node.label)
        words = text.replace("\n", " ")
    else:
        words = node.label
    return f"{type(node).__name__} <{node.pk}> {words}".rstrip()


def ancestors(node: Node, indent: str = "", link: str = "", seen: set[int] | None = None) -> list[str]:
    """Everything that an answer was made of, as an indented tree: what made a node stands below it, the link's label before it.

    Args:
        node: where to start.
        indent: of this node's line.
        link: label of the link that led here.
        seen: pks that stand above already; they are named again but not followed.
    """
    seen = set() if seen is None else seen
    assert node.pk is not None
    again = node.pk in seen
    lines = [f"{indent}{link + ': ' if link else ''}{describe(node)}{' (see above)' if again else ''}"]
    if again:
        return lines
    seen.add(node.pk)
    links = node.base.links.get_incoming(link_type=(LinkType.CREATE, LinkType.INPUT_CALC)).all()
    for item in sorted(links, key=lambda item: item.link_label):
        lines += ancestors(item.node, indent + "    ", "made by" if item.link_type is LinkType.CREATE else item.link_label, seen)
    return lines


__all__ = ["ancestors", "answers_table", "draw", "inference_table"]

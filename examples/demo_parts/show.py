"""What the demo shows at its end: tables, figures and the provenance of an answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from aiida.common.links import LinkType
from aiida.orm import CalcJobNode, Code, Data, Dict, Node, ProcessNode, StructureData
from rich.console import Console
from rich.table import Table

from aiida_xastruct.data.model import ModelData
from aiida_xastruct.data.spectrum import SpectrumData
from aiida_xastruct.engine.spectrum import EXAFS_GRID, Spectrum, chi_k, find_e0, flatten, on_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    """A figure of predicted against FEFF with the band, one panel an answer, and the merged measurement.

    Args:
        path: PNG to write.
        compared: `name`, `ml` and `feff`, spectra of one site each.
        measured: raw or flat.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    count = len(compared) + 1
    figure, grid = plt.subplots(1, count, figsize=(4.6 * count, 3.8), layout="constrained", squeeze=False)
    axes = grid[0]
    for axis, item in zip(axes, compared, strict=False):
        panel = _xanes_panel if item["ml"].kind == "XANES" else _exafs_panel
        error = panel(axis, item["ml"], item["feff"].to_engine())
        axis.set_title(f"{item['name']}: root mean square error {error:.3g}", fontsize=9)
        axis.legend(fontsize=8, frameon=False)
    flat = flatten(measured.to_engine())
    axes[-1].plot(flat.energy - find_e0(flat), flat.mu, color="black", linewidth=1)
    axes[-1].set(xlim=(-30, 250), xlabel="E - E0 (eV)", ylabel="flat mu")
    axes[-1].set_title(f"goethite, Fe K, measured: {flat.settings['n_scans']} scans merged", fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _xanes_panel(axis: Axes, ml: SpectrumData, feff: Spectrum) -> float:
    """Flat mu against E - E0; returns the root mean square error of the prediction.

    E0 is where the slope is largest, which for an edge of two steps may be either; FEFF's curve is shifted to where it fits best, and the
    legend says by how much.
    """
    learned, reference = ml.to_engine(), flatten(feff)
    x = learned.energy - find_e0(learned)
    shifts = np.arange(-4.0, 4.05, 0.1)
    shifted = [on_grid(reference.energy - find_e0(reference) + shift, reference.mu, x) for shift in shifts]
    best = int(np.argmin([np.nanmean((learned.mu - curve) ** 2) for curve in shifted]))
    truth = shifted[best]
    assert ml.band is not None
    axis.fill_between(x, *ml.band.T, color="tab:green", alpha=0.25, linewidth=0, label="90 % band")
    axis.plot(x, learned.mu, color="tab:green", label="predicted")
    axis.plot(x, truth, color="black", linewidth=1, linestyle="--", label=f"FEFF10, fast, shifted by {shifts[best]:.1f} eV")
    axis.set(xlabel="E - E0 (eV)", ylabel="flat mu")
    return float(np.sqrt(np.nanmean((learned.mu - truth) ** 2)))


def _exafs_panel(axis: Axes, ml: SpectrumData, feff: Spectrum) -> float:
    """k²chi against k; returns the root mean square error of the prediction."""
    k, chi = chi_k(ml.to_engine())
    truth = on_grid(*chi_k(feff), k)
    assert ml.band is not None
    axis.fill_between(k, *(k**2 * (ml.band[-len(k) :].T - 1.0)), color="tab:green", alpha=0.25, linewidth=0, label="90 % band")
    axis.plot(k, k**2 * chi, color="tab:green", label="predicted")
    axis.plot(k, k**2 * truth, color="black", linewidth=1, linestyle="--", label="FEFF 8.5L")
    axis.set(xlabel="k (1/Å)", ylabel="k²χ (1/Å²)", xlim=(EXAFS_GRID[0], EXAFS_GRID[-1]))
    return float(np.sqrt(np.nanmean((k**2 * (chi - truth)) ** 2)))


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

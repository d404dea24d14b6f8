"""What a report says of a node, apart from how it looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiida.orm import Dict, Node, ProcessNode

from ...data.model import ModelData
from ...data.spectrum import SpectrumData
from ...data.table import TableData
from ...engine.errors import XastructError
from ..citation import works_of
from ..plotting import contents
from ..plotting.figure import Figure
from .provenance import Graph, graph_of

#: Rows of a table that a page shows; a screening has many more, which its own table holds.
MOST_ROWS = 50

#: Spectra in one figure.
MOST_SPECTRA = 12

#: Columns of a screening that a page shows, where the table has them.
_COLUMNS = (
    "id", "absorber", "site", "multiplicity", "method", "uncertainty", "in_domain", "needs_reference", "distance", "rank", "reason",
)  # fmt: skip

#: What a person calls the keys of an answer.
_NAMES = {
    "absorber": "absorber", "edge": "edge", "kind": "kind", "method": "answered by", "neighbour_set": "nearest neighbours",
    "conformal_set": "set that holds them all", "mean_distance": "mean distance (angstrom)", "interval": "interval (angstrom)",
    "nearest_distance": "nearest distance (angstrom)", "coordination": "coordination (an estimate)", "uncertainty": "expected error",
    "error_bound": "error bound", "threshold": "FEFF answers above", "coverage": "promises hold in", "in_domain": "like the training data",
    "reason": "because", "flagged": "flagged sites", "family": "models",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Rows under a caption; cells are text."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Report:
    """What a page shows.

    Attributes:
        title: what the node is.
        node: identity of the node, by name.
        asked: inputs, by name.
        answer: the answer, by name.
        tables: further rows.
        figures: drawn on the screen.
        rests_on: works, by name: models, data, programs, software.
        graph: the provenance.
    """

    title: str
    node: Mapping[str, str]
    asked: Mapping[str, str]
    answer: Mapping[str, str]
    tables: Sequence[Table]
    figures: Sequence[Figure]
    rests_on: Sequence[tuple[str, str]]
    graph: Graph


def gather(node: Node) -> Report:
    """What a report says of a node: a spectrum, an answer, a table, a model, or a process that gave one.

    Raises:
        XastructError: if the node is none of these, or the process has not ended well.
    """
    results = _results(node)
    answers = [item for item in results if isinstance(item, Dict)]
    answer = {name: text for item in answers[:1] for name, text in _said(item.get_dict()).items()}
    tables = [_table(item) for item in results if isinstance(item, TableData)] + [
        table for item in answers for table in _tables(item.get_dict())
    ]
    for model in (item for item in results if isinstance(item, ModelData)):
        tables.append(_metrics(model))
    if len(results) == 1 and isinstance(results[0], SpectrumData):
        answer = _spectrum(results[0])
    return Report(
        _title(node),
        identity_of(node),
        _asked(node),
        answer,
        tables,
        _figures([*_measured(node), *results]),
        [(work.key, _work(work.fields)) for work in works_of(node)],
        graph_of(node),
    )


def identity_of(node: Node) -> dict[str, str]:
    """Type, uuid, label and time of a node, and of a process how it is doing, by name."""
    identity = {
        "node": f"{type(node).__name__} <{node.pk}>",
        "uuid": node.uuid,
        "label": node.label,
        "made": f"{node.ctime:%Y-%m-%d %H:%M}",
    }
    if isinstance(node, ProcessNode):
        state = node.process_state.value if node.process_state is not None else "unknown"
        ended = "" if node.exit_status is None else f", exit status {node.exit_status}"
        identity |= {"process": str(node.process_label), "state": state + ended, "message": node.exit_message or ""}
    return {name: text for name, text in identity.items() if text}


def figures_of(nodes: Sequence[Node], kind: str = "") -> list[Figure]:
    """The figures of some nodes, the first the one that is drawn where no other is asked for.

    Args:
        nodes: several spectra, or one node of `gather`.
        kind: mu, chi, transform, neighbours, distance or risk; all if empty.

    Raises:
        XastructError: if there is no such figure.
    """
    spectra = [item for node in nodes for item in _results(node) if isinstance(item, SpectrumData)]
    if kind in contents.KINDS or len(nodes) > 1:
        return [contents.of_spectra(spectra[:MOST_SPECTRA], kind if kind in contents.KINDS else "")]
    titles = {"neighbours": "Neighbours", "distance": "Mean distance", "risk": "Risk"}
    found = [figure for figure in _figures(_results(nodes[0])) if not kind or figure.title.startswith(titles[kind])]
    if not found:
        raise XastructError(f"{type(nodes[0]).__name__} <{nodes[0].pk}> has no figure{f' of {kind}' if kind else ''}; name another node.")
    return found


def _results(node: Node) -> list[Node]:
    """The nodes that hold what a node says: itself, or the outputs of a process, each once."""
    if isinstance(node, (SpectrumData, Dict, TableData, ModelData)):
        return [node]
    if not isinstance(node, ProcessNode):
        raise XastructError(f"{type(node).__name__} <{node.pk}> is no result of this package; name a spectrum, an answer or a process.")
    if not node.is_terminated:
        raise XastructError(f"{node.process_label} <{node.pk}> is still running; `verdi process status {node.pk}` shows how it is doing.")
    order = {"spectrum": 0, "answer": 1, "table": 1, "ranking": 1, "summary": 2, "report": 2}
    links = [link for link in node.base.links.get_outgoing() if isinstance(link.node, (SpectrumData, Dict, TableData, ModelData))]
    links.sort(key=lambda link: (order.get(link.link_label, 3), link.link_label))
    found = {link.node.pk: link.node for link in links}
    if not found:
        raise XastructError(f"{node.process_label} <{node.pk}> has no result; `verdi process report {node.pk}` says why.")
    return list(found.values())


def _work(fields: Mapping[str, Any]) -> str:
    """A work in a few words."""
    return ", ".join(str(fields[name]) for name in ("title", "version", "year") if name in fields)


def _measured(node: Node) -> list[SpectrumData]:
    """Spectra that a process was asked about."""
    if not isinstance(node, ProcessNode):
        return []
    return [link.node for link in node.base.links.get_incoming() if isinstance(link.node, SpectrumData)]


def _title(node: Node) -> str:
    names = {
        "PredictWorkChain": "Prediction of a spectrum", "InferWorkChain": "Local structure from a spectrum", "ScreenWorkChain": "Screening",
        "TrainWorkChain": "Training of models", "CompareWorkChain": "Candidates beside a measurement", "SpectrumData": "Spectrum",
        "ModelData": "Model", "TableData": "Table of answers", "train_family": "Training of models",
    }  # fmt: skip
    kind = str(node.process_label) if isinstance(node, ProcessNode) else type(node).__name__
    return names.get(kind, kind.replace("_", " ").capitalize())


def _asked(node: Node) -> dict[str, str]:
    """Inputs of a process, or of what made a node."""
    process = node if isinstance(node, ProcessNode) else node.base.links.get_incoming().first()
    if process is not None and not isinstance(process, ProcessNode):
        process = process.node
    if process is None:
        return {}
    asked = {}
    for link in sorted(process.base.links.get_incoming(), key=lambda link: link.link_label):
        if not isinstance(link.node, ProcessNode):
            value = getattr(link.node, "value", None)
            named = link.node.label or type(link.node).__name__
            asked[link.link_label.replace("__", " ")] = str(value) if value is not None else f"{named} <{link.node.pk}>"
    return asked


def _text(value: Any) -> str:
    """A value as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value[:20])) + (" ..." if len(value) > 20 else "")
    return "" if value is None else str(value)


def _said(answer: Mapping[str, Any]) -> dict[str, str]:
    found = {_NAMES.get(name, name.replace("_", " ")): value for name, value in answer.items() if not isinstance(value, Mapping)}
    kept = {name: value for name, value in found.items() if not (isinstance(value, list) and value and isinstance(value[0], Mapping))}
    if "promises hold in" in kept:
        kept["promises hold in"] = f"{100 * float(kept['promises hold in']):.0f} % of cases"
    return {name: _text(value) for name, value in kept.items() if value not in (None, "", [])}


def _tables(answer: Mapping[str, Any]) -> list[Table]:
    """Lists of rows in an answer."""
    found = []
    for name, value in answer.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            columns = tuple(dict.fromkeys(key for row in value for key in row))
            rows = tuple(tuple(_text(row.get(column)) for column in columns) for row in value[:MOST_ROWS])
            more = f", the first {MOST_ROWS} of {len(value)}" if len(value) > MOST_ROWS else ""
            found.append(Table(f"{name.replace('_', ' ').capitalize()}{more}", columns, rows))
    return found


def _table(node: TableData) -> Table:
    """The best rows: those most like the target where crystals were ranked, else the surest; what has no spectrum comes last."""
    import pyarrow.compute as pc

    names = node.column_names()
    ranked = "rank" in names
    shown = [name for name in _COLUMNS if name in names]
    whole = node.read(list(dict.fromkeys([*shown, "row", "uncertainty"])))
    keys = whole.append_column("refused", pc.is_null(whole["row"]))
    order = ["refused", "rank" if ranked else "uncertainty"]
    best = whole.take(pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in order]))
    columns = tuple(name for name in shown if whole[name].null_count < len(whole))
    rows = best.select(columns).slice(0, MOST_ROWS).to_pylist()
    # Where all are shown it is their order that is told.
    which = f"the {len(rows)} " if len(whole) > MOST_ROWS else ""
    by = f"{which}most like the target first" if ranked else f"{which}with the smallest expected error first"
    caption = f"{len(whole):,} rows in the table <{node.pk}>, " + (f"of which {by}" if which else by)
    return Table(caption, columns, tuple(tuple(_text(row[name]) for name in columns) for row in rows))


def _metrics(model: ModelData) -> Table:
    card = model.card
    report = card.get("metrics", {}).get("report", {})
    rows = tuple((name.replace("_", " "), _text(value)) for name, value in report.items())
    return Table(f"{card['task']}, {card['kind']}: measured on materials that were not trained on", ("measure", "value"), rows)


def _spectrum(node: SpectrumData) -> dict[str, str]:
    energy = node.energy
    named = {"absorber": node.absorber, "edge": node.edge, "kind": node.kind, "method": node.method, "normalisation": node.normalisation}
    said = {name: _text(value) for name, value in named.items()}
    said |= {
        "E0": "" if node.e0 is None else f"{node.e0:.2f} eV",
        "energies": f"{energy[0]:.1f} to {energy[-1]:.1f} eV, {len(energy)} points",
    }
    remarks = (node.settings.get("quality") or {}).get("remarks")
    return {name: text for name, text in (said | {"quality": " ".join(remarks or ())}).items() if text}


def _figures(results: Sequence[Node]) -> list[Figure]:
    found: list[Figure] = []
    spectra = [item for item in results if isinstance(item, SpectrumData)][:MOST_SPECTRA]
    by_edge: dict[tuple[str, str], list[SpectrumData]] = {}
    for spectrum in spectra:
        by_edge.setdefault((spectrum.absorber, spectrum.edge), []).append(spectrum)
    for own in by_edge.values():
        found.append(contents.of_spectra(own))
        if all(spectrum.kind == "EXAFS" for spectrum in own):
            found.append(contents.of_spectra(own, "transform"))
    for item in results:
        if isinstance(item, Dict) and {"neighbours", "mean_distance", "interval"} <= item.get_dict().keys():
            found += contents.of_answer(item.get_dict())
        if isinstance(item, Dict) and isinstance(item.get_dict().get("losses"), dict):
            found += contents.of_losses(item.get_dict()["losses"])
        if isinstance(item, TableData):
            found += contents.of_table(item.read(["uncertainty"]))
    risk = contents.of_risk({f"{item.task}-{item.kind}": item.card for item in results if isinstance(item, ModelData)})
    return [*found, *([risk] if risk else [])]

"""Write docs/reference/accuracy.md, and the table in README.md, from the cards of a family: every number is one that training measured.

python scripts/write_accuracy.py aiida_xastruct/pretrained/default
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

TITLES = {
    "forward-XANES": "Crystal to XANES",
    "forward-EXAFS": "Crystal to EXAFS",
    "neighbours-XANES": "XANES to nearest-neighbour elements",
    "neighbours-EXAFS": "EXAFS to nearest-neighbour elements",
    "distance-XANES": "XANES to mean nearest-neighbour distance",
    "distance-EXAFS": "EXAFS to mean nearest-neighbour distance",
}

#: What two spectra are asked for.
JOINT_TITLES = {"neighbours": "nearest-neighbour elements", "distance": "mean nearest-neighbour distance"}

#: Metric, what it is, and the key of the baseline beside it.
ROWS: dict[str, list[tuple[str, str, str]]] = {
    "forward": [
        ("mse", "mean square error", "baseline_mse"),
        ("rmse_median", "median root mean square error", "baseline_rmse_median"),
        ("r2_median", "median R2 of a spectrum (EXAFS: k^2-weighted, k 3 to 12)", ""),
        ("surest_half_error_ratio", "error of the surest half over the error of all", ""),
        ("whole_spectrum_in_band", "spectra wholly inside the 90 % band", ""),
        ("error_below_bound", "errors below their 90 % bound", ""),
        ("answered_without_feff", "share answered without FEFF", ""),
        ("mse_where_answered", "mean square error of those", ""),
        ("too_wrong_where_answered", "share of those worse than half the mean spectrum's error", ""),
    ],
    "neighbours": [
        ("micro_f1", "micro-F1", "baseline_micro_f1"),
        ("macro_f1", "macro-F1 over elements with at least 20 sites", "baseline_macro_f1"),
        ("f1_within_2", "micro-F1, elements within two places right", "baseline_f1_within_2"),
        ("exact", "exact set", "baseline_exact"),
        ("exact_without_oxygen", "exact set, compounds without oxygen", "baseline_exact_without_oxygen"),
        ("top1", "likeliest element is a neighbour", ""),
        ("coverage90", "sites: all neighbours inside the 90 % set", ""),
        ("materials_covered", "materials: at all sites", ""),
        ("set_size", "mean size of that set (absorber alone: at the same coverage)", "baseline_set_size"),
        ("surest_half_error_ratio", "wrong sets in the surest half over those in all", ""),
        ("elements_known_micro_f1", "elements known: micro-F1 (beside: by composition alone)", "baseline_elements_known_micro_f1"),
        ("elements_known_exact", "elements known: exact set (beside: by composition alone)", "baseline_elements_known_exact"),
        ("elements_known_coverage90", "elements known: inside the 90 % set", ""),
        ("elements_known_set_size", "elements known: mean size of that set", ""),
    ],
    "distance": [
        ("mae", "mean absolute error (angstrom)", "baseline_mae"),
        ("median_error", "median absolute error (angstrom)", ""),
        ("r2", "R2", ""),
        ("r2_within_absorber", "R2 within an absorber", ""),
        ("nearest_mae", "mean absolute error of the nearest distance (angstrom)", ""),
        ("coverage90", "inside the 90 % interval", ""),
        ("interval_half_width_median", "median half-width of that interval (angstrom)", ""),
        ("surest_half_error_ratio", "error of the surest half over the error of all", ""),
    ],
}

BASELINES = {
    "forward": "the absorber's mean spectrum",
    "neighbours": "the absorber's most frequent set",
    "distance": "the absorber's mean",
}

#: Columns of a card's metrics, in the order of the table; a card has those that have rows.
COLUMNS = {
    "report": "all",
    "seen_prototype": "structure type seen",
    "new_prototype": "new structure type",
    "new_formula": "new formula",
    "block_s": "s block",
    "block_p": "p block",
    "block_d": "d block",
    "block_f": "f block",
    "computed": "0 K, as computed",
    "both_known": "read from both",
    "source_omnixas_feff": "OmniXAS",
    "source_feff_mp": "Materials Project, own FEFF",
    "source_amcsd": "AMCSD",
}


def section(card: dict[str, Any]) -> list[str]:
    """Markdown of one model."""
    metrics, split = card["metrics"], card["split"]
    whole = metrics["report"]
    columns = [name for name in COLUMNS if name in metrics]
    lines = [
        f"## {TITLES[card['task'] + '-' + card['kind']]}",
        "",
        f"{len(card['elements'])} absorbers; {sum(card['training_sites'].values())} sites to train on{_kept(card)}, {split['select']} to "
        f"select, {split['calibrate']} to "
        f"calibrate, {whole['sites']} to report. Grouped by {split['grouped_by']}; split seed {split['seed']}; "
        f"{card['training']['members']} networks. Of the {whole['materials']} materials to report, "
        f"{whole['materials_of_known_formula']} share their formula with one of another structure that was trained on.",
        "",
        f"| *report* part | {' | '.join(COLUMNS[name] for name in columns)} | {BASELINES[card['task']]} |",
        "|---" * (len(columns) + 2) + "|",
        f"| sites | {' | '.join(str(metrics[name]['sites']) for name in columns)} | {whole['sites']} |",
    ]
    return [*lines, *_rows(card["task"], metrics, columns), "", *_risk(card), *_promises(card)]


def _rows(task: str, metrics: dict[str, Any], columns: list[str], alone: Sequence[dict[str, Any]] = ()) -> list[str]:
    """Rows of a table of metrics by column, then those of other models on all sites, and the baseline of all sites last."""
    lines, whole = [], metrics["report"]
    for key, text, baseline in ROWS[task]:
        if key in whole:
            values = [format(own[key], ".4g") if key in own else "" for own in (*(metrics[name] for name in columns), *alone)]
            beside = format(whole[baseline], ".4g") if baseline in whole else ""
            lines.append(f"| {text} | {' | '.join(values)} | {beside} |")
    return lines


def joint_section(card: dict[str, Any]) -> list[str]:
    """Markdown of what XANES and EXAFS tell together, from the card of the EXAFS model."""
    pool = card["pool"]
    metrics = pool["metrics"]["both"]
    columns = [name for name in COLUMNS if name in metrics]
    alone = [f"{kind} alone" for kind in ("EXAFS", "XANES")]
    lines = [
        f"## XANES and EXAFS together to {JOINT_TITLES[card['task']]}",
        "",
        f"{metrics['report']['sites']} sites of the *report* part whose two spectra FEFF computed; weights learned on "
        f"{pool['pairs']['select']} sites of *select* and calibrated on {pool['pairs']['calibrate']} of *calibrate*. Where the XANES is "
        "outside its models' domain, or EXAFS names neighbours new to them, EXAFS answers alone. What the absorber alone tells is what "
        "it tells on those two parts.",
        "",
        f"| *report* part, pairs | {' | '.join(COLUMNS[name] for name in columns)} | {' | '.join(alone)} | {BASELINES[card['task']]} |",
        "|---" * (len(columns) + 4) + "|",
        f"| sites | {' | '.join(str(metrics[name]['sites']) for name in columns)} |" + f" {metrics['report']['sites']} |" * 3,
    ]
    return [*lines, *_rows(card["task"], metrics, columns, [pool["metrics"][kind]["report"] for kind in ("EXAFS", "XANES")]), ""]


def _kept(card: dict[str, Any]) -> str:
    """What is to be said of networks that were only calibrated anew, and of those that went on learning."""
    said = []
    if card.get("calibration_data_hash", card["training_data_hash"]) != card["training_data_hash"]:
        said.append(f"of data `{card['training_data_hash'][:12]}`")
    if (before := card["training"].get("before")) is not None:
        said.append(f"before that of data `{before['training_data_hash'][:12]}`, from which the networks went on")
    return f" ({'; '.join(said)})" if said else ""


def _risk(card: dict[str, Any]) -> list[str]:
    """Markdown of the risk-coverage curve of a forward model."""
    if "risk_coverage" not in card:
        return []
    curve, calibration = card["risk_coverage"], card["calibration"]
    return [
        f"FEFF answers where the expected error exceeds {calibration['threshold']:.3g}: there {calibration['coverage']:.0%} of the errors "
        f"lie below {calibration['risk_target']:.3g}, half the error of the mean spectrum. The risk-coverage curve:",
        "",
        f"| surest share | {' | '.join(f'{share:.0%}' for share in curve['share'])} |",
        "|---" * (len(curve["share"]) + 1) + "|",
        f"| expected error up to | {' | '.join(f'{value:.3g}' for value in curve['expected_error'])} |",
        f"| mean square error | {' | '.join(f'{value:.3g}' for value in curve['mse'])} |",
        "",
    ]


def _promises(card: dict[str, Any]) -> list[str]:
    """What coverage is calibrated for."""
    unit = {
        "neighbours": "sets are calibrated to hold all neighbours at all sites of {share} of new materials",
        "distance": "intervals are calibrated to hold at {share} of the sites of new materials",
        "forward": "band and bound are calibrated to hold at {share} of the sites of new materials",
    }[card["task"]]
    return [f"The {unit.format(share=format(card['calibration']['coverage'], '.0%'))}.", ""]


#: What the README shows of each model: metric, its baseline, the text, decimals.
HEADLINES = {
    "forward-XANES": ("mse", "baseline_mse", "mean square error of flat mu", 4),
    "forward-EXAFS": ("mse", "baseline_mse", "mean square error of k²χ", 2),
    "distance-XANES": ("mae", "baseline_mae", "mean absolute error, Å", 3),
    "distance-EXAFS": ("mae", "baseline_mae", "mean absolute error, Å", 3),
    "neighbours-XANES": ("macro_f1", "baseline_macro_f1", "macro-F1", 2),
    "neighbours-EXAFS": ("macro_f1", "baseline_macro_f1", "macro-F1", 2),
}

BEGIN, END = "<!-- accuracy -->", "<!-- /accuracy -->"


def headlines(cards: dict[str, dict[str, Any]]) -> str:
    """The README's table."""
    lines = ["| | measure | model | absorber alone | sites |", "|---|---|---|---|---|"]
    for label, (metric, baseline, text, decimals) in HEADLINES.items():
        if label in cards:
            found = cards[label]["metrics"]["report"]
            values = f"{found[metric]:.{decimals}f} | {found[baseline]:.{decimals}f} | {found['sites']}"
            lines.append(f"| {TITLES[label]} | {text} | {values} |")
    for label in ("distance-EXAFS", "neighbours-EXAFS"):
        if "pool" in cards.get(label, {}):
            metric, baseline, text, decimals = HEADLINES[label]
            found = cards[label]["pool"]["metrics"]["both"]["report"]
            values = f"{found[metric]:.{decimals}f} | {found[baseline]:.{decimals}f} | {found['sites']}"
            lines.append(f"| XANES and EXAFS together to {JOINT_TITLES[cards[label]['task']]} | {text} | {values} |")
    return "\n".join(lines)


def main(family: Path) -> None:
    """Write the page and the table."""
    cards = {path.parent.name: json.loads(path.read_text()) for path in sorted(family.glob("*/card.json"))}
    head = json.loads((family / "family.json").read_text())
    lines = [
        "# Accuracy",
        "",
        f"Family `{head['name']}`, version {head['version']}, measured on data `{head['training_data_hash'][:12]}` and trained on it where "
        f"no other is named; inverse EXAFS also on spectra simulated of crystals `{head['crystals_hash'][:12]}`. No material of the "
        "exam (`holdout_ids.txt`, and the twins in `holdout_formulas.txt`) is in it. Errors of XANES are of flat mu; those of EXAFS are of "
        "k^2 chi, in 1/angstrom^2. Inverse models are measured on random draws of each spectrum (thermal disorder, amplitude, shifts of "
        "E0, what is left of a background, glitches, noise, short ranges), not on FEFF's clean ones. One split and one seed; "
        "[how numbers scatter](spread.md) over splits and seeds.",
        "",
        "Made by `python scripts/write_accuracy.py aiida_xastruct/pretrained/default`.",
        "",
    ]
    for label in TITLES:
        if label in cards:
            lines += section(cards[label])
    for card in cards.values():
        if "pool" in card:
            lines += joint_section(card)
    (ROOT / "docs" / "reference" / "accuracy.md").write_text("\n".join(lines))
    before, rest = (ROOT / "README.md").read_text().split(BEGIN)
    after = rest.split(END)[1]
    (ROOT / "README.md").write_text(f"{before}{BEGIN}\n{headlines(cards)}\n{END}{after}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

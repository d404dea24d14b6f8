"""Write docs/reference/accuracy.md, and the table in README.md, from the cards of a family: every number is one that training measured.

python scripts/write_accuracy.py aiida_xastruct/pretrained/default
"""

from __future__ import annotations

import json
import sys
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

#: Metric, what it is, and the key of the baseline beside it.
ROWS: dict[str, list[tuple[str, str, str]]] = {
    "forward": [
        ("mse", "mean square error", "baseline_mse"),
        ("rmse_median", "median root mean square error", "baseline_rmse_median"),
        ("r2_median", "median R2 of a spectrum (EXAFS: k^2-weighted, k 3 to 12)", ""),
        ("surest_half_error_ratio", "error of the surest half over the error of all", ""),
        ("whole_spectrum_in_band", "spectra wholly inside the 90 % band", ""),
        ("answered_without_feff", "share answered without FEFF", ""),
        ("mse_where_answered", "mean square error of those", ""),
    ],
    "neighbours": [
        ("micro_f1", "micro-F1", "baseline_micro_f1"),
        ("macro_f1", "macro-F1 over elements with at least 20 sites", "baseline_macro_f1"),
        ("exact", "exact set", "baseline_exact"),
        ("top1", "likeliest element is a neighbour", ""),
        ("coverage90", "all neighbours inside the 90 % set", ""),
        ("set_size", "mean size of that set", ""),
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


def section(card: dict[str, Any]) -> list[str]:
    """Markdown of one model."""
    metrics, split = card["metrics"]["report"], card["split"]
    lines = [
        f"## {TITLES[card['task'] + '-' + card['kind']]}",
        "",
        f"{len(card['elements'])} absorbers; {split['train']} sites to train on, {split['select']} to select, {split['calibrate']} to "
        f"calibrate, {metrics['sites']} to report. Grouped by {split['grouped_by']}; split seed {split['seed']}; "
        f"{card['training']['members']} networks.",
        "",
        f"| report part | model | {BASELINES[card['task']]} |",
        "|---|---|---|",
    ]
    for key, text, baseline in ROWS[card["task"]]:
        if key in metrics:
            lines.append(f"| {text} | {metrics[key]:.4g} | {format(metrics[baseline], '.4g') if baseline else ''} |")
    return [*lines, ""]


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
    return "\n".join(lines)


def main(family: Path) -> None:
    """Write the page and the table."""
    cards = {path.parent.name: json.loads(path.read_text()) for path in family.glob("*/card.json")}
    head = json.loads((family / "family.json").read_text())
    lines = [
        "# Accuracy",
        "",
        f"Family `{head['name']}`, version {head['version']}, trained on data `{head['training_data_hash'][:12]}`. No material of the "
        "exam (`holdout_ids.txt`, and the twins in `holdout_formulas.txt`) is in it. Errors of XANES are of flat mu; those of EXAFS are of "
        "k^2 chi, in 1/angstrom^2. Inverse models are measured on random draws of each spectrum (thermal disorder, S0^2, shifts of E0, "
        "noise, short ranges), not on FEFF's clean ones. One split and one seed: how the numbers scatter over splits is not measured yet.",
        "",
        "Made by `python scripts/write_accuracy.py aiida_xastruct/pretrained/default`.",
        "",
    ]
    for label in TITLES:
        if label in cards:
            lines += section(cards[label])
    (ROOT / "docs" / "reference" / "accuracy.md").write_text("\n".join(lines))
    before, rest = (ROOT / "README.md").read_text().split(BEGIN)
    after = rest.split(END)[1]
    (ROOT / "README.md").write_text(f"{before}{BEGIN}\n{headlines(cards)}\n{END}{after}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

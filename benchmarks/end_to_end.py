"""One end-to-end model against two trained apart: crystal to XANES to mean distance.

    python benchmarks/end_to_end.py --dataset dataset.h5 --json end_to_end.json
    python benchmarks/end_to_end.py --table end_to_end.json > docs/reference/end_to_end.md

XAStruct's paper found that one model trained end to end is worse than one for each direction; this measures it. *Apart*: the forward
network learns spectra, the inverse network learns distances from the true spectra. *End to end*: the same two networks in a row, learned
together by one loss, the error of the spectrum in the middle plus the error of the distance at the end, each over that of the mean of the
training sites. Both have the same networks, sites, order, epochs, optimizer and schedule, keep the epoch with the lowest loss on *select*,
and are asked about *report*: the spectrum of a crystal, the distance behind a true spectrum (what a user measures), and the distance at the
end of the row. Spectra are as computed, not drawn. `--seeds` trainings of each.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pages import described, parse
from torch import nn

from aiida_xastruct.engine.dataset import Dataset, SiteTable
from aiida_xastruct.engine.models.ensemble import Architecture
from aiida_xastruct.engine.models.tasks import Task, curve_error
from aiida_xastruct.engine.models.views import view

FORWARD, DISTANCE = Task("forward", "XANES"), Task("distance", "XANES")

BATCH, RATE, DECAY = 128, 2e-3, 0.2


class Rows:
    """Features, spectra, distances and absorbers of a part, and the errors of the training part's means."""

    def __init__(self, part: SiteTable) -> None:
        self.features = FORWARD.inputs(FORWARD.source(part))
        self.spectrum, self.distance = FORWARD.target(part), DISTANCE.target(part)
        self.absorber = torch.as_tensor(part.absorber)


class InARow(nn.Module):
    """Crystal to spectrum, spectrum to distances."""

    def __init__(self, train: Rows, part: SiteTable, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        architecture = Architecture()
        self.forward_network, self.inverse_network = architecture.build(FORWARD), architecture.build(DISTANCE)
        self.forward_network.start_from(train.features, train.absorber, FORWARD.start(part))
        self.inverse_network.start_from(view(train.spectrum, "XANES"), train.absorber, DISTANCE.start(part))
        spectrum = FORWARD.start(part).expand(len(part), -1)
        distance = DISTANCE.start(part).expand(len(part), -1)
        self.scale = float(FORWARD.loss(spectrum, train.spectrum)), float(DISTANCE.loss(distance, train.distance))

    def spectra(self, rows: Rows, which: torch.Tensor | slice) -> torch.Tensor:
        """(b, grid) of crystals."""
        value: torch.Tensor = self.forward_network(rows.features[which], rows.absorber[which])[0]
        return value

    def distances(self, spectrum: torch.Tensor, absorber: torch.Tensor) -> torch.Tensor:
        """(b, 3) of spectra."""
        value: torch.Tensor = self.inverse_network(view(spectrum, "XANES"), absorber)[0]
        return value

    def losses(self, rows: Rows, which: torch.Tensor | slice, together: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of the spectrum and of the distance, which is read from the true spectrum or, together, from the one in the middle."""
        said = self.spectra(rows, which)
        read = said if together else rows.spectrum[which]
        distance = self.distances(read, rows.absorber[which])
        return FORWARD.loss(said, rows.spectrum[which]) / self.scale[0], DISTANCE.loss(distance, rows.distance[which]) / self.scale[1]


def train(model: InARow, rows: Rows, select: Rows, together: bool, epochs: int, seed: int) -> None:
    """Learn; apart each network keeps its own best epoch, together both keep the best of their one loss."""
    networks = [model] if together else [model.forward_network, model.inverse_network]
    steps = epochs * -(-len(rows.absorber) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    best: list[tuple[float, dict[str, torch.Tensor]]] = [(float("inf"), {}) for _ in networks]
    for _ in range(epochs):
        model.train()
        for which in torch.randperm(len(rows.absorber), generator=generator).split(BATCH):
            optimizer.zero_grad()
            sum(model.losses(rows, which, together)).backward()  # type: ignore[union-attr]
            for network in networks:  # apart, one network's gradient does not shorten the other's
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.inference_mode():
            losses = [float(loss) for loss in model.losses(select, slice(None), together)]
        for index, (network, loss) in enumerate(zip(networks, [sum(losses)] if together else losses, strict=True)):
            if loss < best[index][0]:
                best[index] = loss, {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    for network, (_, state) in zip(networks, best, strict=True):
        network.load_state_dict(state)


@torch.inference_mode()
def measured(model: InARow, report: Rows) -> dict[str, float]:
    """The three errors on the report part."""
    model.eval()
    said = model.spectra(report, slice(None))
    true = report.distance[:, 0]
    return {
        "spectrum_mse": float((curve_error(said, report.spectrum, "XANES") ** 2).mean()),
        "distance_mae_of_true_spectra": float((model.distances(report.spectrum, report.absorber)[:, 0] - true).abs().mean()),
        "distance_mae_in_a_row": float((model.distances(said, report.absorber)[:, 0] - true).abs().mean()),
    }


TITLES = {
    "spectrum_mse": "crystal to XANES: mean square error of flat mu",
    "distance_mae_of_true_spectra": "true XANES to mean distance: MAE (angstrom)",
    "distance_mae_in_a_row": "crystal to XANES to mean distance: MAE (angstrom)",
}


def run(dataset: Dataset, epochs: int, seeds: int, split_seed: int) -> dict[str, Any]:
    """Train both ways, `seeds` times."""
    parts = dataset.split("XANES", split_seed)
    rows, select, report = (Rows(parts[name]) for name in ("train", "select", "report"))
    start = time.process_time()
    found: dict[str, list[dict[str, float]]] = {"apart": [], "end to end": []}
    for seed in range(seeds):
        for name, own in found.items():
            model = InARow(rows, parts["train"], seed)
            train(model, rows, select, name == "end to end", epochs, seed)
            own.append(measured(model, report))
    sites = {name: len(part) for name, part in parts.items()}
    return {
        "runs": found,
        "sites": sites,
        "epochs": epochs,
        "split_seed": split_seed,
        "dataset": dataset.content_hash(),
        "cpu_seconds": time.process_time() - start,
    }


def table(result: dict[str, Any]) -> str:
    """Markdown of a result."""
    runs, sites = result["runs"], result["sites"]
    lines = [
        "# End to end, or apart",
        "",
        *(__doc__ or "").splitlines()[2:],
        "",
        f"{sites['train']} sites to learn from, {sites['select']} to select by, {sites['report']} to report; split seed "
        f"{result['split_seed']}, {result['epochs']} epochs, {len(runs['apart'])} seeds (mean +- standard deviation); data "
        f"`{result['dataset'][:12]}`; {result['cpu_seconds']:.0f} CPU-seconds in all.",
        "",
        "| *report* | apart | end to end | end to end over apart |",
        "|---|---|---|---|",
    ]
    for key, text in TITLES.items():
        values = {name: np.array([own[key] for own in runs[name]]) for name in runs}
        numbers = [f"{own.mean():.5f} +- {own.std(ddof=1) if len(own) > 1 else float('nan'):.5f}" for own in values.values()]
        lines.append(f"| {text} | {' | '.join(numbers)} | {values['end to end'].mean() / values['apart'].mean():.2f} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """Run the benchmark."""
    parser = described(__doc__)
    parser.add_argument("--dataset", type=Path, help="what `xastruct dataset` made")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--split-seed", type=int, default=0)
    options = parse(parser, table, "dataset")
    result = run(Dataset.load(options.dataset), options.epochs, options.seeds, options.split_seed)
    options.json.write_text(json.dumps(result, indent=1))
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

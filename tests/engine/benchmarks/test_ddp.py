"""The page of one process beside two, from curves whose distances are known."""

from __future__ import annotations

import numpy as np


def result(ddp, shift: float):
    """Curves that fall; a seed lifts them by 0.1, two processes by `shift`."""
    epochs = ddp.CONFIG["training"]["epochs"]
    curve = np.linspace(2.0, 1.0, epochs)
    runs = {
        f"{n} {seed}": {"curves": {"shell-XANES": {loss: list(curve + 0.1 * seed + shift * (n - 1)) for loss in ddp.LOSSES}}}
        for n in ddp.PROCESSES
        for seed in ddp.SEEDS
    }
    return {"config": ddp.CONFIG, "dataset": "0" * 64, "sites": {"train": 30, "select": 10}, "runs": runs}


def test_the_page_says_whether_two_are_as_near_as_seeds_are(script):
    ddp = script("ddp")
    near = ddp.page(result(ddp, 0.01))
    pairs = [0.1 * (b - a) for a in range(6) for b in range(a + 1, 6)]
    assert f"| shell-XANES | select | {np.mean(pairs):.4f} ({max(pairs):.4f}) | 0.0100 (0.0100) | 0.0100 |" in near
    assert "to each other in all of the losses" in near
    assert "above that of the first: 0 of one process, 0 of two" in near
    far = ddp.page(result(ddp, 2.0))
    assert "to each other in 0 of 2 of the losses" in far
    assert "| 1 | 2.2500 / 4.2500 | 2.2500 / 4.2500 |" in far


def test_a_spike_is_counted_and_moves_no_distance(script):
    ddp = script("ddp")
    content = result(ddp, 0.01)
    content["runs"]["2 0"]["curves"]["shell-XANES"]["loss"][7] = 50.0
    page = ddp.page(content)
    assert "0 of one process, 1 of two" in page
    assert "to each other in all of the losses" in page

"""The benchmark of active learning: both arms begin alike, pick only what may be learned from, and a run goes on where it stopped."""

from __future__ import annotations

import json

import numpy as np
import pytest

from aiida_xastruct.engine import family


@pytest.fixture
def improve(script, monkeypatch):
    """The benchmark with a training of seconds."""
    found = script("improve")
    monkeypatch.setattr(found, "TRAINING", found.TRAINING | {"epochs": 1, "batch_size": 64})
    monkeypatch.setattr(found, "ARCHITECTURE", {"width": 16, "depth": 1})
    return found


def test_two_arms_from_one_start(improve, make_dataset, tmp_path, monkeypatch):
    dataset, path = make_dataset(kinds=("EXAFS",), n=260), tmp_path / "improve.json"
    picked: dict[str, list[np.ndarray]] = {name: [] for name in improve.ARMS}

    def watched(name, pick):
        def own(model, dataset, candidates, known, count, seed):
            rows = pick(model, dataset, candidates, known, count, seed)
            assert set(rows) <= set(candidates)
            assert not set(rows) & set(known)
            assert len(rows) == len(set(improve.labels(dataset)[rows])) == count
            picked[name].append(rows)
            return rows

        return own

    monkeypatch.setattr(improve, "ARMS", {name: watched(name, pick) for name, pick in improve.ARMS.items()})
    result = improve.run(dataset, [0], 40, 8, 20, path)
    train = np.flatnonzero(dataset.parts("EXAFS")["train"])
    for rounds in picked.values():
        assert len(rounds) == improve.ROUNDS
        assert set(np.concatenate(rounds)) <= set(train)
    acquired, drawn = (result["seeds"]["0"][name] for name in ("acquisition", "random"))
    assert [row["train"] for row in acquired] == [40, 48, 56] == [row["train"] for row in drawn]
    assert acquired[0]["mse"] == drawn[0]["mse"]
    assert acquired[1]["verdict"]["old_error"] == drawn[1]["verdict"]["old_error"]
    assert acquired[0]["sites"] == dataset.parts("EXAFS")["report"].sum()

    page = improve.table(json.loads(path.read_text()))
    ratio = acquired[2]["mse"] / drawn[2]["mse"]
    assert f"| 2 | 56 | {acquired[2]['mse']:.3f} | {drawn[2]['mse']:.3f} | {ratio:.2f} | {int(ratio < 1)} of 1 |" in page
    assert f"{abs(ratio - 1):.0%}".replace("%", " %") + f" {'less' if ratio < 1 else 'more'} than by a random pick" in page
    assert page.count("| start | 0 | 40 |") == 1


def test_a_run_goes_on_from_models_that_are_there(improve, make_dataset, tmp_path, monkeypatch):
    dataset = make_dataset(kinds=("EXAFS",), n=260)
    rows = np.flatnonzero(dataset.parts("EXAFS")["train"])[:40]
    first, _ = improve.trained(dataset, rows, 0, 20, tmp_path / "model")
    monkeypatch.delattr(family, "train_ensemble")
    again, own = improve.trained(dataset, rows, 0, 20, tmp_path / "model")
    assert again.card == first.card
    assert own.parts("EXAFS")["train"].sum() == 40
    assert own.parts("EXAFS")["select"].sum() == 20

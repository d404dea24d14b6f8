"""A dataset that grows keeps what judges, and a comparison says which model is better and how surely."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiida_xastruct.engine.bundle import ModelBundle
from aiida_xastruct.engine.dataset import COLUMNS, PARTS, Dataset, group_label, part_of
from aiida_xastruct.engine.edges import STEP
from aiida_xastruct.engine.errors import DatasetError, ModelError
from aiida_xastruct.engine.family import make_family
from aiida_xastruct.engine.improvement import compare, curve_errors, grow

JUDGING = PARTS[1:]


def renamed(dataset: Dataset, word: str) -> Dataset:
    """The dataset with other compounds, so that its groups fall into the parts anew."""
    materials = [{**item, "formula": item["formula"].replace("CuO", word), "source": "screened"} for item in dataset.materials]
    return Dataset(materials, dataset.engines, dataset.tables)


def saved(dataset: Dataset, path: Path) -> Dataset:
    """As read from a file: without targets, which the synthetic sets have."""
    dataset.save(path)
    return Dataset.load(path)


@pytest.mark.parametrize("kind", ["XANES", "EXAFS"])
def test_growth_freezes_what_judges_and_adds_to_train_alone(kind: str, make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    old = saved(make_dataset(kinds=(kind,), n=120), tmp_path / "old.h5")
    new = saved(renamed(make_dataset(kinds=(kind,), n=80, seed=7), "NiS"), tmp_path / "new.h5")
    new.engines = ["another FEFF"]
    for seed in (0, 1):
        grown, left_out = grow(old, new, seed)
        before, after = old.parts(kind, seed), grown.parts(kind, seed)
        for part in JUDGING:
            one, other = old.tables[kind].take(before[part]), grown.tables[kind].take(after[part])
            for name in COLUMNS:
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        wanted = np.array([part_of(group_label(new.materials[row]), seed) == "train" for row in new.tables[kind].material])
        assert 0 < wanted.sum() < len(wanted)  # the new set has sites of other parts too
        assert after["train"].sum() == before["train"].sum() + wanted.sum()
        assert sum(left_out.values()) == (~wanted).sum()
        assert set(left_out) <= {f"of the part {part}" for part in JUDGING}
        added = grown.tables[kind].take(np.arange(len(old.tables[kind]), len(grown.tables[kind])))
        np.testing.assert_array_equal(added.curve, new.tables[kind].curve[wanted])
        theirs = [new.materials[row] for row in new.tables[kind].material[wanted]]
        assert [grown.materials[row] for row in added.material] == theirs
        assert {grown.engines[row] for row in added.engine} == {"another FEFF"}
        grown.save(tmp_path / "grown.h5")
        assert Dataset.load(tmp_path / "grown.h5").content_hash() == grown.content_hash()


def test_what_is_there_is_not_added_again(make_dataset: Callable[..., Any]) -> None:
    old = make_dataset(kinds=("EXAFS",), n=60)
    train = old.parts("EXAFS")["train"]
    grown, left_out = grow(old, old, 0)
    assert len(grown.tables["EXAFS"]) == len(old.tables["EXAFS"])
    assert left_out["there already"] == train.sum()
    twice = Dataset(old.materials, old.engines, {"EXAFS": old.tables["EXAFS"].take(np.flatnonzero(train)[[0, 0]])})
    empty = Dataset([], [], {"EXAFS": old.tables["EXAFS"].take(np.arange(0))})
    assert len(grow(empty, twice, 0)[0].tables["EXAFS"]) == 1


def test_other_lengths_are_refused(make_dataset: Callable[..., Any], refused: Callable[..., Any]) -> None:
    old, new = make_dataset(kinds=("EXAFS",), n=60), renamed(make_dataset(kinds=("EXAFS",), n=60), "NiS")
    new.tables = {"EXAFS": replace(new.tables["EXAFS"], features=new.tables["EXAFS"].features[:, :5])}
    with refused(DatasetError, "features of the new EXAFS sites"):
        grow(old, new, 0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_config: Any, make_dataset: Callable[..., Any]) -> dict[str, Any]:
    """Forward models of XANES: of few sites, of all, and of all in another split; and the dataset."""
    folder = tmp_path_factory.mktemp("models")
    dataset = saved(make_dataset(n=260), folder / "all.h5")
    masks = dataset.parts("XANES")
    kept = ~masks["train"]
    kept[np.flatnonzero(masks["train"])[:30]] = True
    few = Dataset(dataset.materials, dataset.engines, {"XANES": dataset.tables["XANES"].take(kept)})
    config = replace(tiny_config, tasks=("forward-XANES",), training=replace(tiny_config.training, members=1))
    found: dict[str, Any] = {"dataset": dataset}
    for name, own, seed in (("few", few, 0), ("all", dataset, 0), ("other", dataset, 1)):
        make_family(own, replace(config, split_seed=seed), folder / name)
        found[name] = ModelBundle.load(folder / name / "forward-XANES")
    return found


def test_the_better_model_is_told_with_what_it_is_told_by(models: dict[str, Any]) -> None:
    few, whole, dataset = models["few"], models["all"], models["dataset"]
    verdict = compare(few, whole, dataset)
    mask = dataset.parts("XANES")["select"]
    was, now = (curve_errors(model, dataset.tables["XANES"].take(mask), dataset.engines) ** 2 for model in (few, whole))
    assert (verdict.sites, verdict.part) == (mask.sum(), "select")
    assert (verdict.old_error, verdict.new_error) == (pytest.approx(was.mean()), pytest.approx(now.mean()))
    assert verdict.decrease == pytest.approx(1.0 - now.mean() / was.mean())
    assert verdict.better is bool(now.mean() < was.mean())
    back = compare(whole, few, dataset)
    assert back.better is not verdict.better
    assert (back.old_error, back.new_error) == (verdict.new_error, verdict.old_error)
    # Two sites a group: the scatter of the mean is that of the sums over groups.
    group = dataset.group_of("XANES")[mask]
    sums = np.array([(was - now - (was - now).mean())[group == one].sum() for one in np.unique(group)])
    expected = np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(was) / was.mean()
    assert verdict.standard_error == pytest.approx(expected)


def test_the_margin_decides(models: dict[str, Any]) -> None:
    few, whole, dataset = models["few"], models["all"], models["dataset"]
    first, second = (few, whole) if compare(few, whole, dataset).better else (whole, few)
    decrease = compare(first, second, dataset).decrease
    assert compare(first, second, dataset, 0.99 * decrease).better
    assert not compare(first, second, dataset, 1.01 * decrease).better
    assert not compare(first, first, dataset).better


def test_an_edge_that_moves_is_not_an_error(models: dict[str, Any]) -> None:
    """A model whose training set puts the edges elsewhere answers for the same energies, a whole step of the grid further."""
    few, dataset = models["few"], models["dataset"]
    table = dataset.tables["XANES"].take(dataset.parts("XANES")["select"])
    card = {**few.card, "edge_shift_by_engine": {}, "edge_shift": {name: value + 1.0 for name, value in few.card["edge_shift"].items()}}
    moved = ModelBundle(card, few.ensemble, few.domain)
    np.testing.assert_allclose(
        curve_errors(moved, replace(table, wide=np.roll(table.wide, round(1.0 / STEP), axis=1)), dataset.engines)[:5],
        curve_errors(few, table, dataset.engines)[:5],
        rtol=1e-5,
    )


def test_models_that_cannot_be_compared_are_refused(
    models: dict[str, Any], make_dataset: Callable[..., Any], refused: Callable[..., Any]
) -> None:
    with refused(ModelError, "trained on split 0 and 1"):
        compare(models["all"], models["other"], models["dataset"])
    with refused(DatasetError, "no XANES spectra"):
        compare(models["all"], models["few"], make_dataset(kinds=("EXAFS",), n=60))
    with refused(DatasetError, "too few to compare"):
        compare(models["all"], models["few"], make_dataset(n=4))

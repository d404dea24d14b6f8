"""Which sites are chosen: those that cover the expected error, and only those that may be added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aiida_xastruct.engine import acquisition
from aiida_xastruct.engine.acquisition import HELD_OUT, KNOWN_ALREADY, NO_EDGE, OTHER_ABSORBER, Candidates, Gate, Known, choose
from aiida_xastruct.engine.dataset import PARTS, Holdout, group_label, part_of
from aiida_xastruct.engine.errors import DatasetError


def candidates(place: Any, expected: Any, group: Any = None, absorber: Any = None) -> Candidates:
    z = np.full(len(expected), 26) if absorber is None else np.asarray(absorber)
    labels = np.array([f"g{row}" for row in range(len(expected))]) if group is None else np.array(group)
    return Candidates(np.asarray(place, dtype=float), z, np.asarray(expected, dtype=float), labels)


def known_sites(place: Any) -> Known:
    return Known(np.asarray(place, dtype=float), np.full(len(place), 26))


@pytest.fixture
def clusters() -> tuple[Candidates, Known]:
    """Five tight clusters of 40 sites, most error expected in the first, an outlier with more than any; and known sites not far off."""
    random = np.random.default_rng(1)
    centres = 12.0 * np.eye(5)
    place = np.concatenate([centre + 0.3 * random.normal(size=(40, 5)) for centre in centres] + [np.full((1, 5), -30.0)])
    expected = np.concatenate([np.full(40, 3.0 if cluster == 0 else 1.5) for cluster in range(5)] + [np.full(1, 4.0)])
    return candidates(place, expected), known_sites(centres - 2.0)


def test_every_cluster_is_chosen_from_before_any_twice_and_the_outlier_last(clusters: Any) -> None:
    """By uncertainty alone it would be the outlier and four sites of the first cluster; by distance alone the outlier too."""
    found, known = clusters
    choice = choose(found, known, 5)
    assert sorted(choice.rows // 40) == [0, 1, 2, 3, 4]
    assert choice.rows[0] // 40 == 0
    by_error = np.argsort(-found.expected, kind="stable")[:5]
    assert sorted(by_error // 40) == [0, 0, 0, 0, 5]


def test_what_is_known_is_not_chosen_again(clusters: Any) -> None:
    found, _ = clusters
    first = found.place[:40].mean(axis=0, keepdims=True)
    assert 0 not in choose(found, known_sites(first), 4).rows // 40


def test_where_the_model_expects_no_error_nothing_is_gained(clusters: Any) -> None:
    found, known = clusters
    sure = candidates(found.place, np.where(np.arange(len(found)) // 40 == 3, 2.0, 1e-6))
    assert set(choose(sure, known, 3).rows // 40) == {3}


def test_the_choice_is_that_of_looking_at_every_site_each_time() -> None:
    random = np.random.default_rng(2)
    absorber, near = random.choice([26, 29, 8], 200), random.normal(size=(10, 3))
    found, known = candidates(random.normal(size=(200, 3)), random.uniform(0.1, 2.0, 200), absorber=absorber), known_sites(near)
    choice = choose(found, known, 12)
    square = ((found.place[:, None] - near) ** 2).sum(axis=-1)
    length = np.median(np.sqrt(square.min(axis=1)))
    same = np.where(absorber[:, None] == absorber, 1.0, OTHER_ABSORBER)
    alike = same * np.exp(-((found.place[:, None] - found.place) ** 2).sum(axis=-1) / (2 * length**2))
    covered = (np.where(absorber == 26, 1.0, OTHER_ABSORBER)[:, None] * np.exp(-square / (2 * length**2))).max(axis=1)
    weight = found.expected / found.expected.sum()
    assert choice.covered[0] == pytest.approx(weight @ covered)
    for row, gain in zip(choice.rows, choice.gain, strict=True):
        gains = np.maximum(alike - covered, 0.0) @ weight
        assert (gains.argmax(), gains.max()) == (row, pytest.approx(gain))
        covered = np.maximum(covered, alike[row])
    assert choice.covered[1] == pytest.approx(weight @ covered)
    assert (np.diff(choice.gain) <= 1e-12).all()


def test_of_one_group_as_many_as_asked_for(clusters: Any) -> None:
    found, known = clusters
    grouped = candidates(found.place, found.expected, [f"g{row // 40}" for row in range(len(found))])
    choice = choose(grouped, known, 50)
    assert sorted(choice.rows // 40) == [0, 1, 2, 3, 4, 5]  # no group has more to give
    assert np.bincount(choose(grouped, known, 50, per_group=3).rows // 40).tolist() == [3, 3, 3, 3, 3, 1]


def test_many_candidates_are_judged_by_some_of_them(clusters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found, known = clusters
    monkeypatch.setattr(acquisition, "JUDGES", 60)
    inliers = candidates(found.place[:200], found.expected[:200])
    one, other = (choose(inliers, known, 5) for _ in range(2))
    assert one.rows.tolist() == other.rows.tolist()
    assert sorted(one.rows // 40) == [0, 1, 2, 3, 4]


def test_another_absorber_in_the_same_surroundings_is_worth_computing() -> None:
    """Of two places with two absorbers each, all equally doubtful: the one that is known of iron leaves nickel to be learned."""
    found = candidates([[0, 0], [0, 0], [9, 0], [9, 0]], [1, 1, 0.01, 0.01], absorber=[26, 28, 26, 28])
    assert choose(found, known_sites([[0.0, 0.0], [6.0, 0.0]]), 1).rows.tolist() == [1]


def test_what_cannot_be_chosen_from_is_refused(clusters: Any, refused: Callable[..., Any]) -> None:
    found, known = clusters
    with refused(DatasetError, "no candidates"):
        choose(candidates(np.zeros((0, 5)), []), known, 3)
    with refused(DatasetError, "0 sites"):
        choose(found, known, 0)


@pytest.mark.parametrize("error", [0.0, 1e-320, 1e308])
def test_errors_that_cannot_be_summed_count_alike(clusters: Any, error: float) -> None:
    """Zero, a number whose share is lost, and one whose sum overflows: the choice is that of any other equal errors."""
    found, known = clusters
    choice, equal = (choose(candidates(found.place, np.full(len(found), one)), known, 6) for one in (error, 1.0))
    assert choice.rows.tolist() == equal.rows.tolist()
    assert len(set(choice.rows // 40)) == 6
    assert choice.gain == pytest.approx(equal.gain, rel=1e-3)
    assert 0.0 <= choice.covered[0] < choice.covered[1] <= 1.0


@pytest.mark.parametrize(("error", "count"), [(np.nan, 1), (np.inf, 2), (-0.1, 3)])
def test_errors_that_are_none_are_refused(clusters: Any, refused: Callable[..., Any], error: float, count: int) -> None:
    found, known = clusters
    expected = found.expected.copy()
    expected[:count] = error
    with refused(DatasetError, f"expected error of {count} candidates is below zero or no number"):
        choose(candidates(found.place, expected), known, 3)
    place = found.place.copy()
    place[5, 2] = np.nan
    with refused(DatasetError, "1 sites lie nowhere"):
        choose(candidates(place, found.expected), known, 3)


def of_part(part: str) -> dict[str, Any]:
    """A material whose group belongs to a part of split 0."""
    labels = ({"formula": f"Fe{number}O", "prototype": "AB-225"} for number in range(1, 1000))
    found = next(item for item in labels if part_of(group_label(item), 0) == part)
    return {"source": "screened", "source_id": "mine", "space_group": 225, **found}


def test_only_groups_of_train_pass_the_gate() -> None:
    gate = Gate("EXAFS", 0, frozenset())
    assert [gate.refusal(of_part(part), "Fe") for part in PARTS] == [
        "",
        "of the part select",
        "of the part calibrate",
        "of the part report",
    ]


def test_what_is_held_out_or_known_does_not_pass() -> None:
    material = of_part("train")
    by_id, by_twin = Holdout(frozenset({"mine"}), frozenset()), Holdout(frozenset(), frozenset({(material["formula"], 225)}))
    assert Gate("EXAFS", 0, frozenset(), by_id).refusal(material, "Fe") == HELD_OUT
    assert Gate("EXAFS", 0, frozenset(), by_twin).refusal(material, "Fe") == HELD_OUT
    known = Gate("EXAFS", 0, {(group_label(material), 26)})
    assert (known.refusal(material, "Fe"), known.refusal(material, "O")) == (KNOWN_ALREADY, "")
    assert known.refusal(material, "H") == NO_EDGE


def test_the_gate_knows_what_the_dataset_has(make_dataset: Callable[..., Any], refused: Callable[..., Any]) -> None:
    dataset = make_dataset(kinds=("EXAFS",), n=40)
    gate = Gate.of(dataset, "EXAFS", 0)
    train = {group_label(dataset.materials[row]) for row in dataset.tables["EXAFS"].material[dataset.parts("EXAFS")["train"]]}
    mine = next(material for material in dataset.materials if group_label(material) in train)
    row = list(dataset.tables["EXAFS"].material).index(dataset.materials.index(mine))
    absorber = {26: "Fe", 29: "Cu"}[int(dataset.tables["EXAFS"].absorber[row])]
    assert (gate.refusal(mine, absorber), gate.refusal(mine, "O")) == (KNOWN_ALREADY, "")
    with refused(DatasetError, "no XANES spectra"):
        Gate.of(dataset, "XANES", 0)

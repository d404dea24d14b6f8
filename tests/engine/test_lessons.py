"""What models learn from."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_xastruct.engine.configuration import FamilyConfig
from aiida_xastruct.engine.lessons import MOST_REPEATS, balanced, lessons_of
from aiida_xastruct.engine.models.tasks import Task


@pytest.fixture(scope="module")
def table(make_dataset):
    found = make_dataset(kinds=("XANES",), n=40).tables["XANES"]
    found.absorber[:] = np.repeat([29, 26, 79], [36, 3, 1])
    return found


def test_rare_absorbers_are_seen_as_often_as_the_root_of_their_rareness(table):
    seen = np.bincount(balanced(table).absorber)
    assert (seen[29], seen[26], seen[79]) == (36, 3 * 3, 1 * 6)


def test_no_site_is_seen_more_often_than_the_limit(table):
    alone = table.take(np.repeat(np.arange(40), np.where(table.absorber == 29, 10, 1)))
    assert np.bincount(balanced(alone).absorber)[79] == MOST_REPEATS


@pytest.mark.parametrize(("name", "repeated"), [("forward", False), ("shell", True)])
def test_inverse_xanes_sees_what_is_rare_more_often(make_dataset, tmp_path, name, repeated):
    dataset = make_dataset(kinds=("XANES",), n=40)
    own = dataset.tables["XANES"]
    own.absorber[:] = np.where(np.arange(40) < 36, 29, 26)
    everything = np.ones(40, dtype=bool)
    lessons, beside = lessons_of(Task(name, "XANES"), dataset, everything, own, FamilyConfig(), tmp_path, None)
    assert (len(lessons) > 40) is repeated
    assert beside == {}

from __future__ import annotations

import inspect

from aiida_xastruct.engine import ALGORITHM_VERSION, errors


def test_every_error_is_one_that_the_command_line_prints():
    classes = [member for _, member in inspect.getmembers(errors, inspect.isclass)]
    assert len(classes) >= 6
    assert all(issubclass(cls, errors.XastructError) for cls in classes)
    # AiiDA's input validators and click both turn a ValueError into a message
    assert issubclass(errors.XastructError, ValueError)


def test_every_task_has_an_algorithm_version():
    assert set(ALGORITHM_VERSION) == {"forward", "neighbours", "distance"}
    assert all(isinstance(version, str) and version for version in ALGORITHM_VERSION.values())

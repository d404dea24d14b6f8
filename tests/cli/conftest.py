"""Commands run in this process, against the temporary profile."""

from __future__ import annotations

from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner, Result


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run a command with arguments; a traceback is a failure of the test, an exit status other than `status` too."""

    def runner(command: click.Command, *arguments: object, status: int = 0) -> Result:
        result = CliRunner().invoke(command, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    return runner

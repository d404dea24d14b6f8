"""Completion in a shell, and `--json` on every command that answers."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.shell_completion import ShellComplete

from aiida_xastruct.cli.root import cli


def completed(words: list[str], incomplete: str) -> set[str]:
    return {item.value for item in ShellComplete(cli, {}, "aiida-xastruct", "_AIIDA_XASTRUCT_COMPLETE").get_completions(words, incomplete)}


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [([], "sc", {"screen"}), (["family"], "in", {"install"}), (["screen"], "--ki", {"--kind"}), (["screen", "--kind"], "EX", {"EXAFS"})],
)
def test_the_shell_completes(words: list[str], incomplete: str, expected: set[str]) -> None:
    assert completed(words, incomplete) == expected


def commands(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for own in command.list_commands(context):
            found = command.get_command(context, own)
            assert found is not None
            yield from commands(found, f"{name} {own}".strip())
    else:
        yield name, command


def test_every_command_has_json() -> None:
    without = {name for name, command in commands(cli) if not any("--json" in parameter.opts for parameter in command.params)}
    assert not without

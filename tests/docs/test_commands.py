"""Every command in the pages and in README exists, and so do its options."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from aiida_xastruct.cli.data import data
from aiida_xastruct.cli.root import cli
from aiida_xastruct.engine.cli import parser as engine_parser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

GROUPS = {"aiida-xastruct": cli, "verdi data xastruct": data}
PROGRAMS = ("aiida-xastruct", "verdi data xastruct", "xastruct")


def commands(text: str) -> Iterator[str]:
    """Command lines of a page: after `$ ` in its blocks, and in code within its sentences."""
    programs = "|".join(PROGRAMS)
    joined = re.sub(r"\\\n\s*", " ", text)
    yield from re.findall(rf"^\$ ((?:{programs}) .+)$", joined, re.MULTILINE)
    yield from (" ".join(found.split()) for found in re.findall(rf"(?<!`)`((?:{programs})\s[^`]+)`(?!`)", text))


def check(line: str) -> str:
    """What is wrong with a command line; nothing if it is right."""
    program = next(name for name in PROGRAMS if line.startswith(f"{name} "))
    words = shlex.split(re.split(r"\s[|>&;]", line.removeprefix(program))[0])
    if program == "xastruct":
        return _check_argparse(engine_parser(), words)
    command: click.Command = GROUPS[program]
    context = click.Context(command)
    while isinstance(command, click.Group):
        parser = command.make_parser(context)
        try:
            _, words, _ = parser.parse_args(words)
        except click.UsageError as error:
            return error.format_message()
        if not words:
            return ""
        name, words = words[0], words[1:]
        if name not in command.list_commands(context):
            return f"there is no command {name}"
        command = command.get_command(context, name)  # type: ignore[assignment]
        context = click.Context(command, parent=context, info_name=name)
    try:
        command.make_parser(context).parse_args(words)
    except click.UsageError as error:
        return error.format_message()
    return ""


def _check_argparse(parser: argparse.ArgumentParser, words: list[str]) -> str:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            if words[0].startswith("-"):
                return ""
            if words[0] not in action.choices:
                return f"there is no command {words[0]}"
            return _check_argparse(action.choices[words[0]], words[1:])
    known = {option for action in parser._actions for option in action.option_strings}
    unknown = [word for word in words if word.startswith("-") and not re.match(r"-\d", word) and word.partition("=")[0] not in known]
    return f"there is no option {unknown[0]}" if unknown else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_exist(page: Path) -> None:
    wrong = {line: why for line in commands(page.read_text()) if (why := check(line))}
    assert not wrong


def test_the_check_finds_what_is_wrong() -> None:
    assert not check("aiida-xastruct predict a.cif --absorber Fe --kind XANES")
    assert not check("verdi data xastruct spectrum export PK -o a.xmu")
    assert not check("xastruct compare A B --json FILE")
    for line in ("aiida-xastruct forecast a.cif", "aiida-xastruct predict a.cif --absorbent Fe", "verdi data xastruct spectra list"):
        assert check(line)
    for line in ("xastruct guess a.cif", "xastruct compare A B --jason FILE"):
        assert check(line)
    found = list(commands("see `aiida-xastruct\npredict x`\n```console\n$ xastruct compare A B \\\n  --flat\n```\n"))
    assert found == ["xastruct compare A B  --flat", "aiida-xastruct predict x"]


def test_there_are_commands_to_check() -> None:
    assert sum(len(list(commands(page.read_text()))) for page in PAGES) > 50

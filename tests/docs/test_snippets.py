"""Pages are run as they stand: Python of a page in one session, its commands in order, what they print beside what the page says.

In a block of `console`, lines after `$ ` are commands and the others what they print; in how-to pages, where most name what only the
reader has, commands that print nothing are not run (`test_commands.py` looks at their options). A block of `text` after one of `python` is
what that prints. `...` on a line of its own stands for any lines. Numbers may differ by one unit of their last digit or by one percent;
numbers of nodes are any. `UPDATE_SNIPPETS=1 pytest tests/docs/test_snippets.py` writes what is printed now into the pages, for a look at
the difference.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiida.cmdline.commands.cmd_verdi import verdi
from click.testing import CliRunner

from aiida_xastruct.cli.root import cli

ROOT = Path(__file__).parents[2]

#: Pages that need nothing but the files in `examples/data` and run within minutes; others hold placeholders.
PAGES = (
    "tutorials/crystal_to_spectrum.md",
    "tutorials/spectrum_to_structure.md",
    "tutorials/screening.md",
    "howto/compare.md",
    "howto/fit.md",
    "howto/structures.md",
)

BLOCK = re.compile(r"^```(python|console|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")

#: Lines that name a node, by what stands before its number.
NODE = re.compile(r"^(answer|curves|fit|process|ranking|spectrum|spectrum of \w+|summary|table|target)\s+\d+$")
UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")

#: The hash of a file behind its name; some read like a number, 9e6731.
HASH = re.compile(r"(?<=:)[0-9a-f]{12}\b")


class Page:
    """One page, run from top to bottom."""

    def __init__(self, path: Path) -> None:
        self.path, self.text = path, path.read_text()
        self.session: dict[str, Any] = {"__name__": "__main__"}
        self.problems: list[str] = []

    def run(self) -> str:
        """Run everything; the page with what was printed."""
        written, end, printed = [], 0, ""
        for block in BLOCK.finditer(self.text):
            language, content = block.groups()
            if language == "python":
                printed = self._python(content)
            elif language == "text":
                self._compare(content, printed)
                content = printed
            else:
                content = "".join(self._console(content))
            written += [self.text[end : block.start(2)], content]
            end = block.end(2)
        return "".join([*written, self.text[end:]])

    def _python(self, content: str) -> str:
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream):
            exec(compile(content, str(self.path), "exec"), self.session)
        return stream.getvalue()

    def _console(self, content: str) -> Iterator[str]:
        for part in re.findall(r"^\$ .*\n(?:(?!\$ ).*\n)*", content, re.MULTILINE):
            command, _, expected = part.partition("\n")
            if not expected.strip() and self.path.parent.name != "tutorials":
                yield part
                continue
            printed = _run(command.removeprefix("$ "))
            if expected.strip():
                self._compare(expected, printed)
                expected = "\n".join(_lines(printed)) + "\n"
            yield f"{command}\n{expected}"

    def _compare(self, expected: str, printed: str) -> None:
        if not matches(_lines(expected), _lines(printed)):
            self.problems.append(f"--- {self.path.name} says\n{expected}\n--- printed was\n{printed}")


def _run(command: str) -> str:
    """What a command prints on the standard output."""
    program, *words = shlex.split(command)
    group = {"aiida-xastruct": cli, "verdi": verdi}[program]
    result = CliRunner().invoke(group, words)
    assert result.exit_code == 0, f"{command}: {result.output}"
    return result.stdout


def _lines(text: str) -> list[str]:
    """Lines that say something, without blanks at their ends."""
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether lines are those expected."""
    if not expected:
        return not printed
    if expected[0].strip() == "...":
        return any(matches(expected[1:], printed[skipped:]) for skipped in range(len(printed) + 1))
    return bool(printed) and _alike(expected[0], printed[0]) and matches(expected[1:], printed[1:])


def _alike(expected: str, printed: str) -> bool:
    """Whether two lines say the same."""
    words = [re.sub(r"─+", "─", " ".join(HASH.sub("HASH", UUID.sub("UUID", line)).split())) for line in (expected, printed)]
    if all(map(NODE.match, words)):
        return NODE.match(words[0])[1] == NODE.match(words[1])[1]  # type: ignore[index]
    numbers = [NUMBER.findall(line) for line in words]
    same_words = NUMBER.sub("#", words[0]) == NUMBER.sub("#", words[1])
    return same_words and all(_near(*pair) for pair in zip(*numbers, strict=True))


def _near(expected: str, printed: str) -> bool:
    decimals = len(expected.partition("e")[0].partition(".")[2])
    unit = 10.0 ** (int(expected.partition("e")[2] or 0) - decimals)
    return abs(float(expected) - float(printed)) <= 1.01 * max(unit if decimals else 0.0, 0.01 * abs(float(expected)))


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", PAGES)
def test_the_page_says_what_the_code_prints(name: str, aiida_profile_clean: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples" / "data", tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    page = Page(ROOT / "docs" / name)
    text = page.run()
    if os.environ.get("UPDATE_SNIPPETS"):
        page.path.write_text(text)
        return
    assert not page.problems, "\n".join(page.problems)


def test_every_tutorial_is_run() -> None:
    tutorials = {f"tutorials/{path.name}" for path in (ROOT / "docs" / "tutorials").glob("*.md")}
    assert tutorials - {"tutorials/index.md"} == {name for name in PAGES if name.startswith("tutorials/")}


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        (["R2  0.917"], ["R2      0.918"], True),
        (["R2  0.917"], ["R2  0.93"], False),
        (["answer  12"], ["answer  345"], True),
        (["answer  12"], ["process  12"], False),
        (["points  181"], ["points  181"], True),
        (["points  181"], ["points  190"], False),
        (["a", "...", "d"], ["a", "b", "c", "d"], True),
        (["a", "...", "d"], ["a", "b"], False),
        (["a"], ["a", "b"], False),
        (["────"], ["──────"], True),
        (["1 goethite"], ["1 hematite"], False),
    ],
)
def test_what_counts_as_the_same(expected: list[str], printed: list[str], same: bool) -> None:
    assert matches(expected, printed) is same

"""The tutorial is run as it stands: its Python in one session, its commands in order."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aiida_xastruct.cli.root import cli

ROOT = Path(__file__).parents[2]
SCAN = ROOT / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_first_tutorial_runs(aiida_profile_clean: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = BLOCK.findall((ROOT / "docs" / "tutorials" / "first.md").read_text())
    assert [language for language, _ in blocks].count("console") == 2
    monkeypatch.chdir(tmp_path)
    shutil.copy(SCAN, tmp_path)
    session: dict[str, Any] = {}
    for language, text in blocks:
        if language == "python":
            exec(text.replace("/path/to", str(tmp_path)), session)
            continue
        for line in text.splitlines():
            words = shlex.split(line.removeprefix("$ "))
            assert words[0] == "aiida-xastruct"
            result = CliRunner().invoke(cli, words[1:])
            assert result.exit_code == 0, result.output
            assert "answer" in result.output

"""The how-to on importing: its Python is run as it stands, and its table names the formats that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "howto" / "import.md").read_text()
GOETHITE = ROOT / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"


@pytest.mark.usefixtures("aiida_profile_clean")
def test_the_snippets_run() -> None:
    session: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(block.replace("/path/to/20K_GOE_Fe_K_240.00000.xdi", str(GOETHITE)), session)
    assert session["measured"].settings["quality"]["edge_step"] == pytest.approx(0.80, abs=0.03)
    assert session["good"].count() == 1


def test_the_options_that_it_shows_exist() -> None:
    from aiida_xastruct.cli.imports import import_command

    known = {name for option in import_command.params for name in option.opts}
    shown = set(re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", "\n".join(re.findall(r"aiida-xastruct import[^`\n]*", PAGE))))
    assert shown
    assert shown <= known

"""What `make audit` says of an installed release that a list calls weak, and of one that it does not."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("Some.Package", "1.4.9", ["CVE-1"]),
        ("some_package", "1.5", []),
        ("some-package", "2.0.1", ["CVE-2"]),
        ("some-package", "2.0.2b1", ["CVE-2"]),
        ("another", "1.0", []),
    ],
)
def test_a_weak_release_is_found_by_its_name_and_version(monkeypatch: pytest.MonkeyPatch, name: str, version: str, said: list[str]) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    findings = importlib.import_module("known_weaknesses").findings
    known = {
        "some-package": [
            {"advisory": "first", "cve": "CVE-1", "id": "pyup.io-1", "specs": ["<1.2", ">=1.3,<1.5"]},
            {"advisory": "second", "cve": "CVE-2", "id": "pyup.io-2", "specs": [">=2.0,<2.1"]},
        ]
    }
    found = list(findings([(name, version)], known))
    assert [line.split()[2] for line in found] == said

"""The store of the run is the one that was asked for, and what is lost of a store is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiida.orm import SinglefileData

BACKENDS = {
    "sqlite": ("core.sqlite_dos", None),
    "postgresql": ("core.psql_dos", None),
    "production": ("core.psql_dos", "core.rabbitmq"),
}


def test_the_profile_is_where_it_was_asked_for(aiida_profile: Any, request: pytest.FixtureRequest) -> None:
    assert (aiida_profile.storage_backend, aiida_profile.process_control_backend) == BACKENDS[request.config.getoption("--store")]


def test_lost_and_changed_files_are_seen(aiida_config: Any, aiida_profile_factory: Any, new_store: Any, tmp_path: Path) -> None:
    pytest.importorskip("pgtest")
    from services import storage_faults

    store = new_store() | {"broker_backend": None}
    with aiida_profile_factory(aiida_config, **store) as profile:
        for text in ("kept", "lost", "changed"):
            (tmp_path / text).write_text(text)
        kept, lost, changed = (SinglefileData(tmp_path / text).store() for text in ("kept", "lost", "changed"))
        configuration = profile.storage_config
        assert storage_faults(configuration) == []
        folder = Path(configuration.get("filepath") or urlsplit(configuration["repository_uri"]).path)
        loose = {node: next(folder.glob(f"container/loose/{key[:2]}/{key[2:]}")) for node in (lost, changed) for key in [_key(node)]}
        loose[lost].unlink()
        loose[changed].chmod(0o644)
        loose[changed].write_text("something else")
        assert storage_faults(configuration) == ["repository: invalid_hashes_loose", f"node {lost.pk}: a file is lacking"]
        assert kept.get_content() == "kept"


def _key(node: SinglefileData) -> str:
    (found,) = node.base.repository.metadata["o"].values()
    return str(found["k"])

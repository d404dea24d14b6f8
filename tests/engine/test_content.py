from __future__ import annotations

import hashlib
import io

import pytest

from aiida_xastruct.engine.content import combine, content_hash, hash_file, hash_stream


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_file_hash_is_sha256(tmp_path):
    content = bytes(range(256)) * 10_000
    path = tmp_path / "x"
    path.write_bytes(content)
    assert hash_file(path) == hashlib.sha256(content).hexdigest() == hash_stream(io.BytesIO(content))


def test_folder_hash_is_of_names_and_contents(tmp_path):
    files = {"card.json": b"{}", "deep/weights": b"123"}
    one = write(tmp_path / "one", files)
    two = write(tmp_path / "two", dict(reversed(files.items())))
    (two / "empty").mkdir()
    assert content_hash(one) == content_hash(two)
    assert content_hash(one) == combine({name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
    (two / "card.json").write_bytes(b"{ }")
    assert content_hash(one) != content_hash(two)


def test_a_renamed_file_is_another_content(tmp_path):
    assert content_hash(write(tmp_path / "one", {"a": b"1"})) != content_hash(write(tmp_path / "two", {"b": b"1"}))


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        content_hash(tmp_path / "nowhere")

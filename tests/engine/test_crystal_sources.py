"""Crystals by the names that databases have for them; OPTIMADE is answered by a server of this machine."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from pymatgen.ext.optimade import OptimadeRester

from aiida_xastruct.engine import crystal_sources
from aiida_xastruct.engine.crystal_sources import find, is_address, is_mineral
from aiida_xastruct.engine.errors import StructureError
from aiida_xastruct.engine.readers.materials_project import KEYS

#: Rock salt as an entry of OPTIMADE 1.1, written by hand after the specification.
RECORDED = json.loads((Path(__file__).parents[1] / "fixtures" / "optimade" / "rocksalt.json").read_text())


@pytest.fixture
def server() -> Iterator[Callable[[Any], str]]:
    """Function that gives the address of an entry that is answered with some content."""
    content: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = content.get(self.path)
            self.send_response(200 if found is not None else 404)
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, *arguments: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()

    def serve(answer: Any) -> str:
        path = f"/v1/structures/{len(content)}"
        content[path] = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return f"http://127.0.0.1:{http.server_port}{path}"

    yield serve
    http.shutdown()
    http.server_close()


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Address of an entry at a server that says what it likes, once."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):  # the client may hang up
                connection.recv(4096)
                answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1/structures/1"


def changed(**attributes: Any) -> dict[str, Any]:
    return {**RECORDED, "data": {**RECORDED["data"], "attributes": {**RECORDED["data"]["attributes"], **attributes}}}


def test_optimade(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address = server(RECORDED)
    found = find(address)
    assert found.structure.reduced_formula == "NaCl"
    assert found.structure.get_space_group_info()[1] == 225
    assert (found.source["db_name"], found.source["uri"]) == ("OPTIMADE", address)
    monkeypatch.setitem(OptimadeRester.aliases, "here", address.partition("/v1/")[0])
    assert find("here:0").structure == found.structure
    assert find("optimade:here:0").structure == found.structure
    assert find(server({**RECORDED, "data": [RECORDED["data"]]})).structure == found.structure


def test_optimade_that_cannot_be_used(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    disordered = [{"name": "Na", "chemical_symbols": ["Na", "K"], "concentration": [0.5, 0.5]}]
    for answer, words in [
        (b"<html>", "no crystal in an answer"),
        ({"data": None}, "no crystal in an answer"),
        ({"data": []}, "no crystal in an answer"),
        (changed(species=disordered), "disordered"),
        (changed(dimension_types=[1, 1, 0]), "not periodic"),
        (changed(lattice_vectors=[[0, 0, 0]] * 3), "Singular matrix"),
        (changed(species_at_sites=["Na"] * 3000), "3000 sites"),
    ]:
        with pytest.raises(StructureError, match=words):
            find(server(answer))
    address = server(RECORDED)
    with pytest.raises(StructureError, match="could not be fetched"):
        find(address + "9")
    with pytest.raises(StructureError, match="holds /structures/"):
        find("http://127.0.0.1/v1/references/1")
    with pytest.raises(StructureError, match="no known provider"):
        find("nobody:1")
    monkeypatch.setattr(crystal_sources, "MAX_BYTES", 100)
    with pytest.raises(StructureError, match="more than"):
        find(address)


@pytest.mark.parametrize("answer", [b"HELLO\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"])
def test_an_answer_that_is_no_http(answer: bytes) -> None:
    with raw_server(lambda connection: connection.sendall(answer)) as address, pytest.raises(StructureError, match="could not be fetched"):
        find(address)


def test_an_answer_that_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(200):
            connection.sendall(b" ")
            time.sleep(0.05)

    monkeypatch.setattr(crystal_sources, "TIMEOUT", 0.5)
    start = time.monotonic()
    with raw_server(drip) as address, pytest.raises(StructureError, match="longer than"):
        find(address)
    assert time.monotonic() - start < 5.0


def test_minerals_and_formulas() -> None:
    tenorite = find("Tenorite")
    assert tenorite.structure.reduced_formula == "CuO"
    assert tenorite.source["db_name"] == "AMCSD"
    assert find(f"amcsd:{tenorite.source['id']}").structure == tenorite.structure
    assert find("CuO").source["id"] == tenorite.source["id"]
    with pytest.raises(StructureError, match=r"anatase.*brookite.*rutile"):
        find("TiO2")
    # X-rays hardly see hydrogen: an entry that has it is taken before one that has not, and an entry without it says so.
    assert find("goethite").structure.reduced_formula == "FeHO2"
    assert find("amcsd:4538").name == "goethite, AMCSD 4538, without its hydrogen atoms"
    for text, words in [("unobtainium", "no mineral"), ("amcsd:99999999", "no code 99999999"), ("amcsd:x", "no code of the AMCSD")]:
        with pytest.raises(StructureError, match=words):
            find(text)


def test_what_a_name_is() -> None:
    assert all(is_address(text) for text in ("amcsd:1", "mp-149", "cod:1000041", "https://x.org/v1/structures/1"))
    assert not any(is_address(text) for text in ("tenorite", "CuO", "12", "0f3c5e3a-1c53-4c5b-a8e7-95a5a0e2bb0e"))
    assert is_mineral("tenorite")
    assert not any(is_mineral(text) for text in ("987654", "nowhere", ""))


def test_the_materials_project_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StructureError, match="no key"):
        find("mp-149")

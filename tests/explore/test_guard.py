"""Who is let in: asked of a running explorer over plain HTTP."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping

import pytest
from explorer_server import Server

from aiida_xastruct.explore.app import free_port
from aiida_xastruct.explore.guard import MAX_UPLOAD, Door


def asked(
    server: Server, path: str = "/", headers: Mapping[str, str] = {}, method: str = "GET"
) -> tuple[int, str, http.client.HTTPMessage]:
    """Status, text and headers of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(method, path, headers=dict(headers))
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.headers


def let_in(server: Server) -> dict[str, str]:
    """Headers of a browser that has the token."""
    return {"Cookie": f"xastruct-explore-{server.port}={server.url.partition('token=')[2]}"}


def test_without_the_token_nothing_is_shown(server: Server) -> None:
    for path in ("/", "/crystal", "/provenance?node=1", "/_nicegui/anything", "/?token=guessed"):
        status, text, _ = asked(server, path)
        assert status == 403, path
        assert text == "the token is missing or of another run; open the address that `aiida-xastruct explore` printed.\n"
    status, _, _ = asked(server, headers={"Cookie": f"xastruct-explore-{server.port}=guessed"})
    assert status == 403


def test_the_token_leaves_the_address_and_stays_in_a_cookie(server: Server) -> None:
    token = server.url.partition("token=")[2]
    status, _, headers = asked(server, f"/provenance?node=7&token={token}")
    assert status == 303
    assert headers["Location"] == "/provenance?node=7"
    assert "HttpOnly" in headers["Set-Cookie"]
    assert asked(server, f"//elsewhere.org/?token={token}")[2]["Location"] == "/elsewhere.org/"
    status, text, headers = asked(server, "/", let_in(server))
    assert status == 200
    assert token not in text
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_another_name_and_another_page_are_refused(server: Server) -> None:
    assert asked(server, "/", let_in(server) | {"Host": f"evil.org:{server.port}"})[0] == 421
    assert asked(server, "/", let_in(server) | {"Origin": "http://evil.org"})[0] == 403
    assert asked(server, "/", let_in(server) | {"Origin": f"http://127.0.0.1:{server.port}"})[0] == 200


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://evil.org"}])
def test_a_socket_is_refused_like_a_page(server: Server, headers: dict[str, str]) -> None:
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "eGFzdHJ1Y3QgdGVzdHMuLg==",
    }
    path = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    own = let_in(server) if headers else {}
    assert asked(server, path, upgrade | own | headers)[0] == 403


def test_what_is_too_large_is_not_read(server: Server) -> None:
    status, text, _ = asked(server, "/crystal", let_in(server) | {"Content-Length": str(MAX_UPLOAD + 1)}, "POST")
    assert (status, text) == (413, "the file has more than 50 MB; cut it down.\n")
    assert asked(server, "/crystal", let_in(server) | {"Content-Length": "-5"}, "POST")[0] in (400, 413)


def test_it_listens_on_this_machine_only(server: Server) -> None:
    with socket.socket() as probe:
        # An address of this machine that is not 127.0.0.1: Linux answers on all of 127/8.
        assert probe.connect_ex(("127.0.0.2", server.port)) != 0


def test_a_port_that_is_taken_is_named(server: Server) -> None:
    with pytest.raises(RuntimeError, match=f"Error: port {server.port} of 127.0.0.1 cannot be used"):
        server.command("explore", "--no-browser", "--port", server.port)


def test_tokens_are_new_each_time() -> None:
    port = free_port(0)
    doors = {Door.new(port).token for _ in range(100)}
    assert len(doors) == 100
    assert min(map(len, doors)) >= 43

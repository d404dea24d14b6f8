"""Who may speak to the explorer: a browser of this machine that knows the token, and that no other web page sent."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Bytes of a file that a page takes, and of one upload, head and form fields included.
MAX_FILE, MAX_UPLOAD = 50_000_000, 60_000_000

#: What a browser is told to load from nowhere but here; NiceGUI's own scripts are inline and compile templates.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "connect-src 'self' data: blob:",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "base-uri 'none'",
    )
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)


class TooMuchError(Exception):
    """A body is longer than `MAX_UPLOAD`."""


@dataclass(frozen=True)
class Door:
    """Where the explorer listens, and what opens it.

    Attributes:
        port: on 127.0.0.1.
        token: what a browser must show; a new one each time.
    """

    port: int
    token: str

    @classmethod
    def new(cls, port: int) -> Door:
        """A door with a token that nobody can guess."""
        return cls(port, secrets.token_urlsafe(32))

    @property
    def url(self) -> str:
        """Address to open once; the browser then keeps the token in a cookie."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """Name of the cookie; cookies do not tell ports apart, so the port is in it."""
        return f"xastruct-explore-{self.port}"

    @property
    def hosts(self) -> frozenset[str]:
        """What the header Host may say; another name that leads here (DNS rebinding) is refused."""
        return frozenset(f"{name}:{self.port}" for name in ("127.0.0.1", "localhost"))

    def opens(self, token: str) -> bool:
        """Whether this is the token; takes as long whatever is wrong with it."""
        return secrets.compare_digest(token.encode(), self.token.encode())


class Guard:
    """ASGI middleware before everything else: host, origin, token, size."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await refusal(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, _limited(receive), _with_headers(send))
        except TooMuchError:
            await _said(413, f"the file has more than {MAX_FILE / 1e6:.0f} MB; cut it down.")(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """What is answered instead; None for what may pass."""
        if headers.get("host", "") not in self.door.hosts:
            return _said(421, f"this page answers to 127.0.0.1:{self.door.port} only; open it under that name.")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc not in self.door.hosts:
            return _said(403, "another web page asked for this; open the explorer itself.")
        if not _short_enough(headers):
            return _said(413, f"the file has more than {MAX_FILE / 1e6:.0f} MB; cut it down.")
        if self.door.opens(_cookie(headers, self.door.cookie)):
            return None
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"))
        if scope["type"] == "http" and scope["method"] == "GET" and self.door.opens(dict(query).get("token", "")):
            return self._admitted(str(scope["path"]), query)
        return _said(403, "the token is missing or of another run; open the address that `aiida-xastruct explore` printed.")

    def _admitted(self, path: str, query: Iterable[tuple[str, str]]) -> Response:
        """The same page without the token in its address, which a history would keep; the cookie holds it."""
        rest = urlencode([pair for pair in query if pair[0] != "token"])
        place = "/" + path.lstrip("/")  # "//name" would lead to another server
        response = RedirectResponse(f"{place}?{rest}" if rest else place, status_code=303)
        response.set_cookie(self.door.cookie, self.door.token, httponly=True, samesite="lax")
        return response


def _said(status: int, sentence: str) -> Response:
    return PlainTextResponse(sentence + "\n", status_code=status)


def _cookie(headers: Headers, name: str) -> str:
    jar = SimpleCookie()
    try:
        jar.load(headers.get("cookie", ""))
    except CookieError:
        return ""
    return jar[name].value if name in jar else ""


def _short_enough(headers: Headers) -> bool:
    """Whether the length that a body is said to have is within the limit; one that is not said is counted while it comes."""
    stated = headers.get("content-length", "0")
    return stated.isdigit() and int(stated) <= MAX_UPLOAD


def _limited(receive: Receive) -> Receive:
    """`receive` that ends a body which is longer than was said."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_UPLOAD:
            raise TooMuchError
        return message

    return counted


def _with_headers(send: Send) -> Send:
    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return marked

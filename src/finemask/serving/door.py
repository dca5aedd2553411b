"""What every request passes: host, origin and token are looked at, the answer is counted, timed and written down."""

import asyncio
import base64
import binascii
import contextlib
import hmac
import ipaddress
import json
import logging
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from finemask.serving.image_service import ImageService
from finemask.serving.refusals import RefusalError, error_body
from finemask.serving.server_settings import ServerSettings

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)

_OPEN = ("/health", "/ready")  # for supervisors, which have no token
_LOOPBACK = ("localhost", "ip6-localhost")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_THROWN_AWAY_BYTES, _THROWN_AWAY_S = 256 * 2**20, 5.0  # of a refused body
_CODE_HEADER = b"x-error-code"
# A line each: Chromium knows one scheme a line, and asks nobody for a password where the first is none of its own.
_CHALLENGES = (b'Basic realm="finemask", charset="UTF-8"', b'Bearer realm="finemask"')
_COMMON_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


class Door:
    """The outermost layer of the application.

    Args:
        inner: the application.
        service: whose settings say who may come in, and whose metrics are told.
    """

    def __init__(self, inner: Application, service: ImageService) -> None:
        self._inner, self._service = inner, service
        self._hosts = allowed_hosts(service.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request in, or answers it here."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._inner(scope, receive, send)
            return
        visit = _Visit(scope, receive, send)
        try:
            self._look_at(scope)
            await self._inner(scope, visit.receive, visit.send)
        except RefusalError as refusal:
            await visit.refuse(refusal)
        except Exception:
            log.exception("a defect of the server, in %s %s", scope["method"], scope["path"])
            await visit.refuse(RefusalError(500, "defect", "a defect of the server; its log says more"))
        finally:
            self._note(scope, visit)

    def _look_at(self, scope: Scope) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        settings = self._service.settings
        host = headers.get("host", "")
        if self._hosts is not None and not is_host_allowed(host, self._hosts):
            raise RefusalError(
                403,
                "host-not-allowed",
                f"the server is not called {host or 'nothing'}",
                remedy="Call it by its address, or start it with 'allowed_hosts=[NAME]'.",
            )
        if not is_origin_allowed(headers, scope["method"], settings.cors_origins):
            raise RefusalError(
                403,
                "cross-origin",
                f"requests from pages of {headers.get('origin', 'another site')} are refused",
                remedy="Start the server with 'cors_origins=[ORIGIN]' to allow them.",
            )
        if settings.token is None or scope["path"] in _OPEN or scope["method"] == "OPTIONS":
            return
        shown = token_of(headers.get("authorization", ""))
        if shown is None or not hmac.compare_digest(shown.encode(), settings.token.encode()):
            raise RefusalError(
                401,
                "no-token" if shown is None else "wrong-token",
                "this server asks for a token" if shown is None else "the token is not this server's",
                remedy="Send the header Authorization: Bearer TOKEN.",
            )

    def _note(self, scope: Scope, visit: "_Visit") -> None:
        route = scope["route"].path if "route" in scope else "other"
        metrics, seconds = self._service.metrics, time.monotonic() - visit.started
        status = visit.status or 499  # the client has gone
        metrics.requests.labels(route, known_method(scope["method"]), str(status)).inc()
        metrics.request_seconds.labels(route).observe(seconds)
        if visit.code is not None:
            metrics.refusals.labels(visit.code).inc()
        client = scope.get("client") or ("-", 0)
        log.info(
            "%s %s %s %d %.0f ms%s",
            client[0],
            scope["method"],
            json.dumps(scope["path"])[1:-1],
            status,
            seconds * 1000,
            f" {visit.code}" if visit.code else "",
            extra={
                "request": {
                    "client": client[0],
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "ms": round(seconds * 1000, 1),
                    "code": visit.code,
                }
            },
        )


class _Visit:
    """A request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self.started = time.monotonic()
        self.status: int | None = None
        self.code: str | None = None
        self._is_received = False

    async def receive(self) -> Message:
        """A piece of the request."""
        message = await self._receive()
        self._is_received = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """A piece of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            self.code = next((value.decode() for name, value in headers if name == _CODE_HEADER), None)
            message = {**message, "headers": [*headers, *_COMMON_HEADERS]}
            if self.status >= 400:
                await self._let_it_talk()
        await self._send(message)

    async def _let_it_talk(self) -> None:
        """Takes what is left of a body, before the answer to a client that wants the connection closed behind it.

        It reads nothing before it has sent everything; closed with unread bytes, it would never see the answer. Other
        connections are kept a while, and what still comes is thrown away there.
        """
        headers = dict(self._scope["headers"])
        closes = headers.get(b"connection", b"").lower() == b"close" or self._scope["http_version"] == "1.0"
        if not closes or b"expect" in headers:
            return
        left = _THROWN_AWAY_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_THROWN_AWAY_S):
                while not self._is_received and left > 0:
                    left -= len((await self.receive()).get("body", b""))

    async def refuse(self, refusal: RefusalError) -> None:
        """Answers with the reason, where nothing was answered yet."""
        if self.status is not None:
            return
        body = error_body(refusal.code, str(refusal))
        headers = {"content-type": "application/json", "content-length": str(len(body)), "x-error-code": refusal.code}
        headers |= refusal.headers
        lines = [(name.encode(), value.encode()) for name, value in headers.items()]
        if refusal.status == 401:
            lines += [(b"www-authenticate", challenge) for challenge in _CHALLENGES]
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": lines})
        await self.send({"type": "http.response.body", "body": body})


def known_method(method: str) -> str:
    """The method, if it is one of HTTP's: no client makes up labels of metrics."""
    return method if method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH") else "other"


def token_of(authorization: str) -> str | None:
    """The token in a header: of Bearer, or the password of Basic, which browsers and labelling tools can ask for."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return None


def allowed_hosts(settings: ServerSettings) -> frozenset[str] | None:
    """Names by which the server may be called, besides addresses; None: any.

    A page of an attacker's site can be made to reach a server on the visitor's machine by a name of its own (DNS
    rebinding). It cannot send the token, so with one any name will do.
    """
    if "*" in settings.allowed_hosts or (settings.token is not None and not settings.allowed_hosts):
        return None
    return frozenset(name.lower() for name in (*_LOOPBACK, socket.gethostname(), *settings.allowed_hosts))


def is_host_allowed(host: str, names: frozenset[str]) -> bool:
    """Whether a header ``Host`` is an address or one of the names, with any port."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_origin_allowed(headers: dict[str, str], method: str, cors_origins: tuple[str, ...]) -> bool:
    """Whether a request comes from no page, from a page of this server, or from one that is allowed."""
    origin = headers.get("origin")
    if origin is not None:
        place = _place(origin)
        own = place is not None and place == _place(f"{origin.partition(':')[0]}://{headers.get('host')}")
        return own or origin in cors_origins
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    return method == "GET" and headers.get("sec-fetch-mode") == "navigate"  # a link that was followed


def _place(origin: str) -> tuple[str, int | None] | None:
    """Host and port of an origin; None for ``null`` and what is none."""
    try:
        parts = urlsplit(origin)
        return (parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)) if parts.hostname else None
    except ValueError:
        return None

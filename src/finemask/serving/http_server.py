"""The process that serves: a socket, connections that may not dawdle, signals, lines in a log."""

import asyncio
import contextlib
import ipaddress
import json
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from finemask.errors import ConfigError, MissingExtraError
from finemask.serving.refusals import error_body

if TYPE_CHECKING:
    from fastapi import FastAPI
    from uvicorn import Server

_HEAD_BYTES = 32 * 1024  # of the head of a request
_HEAD_S = 10.0  # in which it is to be there
_READ_S = 30.0  # in which a client is to read what it was sent
_IDLE_S = 5  # that a connection without a request is kept
_GRACE_S = 0.5  # that connections are kept when the server stops: who is about to ask is answered
_STOP_S = 5  # more than the longest request may take


def open_socket(host: str, port: int) -> socket.socket:
    """A socket bound to an address, before anything else is done that takes long.

    Args:
        host: a name or an address, of version 4 or 6.
        port: 0 takes any that is free.

    Raises:
        ConfigError: there is no such address here, or the port is taken or not for everyone.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
        if sys.platform != "win32":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"host={host} port={port} cannot be opened: {reason}",
            remedy="Is another server running? Choose another port=, or port=0 for any that is free.",
        ) from error
    return opened


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine only."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return all(ipaddress.ip_address(str(address[4][0]).partition("%")[0]).is_loopback for address in found)
    except (OSError, UnicodeError, ValueError):
        return False


def address_of_socket(opened: socket.socket) -> str:
    """What to type into a browser on this machine."""
    host, port = opened.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_server(application: "FastAPI", opened: socket.socket, max_connections: int) -> None:
    """Serves until a signal: what was accepted is finished then; a second signal ends it at once.

    Args:
        application: as ``build_application`` makes it.
        opened: as ``open_socket`` gives it.
        max_connections: at a time; those beyond are told to come back.
    """
    server_of(application, opened, max_connections).run(sockets=[opened])


def server_of(application: "FastAPI", opened: socket.socket, max_connections: int) -> "Server":
    """The server, not yet running; its ``should_exit`` ends it as a signal does."""
    try:
        import uvicorn
        from uvicorn.protocols.http.h11_impl import H11Protocol
    except ImportError as error:
        raise MissingExtraError("uvicorn", "serve", needed_for="the server") from error
    import h11

    service = application.state.service

    class Connection(H11Protocol):
        """A connection that is closed where its client lets the server wait."""

        _timer: asyncio.TimerHandle | None = None
        _is_last = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                what = f"{max_connections} connections are open, as many as may. Try again later."
                self._say(503, "too-many-connections", what)
            else:
                self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_last and self.cycle is not None:
                self.cycle.keep_alive = False
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._cancel()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._cancel()
            self._timer = self.loop.call_later(_READ_S, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._cancel()
            self._watch()

        def shutdown(self) -> None:
            if self._is_last or self._is_busy():
                super().shutdown()
            else:
                self._is_last = True
                self.loop.call_later(_GRACE_S, self._shut)

        def send_400_response(self, msg: str) -> None:
            hint = getattr(sys.exc_info()[1], "error_status_hint", 400)
            code = "head-too-large" if hint == 431 else "bad-request"
            self._say(hint, code, f"the head of the request is over {_HEAD_BYTES} bytes" if hint == 431 else msg)

        def _shut(self) -> None:
            if not self.transport.is_closing():
                self.shutdown()

        def _is_busy(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _watch(self) -> None:
            """Nobody waits for ever: for the head of a request, for the rest of one that was refused, for a reader."""
            if self.transport.is_closing():
                self._cancel()
                self._timer = self.loop.call_later(_READ_S, self.transport.abort)
            elif self._is_busy():
                self._cancel()
            elif self._timer is None:
                self._timer = self.loop.call_later(_HEAD_S, self._give_up)

        def _give_up(self) -> None:
            self._timer = None
            self.transport.close()
            self._watch()

        def _cancel(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _say(self, status: int, code: str, message: str) -> None:
            """Answers below the application, and closes."""
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                body = error_body(code, message)
                head = f"HTTP/1.1 {status} \r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
                head += "retry-after: 1\r\n" if status == 503 else ""
                self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
            service.metrics.refusals.labels(code).inc()
            self.transport.close()
            self._watch()

    class GracefulServer(uvicorn.Server):
        """Ends with what was accepted, and then well: a supervisor that sent SIGTERM sees 0."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            try:
                before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
            except ValueError:  # not in the main thread, where a test or a notebook may run it
                yield
                return
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if self.should_exit:
                signal.signal(sig, signal.SIG_DFL)
                signal.raise_signal(sig)
            service.state = "stopping"
            self.should_exit = True

    config = uvicorn.Config(
        application,
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=round(service.settings.timeout_s) + _STOP_S,
    )
    return GracefulServer(config)


def log_requests(form: Literal["lines", "json", "none"]) -> None:
    """Writes a line for each request to standard error; defects are written in any case."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if form == "json" else logging.Formatter("%(asctime)s %(message)s"))
    for name, level in (("finemask.serving", logging.INFO), ("uvicorn", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.ERROR if form == "none" else level)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        shown: dict[str, Any] = {"time": self.formatTime(record), "level": record.levelname.lower()}
        shown |= getattr(record, "request", None) or {"message": record.getMessage()}
        if record.exc_info:
            shown["traceback"] = self.formatException(record.exc_info)
        return json.dumps(shown, ensure_ascii=False)

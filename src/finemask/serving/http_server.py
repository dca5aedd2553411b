"""The process that serves: a socket, signals, lines in a log."""

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
from finemask.serving.connections import HEAD_BYTES, IDLE_S, connection_class

if TYPE_CHECKING:
    from fastapi import FastAPI
    from uvicorn import Server

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
    except ImportError as error:
        raise MissingExtraError("uvicorn", "serve", needed_for="the server") from error
    service = application.state.service

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
        http=connection_class(max_connections, service.metrics),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=round(service.settings.timeout_s) + _STOP_S,
    )
    return GracefulServer(config)


def log_requests(form: Literal["lines", "json", "none"]) -> None:
    """Writes a line for each request to standard error; defects are written in any case."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if form == "json" else logging.Formatter("%(asctime)s %(message)s"))
    # python_multipart writes a warning for each form that it cannot read.
    levels = {"finemask.serving": logging.INFO, "uvicorn": logging.ERROR, "python_multipart": logging.ERROR}
    for name, level in levels.items():
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

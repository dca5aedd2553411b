"""Connections to clients: none may keep the server waiting for ever, and none beyond the limit is let in."""

import asyncio
import sys
from typing import TYPE_CHECKING

from finemask.serving.refusals import error_body
from finemask.serving.server_metrics import ServerMetrics

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_BYTES = 32 * 1024  # of the head of a request
IDLE_S = 5  # that a connection without a request is kept
_HEAD_S = 10.0  # in which a head is to be there
_REST_S = 60.0  # for the rest of a request that was refused: many clients read nothing before they have sent everything
_READ_S = 30.0  # in which a client is to read what it was sent
_GRACE_S = 0.5  # that connections are kept when the server stops: who is about to ask is answered


def connection_class(max_connections: int, metrics: ServerMetrics) -> "type[H11Protocol]":
    """What an ASGI server makes of each connection: HTTP by h11, with patience that ends.

    A head that does not come, an answer that nobody reads, a body that is still sent after it was refused: each ends
    with the connection. What is no HTTP is told so in JSON. When the server stops, connections without a request are
    kept for a moment.

    Args:
        max_connections: at a time.
        metrics: told of refusals.
    """
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Connection(H11Protocol):
        _patience: asyncio.TimerHandle | None = None
        _reader: asyncio.TimerHandle | None = None
        _is_last = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                what = f"{max_connections} connections are open, as many as may. Try again later."
                self._say(503, "too-many-connections", what)
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
            _stop(self._patience)
            _stop(self._reader)
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            _stop(self._reader)
            self._reader = self.loop.call_later(_READ_S, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            _stop(self._reader)
            self._reader = None

        def shutdown(self) -> None:
            if self._is_last or self._is_busy():
                super().shutdown()
            else:
                self._is_last = True
                self.loop.call_later(_GRACE_S, self._shut)

        def send_400_response(self, msg: str) -> None:
            if getattr(sys.exc_info()[1], "error_status_hint", 400) == 431:
                self._say(431, "head-too-large", f"The head of the request is over {HEAD_BYTES:,} bytes.")
            else:
                self._say(400, "bad-request", msg)
            self._watch()

        def _shut(self) -> None:
            if not self.transport.is_closing():
                self.shutdown()

        def _is_busy(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _watch(self) -> None:
            """Sets the clock by what is waited for."""
            if self.transport.is_closing():
                self._reader = self._reader or self.loop.call_later(_READ_S, self.transport.abort)
            if self.transport.is_closing() or self._is_busy():
                _stop(self._patience)
                self._patience = None
            elif self._patience is None:
                is_rest = self.conn.their_state is h11.SEND_BODY
                self._patience = self.loop.call_later(_REST_S if is_rest else _HEAD_S, self._give_up)

        def _give_up(self) -> None:
            self._patience = None
            self.transport.close()
            self._watch()

        def _say(self, status: int, code: str, message: str) -> None:
            """Answers below the application, and closes."""
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                body = error_body(code, message)
                lines = [f"HTTP/1.1 {status} ", "content-type: application/json", f"content-length: {len(body)}"]
                lines += ["retry-after: 1"] if status == 503 else []
                self.transport.write("\r\n".join([*lines, "connection: close", "", ""]).encode() + body)
            metrics.refusals.labels(code).inc()
            self.transport.close()

    return Connection


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()

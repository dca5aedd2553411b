"""A server on loopback in a thread, and asking it with nothing but sockets and http.client."""

import http.client
import io
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from inference_data import ColourModel, colour_header, rectangles
from PIL import Image

from finemask.inference.predictor import Predictor
from finemask.serving.application import build_application
from finemask.serving.http_server import address_of_socket, open_socket, server_of
from finemask.serving.image_service import ImageService
from finemask.serving.server_settings import ServerSettings

RED, GREEN, BLUE = (4, 6, 20, 30), (30, 10, 50, 25), (22, 32, 40, 38)
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of a refusal."""
        return self.json["error"]["code"]


@dataclass
class Serving:
    """A server that runs.

    Args:
        address: http://127.0.0.1:PORT.
        service: of the application.
        predictor: the same that the server uses.
    """

    address: str
    service: ImageService
    predictor: Predictor
    server: Any = field(repr=False)

    @property
    def port(self) -> int:
        port = urlsplit(self.address).port
        assert port is not None
        return port

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            shown = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, shown, response.read())
        finally:
            connection.close()

    def predict(self, image: bytes, query: str = "", **headers: str) -> Answer:
        """An image as the body of a request."""
        shown = {"Content-Type": "image/png"} | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", f"/predict{query}", image, shown)


@contextmanager
def serving(
    predictor: Predictor | None = None, *, max_connections: int = 64, ready: bool = True, **settings: Any
) -> Iterator[Serving]:
    """A server with a model of its own; by default the one that finds coloured rectangles."""
    used = predictor or Predictor(ColourModel(), colour_header())
    application = build_application(used, ServerSettings(**settings))
    with open_socket("127.0.0.1", 0) as opened:
        server = server_of(application, opened, max_connections)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
        made = Serving(address_of_socket(opened), application.state.service, used, server)
        thread.start()
        until = time.monotonic() + PATIENCE_S
        while ready and not (server.started and made.service.is_ready):
            assert thread.is_alive()
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.005)
        try:
            yield made
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "the server did not end"


def png_of(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, kind)
    return written.getvalue()


def picture(**boxes: tuple[int, int, int, int]) -> bytes:
    """A PNG of 40 × 60 px with coloured rectangles; a red one by default."""
    return png_of(rectangles(**(boxes or {"red": RED})))


def form(content: bytes, name: str = "image", filename: str = "photo.png") -> tuple[bytes, dict[str, str]]:
    """The body of a form with one file, and its header."""
    head = f'--limit\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
    head += "Content-Type: application/octet-stream\r\n\r\n"
    return head.encode() + content + b"\r\n--limit--\r\n", {"Content-Type": "multipart/form-data; boundary=limit"}

"""Connections of clients that dawdle, shout or never come to the point, by bare sockets."""

import json
import socket
import time

import pytest
from serving_cases import Serving, picture, serving

from finemask.serving import connections


def receive_all(client: socket.socket) -> bytes:
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def shout(server: Serving, content: bytes) -> tuple[int, dict]:
    """Status and body of the answer to bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(content)
        head, _, body = receive_all(client).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_oversized_heads_are_refused() -> None:
    with serving() as server:
        for large in (b"X-Large: " + b"a" * 200_000 + b"\r\n", b"X-Many: a\r\n" * 20_000):
            status, said = shout(server, b"GET /info HTTP/1.1\r\nHost: localhost\r\n" + large + b"\r\n")
            assert (status, said["error"]["code"]) == (431, "head-too-large")
        status, said = shout(server, b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (status, said["error"]["code"]) == (431, "head-too-large")
        assert server.predict(picture()).status == 200


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a client that speaks TLS\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /info HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
    ],
    ids=["tls", "no host", "two lengths", "negative length", "no colon"],
)
def test_what_is_no_http_is_told_so(content: bytes) -> None:
    with serving() as server:
        status, said = shout(server, content)
        assert (status, said["error"]["code"]) == (400, "bad-request")
        assert server.ask("GET", "/health").status == 200


def test_a_head_that_does_not_come_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_HEAD_S", 0.3)
    with serving() as server:
        for begun in (b"", b"GET /info HTTP/1.1\r\nHost: loc"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
                client.sendall(begun)
                assert receive_all(client) == b""
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea")  # the second one dawdles
            assert receive_all(client).count(b"HTTP/1.1 200") == 1


def test_a_slow_body_is_refused_in_time() -> None:
    with serving(timeout_s=0.3) as server:
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n"
        status, said = shout(server, head + b"\x89PNG")
        assert (status, said["error"]["code"]) == (408, "too-slow")
        assert server.service._buffered == 0


def test_a_refused_body_that_never_ends_ends_with_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_REST_S", 0.3)
    with serving(max_bytes=1000) as server:
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            until = time.monotonic() + 30
            try:
                while time.monotonic() < until:
                    client.sendall(b"800\r\n" + b"a" * 0x800 + b"\r\n")
                    time.sleep(0.01)
                pytest.fail("the server still listens")
            except OSError:
                pass
        assert server.ask("GET", "/health").status == 200


def test_connections_beyond_the_limit_are_told_to_come_back() -> None:
    with serving(max_connections=3) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(3)]
        status, said = shout(server, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (status, said["error"]["code"]) == (503, "too-many-connections")
        for client in idle:
            client.close()
        until = time.monotonic() + 30
        while True:
            try:
                if server.ask("GET", "/health").status == 200:
                    break
            except OSError:
                pass
            assert time.monotonic() < until
            time.sleep(0.02)


def test_a_client_that_goes_takes_its_image_along() -> None:
    with serving() as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            image = picture()
            head = (
                f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {len(image)}"
            )
            client.sendall(head.encode() + b"\r\n\r\n" + image[:20])
        until = time.monotonic() + 30
        while server.service._buffered or server.service._inside:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert server.predict(picture()).status == 200

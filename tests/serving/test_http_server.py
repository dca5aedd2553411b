"""The process: signals, sockets, the token, and what a start refuses."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serving_cases import Serving, picture

from finemask.config import verb_options
from finemask.errors import ConfigError
from finemask.serving.http_server import address_of_socket, is_loopback, open_socket
from finemask.workflows.serve_model import TOKEN_VARIABLE, read_token, settings_of

# A server whose model takes a while, and says when it begins.
SLOW = """
import sys, time
sys.path[:0] = sys.argv[1:2]
from inference_data import ColourModel, colour_header
from finemask.inference.predictor import Predictor
from finemask.serving.application import build_application
from finemask.serving.http_server import address_of_socket, log_requests, open_socket, run_server
from finemask.serving.server_settings import ServerSettings
class Slow(ColourModel):
    def forward(self, images):
        print("begun", flush=True)
        time.sleep(float(sys.argv[2]))
        return super().forward(images)
opened = open_socket("127.0.0.1", 0)
application = build_application(Predictor(Slow(), colour_header()), ServerSettings())
log_requests("none")
print(address_of_socket(opened), flush=True)
run_server(application, opened, 64)
print("ended", flush=True)
"""


@contextmanager
def slow_server(seconds: float) -> Iterator[tuple[subprocess.Popen[str], Serving]]:
    helpers = Path(__file__).resolve().parents[1] / "helpers"
    words = [sys.executable, "-c", SLOW, str(helpers), str(seconds)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        made = Serving(address, SimpleNamespace(), SimpleNamespace(), None)  # type: ignore[arg-type]
        assert process.stdout.readline() == "begun\n"  # the first image, which warms it up
        until = time.monotonic() + 60
        while made.ask("GET", "/ready").status != 200:
            assert time.monotonic() < until
            time.sleep(0.05)
        yield process, made
    finally:
        process.kill()
        process.wait()


def ask_in_background(server: Serving, count: int) -> tuple[list[threading.Thread], list[Any]]:
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(server.predict(picture()))) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, answers


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_a_signal_lets_everything_accepted_be_answered_and_the_exit_is_a_good_one() -> None:
    with slow_server(0.3) as (process, server):
        threads, answers = ask_in_background(server, 5)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        until = time.monotonic() + 60
        while b"finemask_queue_depth 5.0" not in server.ask("GET", "/metrics").body:
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        assert [answer.status for answer in answers] == [200] * 5
        assert all(len(answer.json["instances"]) == 1 for answer in answers)
        assert process.wait(60) == 0
        assert process.stdout.read().endswith("ended\n")
        with pytest.raises(OSError):  # noqa: PT011
            socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_a_second_signal_ends_it_at_once() -> None:
    with slow_server(3.0) as (process, server), socket.create_connection(("127.0.0.1", server.port)) as client:
        image = picture()
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(image)}\r\n"
        client.sendall(head.encode() + b"Content-Type: image/png\r\n\r\n" + image)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
        assert "ended" not in process.stdout.read()


def options(**changes: Any) -> dict[str, Any]:
    return verb_options("serve", {"model": "model.safetensors", **changes}, [])


@pytest.fixture(autouse=True)
def no_token_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_beyond_this_machine_it_needs_a_token_or_a_word(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=f"host={host} can be reached from other machines, and there is no token"):
        settings_of(options(host=host))
    assert settings_of(options(host=host, anonymous=True)).token is None
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    assert settings_of(options(host=host)).token == "secret"


def test_on_this_machine_it_needs_none() -> None:
    assert is_loopback("localhost")
    assert is_loopback("127.0.0.9")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert settings_of(options()).token is None


def test_where_a_token_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("of-a-file\nsecond line\n")
    monkeypatch.setenv(TOKEN_VARIABLE, "of-the-environment")
    assert read_token(options()) == "of-the-environment"
    assert read_token(options(token_file=str(file))) == "of-a-file"
    assert read_token(options(token="typed")) == "typed"
    with pytest.raises(ConfigError, match="both given"):
        read_token(options(token="typed", token_file=str(file)))
    with pytest.raises(ConfigError, match="No such file"):
        read_token(options(token_file=str(tmp_path / "none")))
    for bad in ("", "   ", "two words", "tökän", "a\tb"):
        monkeypatch.setenv(TOKEN_VARIABLE, bad)
        with pytest.raises(ConfigError, match=TOKEN_VARIABLE):
            read_token(options())


def test_a_port_that_is_taken_is_said_before_anything_is_loaded() -> None:
    with open_socket("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(ConfigError, match="Is another server running"):
            open_socket("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ConfigError, match="cannot be opened"):
        open_socket("no.such.host.invalid", 0)


def test_the_address_that_is_printed_can_be_typed() -> None:
    with open_socket("0.0.0.0", 0) as opened:
        assert address_of_socket(opened) == f"http://127.0.0.1:{opened.getsockname()[1]}"
    if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6"):  # noqa: PTH110
        with open_socket("::1", 0) as opened:
            assert address_of_socket(opened) == f"http://[::1]:{opened.getsockname()[1]}"

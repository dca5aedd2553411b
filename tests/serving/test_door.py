"""Who may ask: tokens, hosts, origins; and what is written down of each request."""

import base64
import json
import logging
import time
from collections.abc import Iterator

import pytest
from serving_cases import Serving, picture, serving

from finemask.serving.door import allowed_hosts, is_host_allowed, is_origin_allowed, token_of
from finemask.serving.http_server import log_requests
from finemask.serving.server_settings import ServerSettings

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving(token=TOKEN) as made:
        yield made


@pytest.fixture(scope="module")
def open_server() -> Iterator[Serving]:
    with serving() as made:
        yield made


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        (None, 401, "no-token"),
        ("Bearer", 401, "wrong-token"),
        ("Bearer ", 401, "wrong-token"),
        ("Bearer wrong", 401, "wrong-token"),
        (f"Bearer {TOKEN}x", 401, "wrong-token"),
        (f"Bearer {TOKEN[:-1]}", 401, "wrong-token"),
        (f"Token {TOKEN}", 401, "no-token"),
        (basic("wrong"), 401, "wrong-token"),
        ("Basic %%%", 401, "wrong-token"),
        ("Bearer \xe4\xf6", 401, "wrong-token"),
        (f"Bearer {TOKEN}", 200, None),
        (f"bearer {TOKEN}", 200, None),
        (basic(TOKEN), 200, None),
    ],
)
def test_a_token_is_asked_for(server: Serving, header: str | None, status: int, code: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for answer in (server.ask("GET", "/info", headers=headers), server.predict(picture(), **headers)):
        assert answer.status == status
        if code is not None:
            assert answer.code == code
            assert "Bearer" in answer.headers["www-authenticate"]
            assert TOKEN.encode() not in answer.body


def test_everything_but_the_state_of_the_server_is_behind_the_token(server: Serving) -> None:
    for path in ("/", "/info", "/metrics", "/openapi.json", "/nothing"):
        assert server.ask("GET", path).status == 401
    assert server.ask("GET", "/health").json == {"status": "ok"}
    assert server.ask("GET", "/ready").json == {"status": "ready"}


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "", "a b", "[::1", "0x7f.1"]
)
def test_a_server_without_a_token_answers_to_no_foreign_name(open_server: Serving, host: str) -> None:
    answer = open_server.ask("GET", "/info", headers={"Host": host})
    assert (answer.status, answer.code) == (403, "host-not-allowed")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9", "[::1]:80", "localhost", "LOCALHOST:8000", "192.168.1.7"])
def test_addresses_and_its_own_names_are_fine(open_server: Serving, host: str) -> None:
    assert open_server.ask("GET", "/info", headers={"Host": host}).status == 200


def test_names_of_hosts_by_settings() -> None:
    assert allowed_hosts(ServerSettings(token=TOKEN)) is None
    assert allowed_hosts(ServerSettings(allowed_hosts=("*",))) is None
    names = allowed_hosts(ServerSettings(allowed_hosts=("models.lab",)))
    assert names is not None
    assert is_host_allowed("models.lab:8000", names)
    assert is_host_allowed("Models.Lab.", names)
    assert not is_host_allowed("other.lab", names)


OWN = {"host": "127.0.0.1:8000"}


@pytest.mark.parametrize(
    ("headers", "method", "allowed"),
    [
        ({}, "POST", True),
        ({"origin": "http://127.0.0.1:8000"}, "POST", True),
        ({"origin": "http://127.0.0.1:8001"}, "POST", False),
        ({"origin": "http://localhost:8000"}, "POST", False),
        ({"origin": "https://evil.example"}, "GET", False),
        ({"origin": "null"}, "POST", False),
        ({"origin": "http://["}, "POST", False),
        ({"origin": "https://ok.example"}, "POST", True),
        ({"origin": "http://ok.example"}, "POST", False),
        ({"origin": "https://models.lab", "host": "models.lab"}, "POST", True),
        ({"origin": "https://models.lab:443", "host": "models.lab"}, "POST", True),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, "GET", False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, "GET", True),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, "POST", False),
        ({"sec-fetch-site": "same-origin"}, "POST", True),
        ({"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, "GET", True),
    ],
)
def test_pages_of_other_origins_are_refused(headers: dict[str, str], method: str, allowed: bool) -> None:
    assert is_origin_allowed(OWN | headers, method, ("https://ok.example",)) is allowed


def test_a_request_of_a_foreign_page_is_answered_with_a_refusal_and_nothing_else(open_server: Serving) -> None:
    answer = open_server.predict(picture(), Origin="https://evil.example")
    assert (answer.status, answer.code) == (403, "cross-origin")
    assert "access-control-allow-origin" not in answer.headers
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert open_server.ask("OPTIONS", "/predict", headers=preflight).status == 403


def test_an_origin_that_is_allowed_gets_what_a_browser_needs() -> None:
    origin = "https://ok.example"
    with serving(cors_origins=(origin,), token=TOKEN) as server:
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        asked["Access-Control-Request-Headers"] = "authorization,content-type"
        preflight = server.ask("OPTIONS", "/predict", headers=asked)
        assert preflight.status == 200
        assert preflight.headers["access-control-allow-origin"] == origin
        answer = server.predict(picture(), Origin=origin, Authorization=f"Bearer {TOKEN}")
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, origin)
        assert server.predict(picture(), Origin=origin).status == 401


def test_tokens_in_headers() -> None:
    assert token_of("") is None
    assert token_of("Bearer a:b") == "a:b"
    assert token_of(basic("a:b")) == "a:b"


def test_requests_are_counted_by_route_and_reason() -> None:
    with serving() as server:
        server.predict(picture())
        server.predict(b"none")
        server.ask("GET", "/wherever/a/client/likes")
        server.ask("BREW", "/predict")
        text = server.ask("GET", "/metrics").body.decode()
    lines = set(text.splitlines())
    assert 'finemask_requests_total{method="POST",route="/predict",status="200"} 1.0' in lines
    assert 'finemask_requests_total{method="POST",route="/predict",status="415"} 1.0' in lines
    assert 'finemask_requests_total{method="GET",route="other",status="404"} 1.0' in lines
    assert 'finemask_refusals_total{code="not-an-image"} 1.0' in lines
    assert 'finemask_request_seconds_count{route="/predict"}' in text
    assert "finemask_model_seconds_count 2.0" in lines  # with that of warming up
    assert "wherever" not in text
    assert "BREW" not in text


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    logger = logging.getLogger("finemask.serving")
    before = logger.handlers, logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate, logger.level = before


def test_a_line_of_the_log_is_one_line_whatever_a_client_sends(
    open_server: Serving, logging_as_before: None, capsys: pytest.CaptureFixture[str]
) -> None:
    def logged(form: str, path: str) -> str:
        """What is written of a request, which is after its answer."""
        log_requests(form)
        open_server.ask("GET", path)
        written, end = "", time.monotonic() + (10 if form != "none" else 0.3)
        while not written.endswith("\n") and time.monotonic() < end:
            time.sleep(0.01)
            written += capsys.readouterr().err
        return written

    as_json, as_line = (logged(form, "/a%0Aforged%20line%1b[31m") for form in ("json", "lines"))
    assert logged("none", "/quiet") == ""
    written = as_json + as_line
    assert len(written.splitlines()) == 2
    assert json.loads(as_json)["path"] == "/a\nforged line\x1b[31m"
    assert json.loads(as_json)["status"] == 404
    assert "\x1b" not in written
    assert r"GET /a\nforged line\u001b[31m 404" in as_line

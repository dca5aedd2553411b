import shutil
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pytest

from finemask.errors import DataError
from finemask.inference.content import public_addresses, web_fetch
from finemask.inference.content.web_fetch import FetchLimits, fetch, fetch_into

PNG = b"\x89PNG pixels"


class Answers(BaseHTTPRequestHandler):
    """/to/URL leads there; /as/TYPE/SUBTYPE is the picture under that type; /N is N bytes; /drip never ends."""

    def do_GET(self):
        self.server.asked.append((self.headers["Host"], self.path))
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
            return
        body, kind = PNG, "image/png"
        if self.path.startswith("/as/"):
            kind = self.path[4:]
            body = b"\n<!DOCTYPE html>" if kind == "text/html" else PNG
        elif self.path[1:].isdecimal():
            body = bytes(int(self.path[1:]))
        elif self.path not in ("/a%20b.png?x=%C3%A4", "/drip", "/zip", "/chunks"):
            self.send_error(404, "Gone fishing")
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if self.path == "/zip":
            self.send_header("Content-Encoding", "gzip")
        if self.path not in ("/drip", "/chunks"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/drip":
            while not self.server.stopping.wait(0.02):
                try:
                    self.wfile.write(b"x")
                except OSError:
                    return
        elif self.path == "/chunks":  # no length: it ends with the connection
            for _ in range(50):
                self.wfile.write(bytes(1000))
        else:
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as httpd:
        httpd.asked, httpd.stopping = [], threading.Event()
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield httpd
        httpd.stopping.set()
        httpd.shutdown()
        thread.join()


@pytest.fixture
def address(server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def refused(url: str, limits: FetchLimits = web_fetch.IMAGES, allow_private: bool = True) -> DataError:
    with pytest.raises(DataError) as caught:
        fetch(url, limits, allow_private)
    return caught.value


def test_the_content_comes_whole_whatever_the_address_looks_like(server, address):
    assert fetch(f" {address}/a b.png?x=ä#part ", allow_private=True) == PNG
    assert fetch(f"{address}/a%20b.png?x=%C3%A4", allow_private=True) == PNG
    assert server.asked == [(f"127.0.0.1:{server.server_port}", "/a%20b.png?x=%C3%A4")] * 2
    assert fetch(f"{address}/chunks", allow_private=True) == bytes(50_000)
    file = BytesIO()
    fetch_into(file, f"{address}/100000", allow_private=True)
    assert file.getvalue() == bytes(100_000)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0"])
def test_a_private_address_is_refused_however_it_is_written(server, host):
    """The forms are those that the system's own resolver takes for this machine."""
    error = refused(f"http://{host}:{server.server_port}/100", allow_private=False)
    assert "is an address of this machine or of a private network" in error.what
    assert "allow_private_urls=true" in str(error.remedy)
    assert server.asked == []


@pytest.fixture
def names(monkeypatch):
    """Looks up ``public.example`` as 127.0.0.1, which counts as public here, and ``inside.example`` as 127.0.0.2."""
    table = {
        "public.example": ["127.0.0.1"],
        "inside.example": ["127.0.0.2"],
        "both.example": ["127.0.0.1", "10.1.1.1"],
    }
    asked = []

    def look_up(host, port, **options):
        asked.append(host)
        found = table.get(host, [host])
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port)) for place in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(public_addresses, "is_public", lambda place: place == "127.0.0.1")
    return asked


@pytest.fixture
def no_second_look(monkeypatch):
    """Connects without asking the resolver: to numbers only."""

    def connect(place, timeout, *more):
        found = socket.socket()
        found.settimeout(timeout)
        found.connect((socket.inet_ntoa(socket.inet_aton(place[0])), place[1]))
        return found

    monkeypatch.setattr(socket, "create_connection", connect)


def test_the_connection_goes_to_the_address_that_was_looked_at(server, names, no_second_look):
    """Were the name looked up twice, a second answer could be another one."""
    assert fetch(f"http://public.example:{server.server_port}/as/image/png") == PNG
    assert names == ["public.example"]
    assert server.asked == [(f"public.example:{server.server_port}", "/as/image/png")]


@pytest.mark.parametrize(
    ("start", "through"),
    [
        ("inside.example", ""),
        ("both.example", ""),
        ("public.example", "inside.example"),
        ("public.example", "127.0.0.2"),
    ],
)
def test_no_name_and_no_redirect_leads_inside(server, names, no_second_look, start, through):
    port = server.server_port
    path = f"to/http://{through}:{port}/100" if through else "100"
    error = refused(f"http://{start}:{port}/{path}", allow_private=False)
    assert "of a private network" in error.what
    assert error.where == (f"http://{through}:{port}/100" if through else f"http://{start}:{port}/100")
    assert (f"{start}:{port}/to/" in error.what) == bool(through)  # what led there is said
    assert [path for _, path in server.asked if path == "/100"] == []


def test_redirects_are_followed_so_far_and_to_the_web_only(server, address):
    assert fetch(f"{address}/to//to//as/image/png", allow_private=True) == PNG  # relative ones
    loop = f"{address}/to//" + "to//" * 5 + "100"
    assert refused(loop).what == "cannot be downloaded: it leads from one address to the next, more than 5 times"
    assert refused(f"{address}/to/file:///etc/passwd").what.startswith("only http:// and https:// are fetched")
    gone = refused(f"{address}/to//nowhere")
    assert gone.what == (
        f"cannot be downloaded: the server answered with status 404, Gone fishing; {address}/to//nowhere led there"
    )
    assert gone.where == f"{address}/nowhere"


@pytest.mark.parametrize("url", ["ftp://example.org/a.png", "file:///etc/passwd", "http://", "gopher://x/1", "a.png"])
def test_only_the_web_is_fetched(url):
    assert refused(url).what == "only http:// and https:// are fetched"


def test_a_password_is_not_repeated():
    error = refused("http://ann:secret@127.0.0.1/a.png")
    assert "secret" not in str(error)
    assert error.where == "http://…@127.0.0.1/a.png"
    assert refused("http://127.0.0.1:port/").what.startswith("this is no address")


def test_what_is_too_large_is_refused_before_and_while_it_comes(server, address):
    limits = FetchLimits(max_bytes=40_000)
    assert refused(f"{address}/50000", limits).what == "larger than 40,000 bytes"  # it says so beforehand
    file = BytesIO()
    with pytest.raises(DataError, match="larger than 40,000 bytes"):
        fetch_into(file, f"{address}/chunks", limits, allow_private=True)
    assert len(file.getvalue()) <= 40_000
    assert fetch(f"{address}/40000", limits, allow_private=True) == bytes(40_000)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("image/tiff", None),
        ("application/octet-stream", None),
        ("text/plain; charset=utf-8", None),
        ("text/html", "the server sent a web page, not an image"),
        ("application/json", "not an image: the server says that it is application/json"),
        ("video/mp4", "not an image: the server says that it is video/mp4"),
    ],
)
def test_what_the_server_calls_something_else_is_not_taken(address, kind, what):
    url = f"{address}/as/{kind.replace(' ', '%20')}" if what else f"{address}/as/{kind.partition(';')[0]}"
    if what is None:
        assert fetch(url, allow_private=True) == PNG
    else:
        assert refused(url).what == what
    if kind == "video/mp4":
        assert fetch(url, FetchLimits(kinds=("image", "video")), allow_private=True) == PNG
    assert "as gzip" in refused(f"{address}/zip").what


def test_a_server_that_takes_too_long_is_left(address):
    # the drip has no end of its own
    assert refused(f"{address}/drip", FetchLimits(total_s=0.3)).what == "cannot be downloaded: it took more than 0.3 s"


def test_a_server_that_does_not_answer_or_stops_is_said():
    """A socket that accepts and says nothing; one that promises more than it sends; none at all."""

    def asked(answer, limits=web_fetch.IMAGES):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            thread = threading.Thread(target=lambda: answer(listening.accept()[0]))
            thread.start()
            try:
                return refused(f"http://127.0.0.1:{listening.getsockname()[1]}/a.png", limits).what
            finally:
                thread.join()

    def cut(connection):
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 1234\r\n\r\nabc")

    def silent(connection):
        with connection:
            while connection.recv(1000):
                pass

    assert asked(cut) == "the connection ended after 3 of 1,234 bytes"
    assert asked(silent, FetchLimits(timeout_s=0.2)) == "cannot be downloaded: no answer within 0.2 s"
    slow = asked(silent, FetchLimits(total_s=0.2))  # before a byte of the answer came
    assert slow == "cannot be downloaded: it took more than 0.2 s"
    assert refused("http://127.0.0.1:9/a.png").what == "cannot be downloaded: Connection refused"


def test_a_name_that_nobody_knows_is_said(monkeypatch):
    def unknown(*args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    what = "cannot be downloaded: the host images.invalid is not known (DNS: Name or service not known)"
    assert refused("http://images.invalid/a.png").what == what
    assert refused("http://images.invalid/a.png", allow_private=False).what == what


def test_a_proxy_is_asked_for_the_address_that_was_looked_at_first(server, names, no_second_look, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert "status 404" in refused("http://public.example/a.png", allow_private=False).what
    assert server.asked == [("public.example", "http://public.example/a.png")]
    assert "of a private network" in refused("http://inside.example/a.png", allow_private=False).what
    assert len(server.asked) == 1
    assert fetch(f"http://public.example:{server.server_port}/as/image/png", FetchLimits(by_proxy=False)) == PNG
    assert server.asked[1] == (f"public.example:{server.server_port}", "/as/image/png")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_answers_for_the_name(tmp_path, names, no_second_look, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=public.example"
    names_of = ["-addext", "subjectAltName=DNS:public.example", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names_of], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as httpd:
        httpd.asked, httpd.stopping = [], threading.Event()
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        try:
            url = f"https://{{}}:{httpd.server_port}/as/image/png"
            untrusted = refused(url.format("public.example"), allow_private=False).what
            assert untrusted.startswith("cannot be downloaded: the certificate of public.example cannot be trusted")
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            assert fetch(url.format("public.example")) == PNG
            other = refused(url.format("127.0.0.1"), allow_private=False).what
            assert "the certificate of 127.0.0.1 cannot be trusted" in other
            assert [host for host, _ in httpd.asked] == [f"public.example:{httpd.server_port}"]
        finally:
            httpd.shutdown()
            thread.join()

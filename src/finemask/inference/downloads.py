"""Images from http(s) addresses; from public ones only, where a stranger gives the address."""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from finemask.errors import DataError

URL_TIMEOUT_S = 30.0  # without any byte
MAX_URL_BYTES = 256 * 2**20
_PIECE_BYTES = 2**16
_EMBEDDING = tuple(
    map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96"))
)  # that end in an IPv4 address


class PrivateAddressError(OSError):
    """A host that is not on the public internet."""


def download(
    url: str, *, max_bytes: int | None = None, public_only: bool = False, within_s: float | None = None
) -> bytes:
    """The content of an http(s) address.

    Args:
        url: to be followed through redirects.
        max_bytes: of the content; ``MAX_URL_BYTES`` by default.
        public_only: refuses addresses of this machine, its network and others that are not public: as they are written,
            behind a name, or behind a redirect. A name is looked up once, and the connection made to the very address
            that was judged. Proxies of the environment are not used.
        within_s: seconds for all of it, with ``public_only``; None: as long as bytes come.

    Raises:
        DataError: the host is not known or does not answer, the server refuses, the connection ends early, or what
            comes is a web page, or more than ``max_bytes``; it takes longer than ``within_s``.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "finemask"})  # some hosts refuse urllib's own
    limit = MAX_URL_BYTES if max_bytes is None else max_bytes
    patience_s = URL_TIMEOUT_S if within_s is None else min(URL_TIMEOUT_S, within_s)
    watch = _Watch(within_s)
    try:
        opener = _public_opener(watch) if public_only else urllib.request.build_opener()
        with watch, opener.open(request, timeout=patience_s) as response:
            content: bytes = response.read(limit + 1)
            kind, stated = response.headers.get_content_type(), response.headers.get("Content-Length") or ""
    except (http.client.HTTPException, OSError, ValueError) as error:
        why = _in_words(TimeoutError(), url, within_s) if watch.is_over else _in_words(error, url, patience_s)
        raise DataError(
            f"cannot be downloaded: {why}",
            where=url,
            remedy="Check the address and the connection, or download it and give the file.",
        ) from error
    if len(content) > limit:
        raise DataError(f"larger than {limit // 2**20} MiB", where=url, remedy="Download it, then give the file.")
    if stated.isdecimal() and len(content) < int(stated):
        raise DataError(
            f"the connection ended after {len(content):,} of {int(stated):,} bytes", where=url, remedy="Try again."
        )
    if content.lstrip()[:1] == b"<" and kind in ("text/html", "application/xhtml+xml"):
        raise DataError(
            "the server sent a web page, not an image",
            where=url,
            remedy="Open the address in a browser: it may ask for a login, or be the page around the image.",
        )
    return content


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, and leads nowhere else by an address inside it."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo[1] if parsed.teredo else None)
        if inner is None and any(parsed in network for network in _EMBEDDING):
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return parsed.is_global and not parsed.is_multicast


class _Watch:
    """Ends connections when the time for all of a download is over, however slowly their bytes come.

    Args:
        within_s: that time; None: there is no end to it.
    """

    def __init__(self, within_s: float | None) -> None:
        self._timer = None if within_s is None else threading.Timer(max(0.0, within_s), self._end)
        self._connections: list[socket.socket] = []
        self.is_over = False

    def __enter__(self) -> None:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def add(self, connection: socket.socket) -> None:
        """Watches a connection too."""
        self._connections.append(connection)

    def _end(self) -> None:
        self.is_over = True
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _public_opener(watch: _Watch) -> urllib.request.OpenerDirector:
    """What opens public addresses alone: nothing of the usual opener but redirects, no ftp, no files, no proxies."""

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = _connect_publicly(self.host, self.port, self.timeout)
            watch.add(self.sock)

    class TlsConnection(http.client.HTTPSConnection):
        def connect(self) -> None:
            plain = _connect_publicly(self.host, self.port, self.timeout)
            watch.add(plain)
            self.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)
            watch.add(self.sock)

    class Handler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Connection, req)

    class TlsHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(TlsConnection, req)

    opener = urllib.request.OpenerDirector()
    for handler in (
        Handler(),
        TlsHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _connect_publicly(host: str, port: int, timeout: Any) -> socket.socket:
    """A connection to a host of the public internet.

    Raises:
        PrivateAddressError: one of its addresses is not public.
        OSError: it is not known, or does not answer.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, address in found:
        if not is_public(str(address[0])):
            raise PrivateAddressError(f"{host} is not an address of the public internet")
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(timeout)
            connection.connect(address)
        except OSError as error:
            failure = error
            connection.close()
        else:
            return connection
    raise failure


def _in_words(error: Exception, url: str, patience_s: float | None) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered with status {error.code}, {error.reason}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, socket.gaierror):
        return f"the host {urlsplit(url).hostname} is not known (DNS: {reason.strerror})"
    if isinstance(reason, TimeoutError):
        return f"no answer within {patience_s:g} s"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__

"""Fetching what an http(s) address holds, within limits of size, time and kind.

Each address is looked at first, see ``finemask.inference.content.public_addresses``; the connection goes to the very
address that was looked at. A redirect is another address to look at.
"""

import http.client
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from typing import IO
from urllib.parse import quote, urljoin, urlsplit

from finemask.errors import DataError
from finemask.inference.content.public_addresses import NotFetchedError, checked_places, parts_of

_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK = 2**16
_GENERIC = ("application/octet-stream", "binary/octet-stream", "text/plain")  # what servers say that do not know better
_PAGES = ("text/html", "application/xhtml+xml")
_IN_PATHS = "/%:@!$&'()*+,;=~?"
_CHECK = "Check the address and the connection, or download it and give the file."


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What may come from an address.

    Args:
        max_bytes: of the content.
        timeout_s: without an answer or a further byte.
        total_s: for all of it, redirects included.
        max_redirects: followed, one after another.
        kinds: what the content may be, by the first half of its type: ``image``, ``video``. A type that says nothing
            (``application/octet-stream``, ``text/plain``, none) passes: the decoder sees what it is.
        by_proxy: use the proxy that the environment names (``https_proxy``, ``no_proxy``). It looks up names itself;
            without it, nobody can answer it otherwise than this machine.
    """

    max_bytes: int = 256 * 2**20
    timeout_s: float = 30.0
    total_s: float = 600.0
    max_redirects: int = 5
    kinds: tuple[str, ...] = ("image",)
    by_proxy: bool = True


IMAGES = FetchLimits()


@dataclass(frozen=True, slots=True)
class KnownServer:
    """A server that the user has named. It may be a private one; a redirect to another is a stranger's address again.

    Args:
        home: where it is, ``https://HOST:PORT``.
        authorization: the header that it alone is shown.
    """

    home: str
    authorization: str | None = None

    def has(self, url: str) -> bool:
        """Whether an address is one of that server."""
        mine, other = urlsplit(self.home), urlsplit(url)
        try:
            return (mine.scheme, mine.hostname, mine.port) == (other.scheme, other.hostname, other.port)
        except ValueError:
            return False


def fetch(
    url: str, limits: FetchLimits = IMAGES, allow_private: bool = False, known: KnownServer | None = None
) -> bytes:
    """The content of an http(s) address; see ``fetch_into``."""
    content = BytesIO()
    fetch_into(content, url, limits, allow_private, known)
    return content.getvalue()


def fetch_into(
    file: IO[bytes],
    url: str,
    limits: FetchLimits = IMAGES,
    allow_private: bool = False,
    known: KnownServer | None = None,
) -> None:
    """Writes the content of an http(s) address to a file, as it comes.

    Names are looked up here even where a proxy is used, so ``allow_private`` is needed if the proxy alone can do so.

    Args:
        file: opened for writing bytes; after an error it holds what had come.
        url: begins with http:// or https://.
        limits: of size, time and kind.
        allow_private: also addresses of this machine and of private networks.
        known: a server whose addresses may be private, whatever ``allow_private`` says.

    Raises:
        DataError: the address is no http(s) one or is, or leads to, a private one; the host is not known or does not
            answer in time; the server refuses; the connection ends early; what comes is too large, or of another kind.
    """
    end = time.monotonic() + limits.total_s
    at = url.strip()
    for _ in range(limits.max_redirects + 1):
        led = "" if at == url.strip() else f"; {url} led there"
        try:
            own = known if known is not None and known.has(at) else None
            with _answer(at, limits, allow_private or own is not None, end, own) as response:
                if response.status in _REDIRECTS and (target := response.headers.get("Location")):
                    at = urljoin(at, target)
                    continue
                if response.status != HTTPStatus.OK:
                    status = f"{response.status}, {response.reason}".removesuffix(", ")
                    raise NotFetchedError(f"the server answered with status {status}")
                return _copy(response, file, limits, end)
        except DataError as error:
            error.where, error.what = error.where or at, error.what + led
            raise
        except (NotFetchedError, http.client.HTTPException, OSError, ValueError) as error:
            late = time.monotonic() >= end
            what = f"it took more than {limits.total_s:g} s" if late else _in_words(error, at, limits)
            raise DataError(f"cannot be downloaded: {what}{led}", where=at, remedy=_CHECK) from error
    raise DataError(
        f"cannot be downloaded: it leads from one address to the next, more than {limits.max_redirects} times",
        where=url,
        remedy=_CHECK,
    )


@contextmanager
def _answer(
    url: str, limits: FetchLimits, allow_private: bool, end: float, own: KnownServer | None = None
) -> Iterator[http.client.HTTPResponse]:
    """What the server of one address answers, up to the content."""
    parts = parts_of(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    is_direct = not limits.by_proxy or urllib.request.proxy_bypass(host)
    proxy = None if is_direct else urllib.request.getproxies().get(parts.scheme)
    places = checked_places(host, port, allow_private, proxy is not None)
    whole = (f"[{host}]" if ":" in host else host) + ("" if parts.port is None else f":{port}")
    path = quote(parts.path or "/", safe=_IN_PATHS) + ("?" + quote(parts.query, safe=_IN_PATHS) if parts.query else "")
    connection = _connection(parts.scheme, host, port, proxy, min(limits.timeout_s, end - time.monotonic()))
    # Timeouts are for each piece; a server that sends a byte every now and then is stopped by this.
    sockets: list[socket.socket] = []  # the connection forgets its own as soon as it has the head of an answer
    timer = threading.Timer(end - time.monotonic(), _shut, [sockets])
    timer.daemon = True
    try:
        timer.start()
        if proxy is None:
            _connect(connection, places, sockets)
        else:
            connection.connect()
            sockets.append(connection.sock)
            path = f"http://{whole}{path}" if parts.scheme == "http" else path
        connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
        # Some hosts refuse the user agents of libraries.
        for name, value in (("Host", whole), ("User-Agent", "finemask"), ("Accept-Encoding", "identity")):
            connection.putheader(name, value)
        if own is not None and own.authorization is not None:
            connection.putheader("Authorization", own.authorization)
        connection.endheaders()
        yield connection.getresponse()
    finally:
        timer.cancel()
        connection.close()


def _connection(scheme: str, host: str, port: int, proxy: str | None, timeout_s: float) -> http.client.HTTPConnection:
    """To a host, or to the proxy that leads there; not connected yet."""
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    timeout_s = max(0.001, timeout_s)
    if proxy is None:
        return kind(host, port, timeout=timeout_s)
    through = urlsplit(proxy if "//" in proxy else f"http://{proxy}")
    connection = kind(through.hostname or "", through.port or 80, timeout=timeout_s)
    if scheme == "https":
        connection.set_tunnel(host, port)
    return connection


def _connect(connection: http.client.HTTPConnection, places: Sequence[str], sockets: list[socket.socket]) -> None:
    """To the first of the addresses that answers. A certificate has to be that of the name, not of the address."""
    for place in places:
        try:
            connection.sock = socket.create_connection((place, connection.port), connection.timeout)
            break
        except OSError:
            if place == places[-1]:
                raise
    if isinstance(connection, http.client.HTTPSConnection):
        tls = ssl.create_default_context().wrap_socket(
            connection.sock, server_hostname=connection.host, do_handshake_on_connect=False
        )
        connection.sock = tls
        sockets.append(tls)
        tls.do_handshake()
    else:
        sockets.append(connection.sock)


def _shut(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _copy(response: http.client.HTTPResponse, file: IO[bytes], limits: FetchLimits, end: float) -> None:
    """Writes the content to a file, if it is of the right kind and size."""
    kind = response.headers.get_content_type() if "Content-Type" in response.headers else _GENERIC[0]
    is_page = kind in _PAGES
    wanted = " or ".join(limits.kinds)
    if not is_page and kind.partition("/")[0] not in limits.kinds and kind not in _GENERIC:
        article = "an" if wanted[0] in "aeiou" else "a"
        raise DataError(
            f"not {article} {wanted}: the server says that it is {kind}",
            remedy="If that is wrong, download it and give the file.",
        )
    if (coding := response.headers.get("Content-Encoding", "identity").lower()) != "identity":
        raise DataError(f"the server sent it as {coding}, which was not asked for", remedy="Download it.")
    stated = response.headers.get("Content-Length") or ""
    if stated.isdecimal() and int(stated) > limits.max_bytes:
        raise _too_large(limits)
    came = 0
    while chunk := response.read1(_CHUNK):
        if came == 0 and is_page:
            is_page = chunk.lstrip()[:1] == b"<"
            if is_page:
                raise DataError(
                    f"the server sent a web page, not {'an' if wanted[0] in 'aeiou' else 'a'} {wanted}",
                    remedy="Open the address in a browser: it may ask for a login, or be the page around the image.",
                )
        came += len(chunk)
        if came > limits.max_bytes:
            raise _too_large(limits)
        file.write(chunk)
    if time.monotonic() >= end:
        raise TimeoutError
    if stated.isdecimal() and came < int(stated):
        raise DataError(f"the connection ended after {came:,} of {int(stated):,} bytes", remedy="Try again.")


def _too_large(limits: FetchLimits) -> DataError:
    size = f"{limits.max_bytes / 2**20:,.0f} MiB" if limits.max_bytes >= 2**20 else f"{limits.max_bytes:,} bytes"
    return DataError(f"larger than {size}", remedy="Download it, then give the file.")


def _in_words(error: Exception, url: str, limits: FetchLimits) -> str:
    if isinstance(error, NotFetchedError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"no answer within {limits.timeout_s:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {urlsplit(url).hostname} cannot be trusted: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__

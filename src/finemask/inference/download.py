"""Images from http(s) addresses, and in words what kept them from coming."""

import http.client
import socket
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from finemask.errors import DataError

URL_TIMEOUT_S = 30.0
MAX_URL_BYTES = 256 * 2**20


def download(url: str) -> bytes:
    """What an address holds.

    Raises:
        DataError: the host is not known or does not answer, the server refuses, the connection ends early, or what
            comes is a web page, or more than ``MAX_URL_BYTES``.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "finemask"})  # some hosts refuse urllib's own
    try:
        with urllib.request.urlopen(request, timeout=URL_TIMEOUT_S) as response:
            content: bytes = response.read(MAX_URL_BYTES + 1)
            kind, stated = response.headers.get_content_type(), response.headers.get("Content-Length") or ""
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise DataError(
            f"cannot be downloaded: {_in_words(error, url)}",
            where=url,
            remedy="Check the address and the connection, or download it and give the file.",
        ) from error
    if len(content) > MAX_URL_BYTES:
        raise DataError(
            f"larger than {MAX_URL_BYTES // 2**20} MiB", where=url, remedy="Download it, then give the file."
        )
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


def _in_words(error: Exception, url: str) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered with status {error.code}, {error.reason}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, socket.gaierror):
        return f"the host {urlsplit(url).hostname} is not known (DNS: {reason.strerror})"
    if isinstance(reason, TimeoutError):
        return f"no answer within {URL_TIMEOUT_S:g} s"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__

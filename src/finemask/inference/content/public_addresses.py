"""Which addresses may be fetched: those of the web, on the public internet.

Whoever makes a program open an address makes it open it from where it runs: a text file of image addresses, or a
question to a server, could name a router, a printer or the cloud's own service of passwords. So every name is looked up
here, and each address that it stands for has to be one of the public internet.
"""

import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

from finemask.errors import DataError

_EMBEDDING = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::/96")))  # that end in an IPv4 address
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_ALLOW = "allow_private_urls=true allows it; or download it and give the file."


class NotFetchedError(Exception):
    """Why nothing came, in words."""


def parts_of(url: str) -> SplitResult:
    """The parts of an address.

    Raises:
        DataError: it is none of the web, or has a password in it, which would stand in logs.
    """
    try:
        parts = urlsplit(url.strip())
        host = (parts.hostname or "").encode("idna").decode()
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError as error:  # UnicodeError is one
        raise DataError(f"this is no address ({error})", where=url, remedy="Check the address.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise DataError("only http:// and https:// are fetched", where=url, remedy="Download it and give the file.")
    if parts.username is not None or parts.password is not None:
        raise DataError(
            "addresses with a user name or password in them are not fetched",
            where=url.replace(parts.netloc, f"…@{parts.netloc.rpartition('@')[2]}"),
            remedy="Download it and give the file.",
        )
    return parts._replace(netloc=(f"[{host}]" if ":" in host else host) + port)


def checked_places(host: str, port: int, allow_private: bool, by_proxy: bool) -> list[str]:
    """The addresses of a host, as numbers, all of which have been looked at.

    Args:
        host: a name, or an address.
        port: of the server.
        allow_private: whether those of this machine and of private networks are fine too.
        by_proxy: whether a proxy looks the name up itself.

    Raises:
        DataError: one of them is not of the public internet.
        NotFetchedError: nobody knows the host.
    """
    try:
        found = [str(place[4][0]) for place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except socket.gaierror as error:
        if allow_private and by_proxy:
            return []
        raise NotFetchedError(f"the host {host} is not known (DNS: {error.strerror})") from error
    private = None if allow_private else next((place for place in found if not is_public(place)), None)
    if private is not None:
        same = "" if private == host else f", {private},"
        raise DataError(f"{host}{same} is an address of this machine or of a private network", remedy=_ALLOW)
    return found


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, and not of this machine, a private network or a group.

    IPv6 addresses that stand for an IPv4 address (mapped, 6to4, NAT64) are judged by that one too.

    Args:
        address: IPv4 or IPv6; a zone, ``%eth0``, may follow.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        embeds = any(ip in network for network in _EMBEDDING)
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if embeds else ip.sixtofour
        if ip in _LOCAL_NAT64 or (inner is not None and not is_public(str(inner))):
            return False
    return ip.is_global and not ip.is_multicast

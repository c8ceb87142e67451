"""Hosts and ports: what may be listened at, and what a browser can be sent to.

Shared ground: imported by both sides, imports neither.
"""

from __future__ import annotations

import operator
import socket
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address

from .errors import InvalidAddressError

__all__ = ["check_port", "ip_family", "is_loopback", "resolve"]


def ip_family(ip: str) -> int:
    """4 or 6 for an address of that family, -1 for anything else (manual: ipFamily).

    An IPv6 address may have a zone id ("fe80::1%eth0", RFC 4007).
    """
    try:
        IPv4Address(ip)
        return 4
    except (AddressValueError, TypeError):
        pass
    try:
        if isinstance(ip, str):
            IPv6Address(ip)
            return 6
    except AddressValueError:
        pass
    return -1


def check_port(port: object) -> int:
    """A port as an int from 0 to 65535; 0 lets the system choose.

    Raises:
        InvalidAddressError: it is none.
    """
    if isinstance(port, float) and port.is_integer():  # the manual's "number or integer"
        port = int(port)
    try:
        if isinstance(port, bool):
            raise TypeError
        number = operator.index(port)  # type: ignore[arg-type]  # raises for what is no integer
    except TypeError:
        raise InvalidAddressError(
            f"port is an integer from 0 to 65535, 0 for any free one, not {port!r}"
        ) from None
    if not 0 <= number <= 65535:
        raise InvalidAddressError(f"port {number} is out of range; ports go from 0 to 65535")
    return number


def resolve(host: object, port: int) -> list[tuple[str, int]]:
    """The numeric addresses of a host, each with the port. May ask the system's resolver.

    Raises:
        InvalidAddressError: it is no address and no name that the system knows.
    """
    if not isinstance(host, str) or not host:
        raise InvalidAddressError(f"host is an IP address such as '127.0.0.1', not {host!r}")
    if ip_family(host) != -1:
        return [(host, port)]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InvalidAddressError(
            f"host {host!r} is no IP address and no name known here ({error}); "
            "use '127.0.0.1' for this machine only, '0.0.0.0' for all of its IPv4 addresses"
        ) from None
    addresses = dict.fromkeys((str(entry[4][0]), port) for entry in found)
    return list(addresses)


def is_loopback(host: str) -> bool:
    """Whether this numeric address can be reached from this machine only."""
    return ip_address(host.partition("%")[0]).is_loopback


def is_wildcard(host: str) -> bool:
    """Whether this numeric address stands for all addresses of the machine."""
    return ip_address(host.partition("%")[0]).is_unspecified


def url_host(host: str) -> str:
    """A host as it stands in a URL that this machine can open; a wildcard has no URL of its own."""
    if ip_family(host) == 6:
        return "[::1]" if is_wildcard(host) else f"[{host.replace('%', '%25')}]"
    return "127.0.0.1" if host == "0.0.0.0" else host
